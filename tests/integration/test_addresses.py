"""A name with several addresses: the client takes the first that answers, whatever is wrong with
the others, and nobody waits for those.

    culvert (client1) ──eth0───to1── culvertd (server)
    /etc/hosts of its own            lo: 198.51.100.1, .2, .3, 2001:db8:ffff::1, ::2
"""
import socket
import time

import pytest

from harness.culvert import INSIDE4, Client, Server
from harness.net import Wire
from harness.wait import wait_until

HOST = "gateway.example.com"
GOOD4, GOOD6 = Wire.SERVER4, Wire.SERVER6
OTHER4, THIRD4, OTHER6 = "198.51.100.2", "198.51.100.3", "2001:db8:ffff::2"
SOON = 2.0  # seconds from nothing to a tunnel that carries packets


class NamedClient(Client):
    """Sees a hosts file of its own, in a mount namespace."""

    def __init__(self, host, name, addresses):
        super().__init__(host, name)
        hosts = host.dir / "hosts"
        hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{a} {HOST}\n" for a in addresses))
        # Whatever this machine asks for names, here it is the file.
        switch = host.dir / "nsswitch.conf"
        switch.write_text("hosts: files\n")
        self._enter = ("unshare", "--mount", "--propagation", "private", "sh", "-c",
                       'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/nsswitch.conf &&'
                       ' shift 2 && exec "$@"', "sh", hosts, switch)

    def run(self, *arguments, check=True, **options):
        return self.host.run(*self._enter, self.program, *arguments, check=check, **options)

    def start(self, *arguments):
        return self.host.start(*self._enter, self.program, "run", self.name, *arguments,
                               name="culvert")

    def resolved(self):
        """The addresses as getaddrinfo() orders them."""
        lines = self.host.run(*self._enter, "getent", "ahosts", HOST).stdout.splitlines()
        return [line.split()[0] for line in lines if "STREAM" in line]


@pytest.fixture
def many(wire):
    """The server, on more addresses than one."""
    wire.server.add_address("lo", OTHER4 + "/32", THIRD4 + "/32", OTHER6 + "/128")
    return Server(wire.server).init(address=HOST).start()


def named(server, host, addresses):
    client = NamedClient(host, "alice", addresses)
    client.import_profile(server.add_user("alice"))
    return client


def drop(server, *addresses):
    """The addresses say nothing to anybody."""
    for address in addresses:
        family = "ip6" if ":" in address else "ip"
        server.host.run("nft", "add table inet silence; add chain inet silence in "
                        "{ type filter hook input priority 0; }; "
                        f"add rule inet silence in {family} daddr {address} tcp dport 443 drop")


def refuse(server, *addresses, more=""):
    for address in addresses:
        family = "ip6" if ":" in address else "ip"
        server.host.run("nft", "add table inet refusal; add chain inet refusal in "
                        "{ type filter hook input priority 0; }; "
                        f"add rule inet refusal in {family} daddr {address} tcp dport 443 {more} "
                        "reject with tcp reset")


def connect_soon(client):
    """Connects; returns the address that it has ended at, without the port."""
    began = time.monotonic()
    client.connect()
    took = time.monotonic() - began
    assert took < SOON, f"{took:.1f} s\n{client.log()}"
    return client.status()["address"].rpartition(":")[0].strip("[]")


def attempts(client):
    """"ADDRESS:PORT" in the order in which the client has begun with them."""
    return [line.rpartition("connecting to ")[2].split('"')[0] for line in client.log().splitlines()
            if "connecting to " in line]


def test_the_first_is_good(many, client_host):
    client = named(many, client_host, [GOOD6, GOOD4])
    assert connect_soon(client) == GOOD6, "IPv6 comes first (RFC 6724)"
    assert len(attempts(client)) == 1, "nobody else was asked"


@pytest.mark.parametrize("broken", [drop, refuse])
def test_ipv6_is_broken(many, client_host, broken):
    broken(many, GOOD6, OTHER6)
    client = named(many, client_host, [GOOD6, OTHER6, GOOD4])
    assert connect_soon(client) == GOOD4
    assert [":" in a.rpartition(":")[0] for a in attempts(client)] == [True, False]


@pytest.mark.parametrize("broken", [drop, refuse])
def test_ipv4_is_broken(many, client_host, broken):
    broken(many, GOOD4, OTHER4)
    client = named(many, client_host, [GOOD4, OTHER4, GOOD6])
    # RFC 6724 begins with IPv6, unless our own IPv6 address is deprecated.
    client_host.ip("-6", "addr", "change", client_host.address6 + "/64", "dev", "eth0",
                   "preferred_lft", "0")
    assert connect_soon(client) == GOOD6
    assert [":" in a.rpartition(":")[0] for a in attempts(client)] == [False, True]


@pytest.mark.parametrize("broken", [drop, refuse])
def test_the_first_two_of_one_family_are_broken(many, client_host, broken):
    client = named(many, client_host, [GOOD4, OTHER4, THIRD4])
    # glibc sorts addresses of one family as it likes: break those that it begins with.
    order = client.resolved()
    broken(many, *order[:2])
    assert connect_soon(client) == order[2]


def test_no_route_for_one_family(many, client_host):
    client_host.ip("-6", "route", "del", "default")
    client = named(many, client_host, [GOOD6, GOOD4])
    assert connect_soon(client) == GOOD4


def test_all_are_broken(many, client_host):
    refuse(many, GOOD4, OTHER4)
    client = named(many, client_host, [GOOD4, OTHER4])
    said = client.connect(code=6)
    for address in (GOOD4, OTHER4):
        assert f"{address}:443: cannot connect: Connection refused" in said, said


def test_all_are_silent(many, client_host):
    drop(many, GOOD4, OTHER4)
    client = named(many, client_host, [GOOD4, OTHER4])
    said = client.connect("--timeout", "3", code=6)
    assert "no answer to the TCP connection" in said and GOOD4 in said and OTHER4 in said, said


def test_the_first_to_answer_speaks_no_tls(many, client_host, world):
    """What takes the connection and hangs up is passed over, as one that does not take it."""
    many.stop()
    many.configure("listen", address=f"{GOOD4}:443").start()
    listener = many.host.socket(socket.AF_INET6)
    world.servers.append(listener)
    listener.bind((GOOD6, 443))
    listener.listen()
    listener.setblocking(False)

    client = named(many, client_host, [GOOD6, GOOD4])
    process = client.start()

    def hang_up():
        try:
            listener.accept()[0].close()
            return True
        except BlockingIOError:
            return False
    wait_until(hang_up, "the first connection", 10)
    client.wait_until_up()
    assert client.status()["address"] == f"{GOOD4}:443"
    process.stop()


def test_a_reconnect_begins_with_the_address_that_worked(many, client_host):
    many.stop()
    many.configure("udp", enabled=False).start()
    drop(many, GOOD6)
    client = named(many, client_host, [GOOD6, GOOD4])
    assert connect_soon(client) == GOOD4
    before = many.session("alice")
    many.host.run("nft", "delete", "table", "inet", "silence")
    port = client_host.run("ss", "-Htn", "dport", "=", ":443").stdout.split()[3].rpartition(":")[2]
    refuse(many, GOOD4, more=f"tcp sport {port}")  # of this one connection
    client_host.ping(INSIDE4, count=1, check=False, limit=0.2)
    wait_until(lambda: client.status()["reconnects"] == 1 and client.is_up(), "being back", 10)
    assert client.status()["address"] == f"{GOOD4}:443"
    assert many.session("alice")["id"] == before["id"]
