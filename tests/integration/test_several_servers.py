"""Several culvertd on one machine: each has a folder, a port, networks, a device and a control socket of
its own, and none knows of the others. What one does, or what becomes of it, is nothing to them.

    culvert (client1) ──eth0───to1── culvertd "one"  port 443    10.99.0.0/24, fd99::/64   vpn-one
    culvert (client2) ──eth0───to2── culvertd "two"  port 4443   10.88.0.0/24, fd88::/64   vpn-two
"""
import json
import re

import pytest

from harness.culvert import Client, Server, profile_table
from harness.streams import Conversation
from harness.wait import wait_until
from test_put_back import assert_same

ONE = {"port": 443, "ipv4": "10.99.0.0/24", "ipv6": "fd99::/64", "device": "vpn-one"}
TWO = {"port": 4443, "ipv4": "10.88.0.0/24", "ipv6": "fd88::/64", "device": "vpn-two"}
FAILURE, USAGE, ALREADY = 1, 2, 8


class OneOfSeveral(Server):
    def __init__(self, host, name, port, ipv4, ipv6, device):
        super().__init__(host)
        self.name, self.device = name, device
        self.dir = host.dir / name
        self.socket = host.dir / "run" / f"{name}.sock"
        self.inside4, self.inside6 = ipv4.rpartition(".")[0] + ".1", ipv6.replace("/64", "1")
        self.init(listen=f"[::]:{port}", address=f"198.51.100.1:{port}", ipv4=ipv4, ipv6=ipv6)
        self.configure("tun", device=device)

    def run(self, command, *arguments, **options):
        more = () if command in ("init", "pki") else ("--socket", self.socket)
        return super().run(command, *arguments, *more, **options)

    def start(self, *arguments, wait=True):
        return super().start("--socket", self.socket, *arguments, wait=wait)

    def refused(self, code):
        """Starts and fails; what it says."""
        self.start(wait=False)
        assert self.process.wait() == code, self.process.output()
        return self.process.output()

    def state(self):
        """What this server has in the system: lines that speak of its device or its networks."""
        mine = re.compile(f"{self.device}|{self.inside4[:-1]}|{self.inside6}")
        state = self.host.network_state()
        return [line for line in state.splitlines() if mine.search(line)]


@pytest.fixture
def make(wire):
    def make(name, **settings):
        return OneOfSeveral(wire.server, name, **settings)
    return make


@pytest.fixture
def both(make):
    return make("one", **ONE).start(), make("two", **TWO).start()


@pytest.fixture
def clients(world, wire, both):
    """One at each."""
    found = [server.new_client(world.add_client(wire), user)
             for server, user in zip(both, ("alice", "bob"))]
    for client in found:
        client.connect()
    return found


def test_each_serves_its_own(wire, both, clients):
    for server, client in zip(both, clients):
        [session] = server.sessions()
        assert session["user"] == client.name
        assert server.status()["tun"]["device"] == server.device
        for inside in (server.inside4, server.inside6):
            client.host.ping(inside)
        for inside in (session["ipv4"], session["ipv6"]):
            wire.server.ping(inside)


def test_a_profile_of_one_does_not_open_the_other(both, client_host):
    """Two CAs that know nothing of each other."""
    one, two = both
    profile = profile_table(two.add_user("alice"))
    assert profile["address"] == "198.51.100.1:4443"
    client = Client(client_host, "alice")
    client.import_text({**profile, "address": "198.51.100.1:443"})
    client.connect(code=5)
    assert not one.sessions()


@pytest.mark.parametrize("end", ["stop", "kill", "kill_all"])
@pytest.mark.parametrize("which", [0, 1], ids=["one", "two"])
def test_the_end_of_one_is_nothing_to_the_other(wire, both, clients, end, which):
    gone, stays = both[which], both[1 - which]
    client = clients[1 - which]
    before, session = stays.state(), stays.sessions()[0]
    assert before
    talk = Conversation(client.host, wire.server, session["ipv4"], server_inside=stays.inside4)
    talk.wait_for_more()
    getattr(gone, end)()
    if end == "kill":
        wait_until(lambda: not gone.state(), "the guard putting everything back")
    elif end == "stop":
        assert not gone.state()
    else:
        assert gone.state(), "nothing was left over: the next start proves nothing"
    assert stays.state() == before
    gone.start()  # and puts back what was left
    assert stays.state() == before
    gone.stop()
    assert not gone.state() and stays.state() == before
    talk.wait_for_more()
    talk.finish()
    after = stays.sessions()[0]
    assert after["id"] == session["id"] and client.status()["reconnects"] == 0
    client.host.ping(stays.inside6)


def test_clients_come_back_to_the_one_that_was_killed(both, clients):
    """Each has its own store of sessions."""
    two, bob = both[1], clients[1]
    before = two.sessions()[0]
    two.kill()
    two.start()
    after = wait_until(lambda: (s := two.sessions()) and s[0]["state"] == "attached" and s[0],
                       "the session being taken up again", 20)
    assert (after["id"], after["ipv4"], after["ipv6"]) == \
        (before["id"], before["ipv4"], before["ipv6"])
    bob.host.ping(two.inside4)
    assert clients[0].status()["reconnects"] == 0


@pytest.mark.parametrize("clash, words", [
    ({"port": 443}, ["[::]:443", "program", "ss -l"]),
    ({"device": "vpn-one"}, ["vpn-one"]),
    ({"ipv4": "10.99.0.0/24"}, ["10.99.0.0/24", "vpn-one", "10.99.0.1"]),
    ({"ipv4": "10.96.0.0/12"}, ["10.96.0.0/12", "vpn-one", "10.99.0.1"]),
    ({"ipv6": "fd99::/64"}, ["fd99::/64", "vpn-one", "fd99::1"]),
], ids=["port", "device", "ipv4", "wider", "ipv6"])
def test_what_belongs_to_another_is_refused(make, clash, words):
    one = make("one", **ONE).start()
    before = one.host.network_state()
    two = make("two", **{**TWO, **clash})
    checked = two.run("check", check=False)
    said = two.refused(FAILURE if "port" in clash or "device" in clash else USAGE)
    for word in words:
        assert word in said, said
        assert word in checked.stdout + checked.stderr
    assert checked.returncode != 0
    assert_same(before, one.host.network_state())


def test_devices_are_numbered_unless_they_are_named(make):
    one = make("one", **{**ONE, "device": "culvertd%d"}).start()
    two = make("two", **{**TWO, "device": "culvertd%d"}).start()
    assert [s.status()["tun"]["device"] for s in (one, two)] == ["culvertd0", "culvertd1"]
    three = make("three", **{**TWO, "port": 8443, "device": "culvertd%d"})
    assert "10.88.0.0/24 is taken: culvertd1" in three.refused(USAGE)


def test_one_control_socket_for_two_is_refused(make):
    one = make("one", **ONE).start()
    before = one.host.network_state()
    two = make("two", **TWO)
    two.socket = one.socket
    assert "already" in two.refused(ALREADY)
    assert_same(before, one.host.network_state())
    assert one.status()["tun"]["device"] == one.device
