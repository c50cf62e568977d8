"""The hostile peers of test_hostile.py on the UDP channel (openconnect-protocol 6): sessions live
and end over TLS; whatever comes over UDP is either good, or as if it had not come.

    victim: culvert, facing harness/dtls.py
    stage: culvertd, facing harness/dtls.py; bob has a tunnel
"""
import contextlib
import os
import socket

import pytest

from harness import cstp
from harness.cstp import DATA, DISCONNECT, DPD_RESPONSE, KEEPALIVE, TERMINATE
from harness.culvert import INSIDE4
from harness.dtls import DtlsPeer, app_id, exported_key
from harness.wait import wait_until

COMPRESSED = 8
STRANGE = [DISCONNECT, COMPRESSED, TERMINATE, 0x01, 0x02, 0x06, 0x20, 0x21, 0x66, 0xff]
PSK = "X-DTLS-CipherSuite: PSK-NEGOTIATE\r\n"


@pytest.fixture
def raw(stage):
    """Its TLS connection; over at the end, with its session."""
    raw = stage.tunnel(PSK)
    yield raw
    raw.send_frame(cstp.DPD_REQUEST, b"over TLS")
    while raw.receive_frame(DPD_RESPONSE) != b"over TLS":
        pass
    raw.send_frame(DISCONNECT, b"\xb0bye")
    wait_until(lambda: stage.session_of(raw) is None, "the end of the session")


def dtls_client(stage, raw, key=None, session_id=None):
    return DtlsPeer(stage.host, key or exported_key(raw.tls), session_id or app_id(raw.head))


def test_strange_packets_to_the_server(stage, raw):
    dtls = dtls_client(stage, raw)
    assert dtls.handshake()
    dtls.ask(b"x" * 1300)
    for kind in STRANGE:
        dtls.send(kind, b"\xb0strange")
        dtls.ask(b"after %02x" % kind)
    dtls.send(KEEPALIVE, b"with a text")
    dtls.send(DPD_RESPONSE, b"to nothing")
    dtls.send(cstp.DPD_REQUEST)
    assert not stage.session_of(raw)["drops"]
    good = cstp.inner_udp4(raw.address4, INSIDE4)
    for packet in (b"\x45", good[:19], b"\x55" + good[1:], good[:2] + b"\xff\xff" + good[4:]):
        dtls.send(DATA, packet)
    dtls.send(DATA, cstp.inner_udp4("10.99.200.200", INSIDE4))
    wait_until(lambda: stage.session_of(raw)["drops"] == {"malformed": 4, "spoofed_source": 1},
               "the count of drops")
    assert stage.session_of(raw)["channel"] == "dtls"


def test_garbage_on_the_udp_port(stage, raw):
    dtls = dtls_client(stage, raw)
    assert dtls.handshake()
    stray = stage.host.socket(kind=socket.SOCK_DGRAM)
    stray.connect(("198.51.100.1", 443))
    for garbage in (b"", b"x", b"\x17", b"\x16\xfe\xff" + b"\0" * 10,
                    b"\x17\xfe\xfd" + b"\xff" * 40,
                    b"\x16\xfe\xfd\0\0\0\0\0\0\0\0\xff\xff" + b"x" * 1400, os.urandom(1400)):
        for sender in (stray.send, dtls.send_raw):
            sender(garbage)
    dtls.ask(b"still there?")
    stray.setblocking(False)
    with pytest.raises(BlockingIOError):
        stray.recv(100)
    stray.close()
    assert stage.session_of(raw)["state"] == "attached"


@pytest.mark.parametrize("what", ["key", "session_id"])
def test_a_handshake_with_something_made_up(stage, raw, what):
    """An id that nobody was given gets no answer at all; a wrong key gets nowhere."""
    forged = dtls_client(stage, raw, **{what: b"\x55" * 32})
    assert not forged.handshake(limit=1)
    forged.close()
    honest = dtls_client(stage, raw)
    assert honest.handshake(), "a stranger's attempt must not cost the client its own"
    honest.ask(b"here I am")


def test_a_close_of_the_udp_channel_is_not_the_end(stage, raw):
    dtls = dtls_client(stage, raw)
    assert dtls.handshake()
    dtls.ask(b"up")
    dtls.say_closed()
    wait_until(lambda: stage.session_of(raw)["channel"] == "tls", "the way over TLS")
    again = dtls_client(stage, raw)
    assert again.handshake()
    again.ask(b"up again")


# --- culvert ---

@contextlib.contextmanager
def facing_dtls(victim, key=None):
    """A server with both channels; yields it and the DTLS end, not yet shaken hands with."""
    ends = []

    def serve(server, connection):
        server.log_in(connection)
        ends.append(DtlsPeer(victim.wire.server, key or exported_key(connection.tls)))
        server.frames_until_end(connection)

    parameters = ["X-CSTP-Version: 1", "X-CSTP-Address: 10.7.0.2", "X-CSTP-Netmask: 255.255.255.0",
                  "X-CSTP-MTU: 1300", "X-CSTP-DPD: 5", "X-DTLS-Port: 443", "X-DTLS-DPD: 5",
                  "X-DTLS-CipherSuite: PSK-NEGOTIATE", f"X-DTLS-App-ID: {'5a' * 32}"]
    with victim.facing(serve=serve, parameters=parameters) as server:
        foreground = victim.client.start()
        try:
            yield server, wait_until(lambda: ends, "the answer to CONNECT")[0]
            victim.client.wait_until_up()
            server.ask(b"over TLS")
            assert foreground.running and len(server.connections) == 1
        finally:
            foreground.stop()
            for end in ends:
                end.close()


def wait_for_dtls(victim, dtls):
    dtls.serve_until(lambda _: victim.client.status()["channel"] == "dtls", "the way over DTLS")


def test_strange_packets_to_the_client(victim):
    with facing_dtls(victim) as (_, dtls):
        assert dtls.handshake()
        dtls.ask(b"x" * 1200)
        for kind in STRANGE:
            dtls.send(kind, b"\xb0strange")
            dtls.ask(b"after %02x" % kind)
        dtls.send(KEEPALIVE, b"with a text")
        dtls.send(DPD_RESPONSE, b"to nothing")
        good = cstp.inner_udp4("10.7.0.1", "10.7.0.2")
        for packet in (b"\x45", good[:19], b"\x55" + good[1:], good[:2] + b"\xff\xff" + good[4:]):
            dtls.send(DATA, packet)
        dtls.ask(b"after packets")
        wait_for_dtls(victim, dtls)
        status = victim.client.status()
        assert status["channel"] == "dtls" and status["drops"] == {"malformed": 4}, status


def test_a_close_by_the_server_leaves_the_tunnel_on_tls(victim):
    with facing_dtls(victim) as (_, dtls):
        assert dtls.handshake()
        wait_for_dtls(victim, dtls)
        dtls.say_closed()
        wait_until(lambda: victim.client.status()["channel"] == "tls", "the way over TLS")


def test_a_server_with_another_key_gets_no_udp_channel(victim):
    with facing_dtls(victim, key=b"\x55" * 32) as (_, dtls):
        assert not dtls.handshake(limit=1)
        victim.client.wait_until_up()
        assert victim.client.status()["channel"] == "tls"


def test_garbage_for_the_client(victim):
    with facing_dtls(victim) as (_, dtls):
        assert dtls.handshake()
        wait_for_dtls(victim, dtls)
        for garbage in (b"", b"x", b"\x17\xfe\xfd" + b"\xff" * 40, b"\x15\xfe\xfd" + b"\0" * 12,
                        b"\x16\xfe\xfd\0\0\0\0\0\0\0\0\xff\xff" + b"x" * 1300, os.urandom(1300)):
            dtls.send_raw(garbage)
        dtls.ask(b"still there?")
        assert victim.client.status()["channel"] == "dtls"
