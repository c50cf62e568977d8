"""The network goes away and comes back, and so does the tunnel: at once, with the same addresses, and
what runs inside notices a pause at most.

    culvert (client1) ──eth0───to1── culvertd (server)
    10.99.0.x, fd99::x               10.99.0.1, fd99::1        a cable pulled is to1 being down
"""
import os
import signal
import time

import pytest

from harness.certs import SERVER, Ca
from harness.cstp import FakeServer
from harness.culvert import NAME, Client, profile_table
from harness.streams import Cable, Conversation, out_for, wait_for_packets
from harness.wait import wait_until
from test_put_back import assert_same
from test_udp import wait_for_channel, wait_for_session_channel

BACK_WITHIN = 2.0  # seconds, from the network being back to packets passing


def up(server, client_host, channel, **session):
    server.configure("session", **session).configure("udp", enabled=channel == "dtls").start()
    client = server.new_client(client_host, "alice")
    client.connect()
    if channel == "dtls":
        wait_for_channel(client, "dtls")
        wait_for_session_channel(server, "alice", "dtls")
    return client


@pytest.mark.parametrize("channel", ["tls", "dtls"])
@pytest.mark.parametrize("outage", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_a_pulled_cable(wire, server, client_host, channel, outage):
    client = up(server, client_host, channel)
    before = server.session("alice")
    talk = Conversation(client_host, wire.server, before["ipv4"])
    talk.wait_for_more()
    cable = Cable(wire.server, client_host)
    cable.pull()
    out_for(outage)
    plugged_in = cable.plug_in()
    assert wait_for_packets(client_host, plugged_in) < BACK_WITHIN
    wait_until(client.is_up, "being up", 5)
    after = wait_until(lambda: (s := server.session("alice"))["state"] == "attached" and s, "attached")
    assert after["id"] == before["id"] and after["ipv4"] == before["ipv4"]
    talk.wait_for_more()
    talk.finish()
    if channel == "dtls":
        wait_for_channel(client, "dtls")


def test_a_network_that_is_back_ends_the_wait(wire, server, client_host):
    """Without its device there is no route to the server: attempts fail at once, and the pauses
    between them grow."""
    client = up(server, client_host, "tls", dpd="1s", cookie_timeout="10m")
    before = server.session("alice")
    talk = Conversation(client_host, wire.server, before["ipv4"])
    talk.wait_for_more()
    client_host.ip("link", "set", "eth0", "down")
    wait_until(lambda: (client.status().get("next_attempt_seconds") or 0) >= 7, "a long pause", 40)
    client_host.ip("link", "set", "eth0", "up")
    client_host.add_route("default", client_host.gateway4)
    assert wait_for_packets(client_host, time.monotonic()) < BACK_WITHIN
    wait_until(client.is_up, "being up", 5)
    after = server.session("alice")
    assert after["id"] == before["id"] and after["ipv4"] == before["ipv4"]
    talk.wait_for_more()
    talk.finish()


def test_the_tunnel_itself_is_no_change_of_the_network(server, client_host):
    server.configure("network", routes=["0.0.0.0/0", "::/0"]).configure("udp", enabled=False).start()
    client = server.new_client(client_host, "alice")
    client.connect()
    before = server.session("alice")["remote"]
    client_host.run("nft", "add table inet breaker")
    client_host.run("nft", "add chain inet breaker o { type filter hook output priority 0; }")
    port = before.rsplit(":", 1)[1]
    client_host.run("nft", f"add rule inet breaker o tcp sport {port} reject with tcp reset")
    wait_until(lambda: client.status()["reconnects"] == 1 and client.is_up(), "a reconnect", 60)
    assert "the network has changed" not in client.log()
    client_host.add_address("lo", "203.0.113.99/32")
    wait_until(lambda: "the network has changed" in client.log(), "a real change being noticed", 5)
    wait_until(client.is_up, "the tunnel staying up", 5)
    assert client.status()["reconnects"] == 1


def test_another_address_moves_a_session_without_dtls(wire, server, client_host):
    client = up(server, client_host, "tls")
    before = server.session("alice")
    talk = Conversation(client_host, wire.server, before["ipv4"])
    talk.wait_for_more()
    gateway = wire.add_second_link(client_host)
    moved = time.monotonic()
    client_host.ip("route", "replace", "default", "via", gateway)
    client_host.ip("addr", "del", client_host.address4 + "/30", "dev", "eth0")
    assert wait_for_packets(client_host, moved) < BACK_WITHIN
    after = wait_until(lambda: (s := server.session("alice"))["remote"] != before["remote"] and s,
                       "the server", 5)
    assert after["remote"].startswith("203.0.113.2:") and after["id"] == before["id"]
    talk.wait_for_more()
    talk.finish()


def test_after_a_sleep_the_connection_is_looked_at(server, client_host):
    """What a NAT has forgotten meanwhile would otherwise be noticed by dead-peer detection."""
    client = up(server, client_host, "tls")
    before = server.session("alice")
    pid = client.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    port = before["remote"].rsplit(":", 1)[1]
    server.host.run("nft", "add table inet nat_box")
    server.host.run("nft", "add chain inet nat_box i { type filter hook input priority 0; }")
    server.host.run("nft", f"add rule inet nat_box i tcp sport {port} drop")
    out_for(6)
    os.kill(pid, signal.SIGCONT)
    woken = time.monotonic()
    wait_until(lambda: server.session("alice")["remote"] != before["remote"], "a new connection", 20)
    assert time.monotonic() - woken < BACK_WITHIN + 1, "the clock is looked at once a second"
    wait_for_packets(client_host, woken)


class Moody(FakeServer):
    """Refuses the cookie of a client that comes back, and answers its login with `moods` first."""

    moods = ()

    def log_in(self, connection):
        if not self.moods:
            return super().log_in(connection)
        head, body = connection.receive_head()
        self.requests.append((head, body))
        if head.startswith("CONNECT "):
            answer = "HTTP/1.1 401 Unauthorized\r\nX-Reason: gone\r\nContent-Length: 0\r\n\r\n"
        else:
            answer = self.moods.pop(0)
        connection.send_raw(answer.encode())
        return ""


@pytest.mark.parametrize("mood", [
    "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<p>Welcome!</p>\n",
], ids=["500", "404", "html"])
def test_a_strange_answer_does_not_end_a_tunnel_that_was_up(world, wire, client_host, server, mood):
    profile = profile_table(server.add_user("alice"))
    ca = Ca.of(world.dir, server.dir / "ca.crt", server.dir / "ca.key")
    fake = Moody(wire.server, ca.issue(NAME, (SERVER,), (f"DNS:{NAME}",)),
                 client_ca=server.dir / "ca.crt")
    client = Client(client_host, "alice")
    client.import_text(profile)
    client.connect()
    fake.moods = [mood, mood]
    fake.connections[0].close()
    wait_until(lambda: not fake.moods and client.is_up(), "up again", 30)
    assert client.status()["reconnects"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
                         ids=["int", "term", "hup"])
@pytest.mark.parametrize("state", ["connecting", "waiting", "up"])
def test_a_signal_puts_everything_back_at_once(server, client_host, running_server, number, state):
    client = server.new_client(client_host, "alice")
    before = client_host.network_state()
    if state == "connecting":
        server.host.run("nft", "add table inet wall")
        server.host.run("nft", "add chain inet wall i { type filter hook input priority 0; }")
        server.host.run("nft", "add rule inet wall i tcp dport 443 drop")
    if state == "waiting":
        server.kill()
    foreground = client.start("--persist") if state == "waiting" else client.start()
    wait_until(lambda: client.run("status", "alice", "--json", check=False).returncode == 0
               and client.status()["state"] == state, f"the state {state}", 20)
    started = time.monotonic()
    code = foreground.stop(number)
    assert time.monotonic() - started < 5
    assert code == (0 if state == "up" else 1), foreground.output()
    assert_same(before, client_host.network_state())
