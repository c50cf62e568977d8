"""What goes over the wire, seen by a peer of the tests' own (harness/cstp.py) that keeps to the
rules or breaks them on purpose.

    client1: a Python client on culvertd           server: a Python server for culvert
"""
import json
import socket
import ssl
import time

import pytest

from harness import certs, cstp
from harness.culvert import INSIDE4, INSIDE6, Client
from harness.wait import wait_until


@pytest.fixture
def files(running_server):
    return running_server.export_for("alice")


@pytest.fixture
def raw(client_host, files):
    raw = cstp.RawClient(client_host, files)
    raw.head = raw.attach()
    raw.send_frame(cstp.DPD_REQUEST)  # once it is answered, the data thread has the connection
    raw.receive_frame(cstp.DPD_RESPONSE)
    return raw


def drops(server):
    return server.session("alice")["drops"]


# --- culvertd ---


def test_the_answer_to_connect_has_what_stock_clients_need(raw):
    head = raw.head
    assert head.startswith("HTTP/1.1 200 ")
    for name in ("X-CSTP-Version", "X-CSTP-Address", "X-CSTP-Netmask", "X-CSTP-Address-IP6",
                 "X-CSTP-MTU", "X-CSTP-DPD"):
        assert cstp.value_of(head, name), f"{name} is not in {head}"
    assert int(cstp.value_of(head, "X-CSTP-MTU")) >= 1280
    assert "DTLS" not in head, "no UDP is served, and announcing it delays stock clients"


def test_the_server_answers_dpd(raw):
    raw.send_frame(cstp.DPD_REQUEST)
    raw.receive_frame(cstp.DPD_RESPONSE)
    raw.send_frame(cstp.DPD_REQUEST, b"abc")
    raw.receive_frame(cstp.DPD_RESPONSE)


def test_one_frame_a_record_also_under_load(wire, raw, running_server):
    """parse_record() fails on a record that does not hold exactly one frame."""
    out = wire.server.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for number in range(300):
        out.sendto(b"%03d" % number + b"x" * (number * 3 % 1200), (raw.address4, 9))
    out.close()
    seen = 0
    while record := raw.receive_record(2):
        kind, payload = cstp.parse_record(record)
        seen += kind == cstp.DATA and payload[0] >> 4 == 4 and payload[9] == 17
    assert seen > 200, f"of 300 packets only {seen} came: {drops(running_server)}"


def test_frames_may_be_spread_over_records_and_records_may_hold_many(wire, raw):
    """Liberal in what is received: a stream is a stream."""
    listener = wire.server.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((INSIDE4, 9))
    listener.settimeout(5)
    packets = [cstp.inner_udp4(raw.address4, INSIDE4, b"%d" % n) for n in range(3)]
    raw.send_raw(b"".join(cstp.frame(cstp.DATA, p) for p in packets))
    assert {listener.recv(100) for _ in range(3)} == {b"0", b"1", b"2"}
    whole = cstp.frame(cstp.DATA, cstp.inner_udp4(raw.address4, INSIDE4, b"cut"))
    for piece in (whole[:3], whole[3:9], whole[9:]):
        raw.send_raw(piece)
    assert listener.recv(100) == b"cut"
    listener.close()


def test_foreign_inner_sources_are_dropped_and_counted(wire, raw, running_server):
    listener = wire.server.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    listener.bind(("::", 9))
    listener.settimeout(5)
    spoofed = [cstp.inner_udp4("10.99.0.77", INSIDE4, b"spoofed"),
               cstp.inner_udp4("192.0.2.1", INSIDE4, b"spoofed"),
               cstp.inner_udp4(INSIDE4, INSIDE4, b"spoofed"),
               cstp.inner_udp6("fd99::77", INSIDE6, b"spoofed"),
               cstp.inner_udp6("2001:db8::1", INSIDE6, b"spoofed")]
    for packet in spoofed:
        raw.send_frame(cstp.DATA, packet)
    raw.send_frame(cstp.DATA, cstp.inner_udp6("fe80::1", INSIDE6, b"linklocal"))
    raw.send_frame(cstp.DATA, cstp.inner_udp4(raw.address4, INSIDE4, b"honest4"))
    raw.send_frame(cstp.DATA, cstp.inner_udp6(raw.address6, INSIDE6, b"honest6"))
    assert {listener.recv(100), listener.recv(100)} == {b"honest4", b"honest6"}
    wait_until(lambda: drops(running_server).get("spoofed_source") == len(spoofed),
               "every spoofed packet being counted")
    assert drops(running_server).get("link_scope") == 1
    assert "spoof" not in running_server.log(), "packets are counted, not logged"
    listener.close()


def test_malformed_packets_are_counted_and_the_session_goes_on(raw, running_server):
    good = cstp.inner_udp4(raw.address4, INSIDE4)
    bad = [b"", b"\x45", good[:19], b"\x15" + good[1:], good[:2] + b"\xff\xff" + good[4:],
           b"\x41" + good[1:], b"\x60" + b"\0" * 20]
    for packet in bad:
        raw.send_frame(cstp.DATA, packet)
    raw.send_frame(cstp.DPD_REQUEST)
    raw.receive_frame(cstp.DPD_RESPONSE)
    wait_until(lambda: drops(running_server).get("malformed", 0) >= len(bad) - 1,
               "malformed packets being counted")


@pytest.mark.parametrize("record", [b"XXXX\0\0\0\0", b"STF\x02\0\0\x03\0", b"STF\x01\xff\xff\0\0",
                                    b"GET / HTTP/1.1\r\n\r\n"],
                         ids=["magic", "version", "length", "http"])
def test_broken_framing_ends_the_connection_and_no_other(world, wire, raw, running_server, record):
    bob = running_server.new_client(world.add_client(wire), "bob")
    bob.connect()
    raw.send_raw(record)
    wait_until(lambda: raw.receive_record(1) == b"", "the end of the connection")
    bob.host.ping(INSIDE4)
    assert bob.is_up()


def test_unknown_frame_types_are_ignored(raw):
    raw.send_frame(0x66, b"from the future")
    raw.send_frame(cstp.KEEPALIVE)
    raw.send_frame(cstp.DPD_REQUEST)
    raw.receive_frame(cstp.DPD_RESPONSE)


@pytest.mark.parametrize("reason", [b"", b"\x91Client reconnects", b"\xd1"],
                         ids=["empty", "temporary", "pause"])
def test_a_client_that_leaves_for_now_may_come_back(client_host, files, running_server, reason):
    raw = cstp.RawClient(client_host, files)
    cookie = raw.login()
    assert raw.open_tunnel(cookie).startswith("HTTP/1.1 200 ")
    before = running_server.session("alice")
    raw.send_frame(cstp.DISCONNECT, reason)
    wait_until(lambda: running_server.session("alice")["state"] == "detached", "the client away")
    assert cstp.RawClient(client_host, files).open_tunnel(cookie).startswith("HTTP/1.1 200 ")
    after = running_server.session("alice")
    assert (after["id"], after["ipv4"]) == (before["id"], before["ipv4"])


def test_disconnect_by_the_client_makes_the_cookie_worthless(client_host, files, running_server):
    raw = cstp.RawClient(client_host, files)
    cookie = raw.login()
    assert raw.open_tunnel(cookie).startswith("HTTP/1.1 200 ")
    raw.send_frame(cstp.DISCONNECT, b"\xb0bye")
    running_server.wait_for_sessions(0)
    assert cstp.RawClient(client_host, files).open_tunnel(cookie).startswith("HTTP/1.1 401 ")


def test_a_cookie_takes_the_session_up_again_with_the_same_addresses(client_host, files,
                                                                     running_server):
    first = cstp.RawClient(client_host, files)
    cookie = first.login()
    head = first.open_tunnel(cookie)
    first.close()
    wait_until(lambda: running_server.session("alice")["state"] == "detached", "detached")
    second = cstp.RawClient(client_host, files)
    again = second.open_tunnel(cookie)
    for name in ("X-CSTP-Address", "X-CSTP-Netmask", "X-CSTP-Address-IP6"):
        assert cstp.value_of(head, name) == cstp.value_of(again, name)
    # And once more while the second connection is alive: the newest one wins.
    third = cstp.RawClient(client_host, files)
    assert third.open_tunnel(cookie).startswith("HTTP/1.1 200 ")
    third.send_frame(cstp.DPD_REQUEST)
    third.receive_frame(cstp.DPD_RESPONSE)
    assert len(running_server.sessions()) == 1


def test_a_cookie_is_worth_nothing_with_another_key(client_host, files, running_server):
    cookie = cstp.RawClient(client_host, files).login()
    thief = running_server.export_for("mallory")
    assert cstp.RawClient(client_host, thief).open_tunnel(cookie).startswith("HTTP/1.1 401 ")
    # The same name does not help: it is the key that counts.
    ca = certs.Ca.of(running_server.host.dir, running_server.dir / "ca.crt",
                     running_server.dir / "ca.key")
    assert cstp.RawClient(client_host, ca.issue("alice")).open_tunnel(cookie).startswith(
        "HTTP/1.1 401 ")
    # A renewed certificate with the same key does.
    renewed = ca.issue("alice", key=files.key)
    assert cstp.RawClient(client_host, renewed).open_tunnel(cookie).startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize("cookie", ["", "0" * 64, "x" * 5000, "a;b", "\u00e9"])
def test_made_up_cookies_are_refused(client_host, files, cookie):
    head = cstp.RawClient(client_host, files).open_tunnel(cookie)
    assert not head.startswith("HTTP/1.1 200 "), head


@pytest.mark.parametrize("request_text", [
    "POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
    "POST / HTTP/1.1\r\n" + "X-Long: " + "x" * 40000 + "\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n<a><b></a",
    "BREW /coffee HTTP/1.1\r\n\r\n",
    "\0\0\0\0\r\n\r\n",
], ids=["body", "header", "lengths", "xml", "method", "zeros"])
def test_bad_requests_end_the_connection_and_not_the_server(client_host, files, request_text):
    raw = cstp.RawClient(client_host, files)
    try:
        head, body = raw.request(request_text)
        assert 'id="success"' not in body
        assert not head.startswith("HTTP/1.1 200 CONNECTED")
    except cstp.Refused:
        pass
    assert cstp.RawClient(client_host, files).login()


def test_a_client_that_falls_silent_is_noticed(world, wire, server, client_host):
    server.configure("session", dpd="1s", cookie_timeout="3s").start()
    files = server.export_for("alice")
    raw = cstp.RawClient(client_host, files)
    raw.attach()
    raw.receive_frame(cstp.DPD_REQUEST, limit=10)  # asked, and not answered
    wait_until(lambda: not [s for s in server.sessions() if s["state"] == "attached"],
               "the silent client being given up")
    server.wait_for_sessions(0)  # and its session, when nobody came back


def test_a_session_that_carries_nothing_is_ended(server, client_host):
    """Signs of life are no traffic: they keep the connection and not the session."""
    server.configure("session", idle_timeout="3s", dpd="1s").start()
    raw = cstp.RawClient(client_host, server.export_for("alice"))
    raw.attach()
    end = time.monotonic() + 20
    while (record := raw.receive_record(20)):
        assert time.monotonic() < end, "questions come, and the end does not"
        kind, payload = cstp.parse_record(record)
        if kind == cstp.DPD_REQUEST:
            raw.send_frame(cstp.DPD_RESPONSE, payload)
        if kind == cstp.DISCONNECT:
            assert b"idle" in payload
            break
    assert record, "the connection was lost without a word"
    server.wait_for_sessions(0)


def test_tls12_clients_are_served(client_host, files):
    raw = cstp.RawClient(client_host, files, version=ssl.TLSVersion.TLSv1_2)
    raw.attach()
    assert "GCM" in raw.tls.cipher()[0] or "CHACHA20" in raw.tls.cipher()[0]
    raw.send_frame(cstp.DPD_REQUEST)
    raw.receive_frame(cstp.DPD_RESPONSE)


def test_ciphers_without_authentication_of_their_own_are_refused(client_host, files):
    """AEAD only: no CBC, whatever the client likes."""
    with pytest.raises(cstp.Refused):
        cstp.RawClient(client_host, files, version=ssl.TLSVersion.TLSv1_2,
                       ciphers="ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3],
                         ids=["tls12", "tls13"])
def test_no_tickets_are_given_out(client_host, files, version):
    """A resumed TLS 1.3 session would have no certificate to judge."""
    raw = cstp.RawClient(client_host, files, version=version)
    raw.attach()
    assert raw.tls.session is None or not raw.tls.session.has_ticket


def test_a_client_that_does_not_read_costs_itself_only(world, wire, raw, running_server):
    bob = running_server.new_client(world.add_client(wire), "bob")
    bob.connect()
    out = wire.server.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(20000):
        out.sendto(b"x" * 1200, (raw.address4, 9))
    out.close()
    assert bob.host.ping(INSIDE4, count=20)
    wait_until(lambda: drops(running_server).get("queue_full", 0) > 1000, "the queue's bound")
    assert running_server.status()["sessions"]["attached"] == 2


def test_control_characters_of_a_peer_do_not_reach_the_log(client_host, files, running_server):
    raw = cstp.RawClient(client_host, files)
    body = cstp.LOGIN.replace("v9.12", "v9\x1b[31m\x07")
    raw.request(f"POST / HTTP/1.1\r\nUser-Agent: evil\x1b]0;owned\x07\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}")
    other = cstp.RawClient(client_host, files)
    head = other.open_tunnel(other.login(), extra="X-CSTP-Hostname: a\x1b[2Jb\r\n")
    if head.startswith("HTTP/1.1 200 "):
        other.send_frame(cstp.DISCONNECT, b"\xb0fake\nlevel=error \x1b[31mowned")
        running_server.wait_for_sessions(0)
    log = running_server.log()
    assert "\x1b" not in log and "\x07" not in log
    assert not [line for line in log.splitlines() if line.startswith("level=error ")]


# --- culvertd and the extension of culvert-protocol(7) ---

OFFER = "X-Culvert-Version: 1\r\nX-Culvert-Features: superpacket packed later-word\r\n"


@pytest.fixture
def raw_culvert(client_host, files):
    """A client that offers superpackets and packed frames."""
    raw = cstp.RawClient(client_host, files)
    raw.head = raw.attach(OFFER)
    raw.send_frame(cstp.DPD_REQUEST)
    raw.receive_frame(cstp.DPD_RESPONSE)
    return raw


def frames_of_a_download(wire, raw, size=40000):
    """Plays the client's side of a TCP connection into the server's network and returns the frames
    that bring `size` bytes."""
    listener = wire.server.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((INSIDE4, 7000))
    listener.listen()
    listener.settimeout(10)

    def send(seq, ack, flags):
        raw.send_frame(cstp.DATA, cstp.inner_tcp4(raw.address4, INSIDE4, 6000, 7000, seq, ack,
                                                  flags))
    send(1000, 0, cstp.SYN)
    frames, rest, server_seq, connection, expected = [], b"", None, None, None
    while expected is None or server_seq != expected:
        record = raw.receive_record(10)
        assert record, f"the download has stalled after {len(frames)} frames"
        new, rest = cstp.split_frames(rest + record)
        frames += new
        for kind, payload in new:
            packet = payload[10:] if kind == cstp.SUPERPACKET else payload
            if kind not in (cstp.DATA, cstp.SUPERPACKET) or packet[0] >> 4 != 4 or packet[9] != 6:
                continue
            seq, flags = int.from_bytes(packet[24:28], "big"), packet[33]
            if flags & cstp.SYN:
                server_seq = seq + 1
                expected = server_seq + size & 0xFFFFFFFF
                send(1001, server_seq, cstp.ACK)
                connection, _ = listener.accept()
                connection.sendall(b"x" * size)
            elif seq == server_seq:
                server_seq = seq + len(packet) - 20 - (packet[32] >> 4) * 4 & 0xFFFFFFFF
                send(1001, server_seq, cstp.ACK)
    connection.close()
    listener.close()
    return frames


def test_a_client_that_offers_nothing_gets_stock_behaviour(wire, raw):
    """Not a word of the extension, and plain frames, each in one record."""
    assert "X-Culvert" not in raw.head
    one_each = []
    receive = raw.receive_record

    def receive_record(limit=10):
        record = receive(limit)
        if record:
            one_each.append(cstp.parse_record(record))
        return record
    raw.receive_record = receive_record
    kinds = {kind for kind, _ in frames_of_a_download(wire, raw)}
    assert cstp.DATA in kinds and cstp.SUPERPACKET not in kinds
    mtu = int(cstp.value_of(raw.head, "X-CSTP-MTU"))
    assert max(len(payload) for kind, payload in one_each if kind == cstp.DATA) <= mtu


def test_features_without_a_version_mean_nothing(client_host, files):
    head = cstp.RawClient(client_host, files).attach("X-Culvert-Features: superpacket\r\n")
    assert cstp.value_of(head, "X-Culvert-Features") is None


def test_a_client_that_offers_gets_superpackets(wire, raw_culvert, running_server):
    assert cstp.value_of(raw_culvert.head, "X-Culvert-Version") == "1"
    assert cstp.value_of(raw_culvert.head, "X-Culvert-Features") == "superpacket packed"
    frames = frames_of_a_download(wire, raw_culvert)
    supers = [p for kind, p in frames if kind == cstp.SUPERPACKET]
    assert supers, f"only types {[kind for kind, _ in frames]}"
    mtu = int(cstp.value_of(raw_culvert.head, "X-CSTP-MTU"))
    for payload in supers:
        flags, kind, headers, gso_size = payload[0], payload[1], payload[2], payload[4:6]
        assert flags == 1 and kind == 1
        gso_size = int.from_bytes(gso_size, "little")
        assert 0 < headers + gso_size <= mtu
        assert (len(payload) - 10 - headers + gso_size - 1) // gso_size <= 128
    assert not drops(running_server)


def test_a_superpacket_of_a_client_arrives_as_what_it_stands_for(wire, raw_culvert):
    listener = wire.server.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((INSIDE4, 9))
    listener.settimeout(5)
    payload = b"a" * 100 + b"b" * 100 + b"c" * 7
    raw_culvert.send_frame(cstp.SUPERPACKET,
                           cstp.super_udp4(raw_culvert.address4, INSIDE4, payload))
    assert [listener.recv(1000) for _ in range(3)] == [b"a" * 100, b"b" * 100, b"c" * 7]
    listener.close()


def test_bad_superpackets_are_counted_and_reach_nobody(wire, raw_culvert, running_server):
    listener = wire.server.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((INSIDE4, 9))
    listener.settimeout(5)
    mine, payload = raw_culvert.address4, b"bad" * 200

    def bad(**header):
        return cstp.super_udp4(mine, INSIDE4, payload, **header)
    hostile = [b"", b"\0" * 9, cstp.vnet(), bad(flags=0), bad(flags=3), bad(flags=0xff), bad(kind=1),
               bad(kind=3), bad(kind=4), bad(kind=0x85), bad(kind=99), bad(gso_size=0),
               bad(gso_size=1), bad(gso_size=65535)[:-1], bad()[:-1], bad() + b"x",
               cstp.super_udp4(mine, INSIDE4, b"bad" * 1000, gso_size=2000),
               cstp.super_udp4(mine, INSIDE4, b"bad" * 4000, gso_size=3),
               bad(kind=0, start=0), bad(kind=0, offset=65535)]
    for one in hostile:
        raw_culvert.send_frame(cstp.SUPERPACKET, one)
    spoofed = cstp.super_udp4("192.0.2.1", INSIDE4, payload)
    raw_culvert.send_frame(cstp.SUPERPACKET, spoofed)
    raw_culvert.send_frame(cstp.SUPERPACKET,
                           cstp.super_udp4(mine, INSIDE4, b"good", gso_size=100))
    assert listener.recv(2000) == b"good"
    wait_until(lambda: drops(running_server).get("bad_superpacket") == len(hostile),
               "every bad superpacket being counted")
    assert drops(running_server).get("spoofed_source") == 1
    listener.close()


def test_superpackets_that_were_not_agreed_are_an_unknown_type(wire, raw, running_server):
    raw.send_frame(cstp.SUPERPACKET, cstp.super_udp4(raw.address4, INSIDE4, b"x" * 300))
    raw.send_frame(cstp.SWITCH)
    raw.send_frame(cstp.DPD_REQUEST)
    raw.receive_frame(cstp.DPD_RESPONSE)
    assert not drops(running_server)


# --- culvert ---


@pytest.fixture
def fake_ca(world):
    return certs.Ca(world.dir, "Good CA")


@pytest.fixture
def fake(wire, fake_ca):
    issued = fake_ca.issue("vpn.example.com", [certs.SERVER], ["DNS:vpn.example.com"])

    def start(**options):
        return cstp.FakeServer(wire.server, issued, client_ca=fake_ca.certificate, **options)
    return start


@pytest.fixture
def client(client_host, fake_ca):
    client = Client(client_host, "alice")
    mine = fake_ca.issue("alice")
    client.import_text({"name": "vpn.example.com", "address": "198.51.100.1", "user": "alice",
                        "tls": {"ca": fake_ca.certificate_pem, "certificate": mine.certificate_pem,
                                "key": mine.key_pem}})
    return client


def test_the_client_takes_what_the_server_assigns_and_says_goodbye(client, fake):
    server = fake()
    client.connect()
    addresses = json.dumps(client.host.json("addr"))
    assert "10.7.0.2" in addresses and "fd07::2" in addresses
    device = [l for l in client.host.json("link") if l["ifname"] not in ("lo", "eth0")][0]
    assert device["mtu"] == 1400
    assert server.requests[-1][0].startswith("CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\n")
    assert cstp.value_of(server.requests[-1][0], "Cookie") == f"webvpn={server.cookie}"
    client.disconnect()
    wait_until(lambda: [p for k, p in server.frames if k == cstp.DISCONNECT], "the goodbye")
    assert [p for k, p in server.frames if k == cstp.DISCONNECT][0][:1] == b"\xb0"


def test_the_client_offers_and_takes_only_what_is_granted(client, fake):
    """A server that grants nothing, and one that grants what nobody has asked for."""
    server = fake(parameters=["X-CSTP-Version: 1", "X-CSTP-Address: 10.7.0.2", "X-CSTP-MTU: 1400",
                              "X-CSTP-Netmask: 255.255.255.0", "X-Culvert-Version: 1",
                              "X-Culvert-Features: rekey future", "X-Culvert-Attach: rekey"])
    client.connect()
    head = server.requests[-1][0]
    assert cstp.value_of(head, "X-Culvert-Version") == "1"
    assert cstp.value_of(head, "X-Culvert-Features") == "superpacket packed unsummed cid roam rekey"
    assert cstp.value_of(head, "X-Culvert-Attach") is None
    client.host.run("ping", "-c", "1", "-W", "1", "10.7.0.1", check=False)
    assert {kind for kind, _ in server.frames} <= {cstp.DATA, cstp.DPD_REQUEST, cstp.KEEPALIVE}


def test_the_client_sends_one_frame_a_record(client, fake):
    """parse_record() in FakeServer fails on anything else, and the test with it."""
    server = fake()
    client.connect()
    out = client.host.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for number in range(200):
        out.sendto(b"x" * (number * 5 % 1200), ("10.7.0.1", 9))
    wait_until(lambda: len([1 for k, p in server.frames if k == cstp.DATA and p[9:10] == b"\x11"])
               > 100, "packets arriving")
    out.close()
    assert not server.failures


def test_the_client_answers_dpd_and_asks_by_itself(client, fake):
    answered = []

    def serve(server, connection):
        server.log_in(connection)
        connection.send_frame(cstp.DPD_REQUEST, b"hello")
        while True:
            record = connection.receive_record(20)
            if not record:
                return
            kind, payload = cstp.parse_record(record)
            answered.append(kind)
            if kind == cstp.DPD_REQUEST:
                connection.send_frame(cstp.DPD_RESPONSE, payload)

    server = fake(serve=serve, parameters=["X-CSTP-Address: 10.7.0.2", "X-CSTP-MTU: 1300",
                                           "X-CSTP-Netmask: 255.255.255.0", "X-CSTP-DPD: 1"])
    client.connect()
    wait_until(lambda: cstp.DPD_RESPONSE in answered, "an answer to our DPD")
    wait_until(lambda: answered.count(cstp.DPD_REQUEST) >= 4, "requests of its own")
    assert len(server.connections) == 1, "they keep one connection alive and are no new attempts"


def test_a_server_that_falls_silent_is_left_and_tried_again(client, fake):
    def serve(server, connection):
        server.log_in(connection)
        first = len(server.connections) == 1
        answered = 0
        while not server._closing:
            record = connection.receive_record(0.2)
            if record == b"":
                return
            if record and cstp.parse_record(record)[0] == cstp.DPD_REQUEST:
                if first and answered:
                    continue  # one answer, so that the tunnel comes up, then silence
                answered += 1
                connection.send_frame(cstp.DPD_RESPONSE)

    server = fake(serve=serve, parameters=["X-CSTP-Address: 10.7.0.2", "X-CSTP-MTU: 1300",
                                           "X-CSTP-Netmask: 255.255.255.0", "X-CSTP-DPD: 1"])
    client.connect()
    wait_until(lambda: len(server.connections) >= 2, "a second connection", 30)
    client.wait_until_up()


def test_after_a_loss_the_client_comes_back_with_its_cookie(client, fake):
    server = fake()
    client.connect()
    logins = len([1 for head, _ in server.requests if head.startswith("POST ")])
    server.connections[-1].close()
    wait_until(lambda: len([1 for head, _ in server.requests if head.startswith("CONNECT ")]) == 2,
               "the second CONNECT")
    client.wait_until_up()
    assert len([1 for head, _ in server.requests if head.startswith("POST ")]) == logins


def test_connect_is_done_only_when_an_answer_came_through_the_tunnel(client, fake):
    def serve(server, connection):
        server.log_in(connection)
        while connection.receive_record(20):
            pass  # takes everything and answers nothing

    before = client.host.network_state()
    fake(serve=serve)
    client.connect("--timeout", "3s", code=6)
    assert client.host.network_state() == before


@pytest.mark.parametrize("answer,code", [
    ("HTTP/1.1 401 Unauthorized\r\nX-Reason: go away\r\n\r\n", 3),
    ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnonsense!", None),
    ("nonsense\r\n\r\n", None),
], ids=["refused", "no_login", "no_http"])
def test_odd_answers_end_the_attempt_with_a_message(client, fake, answer, code):
    def serve(_server, connection):
        connection.receive_head()
        connection.send_raw(answer.encode())
        connection.receive_record(2)

    fake(serve=serve)
    done = client.run("connect", "alice", "--timeout", "5s", check=False)
    assert done.returncode == code if code else done.returncode in (1, 3, 6), done.stderr
    assert (done.stdout + done.stderr).strip()


@pytest.mark.parametrize("parameters", [
    ["X-CSTP-MTU: 1400"],
    ["X-CSTP-Address: 10.7.0.2", "X-CSTP-Netmask: 255.255.255.0"],
    ["X-CSTP-Address: 999.7.0.2", "X-CSTP-MTU: 1400"],
    ["X-CSTP-Address: 10.7.0.2", "X-CSTP-Netmask: 255.255.255.0", "X-CSTP-MTU: 99999999"],
    ["X-CSTP-Address: 10.7.0.2", "X-CSTP-Netmask: 255.255.255.0", "X-CSTP-MTU: -1"],
], ids=["no_address", "no_mtu", "bad_address", "huge_mtu", "negative_mtu"])
def test_hostile_parameters_never_reach_the_kernel(client, fake, parameters):
    before = client.host.network_state()
    fake(parameters=parameters)
    done = client.run("connect", "alice", "--timeout", "5s", check=False)
    if done.returncode == 0:  # clamping a size is as good as refusing it
        link = [l for l in client.host.json("link") if l["ifname"] not in ("lo", "eth0")][0]
        assert 576 <= link["mtu"] <= 16376
        client.disconnect()
    assert client.host.network_state() == before


def test_a_disconnect_of_the_server_ends_the_tunnel_with_its_words(client, fake):
    def serve(server, connection):
        server.log_in(connection)
        while cstp.parse_record(connection.receive_record())[0] != cstp.DPD_REQUEST:
            pass
        connection.send_frame(cstp.DPD_RESPONSE)
        connection.receive_record(1)
        connection.send_frame(cstp.DISCONNECT, b"\xb0closing \x1b[31mtime")
        connection.receive_record(5)

    before = client.host.network_state()
    fake(serve=serve)
    foreground = client.start()
    assert foreground.wait(30) != 0
    assert "closing" in foreground.output()
    assert "\x1b" not in foreground.output()
    assert client.host.network_state() == before
