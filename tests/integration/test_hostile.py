"""A hostile server for culvert: every wrong turn that the tables of the protocol name, one a
case. It refuses with a message, or passes over it.

    victim: culvert, facing harness/cstp.py

What goes wrong before HTTP is in test_bad_input.py, DTLS in test_hostile_dtls.py, certificates in
test_client_refuses.py, the hostile client in test_hostile_client.py.
"""
import re

import pytest

from harness import cstp
from harness.cstp import DATA, DISCONNECT, DPD_RESPONSE, KEEPALIVE, TERMINATE, frame, http
from harness.hostile import ENDINGS, NOT_CSTP, message
from harness.wait import wait_until

DONE = cstp.LOGIN_DONE
COOKIE = "Set-Cookie: webvpn=c0ffee; Secure; HttpOnly"


def answer(*headers, body=DONE, length=True, first="HTTP/1.1 200 OK"):
    """A good answer to a login, but for what the case changes."""
    return message(first, COOKIE, *headers, *([f"Content-Length: {len(body)}"] if length else []),
                   body=body)


def auth(inner):
    return f'<config-auth client="vpn" type="auth-request">{inner}</config-auth>'


# --- answers to the login (sections 3.1, 3.3, 3.4, 3.7) ---

SUCCESS = '<auth id="success"/>'
NONSENSE = "198.51.100.1:443: the server's answer makes no sense: .*check address and port"
NO_VPN = "https://vpn.example.com/: the answer to the login is not a VPN server's: "

# What the server says; the exit code; what the message must match. Code 0: it gets in.
LOGINS = {
    "redirect": (message("HTTP/1.1 302 Found", "Location: https://evil.example.org/",
                         "Content-Length: 0"), 1, "elsewhere: https://evil.example.org/ .*trust"),
    "redirect_to_itself": (message("HTTP/1.1 301 Moved", "Location: /", "Content-Length: 0"), 1,
                           "elsewhere: / "),
    "redirect_nowhere": (message("HTTP/1.1 302 Found", "Content-Length: 0"), 1, r"elsewhere: \? "),
    "401": (message("HTTP/1.1 401 No", "Content-Length: 0"), 3, "refused the login: No"),
    "403": (message("HTTP/1.1 403 Forbidden", "Content-Length: 0"), 3, "refused the login"),
    "404": (message("HTTP/1.1 404 Not Found", "Content-Length: 0"), 1, NO_VPN + "HTTP status 404"),
    "500": (message("HTTP/1.1 500 Oops", "Content-Length: 0"), 1, NO_VPN + "HTTP status 500, Oops"),
    "503": (message("HTTP/1.1 503 Busy", "X-Reason: too hot", "Content-Length: 0"), 6, "too hot"),
    "status_0": (message("HTTP/1.1 000 Zero", "Content-Length: 0"), 1, NO_VPN),
    "http_0.9": (b"<html>hello</html>\r\n\r\n", 1, NONSENSE),
    "http_2": (answer(first="HTTP/2.0 200 OK"), 1, NONSENSE),
    "bare_line_feeds": (answer().replace(b"\r\n", b"\n"), 1, NONSENSE),
    "folded_header": (answer("X-A: b\r\n c"), 1, NONSENSE),
    "nul": (answer("X-A: \0"), 1, NONSENSE),
    "escape_codes": (answer("X-A: \x1b[31m"), 1, NONSENSE),
    "no_colon": (answer("nonsense"), 1, NONSENSE),
    "blank_in_a_name": (answer("X : y"), 1, NONSENSE),
    "length_twice": (answer("Content-Length: 3"), 1, NONSENSE),
    "length_and_chunked": (answer("Transfer-Encoding: chunked"), 1, NONSENSE),
    "length_negative": (answer("Content-Length: -1", length=False), 1, NONSENSE),
    "length_signed": (answer("Content-Length: +5", length=False), 1, NONSENSE),
    "length_hex": (answer("Content-Length: 0x10", length=False), 1, NONSENSE),
    "length_word": (answer("Content-Length: many", length=False), 1, NONSENSE),
    "length_2^64": (answer("Content-Length: 18446744073709551616", length=False), 1, NONSENSE),
    "length_2^64-1": (answer("Content-Length: 18446744073709551615", length=False), 1,
                      "too long"),
    "length_above_the_limit": (answer("Content-Length: 300000", length=False), 1, "too long"),
    "length_too_short": (answer(f"Content-Length: {len(DONE) - 10}", length=False), 1, "not XML"),
    "gzip": (answer("Transfer-Encoding: gzip", length=False), 1, NONSENSE),
    "chunk_size_word": (answer("Transfer-Encoding: chunked", length=False, body="zz\r\nx"), 1,
                        NONSENSE),
    "chunk_size_negative": (answer("Transfer-Encoding: chunked", length=False, body="-5\r\nhello"),
                            1, NONSENSE),
    "chunk_size_2^64": (answer("Transfer-Encoding: chunked", length=False,
                               body="10000000000000000\r\nhello"), 1, "too long"),
    "answers_pipelined": (http(DONE, COOKIE) + message("HTTP/1.1 200 CONNECTED", "X-CSTP-MTU: 1400",
                                                       "X-CSTP-Address: 10.7.0.9"), 1,
                          "more than it was asked for"),
    "hotel_portal": (http("<html><body>Welcome to the hotel</body></html>"), 1, NO_VPN),
    "no_body": (http(""), 1, NO_VPN),
    "no_xml": (http("hello"), 1, NO_VPN + "not XML"),
    "cut_xml": (http('<config-auth><auth id="success">', COOKIE), 1, NO_VPN + "not XML"),
    "no_auth_element": (http(auth("<x/>")), 1, NO_VPN + "no auth"),
    "document_type": (http(f'<!DOCTYPE a [<!ENTITY x "y">]>{auth(SUCCESS)}', COOKIE), 1, NO_VPN),
    "external_entity": (http('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + auth(
        '<auth id="failure"><message>&x;</message></auth>')), 1, NO_VPN),
    "unknown_entity": (http(auth('<auth id="failure"><message>&x;</message></auth>')), 3, "&x;"),
    "nested_deep": (http("<a>" * 200 + "</a>" * 200), 1, NO_VPN),
    "no_cookie": (http(DONE), 1, "no session cookie.*administrator"),
    "empty_cookie": (http(DONE, "Set-Cookie: webvpn=; Secure"), 1, "no session cookie"),
    "endless_cookie": (http(DONE, f"Set-Cookie: webvpn={'x' * 30000}"), 1, "cannot be used"),
    "cookie_with_line_ends": (http(auth(
        f"<session-token>a&#13;&#10;X-Evil: 1</session-token>{SUCCESS}")), 1, "cannot be used"),
    "refusal_with_escape_codes": (http(auth(
        '<auth id="failure"><message>no &#27;[31m entry</message><error>go</error></auth>')), 3,
        r"refused the login: no \\x1b\[31m entry: go"),
    "refusal_without_words": (http(auth('<auth id="failure"/>')), 3, "no reason given"),
    "password_form": (http(auth(
        '<auth id="main"><message>Who?</message><form method="post" action="/auth">'
        '<input type="password" name="password" label="Passcode:"/></form></auth>')), 4,
        r"more than the certificate \(Passcode\): Who\?"),
    "form_by_get": (http(auth('<auth id="main"><form method="get"><input type="text" name="a"/>'
                              '</form></auth>')), 1, "another method than POST"),
    "a_thousand_fields": (http(auth(
        '<auth id="main"><form>' + '<input type="text" name="a"/>' * 1000 + '</form></auth>')), 1,
        "too many fields"),
    "wants_a_certificate": (http(auth("<client-cert-request/>")), 3, "although it was shown ours"),
    # Strange, and within what a client has to understand.
    "continue_first": (b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + http(DONE, COOKIE), 0, ""),
    "http_1.0": (answer(first="HTTP/1.0 200 OK"), 0, ""),
    "chunked": (answer("Transfer-Encoding: chunked", length=False,
                       body=f"{len(DONE):x};x=y\r\n{DONE}\r\n0\r\nA: b\r\n\r\n"), 0, ""),
    "lower_case_names": (answer().replace(b"Content-Length", b"content-length"), 0, ""),
    "unknown_elements": (http(f'<config-auth><new/><auth id="success" x="y"><z/></auth>'
                              '<session-token>feed</session-token></config-auth>'), 0, ""),
}


@pytest.mark.parametrize("case", LOGINS)
def test_an_answer_to_the_login(victim, case):
    said, code, words = LOGINS[case]
    with victim.facing(login=said) as server:
        if code:
            victim.refuses(code, words)
            assert "CONNECT" not in verbs(server)
            return
        with victim.connected():
            assert verbs(server) == ["POST", "CONNECT"]


# --- answers to CONNECT (section 4.2) ---

BASE = ["X-CSTP-Version: 1", "X-CSTP-Address: 10.7.0.2", "X-CSTP-Netmask: 255.255.255.0",
        "X-CSTP-MTU: 1400", "X-CSTP-DPD: 5"]


def connected(*lines, without=(), first="HTTP/1.1 200 CONNECTED"):
    return message(first, *[b for b in BASE if b.split(":")[0] not in without], *lines)


def assigned(line):
    return connected(line, without=["X-CSTP-Address", "X-CSTP-Netmask"])


NO_ADDRESS = "https://vpn.example.com/: the server assigned no address"
REFUSED_ATTACHES = {
    "401": (message("HTTP/1.1 401 No", "X-Reason: not you"), 3, "refused the session: 401 not you"),
    "503": (message("HTTP/1.1 503 Busy", "X-Reason: full"), 6, "cannot serve us now: 503 full"),
    "404": (message("HTTP/1.1 404 Not Found"), 1, "refused the tunnel: 404 Not Found"),
    "302": (message("HTTP/1.1 302 Found", "Location: https://evil.example.org/"), 1,
            "refused the tunnel: 302"),
    "no_parameters": (message("HTTP/1.1 200 CONNECTED"), 1, NO_ADDRESS),
    "loopback": (assigned("X-CSTP-Address: 127.0.0.1"), 1, NO_ADDRESS),
    "multicast": (assigned("X-CSTP-Address: 224.0.0.1"), 1, NO_ADDRESS),
    "broadcast": (assigned("X-CSTP-Address: 255.255.255.255"), 1, NO_ADDRESS),
    "unspecified": (assigned("X-CSTP-Address: 0.0.0.0"), 1, NO_ADDRESS),
    "loopback6": (assigned("X-CSTP-Address-IP6: ::1/128"), 1, NO_ADDRESS),
    "multicast6": (assigned("X-CSTP-Address-IP6: ff02::1/64"), 1, NO_ADDRESS),
    "prefix6_of_0": (assigned("X-CSTP-Address-IP6: fd00::1/0"), 1, NO_ADDRESS),
    "prefix6_of_129": (assigned("X-CSTP-Address-IP6: fd00::1/129"), 1, NO_ADDRESS),
    "small_mtu": (connected("X-CSTP-MTU: 575", without=["X-CSTP-MTU"]), 1, "no usable MTU.*576"),
    "compression": (connected("X-CSTP-Content-Encoding: lzs"), 1, "compression"),
    "dtls_compression": (connected("X-DTLS-Content-Encoding: oc-lz4"), 1, "compression"),
    "length_twice": (connected("Content-Length: 5", "Content-Length: 6"), 1, NONSENSE),
    "nul": (connected("X-A: \0"), 1, NONSENSE),
    "a_line_without_end": (connected("X-CSTP-Banner: " + "x" * 70000), 1, NONSENSE + "|too long"),
    "too_many_routes": (connected(*[f"X-CSTP-Split-Include: 10.{i // 256}.{i % 256}.0/255.255.255.0"
                                    for i in range(3000)]), 1, "too long"),
}


@pytest.mark.parametrize("case", REFUSED_ATTACHES)
def test_an_answer_to_connect_that_is_no_tunnel(victim, case):
    said, code, words = REFUSED_ATTACHES[case]
    with victim.facing(attach=said):
        victim.refuses(code, words)


NUMBERS = ["X-CSTP-DPD", "X-CSTP-Keepalive", "X-CSTP-Rekey-Time", "X-CSTP-Idle-Timeout",
           "X-CSTP-Session-Timeout", "X-CSTP-Session-Timeout-Remaining", "X-CSTP-Lease-Duration",
           "X-CSTP-Disconnected-Timeout", "X-CSTP-Base-MTU", "X-DTLS-MTU", "X-DTLS-Port",
           "X-DTLS-DPD", "X-DTLS-Keepalive", "X-DTLS-Rekey-Time"]
UNREAD = {"X-CSTP-Lease-Duration", "X-DTLS-Rekey-Time"}  # nothing follows from them


def numbers(value):
    return connected(*[f"{name}: {value}" for name in NUMBERS], without=["X-CSTP-DPD"])


# The tunnel is up in spite of it; what its status must say, and what the log.
ODD_ATTACHES = {
    "mask_with_a_hole": (connected("X-CSTP-Netmask: 255.0.255.0"), {}, "left out .*255.0.255.0"),
    "addresses_twice": (connected("X-CSTP-Address: 10.7.0.9"), {"ipv4": "10.7.0.9"}, ""),
    "mtu_twice": (connected("X-CSTP-MTU: 0"), {"mtu": 1400}, "left out .*X-CSTP-MTU: 0"),
    # Too small for IPv6, which is left out.
    "smallest_mtu": (connected("X-CSTP-MTU: 576", "X-CSTP-Address-IP6: fd07::2/64",
                               without=["X-CSTP-MTU"]), {"mtu": 576, "ipv6": None}, "left out"),
    "absurd_mtu": (connected("X-CSTP-MTU: 99999", without=["X-CSTP-MTU"]), {"mtu": 16376}, ""),
    "other_version": (connected("X-CSTP-Version: 99", without=["X-CSTP-Version"]), {}, ""),
    "no_version": (connected(without=["X-CSTP-Version"]), {}, ""),
    "lower_case": (connected().lower().replace(b"http/1.1", b"HTTP/1.1"), {}, ""),
    "chunked": (connected("Transfer-Encoding: chunked"), {}, ""),
    "with_a_length": (connected("Content-Length: 5"), {}, ""),
    "app_id_is_no_hex": (connected("X-DTLS-Port: 443", "X-DTLS-CipherSuite: PSK-NEGOTIATE",
                                   "X-DTLS-App-ID: zz"),
                         {"channel": "tls"}, "left out .*App-ID: zz"),
    "app_id_too_long": (connected("X-DTLS-Port: 443", "X-DTLS-CipherSuite: PSK-NEGOTIATE",
                                  f"X-DTLS-App-ID: {'ab' * 33}"), {"channel": "tls"}, "left out"),
    "suite_not_offered": (connected("X-DTLS-Port: 443", "X-DTLS-CipherSuite: AES256-SHA",
                                    f"X-DTLS-App-ID: {'ab' * 32}"), {"channel": "tls"}, ""),
    "rekey_by_renegotiation": (connected("X-CSTP-Rekey-Time: 86400", "X-CSTP-Rekey-Method: ssl"),
                               {}, ""),
    "bad_routes": (connected("X-CSTP-Split-Include: 10.0.0.0/33",
                             "X-CSTP-Split-Include: $(reboot)/24",
                             "X-CSTP-Split-Include: 10.8.0.0/255.0.255.0",
                             "X-CSTP-Split-Include: 10.9.0.0/16"),
                   {"routes": ["10.7.0.0/24", "10.9.0.0/16"]}, r"left out .*\$\(reboot\)"),
    "bad_names": (connected("X-CSTP-DNS: nonsense", "X-CSTP-DNS: 127.0.0.1",
                            "X-CSTP-Default-Domain: $(x) good.example", "X-CSTP-Split-DNS: -x"),
                  {}, "left out .*nonsense"),
    "escape_codes_in_the_banner": (connected("X-CSTP-Banner: %1b[31mhi%0anew"), {}, ""),
    "features_for_the_asking": (connected("X-Culvert-Version: -1",
                                          "X-Culvert-Features: superpacket",
                                          "X-Culvert-Attach: roam"), {}, "left out .*Version: -1"),
    **{f"numbers={value!r}": (numbers(value), {}, "left out|MTU: ") for value in
       ["-1", "99999999999999999999", "4294967296", "0", "7", "1e3", "many", ""]},
}


@pytest.mark.parametrize("case", ODD_ATTACHES)
def test_an_odd_answer_to_connect_that_is_a_tunnel(victim, case):
    said, wanted, logged = ODD_ATTACHES[case]
    with victim.facing(attach=said) as server, victim.connected() as foreground:
        status = victim.client.status()
        for key, value in wanted.items():
            assert status[key] == value, f"{key}: {status}"
        assert status["reconnects"] == 0 and len(server.connections) <= 2
        assert 576 <= status["mtu"] <= 16376
        server.ask(b"still there?")
        assert re.search(logged, foreground.output()), foreground.output()
        shown = victim.client.run("status", "alice").stdout + foreground.output()
        assert not re.search(r"[^\x20-\x7e\n]", shown), repr(shown)


@pytest.mark.parametrize("value", ["-1", "1e3", "many", "0x10"])
def test_what_is_no_number_is_left_out(victim, value):
    """Each of them, and said; what they would have set stays as it is without them."""
    with victim.facing(attach=numbers(value)), victim.connected() as foreground:
        log = foreground.output()
        unsaid = {name for name in NUMBERS if f'left out line="{name}: {value}"' not in log}
        assert unsaid == UNREAD, log
        assert victim.client.status()["mtu"] == 1400


# --- frames (section 5) ---

def inner(victim_address="10.7.0.2", **changes):
    packet = cstp.inner_udp4("10.7.0.1", victim_address, b"x" * 20)
    for at, value in changes.items():
        at = int(at[2:])
        packet = packet[:at] + bytes([value]) + packet[at + 1:]
    return packet


PASSED_OVER = {
    **{f"type_{kind:02x}": frame(kind, b"from the future") for kind in
       (0x01, 0x02, 0x06, 0x0a, 0x1f, 0x20, 0x21, 0x22, 0x66, 0x7f, 0x80, 0xff)},
    "keepalive_with_a_text": frame(KEEPALIVE, b"hello"),
    "answer_to_nothing": frame(DPD_RESPONSE, b"hello"),
    "empty_superpacket": frame(cstp.SUPERPACKET),
}
MALFORMED = {
    "empty": b"", "one_byte": b"\x45", "truncated": inner()[:19], "version_5": inner(at0=0x55),
    "version_0": inner(at0=0), "short_header": inner(at0=0x41),
    "longer_than_it_is": inner(at2=0xff), "truncated6": b"\x60" + b"\0" * 20,
    "longer_than_it_is6": b"\x60\0\0\0\xff\xff" + b"\0" * 34, "no_ip": b"\xff" * 1400,
}


def test_frames_that_the_client_passes_over(victim):
    with victim.facing(attach=connected()) as server, victim.connected() as foreground:
        for name, record in PASSED_OVER.items():
            server.say(record)
            server.ask(name.encode())
        assert not victim.client.status()["drops"]
        for count, (name, packet) in enumerate(MALFORMED.items(), 1):
            server.say(frame(DATA, packet))
            server.ask(name.encode())
            # An empty frame holds no packet at all.
            assert count - victim.client.status()["drops"].get("malformed", 0) <= 1, name
        server.say(frame(3, b"x" * 16376))
        wait_until(lambda: [p for k, p in server.frames if k == DPD_RESPONSE and len(p) > 16300],
                   "the answer to a question of the full size")
        whole = frame(3, b"in pieces")
        server.say(*[whole[i:i + 1] for i in range(len(whole))], frame(3, b"a") + frame(3, b"b"))
        for text in (b"in pieces", b"a", b"b"):
            wait_until(lambda: (DPD_RESPONSE, text) in server.frames, f"the answer to {text}")
        assert foreground.running and victim.client.status()["reconnects"] == 0
        assert len(server.connections) == 1


# What the server sends; what the client logs. It drops the connection and comes with its cookie.
BROKEN_FRAMES = {
    "magic": (b"XTF\x01\0\0\x03\0", NOT_CSTP),
    "version": (b"STF\x02\0\0\x03\0", NOT_CSTP),
    "reserved_byte": (b"STF\x01\0\0\x03\x01", NOT_CSTP),
    "length": (b"STF\x01\xff\xff\0\0", "above the limit"),
    "length_just_above": (b"STF\x01\x3f\xf9\0\0", "above the limit"),
    "http": (b"HTTP/1.1 200 OK\r\n\r\n", NOT_CSTP),
    "compressed": (frame(8, b"\0" * 20), "compressed"),
}


@pytest.mark.parametrize("case", BROKEN_FRAMES)
def test_a_broken_frame_costs_one_connection(victim, case):
    record, logged = BROKEN_FRAMES[case]
    with victim.facing(attach=connected()) as server, victim.connected() as foreground:
        server.say(record)
        foreground.wait_for_output(logged)
        assert_comes_back(victim, server)
        assert not [1 for kind, _ in server.frames if kind == DISCONNECT], "a goodbye"


def verbs(server):
    return [head.split()[0] for head, _ in server.requests]


def assert_comes_back(victim, server):
    """With the cookie, and without another login."""
    wait_until(lambda: len(server.connections) == 2, "a second connection")
    victim.client.wait_until_up()
    server.ask(b"back again")
    assert verbs(server) == ["POST", "CONNECT", "CONNECT"]
    assert cstp.value_of(server.requests[2][0], "Cookie") == f"webvpn={server.cookie}"
    assert cstp.value_of(server.requests[2][0], "X-CSTP-Address") == "10.7.0.2"


@pytest.mark.parametrize("ending", ENDINGS)
def test_any_end_of_the_connection_is_a_loss_and_no_more(victim, ending):
    def serve(server, connection):
        server.log_in(connection)
        if len(server.connections) == 1:
            connection.receive_frame(cstp.DPD_REQUEST)
            connection.send_frame(DPD_RESPONSE)
            wait_until(lambda: go, "the time to go")
            ENDINGS[ending](connection.bare())
        else:
            server.frames_until_end(connection)

    go = []
    with victim.facing(attach=connected(), serve=serve) as server, victim.connected():
        go.append(True)
        assert_comes_back(victim, server)


@pytest.mark.parametrize("kind,payload,words", [
    (TERMINATE, b"", "the server"), (TERMINATE, b"\xb0go \x1b[31mhome", r"go \.\[31mhome"),
    (DISCONNECT, b"", "the server"), (DISCONNECT, b"\x00" * 300, "the server"),
    (DISCONNECT, b"\xff" + b"x" * 16000, "x" * 100)],
    ids=["terminate", "terminate_with_words", "disconnect", "zeros", "long"])
def test_an_end_by_the_server_is_the_end(victim, kind, payload, words):
    with victim.facing(attach=connected()) as server, victim.connected() as foreground:
        asked = len(server.requests)
        server.say(frame(kind, payload))
        assert foreground.wait() == 1
        assert re.search(words, foreground.output()), foreground.output()
        assert not re.search(r"[^\x20-\x7e\n]", foreground.output())
        assert len(server.requests) == asked, "it does not come back"


# --- when the client comes again (sections 4.2, 8.2) ---

# What the second CONNECT is answered with; how many logins there are in the end.
WAY_BACK = {
    "401": (message("HTTP/1.1 401 Unauthorized", "X-Reason: for now"), 2),
    "503": (message("HTTP/1.1 503 Busy", "X-Reason: for now"), 1),
    "404": (message("HTTP/1.1 404 Not Found"), 1),
    "no_address": (connected(without=["X-CSTP-Address", "X-CSTP-Netmask"]), 1),
    "no_mtu": (connected(without=["X-CSTP-MTU"]), 1),
    "nonsense": (b"nonsense\r\n\r\n", 1),
}


@pytest.mark.parametrize("case", WAY_BACK)
def test_a_refusal_on_the_way_back(victim, case):
    """401: the cookie is over, the certificate is not. Anything else will pass."""
    said, logins = WAY_BACK[case]
    refusals = []

    def serve(server, connection):
        refuse = verbs(server).count("CONNECT") == 1
        server.attach = said if refuse else connected()
        server.log_in(connection)
        refusals.extend([case] if refuse else [])
        if not refuse:
            server.frames_until_end(connection)

    with victim.facing(serve=serve) as server, victim.connected() as foreground:
        server.say(b"no frame")
        wait_until(lambda: refusals, "the refusal")
        wait_until(lambda: verbs(server).count("CONNECT") == 3 and victim.client.is_up(),
                   "the tunnel being back")
        assert verbs(server).count("POST") == logins
        assert foreground.running


def test_another_address_on_the_way_back(victim):
    """Stock clients give up then. Ours follows, and leaves nothing of the old one."""
    def serve(server, connection):
        if "CONNECT" in verbs(server):
            server.attach = connected("X-CSTP-Address: 10.7.0.9")
        server.log_in(connection)
        server.frames_until_end(connection)

    with victim.facing(attach=connected(), serve=serve) as server, victim.connected():
        server.say(b"no frame")
        wait_until(lambda: verbs(server).count("CONNECT") == 2 and victim.client.is_up(),
                   "the tunnel being back")
        server.ask(b"back again")
        addresses = victim.host.ip("-4", "addr", "show", "dev", "cvt0")
        assert "10.7.0.9" in addresses and "10.7.0.2" not in addresses, addresses
