"""A session moves to another TLS connection without a gap: rekey (both live until the old one is
drained) and roam (DTLS goes on while TLS is made anew). culvert-protocol(7), ATTACHING AGAIN.

    culvert (client1) ──eth0───to1── culvertd (server)
    10.99.0.x, fd99::x               10.99.0.1, fd99::1
"""
import re
import socket
import struct
import threading
import time

import pytest

from harness.certs import SERVER, Ca
from harness.cstp import (DATA, DISCONNECT, DPD_REQUEST, DPD_RESPONSE, SWITCH, FakeServer, RawClient,
                          inner_udp4, value_of)
from harness.culvert import INSIDE4, NAME, Client, profile_table
from harness.wait import wait_until
from test_udp import Pinger, wait_for_channel, wait_for_session_channel

SO_RCVBUFFORCE = 33  # asm-generic/socket.h
FEATURES = "X-Culvert-Version: 1\r\nX-Culvert-Features: rekey roam\r\n"
REKEY, ROAM = (FEATURES + f"X-Culvert-Attach: {word}\r\n" for word in ("rekey", "roam"))


class Numbered:
    """Numbered datagrams from one host to another, paced; what came is kept in the order in which it
    came."""

    def __init__(self, sender, receiver, source, destination, port, every=0.0005, size=200):
        self.sent, self.received = 0, []
        self._out = sender.socket(kind=socket.SOCK_DGRAM)
        self._out.bind((source, 0))
        self._in = receiver.socket(kind=socket.SOCK_DGRAM)
        self._in.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self._in.bind((destination, port))
        self._in.settimeout(0.1)
        self._to, self._every, self._fill = (destination, port), every, b"." * (size - 4)
        self._sending = self._receiving = True
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self):
        while self._sending:
            self._out.sendto(struct.pack(">I", self.sent) + self._fill, self._to)
            self.sent += 1
            time.sleep(self._every)  # the rate of the stream

    def _receive(self):
        while self._receiving:
            try:
                self.received.append(struct.unpack(">I", self._in.recv(2048)[:4])[0])
            except TimeoutError:
                continue

    def finish(self, limit=5):
        self._sending = False
        self._threads[0].join()
        try:
            wait_until(lambda: len(self.received) >= self.sent, "the last datagrams", limit)
        except AssertionError:
            pass  # check() says which ones are missing
        self._receiving = False
        self._threads[1].join()
        self._out.close()
        self._in.close()
        return self

    def check(self):
        """Nothing was lost and nothing has overtaken anything."""
        expected = list(range(self.sent))
        if self.received == expected:
            return
        lost = sorted(set(expected) - set(self.received))
        late = [b for a, b in zip(self.received, self.received[1:]) if b < a]
        raise AssertionError(f"of {self.sent}: lost {lost[:20]} ({len(lost)}), "
                             f"overtaken {late[:20]} ({len(late)})")


class Stream:
    """A TCP connection that carries numbers as fast as it can."""

    def __init__(self, sender, receiver, address, port=5005):
        self._listener = receiver.socket()
        self._listener.bind((address, port))
        self._listener.listen()
        self._out = sender.socket()
        self._out.settimeout(20)
        self._out.connect((address, port))
        self._in, _ = self._listener.accept()
        self._in.settimeout(20)
        self.bytes, self.failure, self._sending = 0, None, True
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self):
        number = 0
        while self._sending:
            self._out.sendall(struct.pack(">I", number) * 16384)
            number += 1
        self._out.close()

    def _receive(self):
        number, size = 0, 65536
        try:
            while True:
                data = b""
                while len(data) < size and (more := self._in.recv(size - len(data))):
                    data += more
                if not data:
                    return
                if data != struct.pack(">I", number) * 16384:
                    self.failure = f"block {number} is not what was sent"
                number += 1
                self.bytes += len(data)
        except OSError as error:
            self.failure = str(error)

    def finish(self):
        self._sending = False
        for thread in self._threads:
            thread.join(30)
        self._in.close()
        self._listener.close()
        assert not self.failure, self.failure
        return self.bytes


def connections_of(server):
    """TLS connections that the server has."""
    done = server.host.run("ss", "-Htn", "state", "established", "sport", "=", ":443")
    return len(done.stdout.splitlines())


def wait_for_rekeys(client, server, count, limit=30):
    start = client.status()["rekeys"]
    wait_until(lambda: client.status()["rekeys"] >= start + count, f"{count} rekeys", limit)
    wait_until(lambda: server.session(client.name)["rekeys"] >= start + count, "the server's count", 5)


@pytest.fixture
def rekeying(server, client_host):
    """Without UDP; new keys every two seconds."""
    server.configure("session", rekey_time="2s").configure("udp", enabled=False).start()
    client = server.new_client(client_host, "alice")
    client.connect()
    return client


# ---- rekey ---------------------------------------------------------------------------------------

@pytest.mark.smoke
def test_new_keys_lose_no_packet_and_let_none_overtake(wire, server, client_host, rekeying):
    inside = server.session("alice")["ipv4"]
    up = Numbered(client_host, wire.server, inside, INSIDE4, 5001)
    down = Numbered(wire.server, client_host, INSIDE4, inside, 5002)
    wait_for_rekeys(rekeying, server, 3)
    for numbered in (up.finish(), down.finish()):
        numbered.check()
        assert numbered.sent > 2000
    status, session = rekeying.status(), server.session("alice")
    assert status["state"] == "up" and status["reconnects"] == 0 and status["channel"] == "tls"
    assert session["state"] == "attached" and len(server.sessions()) == 1
    # What was counted before the new connection counts still.
    assert session["rx_packets"] >= up.sent and session["tx_packets"] >= down.sent, session
    assert status["rx"]["packets"] >= down.sent and status["tx"]["packets"] >= up.sent
    assert not {"channel_down", "queue_full"} & set(status["drops"]) | set(session["drops"]), status


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_bulk_transfer_does_not_notice_new_keys(wire, server, client_host, rekeying, direction):
    inside = server.session("alice")["ipv4"]
    if direction == "up":
        stream = Stream(client_host, wire.server, INSIDE4)
    else:
        stream = Stream(wire.server, client_host, inside)
    pinger = Pinger(client_host, INSIDE4)
    wait_for_rekeys(rekeying, server, 3)
    assert stream.finish() > 1_000_000
    assert pinger.longest_gap() < 1
    wait_until(lambda: connections_of(server) == 1, "the old connections being closed", 5)
    assert rekeying.status()["reconnects"] == 0


def test_dtls_gets_new_keys_beside_the_old_ones(wire, server, client_host):
    server.configure("session", rekey_time="3s").start()
    client = server.new_client(client_host, "alice")
    client.connect()
    wait_for_channel(client, "dtls")
    wait_for_session_channel(server, "alice", "dtls")
    handshakes = server.status()["udp"]["handshakes"]
    session = server.session("alice")
    pinger = Pinger(client_host, INSIDE4, interval=0.02)
    wait_for_rekeys(client, server, 2)
    wait_until(lambda: server.status()["udp"]["handshakes"] >= handshakes + 2, "DTLS handshakes", 10)
    wait_for_channel(client, "dtls")
    after = wait_for_session_channel(server, "alice", "dtls")
    assert after["id"] == session["id"] and after["connected_since"] == session["connected_since"]
    assert pinger.longest_gap() < 0.5


@pytest.fixture
def raw(client_host, running_server):
    """A client that the test speaks for, with an open session, and its cookie."""
    issued = running_server.export_for("alice")
    first = RawClient(client_host, issued)
    cookie = first.login()
    head = first.open_tunnel(cookie, FEATURES)
    assert "rekey" in value_of(head, "X-Culvert-Features")
    first.address4 = value_of(head, "X-CSTP-Address")

    def again(extra):
        second = RawClient(client_host, issued)
        return second, second.open_tunnel(cookie, extra)
    first.again = again
    return first


def rekeyed(raw):
    """The second connection, after the server has moved to it."""
    second, head = raw.again(REKEY)
    assert value_of(head, "X-Culvert-Attach") == "rekey", head
    assert raw.receive_frame(SWITCH) == b""
    return second


def test_the_server_drains_the_old_connection_before_it_takes_from_the_new(raw, running_server):
    second = rekeyed(raw)
    second.send_frame(DPD_REQUEST, b"new")
    raw.send_frame(DPD_REQUEST, b"old")
    assert raw.receive_frame(DPD_RESPONSE) == b"old"
    assert second.receive_record(limit=1) is None, "the new connection has to wait"
    raw.send_frame(DATA, inner_udp4(raw.address4, INSIDE4))
    raw.send_frame(SWITCH)
    assert second.receive_frame(DPD_RESPONSE) == b"new"
    before = running_server.session("alice")["rx_packets"]
    assert before == 1
    raw.send_frame(DATA, inner_udp4(raw.address4, INSIDE4))
    raw.send_frame(DPD_REQUEST, b"still")
    assert raw.receive_frame(DPD_RESPONSE) == b"still"
    assert running_server.session("alice")["rx_packets"] == before, "nothing follows a SWITCH"
    raw.close()
    second.send_frame(DPD_REQUEST, b"more")
    assert second.receive_frame(DPD_RESPONSE) == b"more"
    assert running_server.session("alice")["state"] == "attached"
    assert connections_of(running_server) == 1


def test_an_old_connection_that_breaks_makes_room_at_once(raw, running_server):
    second = rekeyed(raw)
    second.send_frame(DPD_REQUEST, b"new")
    raw.close()
    assert second.receive_frame(DPD_RESPONSE, limit=3) == b"new"
    assert running_server.session("alice")["state"] == "attached"


def test_a_peer_that_never_switches_loses_the_old_connection(raw, running_server):
    second = rekeyed(raw)
    second.send_frame(DPD_REQUEST, b"new")
    started = time.monotonic()
    assert second.receive_frame(DPD_RESPONSE, limit=15) == b"new"
    assert time.monotonic() - started > 5
    wait_until(lambda: connections_of(running_server) == 1, "the old connection being dropped", 3)
    assert running_server.session("alice")["state"] == "attached"


def test_connections_do_not_pile_up(raw, running_server):
    latest = raw
    for _ in range(5):
        second, head = raw.again(REKEY)
        assert value_of(head, "X-Culvert-Attach") == "rekey"
        latest = second
    wait_until(lambda: connections_of(running_server) <= 2, "at most an old and a new one", 5)
    latest.send_frame(DPD_REQUEST, b"x")
    assert latest.receive_frame(DPD_RESPONSE, limit=15) == b"x"


def test_whoever_is_thrown_out_during_a_rekey_is_told_on_both_connections(raw, running_server):
    second = rekeyed(raw)
    running_server.run("disconnect", "alice")
    for connection in (raw, second):
        assert b"administrator" in connection.receive_frame(DISCONNECT).lower()
        connection.close()
    running_server.wait_for_sessions(0)


def test_a_goodbye_on_the_old_connection_ends_the_session(raw, running_server):
    second = rekeyed(raw)
    raw.send_frame(DISCONNECT, b"\xb0bye")
    running_server.wait_for_sessions(0)
    assert second.receive_record() == b""


@pytest.mark.parametrize("extra, why", [
    (ROAM, "there is no DTLS association"),
    (REKEY.replace("rekey roam", "roam"), "the word is not among the features"),
    (REKEY.replace("X-Culvert-Version: 1\r\n", ""), "without a version it means nothing"),
], ids=["no_dtls", "no_feature", "no_version"])
def test_what_cannot_be_granted_is_an_ordinary_attach(raw, running_server, extra, why):
    second, head = raw.again(extra)
    assert head.startswith("HTTP/1.1 200 ") and value_of(head, "X-Culvert-Attach") is None, why
    second.send_frame(DPD_REQUEST, b"x")
    assert second.receive_frame(DPD_RESPONSE, limit=3) == b"x"
    assert raw.receive_record() == b"", "the old connection is dropped"
    assert running_server.session("alice")["rekeys"] == 0


def test_a_rekey_needs_a_connection_to_be_gentle_to(raw, running_server):
    raw.close()
    wait_until(lambda: running_server.session("alice")["state"] == "detached", "detached")
    _, head = raw.again(REKEY)
    assert head.startswith("HTTP/1.1 200 ") and value_of(head, "X-Culvert-Attach") is None


def test_connections_that_are_given_up_at_once_do_no_harm(raw, running_server):
    # How far each of them gets is chance. Whatever happens, the session is there for the next one.
    for _ in range(5):
        second, head = raw.again(REKEY)
        assert head.startswith("HTTP/1.1 200 "), head
        second.close()
    latest, head = raw.again(FEATURES)
    assert head.startswith("HTTP/1.1 200 "), head
    latest.send_frame(DPD_REQUEST, b"x")
    assert latest.receive_frame(DPD_RESPONSE, limit=3) == b"x"
    assert running_server.session("alice")["state"] == "attached"


# ---- roam ----------------------------------------------------------------------------------------

@pytest.fixture
def roaming(server, client_host):
    server.configure("session", dpd="1s").start()
    client = server.new_client(client_host, "alice")
    client.connect()
    wait_for_channel(client, "dtls")
    wait_for_session_channel(server, "alice", "dtls")
    return client


def break_tls(host, session):
    """Resets the TLS connection of now, and no other."""
    port = session["remote"].rsplit(":", 1)[1]
    host.run("nft", "add table inet breaker")
    host.run("nft", "add chain inet breaker output { type filter hook output priority 0; }")
    host.run("nft", f"add rule inet breaker output tcp sport {port} reject with tcp reset")


def test_dtls_goes_on_when_tls_breaks(server, client_host, roaming):
    handshakes = server.status()["udp"]["handshakes"]
    before = server.session("alice")
    pinger = Pinger(client_host, INSIDE4, interval=0.02)
    break_tls(client_host, before)
    wait_until(lambda: roaming.status()["roams"] == 1, "another TLS connection", 20)
    session = wait_until(lambda: (s := server.session("alice"))["roams"] == 1 and s, "the server", 5)
    assert session["id"] == before["id"] and session["state"] == "attached", session
    assert session["remote"] != before["remote"] and session["channel"] == "dtls", session
    status = roaming.status()
    assert status["state"] == "up" and status["channel"] == "dtls" and status["reconnects"] == 0
    assert pinger.longest_gap() < 0.5
    assert server.status()["udp"]["handshakes"] == handshakes, "the association has been kept"
    # The new TLS connection carries packets when it has to.
    client_host.run("nft", "add rule inet breaker output udp dport 443 drop")
    wait_for_channel(roaming, "tls")
    client_host.ping(INSIDE4)


def test_later_handshakes_use_the_keys_that_were_kept(server, client_host, roaming):
    break_tls(client_host, server.session("alice"))
    wait_until(lambda: roaming.status()["roams"] == 1, "another TLS connection", 20)
    client_host.run("nft", "add rule inet breaker output udp dport 443 drop")
    wait_for_channel(roaming, "tls")
    handshakes = server.status()["udp"]["handshakes"]
    client_host.run("nft", "flush chain inet breaker output")
    wait_for_channel(roaming, "dtls", 40)
    wait_for_session_channel(server, "alice", "dtls")
    udp = server.status()["udp"]
    assert udp["unknown_app_id"] == 0 and udp["handshakes"] >= handshakes, udp
    client_host.ping(INSIDE4)


def test_a_client_that_changes_its_address_gets_a_new_tls_connection(wire, server, client_host):
    server.start()  # silence is noticed after half a minute
    client = server.new_client(client_host, "alice")
    client.connect()
    wait_for_channel(client, "dtls")
    wait_for_session_channel(server, "alice", "dtls")
    handshakes = server.status()["udp"]["handshakes"]
    gateway = wire.add_second_link(client_host)
    pinger = Pinger(client_host, INSIDE4)
    wait_until(lambda: pinger.process.output().count("bytes from") > 5, "answers", 10)
    client_host.ip("route", "replace", "default", "via", gateway)
    client_host.ip("addr", "del", client_host.address4 + "/30", "dev", "eth0")
    started = time.monotonic()
    wait_until(lambda: client.status()["roams"] >= 1, "another TLS connection", 20)
    assert time.monotonic() - started < 10, "the address is looked at, not only silence"
    session = server.session("alice")
    assert session["remote"].startswith("203.0.113.2:") and session["state"] == "attached"
    assert session["channel"] == "dtls" and client.status()["channel"] == "dtls"
    assert server.status()["udp"]["handshakes"] == handshakes
    assert pinger.longest_gap() < 1
    wait_until(lambda: connections_of(server) == 1, "the old connection being dropped", 5)


def test_without_dtls_a_broken_connection_is_replaced_as_ever(server, client_host):
    server.configure("session", dpd="1s").configure("udp", enabled=False).start()
    client = server.new_client(client_host, "alice")
    client.connect()
    before = server.session("alice")
    break_tls(client_host, before)
    wait_until(lambda: client.is_up() and client.status()["reconnects"] >= 1, "a reconnect", 30)
    assert client.status()["roams"] == 0 and server.session("alice")["roams"] == 0
    assert server.session("alice")["id"] == before["id"]
    client_host.ping(INSIDE4)


# ---- other servers -------------------------------------------------------------------------------

class Changing(FakeServer):
    """Answers the n-th CONNECT with the n-th list of extra headers; the last one stays."""

    def __init__(self, *arguments, answers, **options):
        self.answers = list(answers)
        super().__init__(*arguments, **options)

    def log_in(self, connection):
        if not hasattr(self, "plain"):
            self.plain = list(self.parameters)
        extra = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        self.parameters = self.plain + list(extra)
        return super().log_in(connection)

    def connects(self):
        return [head for head, _ in self.requests if head.startswith("CONNECT ")]

    def logins(self):
        return [head for head, _ in self.requests if head.startswith("POST ")]


@pytest.fixture
def client_of(world, wire, client_host, server):
    """Makes a fake server with the given answers, and a client of it that is up."""
    def make(*answers):
        profile = profile_table(server.add_user("alice"))
        ca = Ca.of(world.dir, server.dir / "ca.crt", server.dir / "ca.key")
        issued = ca.issue(NAME, (SERVER,), (f"DNS:{NAME}",))
        fake = Changing(wire.server, issued, client_ca=server.dir / "ca.crt", answers=answers)
        client = Client(client_host, "alice")
        client.import_text(profile)
        client.connect()
        return fake, client
    return make


BOTH = ("X-Culvert-Version: 1", "X-Culvert-Features: rekey roam")


def test_a_stock_server_sees_the_client_come_again_with_its_cookie(client_of):
    fake, client = client_of(["X-CSTP-Rekey-Time: 2", "X-CSTP-Rekey-Method: new-tunnel"])
    wait_until(lambda: len(fake.connects()) >= 3, "the third connection", 20)
    assert len(fake.logins()) == 1
    assert not any("X-Culvert-Attach" in head for head in fake.connects())
    assert not any(kind == SWITCH for kind, _ in fake.frames)
    wait_until(lambda: client.is_up() and client.status()["reconnects"] >= 2, "being up again", 10)


def test_a_server_that_does_not_repeat_the_header_has_dropped_the_old_connection(client_of):
    fake, client = client_of([*BOTH, "X-CSTP-Rekey-Time: 2"], [*BOTH])
    wait_until(lambda: len(fake.connects()) == 2, "the second connection", 10)
    assert "X-Culvert-Attach: rekey" in fake.connects()[1]
    wait_until(lambda: client.is_up(), "being up", 10)
    assert client.status()["rekeys"] == 0 and len(fake.logins()) == 1
    assert not any(kind == SWITCH for kind, _ in fake.frames)


@pytest.mark.parametrize("word", ["roam", "nonsense"])
def test_another_word_than_the_one_asked_for_is_none(client_of, word):
    fake, client = client_of([*BOTH, "X-CSTP-Rekey-Time: 2"], [*BOTH, f"X-Culvert-Attach: {word}"])
    wait_until(lambda: len(fake.connects()) == 2, "the second connection", 10)
    wait_until(lambda: client.is_up(), "being up", 10)
    status = client.status()
    assert status["rekeys"] == status["roams"] == 0


def test_the_client_drains_the_old_connection_and_closes_it(client_of):
    fake, client = client_of([*BOTH, "X-CSTP-Rekey-Time: 2"], [*BOTH, "X-Culvert-Attach: rekey"])
    wait_until(lambda: any(kind == SWITCH for kind, _ in fake.frames), "the client's SWITCH", 10)
    assert client.status()["rekeys"] == 1 and client.status()["state"] == "up"
    old, new = fake.connections
    new.send_frame(DPD_REQUEST, b"new")
    old.send_frame(DPD_REQUEST, b"old")
    answers = lambda: [payload for kind, payload in fake.frames if kind == DPD_RESPONSE]  # noqa: E731
    wait_until(lambda: b"old" in answers(), "an answer on the old connection", 5)
    assert b"new" not in answers()
    old.send_frame(SWITCH)
    wait_until(lambda: b"new" in answers(), "an answer on the new connection", 5)
    wait_until(lambda: old.tls is None, "the client closing the old connection", 5)
    assert client.is_up() and client.status()["reconnects"] == 0


def test_a_connection_that_the_server_has_left_is_given_up(client_of):
    fake, client = client_of([*BOTH, "X-CSTP-Rekey-Time: 2"], [*BOTH])
    plain, hanging = fake.log_in, threading.Event()

    def keep_the_answer(connection):
        fake.log_in = plain
        fake.requests.append(connection.receive_head())
        fake.connections[0].send_frame(SWITCH)
        hanging.set()
        connection.receive_record(20)
        return ""
    fake.log_in = keep_the_answer
    assert hanging.wait(10)
    started = time.monotonic()
    wait_until(lambda: len(fake.connects()) == 3, "another connection", 15)
    assert time.monotonic() - started < 8, "not only when the answer is overdue"
    assert "X-Culvert-Attach" not in fake.connects()[2]
    wait_until(client.is_up, "being up", 10)


def test_a_refused_cookie_leads_to_a_login(client_of):
    fake, client = client_of([*BOTH, "X-CSTP-Rekey-Time: 2"], [*BOTH])
    plain = fake.log_in

    def refuse_once(connection):
        fake.log_in = plain
        fake.requests.append(connection.receive_head())
        connection.send_raw(b"HTTP/1.1 401 Unauthorized\r\nX-Reason: gone\r\nContent-Length: 0\r\n\r\n")
        return ""
    fake.log_in = refuse_once
    wait_until(lambda: len(fake.logins()) == 2, "a second login", 15)
    wait_until(client.is_up, "being up", 10)


def test_the_servers_rekey_time_is_configuration(server, client_host):
    server.configure("session", rekey_time="90s").start()
    issued = server.export_for("alice")
    assert value_of(RawClient(client_host, issued).attach(), "X-CSTP-Rekey-Time") == "90"
    server.configure("session", rekey_time="0s")
    server.run("reload")
    assert value_of(RawClient(client_host, issued).attach(), "X-CSTP-Rekey-Time") is None
    server.configure("session", rekey_time="soon")
    done = server.run("reload", check=False)
    assert done.returncode == 2 and re.search("rekey_time", done.stderr), done.stderr
