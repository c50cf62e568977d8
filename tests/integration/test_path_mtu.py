"""No black hole: large packets cross a path whose narrow place neither end can see, and nobody is
told. What doesn't fit just disappears there.

    culvert (client1) ──eth0───near1── router ──far1───to1── culvertd (server)
         192.0.2.6              no ICMP comes out of it          198.51.100.1

The links take `wide` bytes, and so it looks from both ends; far1, the router's device, takes
`narrow`. Upwards the router drops what is larger, and its firewall keeps its answers; downwards the
device drops it.
"""
import pytest

from harness.culvert import INSIDE4, INSIDE6, Client, Server, profile_table
from harness.net import Wire, veth
from harness.streams import Transfer, complaints, exchange
from harness.wait import wait_until
from test_udp import wait_for_channel, wait_for_session_channel

SIZE = 6_000_000  # both ways together


class NarrowPath:
    """The router and the client behind it."""

    def __init__(self, world, server_host, wide, narrow):
        self.router, self.client = world.add_host("router"), world.add_host("client1")
        veth((self.client, "eth0"), (self.router, "near1"))
        veth((self.router, "far1"), (server_host, "to1"))
        for host, device, *addresses in (
                (self.client, "eth0", "192.0.2.6/30", "2001:db8:1::2/64"),
                (self.router, "near1", "192.0.2.5/30", "2001:db8:1::1/64"),
                (self.router, "far1", "203.0.113.2/30", "2001:db8:2::2/64"),
                (server_host, "to1", "203.0.113.1/30", "2001:db8:2::1/64")):
            host.ip("link", "set", device, "addrgenmode", "none", "mtu", wide)
            host.add_address(device, *addresses)
            host.ip("link", "set", device, "up")
            host.refuse_superpackets(device)  # their size would count as that of one packet
        for host, destination, via in (
                (self.client, "default", "192.0.2.5"), (server_host, "192.0.2.0/24", "203.0.113.2"),
                (self.router, Wire.SERVER4, "203.0.113.1"), (self.client, "::/0", "2001:db8:1::1"),
                (server_host, "2001:db8:1::/64", "2001:db8:2::2"),
                (self.router, Wire.SERVER6, "2001:db8:2::1")):
            host.add_route(destination, via)
        for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.router.run("sh", "-c", f"echo 1 >/proc/sys/net/{switch}")
        self.router.run("nft", "add table inet silent")
        self.router.run("nft", "add chain inet silent output "
                               "{ type filter hook output priority 0; }")
        for what in ("icmp type destination-unreachable", "icmpv6 type packet-too-big"):
            self.router.run("nft", f"add rule inet silent output {what} counter drop")
        self.set_mtu(narrow)

    def set_mtu(self, mtu):
        self.router.ip("link", "set", "far1", "mtu", mtu)


def tunnel_over(path, server, channel):
    """A client that is up, and its session."""
    profile = profile_table(server.add_user("alice"))
    if channel == "tls":
        profile["udp"] = False
    client = Client(path.client, "alice")
    client.import_text(profile)
    client.connect()
    return client, server.session("alice")


@pytest.mark.parametrize("channel", ["dtls", "tls"])
@pytest.mark.parametrize("wide, narrow", [(1500, 1280), (1500, 1400), (1500, 1500), (9000, 9000),
                                          (9000, 1500)])
def test_large_packets_pass_a_narrow_place_that_nobody_tells_of(world, wire, server, wide, narrow,
                                                               channel):
    path = NarrowPath(world, wire.server, wide, narrow)
    server.start()
    client, session = tunnel_over(path, server, channel)
    if channel == "dtls" and narrow > 1280:  # which is too narrow for DTLS with IPv6 inside
        wait_for_channel(client, "dtls")
        wait_for_session_channel(server, "alice", "dtls")
    for far, near in ((INSIDE4, session["ipv4"]), (INSIDE6, session["ipv6"])):
        for report in exchange(path.client, wire.server, far, near, SIZE, rate=200):
            assert not complaints(report), report
            assert max(s["longest_gap"] for s in report["streams"]) < 10, report


@pytest.mark.slow
def test_a_path_that_narrows_and_widens_is_followed_while_it_is_in_use(world, wire, server):
    path = NarrowPath(world, wire.server, 1500, 1500)
    server.start()
    client, session = tunnel_over(path, server, "dtls")
    wait_for_channel(client, "dtls")
    wait_for_session_channel(server, "alice", "dtls")
    wait_until(lambda: client.status()["mtu"] > 1400, "the whole of the path being used")
    before = client.status()["mtu"]
    transfers = [Transfer(path.client, wire.server, INSIDE4, seconds=200, rate=100),
                 Transfer(wire.server, path.client, session["ipv4"], seconds=200, rate=100,
                          port=5101)]
    path.set_mtu(1400)
    wait_until(lambda: client.status()["mtu"] < 1400, "a smaller MTU", 45)
    wait_until(lambda: server.session("alice")["path_mtu"] < 1400, "a smaller MTU", 45)
    path.set_mtu(1500)
    wait_until(lambda: client.status()["mtu"] == before, "the old MTU", 60)
    for transfer in transfers:
        report = transfer.stop()
        assert not complaints(report), report
        assert report["streams"][0]["longest_gap"] < 10, report
    assert client.status()["channel"] == "dtls"
