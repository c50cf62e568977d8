"""What happens to a tunnel between culvert and Debian's ocserv while it lives: the network goes and
comes back, keys are renewed, the server ends it, and what runs inside notices a pause at most.

    culvert (client1) ──eth0───to1── ocserv (server)
    10.77.0.x, fd77::x               10.77.0.1, fd77::1        a cable pulled is to1 being down
"""
import json
import os
import re
import signal
import time

import pytest

from harness.peers import Ocserv
from harness.streams import (Cable, Conversation, complaints, exchange, out_for,
                             wait_for_packets)
from harness.wait import wait_until
from harness.with_ocserv import ca, client, new_client, start_ocserv

BACK_WITHIN = 2.0  # seconds, from the network being back to packets passing
FAILURE = 1
TLS12, TLS13 = "NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"
both_channels = pytest.mark.parametrize("channel", ["tls", "dtls"])


def up(start_ocserv, client, channel="tls", extra="", **options):
    """Returns the server, once packets take the channel."""
    if channel == "dtls":
        extra += "\nudp-port = 443"
    ocserv = start_ocserv(extra=extra, **options)
    client.connect()
    wait_until(lambda: client.status()["channel"] == channel, f"packets going over {channel}")
    return ocserv


def session(ocserv, user="alice"):
    """What ocserv says about the one session of a user."""
    [mine] = [s for s in json.loads(ocserv.users()) if s["Username"] == user]
    return mine


class Continuity:
    """A tunnel that is up, with somebody talking inside; what has to be the same afterwards."""

    def __init__(self, ocserv, client):
        self.ocserv, self.client = ocserv, client
        self.before = self._now()
        self.talk = Conversation(client.host, ocserv.host, self.before["ipv4"],
                                 server_inside=Ocserv.INSIDE4)
        self.talk.wait_for_more()

    def _now(self):
        status = self.client.status()
        return {"ipv4": status["ipv4"], "ipv6": status["ipv6"], "pid": status["pid"],
                "cookie": session(self.ocserv)["Full session"]}

    def back(self, since):
        """How long after `since` packets passed."""
        return wait_for_packets(self.client.host, since, inside=Ocserv.INSIDE4)

    def check(self, channel, new_login=False):
        wait_until(self.client.is_up, "being up", 5)
        now = self._now()
        if new_login:
            assert now.pop("cookie") != self.before.pop("cookie")
        assert now == self.before
        self.client.host.ping(Ocserv.INSIDE6)
        self.talk.wait_for_more()
        self.talk.finish()
        wait_until(lambda: self.client.status()["channel"] == channel, f"{channel} again")


@both_channels
def test_a_reset_connection(start_ocserv, client, channel):
    # Over DTLS nothing but these questions passes on TCP.
    ocserv = up(start_ocserv, client, channel, extra="dpd = 1")
    same = Continuity(ocserv, client)
    port = client.host.run("ss", "-Htn", "dport", "=", ":443").stdout.split()[3].rpartition(":")[2]
    ocserv.host.run("nft", "add table inet breaker; add counter inet breaker resets; "
                    "add chain inet breaker in { type filter hook input priority 0; }; "
                    f"add rule inet breaker in tcp sport {port} counter name resets "
                    "reject with tcp reset")
    wait_until(lambda: "packets 0" not in ocserv.host.run("nft", "list", "counters").stdout,
               "a reset", 10, 0.01)
    reset = time.monotonic()
    wait_until(lambda: not client.is_up() or client.status()["reconnects"], "the loss", 5, 0.01)
    assert same.back(reset) < BACK_WITHIN
    ocserv.host.run("nft", "delete table inet breaker")
    same.check(channel)
    assert client.status()["reconnects"] == 1


@both_channels
def test_another_outer_address(wire, start_ocserv, client, channel):
    ocserv = up(start_ocserv, client, channel)
    same = Continuity(ocserv, client)
    gateway = wire.add_second_link(client.host)
    moved = time.monotonic()
    client.host.ip("route", "replace", "default", "via", gateway)
    client.host.ip("addr", "del", client.host.address4 + "/30", "dev", "eth0")
    assert same.back(moved) < BACK_WITHIN
    same.check(channel)
    assert session(ocserv)["Remote IP"] == "203.0.113.2"


@both_channels
@pytest.mark.parametrize("outage", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_a_pulled_cable(wire, start_ocserv, client, channel, outage):
    ocserv = up(start_ocserv, client, channel)
    same = Continuity(ocserv, client)
    cable = Cable(wire.server, client.host)
    cable.pull()
    out_for(outage)
    assert same.back(cable.plug_in()) < BACK_WITHIN
    same.check(channel)


@pytest.mark.parametrize("tls", [TLS13, TLS12], ids=["tls13", "tls12"])
def test_keys_are_renewed_though_ocserv_would_do_it_in_the_connection(start_ocserv, client, tls):
    """It announces the method "ssl", renegotiation; coming again with the cookie is as good."""
    ocserv = up(start_ocserv, client, "dtls", rekey=5, rekey_method="ssl", tls=tls)
    same = Continuity(ocserv, client)
    wait_until(lambda: client.status()["reconnects"] and client.is_up(), "another connection")
    same.check("dtls")
    assert same.talk.longest_pause < BACK_WITHIN
    status = client.status()
    assert status["rekeys"] == 0 and status["last_error"] is None, status


@pytest.mark.slow
def test_an_expired_cookie_is_a_new_login(wire, start_ocserv, client):
    ocserv = up(start_ocserv, client, cookie_timeout=1)
    same = Continuity(ocserv, client)
    cable = Cable(wire.server, client.host)
    cable.pull()
    # Its worker would see the loss a minute later.
    os.kill(session(ocserv)["ID"], signal.SIGKILL)
    wait_until(lambda: "alice" not in ocserv.users(), "ocserv seeing the loss")
    out_for(1 + 15 + 2)  # ocserv adds 15 s
    assert same.back(cable.plug_in()) < BACK_WITHIN + 2, "two connections more"
    same.check("tls", new_login=True)


def test_disconnect_by_id_ends_the_tunnel_with_code_1(start_ocserv, client):
    ocserv = start_ocserv()
    before = client.host.network_state()
    foreground = client.start()
    client.wait_until_up()
    ocserv.occtl("disconnect", "id", session(ocserv)["ID"])
    assert foreground.wait() == FAILURE
    assert "the server ended the session" in foreground.output().splitlines()[-1]
    assert client.host.network_state() == before


@both_channels
def test_an_ocserv_that_was_stopped_is_found_again(start_ocserv, client, channel):
    """It ends some sessions with the word that a dismissed client gets, and others without."""
    ocserv = up(start_ocserv, client, channel)
    same = Continuity(ocserv, client)
    routes = client.host.network_state()
    ocserv.stop()
    wait_until(lambda: client.status()["state"] == "waiting", "the loss")
    assert client.host.network_state() == routes, "nothing leaves beside the tunnel meanwhile"
    ocserv.start()
    same.back(time.monotonic())
    same.check(channel, new_login=True)


@pytest.mark.parametrize("limit, hint", [
    ("idle", "it ends every session after 3s without packets"),
    ("lifetime", "it ends every session [23]s after it is up")], ids=["idle", "lifetime"])
def test_a_session_over_its_limit_ends_with_code_1(world, wire, start_ocserv, new_client, limit,
                                                   hint):
    """ocserv looks every ten seconds, and gives no reason. Who talks is not idle."""
    ocserv = start_ocserv(**{limit: 3})
    bob = new_client(world.add_client(wire), "bob")
    before = bob.host.network_state()
    foreground = bob.start()
    bob.wait_until_up()
    if limit == "idle":
        alice = new_client(world.add_client(wire), "alice")
        alice.connect()
        same = Continuity(ocserv, alice)
    assert foreground.wait(30) == FAILURE
    assert "timeout reached" in ocserv.process.output()
    assert re.search(rf"the server ended the session \({hint}\)", foreground.output())
    assert bob.host.network_state() == before
    if limit == "idle":
        same.check("tls")
    bob.connect()
    bob.host.ping(Ocserv.INSIDE4)


@both_channels
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_one_family_inside(wire, start_ocserv, client, channel, family):
    other = "ipv6" if family == "ipv4" else "ipv4"
    up(start_ocserv, client, channel, **{other: False})
    status = client.status()
    assert status[other] is None
    assert [("." in route) for route in status["routes"]] == [family == "ipv4"]
    for size in (None, 1200):
        client.host.ping(Ocserv.INSIDE4 if family == "ipv4" else Ocserv.INSIDE6, size=size)
        wire.server.ping(status[family], size=size)
    assert client.status()["channel"] == channel


@both_channels
def test_two_clients_talk_through_ocserv(world, wire, start_ocserv, new_client, channel):
    wire.server.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    alice, bob = (new_client(world.add_client(wire), name) for name in ("alice", "bob"))
    up(start_ocserv, alice, channel)
    bob.connect()
    wait_until(lambda: bob.status()["channel"] == channel, f"bob's packets going over {channel}")
    for family in ("ipv4", "ipv6"):
        at_alice, at_bob = alice.status()[family], bob.status()[family]
        alice.host.ping(at_bob, size=1200)
        bob.host.ping(at_alice, size=1200)
        for report in exchange(alice.host, bob.host, at_bob, at_alice, 4 << 20):
            assert not complaints(report), report
