"""A hostile client for culvertd: every wrong turn that the tables of the protocol name, one a
case. It is refused or passed over, the log says why, and nobody else notices.

    stage: culvertd, facing harness/cstp.py; bob has a tunnel

What goes wrong before HTTP is in test_bad_input.py, DTLS in test_hostile_dtls.py, certificates in
test_server_refuses.py, superpackets in test_wire.py, the hostile server in test_hostile.py.
"""
import re

import pytest

from harness import cstp
from harness.cstp import DATA, DISCONNECT, DPD_RESPONSE, LOGIN, TERMINATE, frame
from harness.hostile import ENDINGS, NOT_CSTP, ends, message
from harness.wait import wait_until


# --- requests (sections 3.1 to 3.6) ---

def post(body=LOGIN, *headers, first="POST / HTTP/1.1", length=True):
    return message(first, "Host: x", *headers,
                   *([f"Content-Length: {len(body)}"] if length else []), body=body).decode()


def chunks(body):
    return post(body, "Transfer-Encoding: chunked", length=False)


def connect(cookie, *headers, first="CONNECT /CSCOSSLC/tunnel HTTP/1.1"):
    return message(first, f"Cookie: webvpn={cookie}", *headers).decode()


# The request; the status; what the server's log must say. 200 stays open, all else is the end.
REQUESTS = {
    "get": ("GET / HTTP/1.1\r\n\r\n", 200, "logged in"),
    "query": ("GET /?secret HTTP/1.1\r\n\r\n", 200, "logged in"),
    "http_1.0": (post(first="POST / HTTP/1.0"), 200, "logged in"),
    "chunked": (chunks(f"{len(LOGIN):x}\r\n{LOGIN}\r\n0\r\n\r\n"), 200, "logged in"),
    "form": (post("username=alice&password=x"), 200, "logged in"),
    "unknown_path": ("GET /x HTTP/1.1\r\n\r\n", 404, "nothing is served under GET /x"),
    "unknown_post": (post(first="POST /x HTTP/1.1"), 404, "nothing is served"),
    "up_and_away": (post(first="POST /../../etc/passwd HTTP/1.1"), 404, "nothing is served"),
    "absolute": (post(first="POST https://vpn.example.com/ HTTP/1.1"), 404, "nothing is served"),
    "long_path": (post(first=f"POST /{'x' * 5000} HTTP/1.1"), 404, "nothing is served"),
    "method": ("BREW / HTTP/1.1\r\n\r\n", 404, "nothing is served"),
    "proxy": (connect("x", first="CONNECT vpn.example.com:443 HTTP/1.1"), 404, "nothing is served"),
    "http_0.9": ("GET /\r\n\r\n", 400, "malformed"),
    "http_2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed"),
    "nothing": ("\r\n\r\n", 400, "malformed"),
    "binary": ("\x16\x03\x01\x02\0\x01" * 20 + "\r\n\r\n", 400, "malformed"),
    "bare_line_feeds": (post().replace("\r\n", "\n"), 400, "malformed"),
    "folded_header": (post(LOGIN, "X: a\r\n b"), 400, "malformed"),
    "nul": (post(LOGIN, "X: \0"), 400, "malformed"),
    "escape_codes": (post(LOGIN, "X: \x1b[31m"), 400, "malformed"),
    "blank_in_a_name": (post(LOGIN, "X : 1"), 400, "malformed"),
    "no_colon": (post(LOGIN, "nonsense"), 400, "malformed"),
    "no_name": (post(LOGIN, ": x"), 400, "malformed"),
    "length_negative": (post(LOGIN, "Content-Length: -1", length=False), 400, "Content-Length"),
    "length_signed": (post(LOGIN, "Content-Length: +5", length=False), 400, "Content-Length"),
    "length_hex": (post(LOGIN, "Content-Length: 0x10", length=False), 400, "Content-Length"),
    "length_word": (post(LOGIN, "Content-Length: many", length=False), 400, "Content-Length"),
    "length_empty": (post(LOGIN, "Content-Length:", length=False), 400, "Content-Length"),
    "length_2^64": (post(LOGIN, "Content-Length: 18446744073709551616", length=False), 400,
                    "Content-Length"),
    "length_2^64-1": (post(LOGIN, "Content-Length: 18446744073709551615", length=False), 400,
                      "too long"),
    "length_above_the_limit": (post("x" * 70000), 400, "too long"),
    "length_twice": (post(LOGIN, "Content-Length: 3"), 400, "Content-Length"),
    "length_and_chunked": (post(LOGIN, "Transfer-Encoding: chunked"), 400, "Content-Length"),
    "gzip": (post(LOGIN, "Transfer-Encoding: gzip", length=False), 400, "Transfer-Encoding"),
    "chunked_twice": (post(LOGIN, "Transfer-Encoding: chunked, chunked", length=False), 400,
                      "Transfer-Encoding"),
    "chunk_size_word": (chunks("zz\r\n"), 400, "chunked"),
    "chunk_size_negative": (chunks("-1\r\n"), 400, "chunked"),
    "chunk_size_2^64": (chunks("10000000000000000\r\n"), 400, "too long"),
    "chunk_size_2^64-1": (chunks("FFFFFFFFFFFFFFFF\r\n"), 400, "too long"),
    "chunk_extensions": (chunks("5" + ";x" * 40000 + "\r\n"), 400, "too long"),
    "pipelined": (post() + post(), 400, "before the answer"),
    "body_of_a_connect": (connect("x", "Content-Length: 5") + "hello", 400, "CONNECT with a body"),
    "document_type": (post('<!DOCTYPE a [<!ENTITY x "y">]><config-auth type="init"/>'), 400,
                      "document type"),
    "nested_deep": (post("<a>" * 200 + "</a>" * 200), 400, "nested too deep"),
    "cut_xml": (post("<a><b></a>"), 400, "not XML"),
    "other_xml": (post("<html/>"), 400, "neither an init nor an auth-reply"),
    "other_type": (post('<config-auth type="logout"/>'), 400, "neither an init"),
    "endless_text": (post('<config-auth type="init"><version>' + "x" * 2000
                          + '</version></config-auth>'),
                     400, "too long"),
    "a_hundred_answers": (post('<config-auth type="auth-reply"><auth>' + "<a>x</a>" * 100
                               + '</auth></config-auth>'), 400, "too many answers"),
    "no_cookie": ("CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\n\r\n", 401, "no usable session cookie"),
    "empty_cookie": (connect(""), 401, "no usable session cookie"),
    "endless_cookie": (connect("x" * 5000), 401, "no usable session cookie"),
    "two_cookies": (connect("a", "Cookie: webvpn=b"), 401, "unknown_cookie"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_request(stage, case):
    text, status, logged = REQUESTS[case]
    before = len(stage.server.log())
    raw = stage.raw()
    head, body = raw.request(text)
    assert head.startswith(f"HTTP/1.1 {status} "), head
    assert (status == 200) == ('id="success"' in body) == ("Set-Cookie: webvpn=" in head)
    line = wait_until(lambda: [line for line in stage.server.log()[before:].splitlines()
                               if re.search(logged, line)], f"{logged!r} in the log")[0]
    assert "remote=192.0.2." in line and ("user=mallory" in line or "CN=mallory" in line), line
    if status == 200:
        assert raw.open_tunnel("nonsense").startswith("HTTP/1.1 401 ")
    else:
        ends(raw)


def test_the_requests_of_one_connection_are_counted(stage):
    raw = stage.raw()
    for _ in range(16):
        assert raw.request("GET / HTTP/1.1\r\n\r\n")[0].startswith("HTTP/1.1 200 ")
    assert raw.request("GET / HTTP/1.1\r\n\r\n")[0].startswith("HTTP/1.1 400 ")
    ends(raw)
    assert "too many on one connection" in stage.server.log()


# --- parameters of CONNECT (section 4.1) ---

ODD_OFFERS = {
    **{f"numbers={value!r}": [f"{name}: {value}" for name in
                              ("X-CSTP-MTU", "X-CSTP-Base-MTU", "X-CSTP-Version",
                               "X-Culvert-Version")]
       for value in ["-1", "99999999999999999999", "65536", "0", "575", "1e3", "+5", "many", ""]},
    "address_type": ["X-CSTP-Address-Type: nonsense"],
    "address_of_another": ["X-CSTP-Address: 10.99.0.2", "X-CSTP-Address: 10.99.0.1"],
    "address_is_nonsense": ["X-CSTP-Address: nonsense"] + ["X-CSTP-Address: 10.99.0.1"] * 100,
    "other_version": ["X-CSTP-Version: 99"],
    "suffix_of_a_suite": ["X-DTLS-CipherSuite: PSK-NEGOTIATE-x", "X-DTLS-Master-Secret: zz"],
    "suites_of_old": ["X-DTLS-CipherSuite: AES128-SHA", "X-DTLS12-CipherSuite: AES256-GCM-SHA384"],
    "compression": ["X-CSTP-Accept-Encoding: oc-lz4,lzs", "X-DTLS-Accept-Encoding: lzs"],
    "endless_features": ["X-Culvert-Version: 1", "X-Culvert-Features: " + "x " * 3000],
    "attach_to_nothing": ["X-Culvert-Version: 1", "X-Culvert-Features: rekey roam",
                          "X-Culvert-Attach: rekey"],
    "attach_without_features": ["X-Culvert-Attach: roam"],
    "host_name": ["X-CSTP-Hostname: $(reboot)", "X-CSTP-Hostname: " + "x" * 5000],
}


@pytest.mark.parametrize("case", ODD_OFFERS)
def test_an_odd_offer_gets_sound_parameters(stage, case):
    raw = stage.raw()
    head, _ = raw.request(connect(raw.login(), *ODD_OFFERS[case]))
    assert head.startswith("HTTP/1.1 200 CONNECTED"), head
    raw.address4 = cstp.value_of(head, "X-CSTP-Address")
    assert raw.address4 not in ("10.99.0.1", stage.server.session("bob")["ipv4"])
    assert 576 <= int(cstp.value_of(head, "X-CSTP-MTU")) <= 1500
    for absent in ("X-DTLS", "Encoding", "X-Culvert-Attach", "$("):
        assert absent not in head
    for name in {n for n, _ in cstp.headers_of(head)} - {"X-CSTP-Split-Include-IP6"}:
        assert len([1 for n, _ in cstp.headers_of(head) if n == name]) == 1 or "Split" in name, name
    raw.send_frame(cstp.DPD_REQUEST, b"up")
    assert raw.receive_frame(DPD_RESPONSE) == b"up"
    raw.send_frame(DISCONNECT, b"\xb0bye")


# --- frames (section 5) ---

def test_frames_that_the_server_passes_over(stage):
    raw = stage.tunnel()
    known = {cstp.DPD_REQUEST, DISCONNECT, 8, TERMINATE}
    for kind in set(range(256)) - known - {DATA}:
        raw.send_frame(kind, b"from the future")
    raw.send_frame(cstp.DPD_REQUEST, b"x" * 16376)
    assert len(raw.receive_frame(DPD_RESPONSE)) > 16300
    assert not stage.session_of(raw)["drops"]
    good = cstp.inner_udp4(raw.address4, "10.99.0.1")
    for packet in (b"\x55" + good[1:], b"\x05" + good[1:], good[:27], b"\x65" + good[1:]):
        raw.send_frame(DATA, packet)
    wait_until(lambda: stage.session_of(raw)["drops"] == {"malformed": 4}, "the count of drops")
    whole = cstp.frame(cstp.DPD_REQUEST, b"in pieces")
    for at in range(len(whole)):
        raw.send_raw(whole[at:at + 1])
    assert raw.receive_frame(DPD_RESPONSE) == b"in pieces"
    raw.send_frame(DISCONNECT, b"\xb0bye")


@pytest.mark.parametrize("record,logged", [
    (b"STF\x01\0\0\x03\x01", NOT_CSTP), (b"STF\x01\x3f\xf9\0\0", "above the limit"),
    (frame(8, b"x" * 20), "compressed"), (b"X" * 8, NOT_CSTP)],
    ids=["reserved_byte", "length_just_above", "compressed", "magic"])
def test_a_broken_frame_costs_the_client_its_connection(stage, record, logged):
    """And not its session: with the cookie it may come again."""
    raw = stage.raw()
    cookie = raw.login()
    raw.address4 = cstp.value_of(raw.open_tunnel(cookie), "X-CSTP-Address")
    before = len(stage.server.log())
    raw.send_raw(record)
    ends(raw)
    assert stage.session_of(raw)["state"] == "detached"
    assert logged in stage.server.log()[before:]
    again = stage.raw()
    assert cstp.value_of(again.open_tunnel(cookie), "X-CSTP-Address") == raw.address4
    again.send_frame(DISCONNECT, b"\xb0bye")


@pytest.mark.parametrize("kind,payload", [(TERMINATE, b"\xb0"), (DISCONNECT, b"\xb0"),
                                          (DISCONNECT, b"\xb0" + b"\x1b" * 16000)],
                         ids=["terminate", "disconnect", "long"])
def test_an_end_by_the_client_is_the_end(stage, kind, payload):
    raw = stage.raw()
    cookie = raw.login()
    raw.address4 = cstp.value_of(raw.open_tunnel(cookie), "X-CSTP-Address")
    before = len(stage.server.log())
    raw.send_frame(kind, payload)
    wait_until(lambda: stage.session_of(raw) is None, "the end of the session")
    assert stage.raw().open_tunnel(cookie).startswith("HTTP/1.1 401 ")
    log = stage.server.log()[before:]
    assert "\x1b" not in log and max(map(len, log.splitlines())) < 1000


@pytest.mark.parametrize("ending", ENDINGS)
def test_any_end_of_a_clients_connection_leaves_its_session(stage, ending):
    raw = stage.raw()
    cookie = raw.login()
    raw.address4 = cstp.value_of(raw.open_tunnel(cookie), "X-CSTP-Address")
    raw.send_frame(cstp.DPD_REQUEST)
    raw.receive_frame(DPD_RESPONSE)
    ENDINGS[ending](raw.bare())
    wait_until(lambda: stage.session_of(raw)["state"] == "detached", "the loss being noticed")
    again = stage.raw()
    assert cstp.value_of(again.open_tunnel(cookie), "X-CSTP-Address") == raw.address4
    again.send_frame(DISCONNECT, b"\xb0bye")
