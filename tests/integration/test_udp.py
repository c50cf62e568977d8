"""The UDP channel: packets go over DTLS as soon as it works, over TLS when it does not, and nobody
inside notices.

    culvert (client1) ──eth0───to1── culvertd (server)
    10.99.0.x, fd99::x               10.99.0.1, fd99::1        nftables on eth0 stands for the network
"""
import re
import time

import pytest

from harness.culvert import INSIDE4, INSIDE6, Server
from harness.wait import wait_until
from test_tunnel import transfer


def wait_for_channel(client, channel, limit=15):
    wait_until(lambda: client.status()["channel"] == channel, f"packets going over {channel}", limit)


def wait_for_session_channel(server, user, channel, limit=15):
    return wait_until(lambda: (s := server.session(user))["channel"] == channel and s,
                      f"the server sending over {channel}", limit)


class Firewall:
    """Drops UDP on a host, both ways or one."""

    def __init__(self, host):
        self.host = host
        host.run("nft", "add table inet walls")
        for hook in ("input", "output"):
            host.run("nft", f"add chain inet walls {hook} {{ type filter hook {hook} priority 0; }}")

    def block(self, *hooks):
        for hook in hooks or ("input", "output"):
            port = "sport" if hook == "input" else "dport"
            self.host.run("nft", f"add rule inet walls {hook} udp {port} 443 drop")

    def open(self):
        for hook in ("input", "output"):
            self.host.run("nft", f"flush chain inet walls {hook}")


class Pinger:
    """Pings all the time; says how long the longest silence was, in seconds."""

    def __init__(self, host, address, interval=0.05):
        self.interval = interval
        self.process = host.start("ping", "-n", "-D", "-i", interval, address, name="ping")

    def longest_gap(self):
        self.process.stop(2)
        times = [float(t) for t in re.findall(r"^\[(\d+\.\d+)\] \d+ bytes", self.process.output(),
                                              re.MULTILINE)]
        assert len(times) > 10, self.process.output()
        return max(b - a for a, b in zip(times, times[1:]))


@pytest.mark.smoke
@pytest.mark.parametrize("outside", ["198.51.100.1", "[2001:db8:ffff::1]"], ids=["over4", "over6"])
def test_packets_go_over_dtls(wire, client_host, outside):
    server = Server(wire.server).init(address=outside).start()
    client = server.new_client(client_host, "alice")
    client.connect()
    wait_for_channel(client, "dtls")
    session = wait_for_session_channel(server, "alice", "dtls")
    for size in (None, 1300, 4000):
        client_host.ping(INSIDE4, size=size)
        client_host.ping(INSIDE6, size=size)
        wire.server.ping(session["ipv4"], size=size)
        wire.server.ping(session["ipv6"], size=size)
    status = client.status()
    assert "PSK" in status["dtls_cipher"] and status["channel_reason"], status
    assert status["channel_since"], status
    before = server.status()["udp"]
    for sender, receiver, address in ((client_host, wire.server, INSIDE4),
                                      (wire.server, client_host, session["ipv6"])):
        sent, received = transfer(sender, receiver, address, 8_000_000)
        assert sent == received
    after = server.status()["udp"]
    assert after["sent"] - before["sent"] > 5000 and after["received"] - before["received"] > 5000
    assert after["unknown_app_id"] == after["stray"] == after["failed"] == 0, after


def test_goes_over_tls_where_udp_is_blocked_from_the_start(wire, client_host, alice):
    wall = Firewall(client_host)
    wall.block()
    alice.connect()
    client_host.ping(INSIDE4)
    status = alice.status()
    assert status["channel"] == "tls" and status["channel_reason"], status
    wall.open()
    wait_for_channel(alice, "dtls", 30)


@pytest.mark.parametrize("blocked", [(), ("input",), ("output",)],
                         ids=["both_ways", "downwards", "upwards"])
def test_silence_moves_packets_to_tls_within_three_seconds(client_host, running_server, tunnel,
                                                           blocked):
    wait_for_channel(tunnel, "dtls")
    wait_for_session_channel(running_server, "alice", "dtls")
    wall = Firewall(client_host)
    pinger = Pinger(client_host, INSIDE4)
    wait_until(lambda: pinger.process.output().count("bytes from") > 5, "answers", 10)
    wall.block(*blocked)
    wait_for_channel(tunnel, "tls")
    wait_for_session_channel(running_server, "alice", "tls")
    assert "silent" in tunnel.status()["channel_reason"] or blocked, tunnel.status()
    count = pinger.process.output().count("bytes from")
    wait_until(lambda: pinger.process.output().count("bytes from") > count + 5, "answers", 10)
    assert pinger.longest_gap() < 3.5
    wall.open()
    wait_for_channel(tunnel, "dtls", 40)
    wait_for_session_channel(running_server, "alice", "dtls", 10)
    client_host.ping(INSIDE4)


def test_inner_connections_survive_the_loss_of_udp(wire, client_host, running_server, tunnel):
    wait_for_channel(tunnel, "dtls")
    wall = Firewall(client_host)
    iperf = wire.server.start("iperf3", "-s", "--forceflush")
    wait_until(lambda: "listening" in iperf.output(), "iperf3", 10)
    flow = client_host.start("iperf3", "-c", INSIDE4, "-t", "8", "-b", "50M", "--forceflush")
    wait_until(lambda: flow.output().count("sec") > 1, "the flow", 10)
    wall.block()
    wait_for_channel(tunnel, "tls")
    wall.open()
    wait_until(lambda: not flow.running, "the end of the flow", 30)
    assert flow.returncode == 0, flow.output()
    assert "receiver" in flow.output()


def test_a_client_that_changes_its_address_goes_on_without_a_handshake(wire, client_host,
                                                                       running_server, tunnel):
    wait_for_channel(tunnel, "dtls")
    wait_for_session_channel(running_server, "alice", "dtls")
    handshakes = running_server.status()["udp"]["handshakes"]
    # Another network: a second link, and the first goes away.
    gateway = wire.add_second_link(client_host)
    pinger = Pinger(client_host, INSIDE4)
    wait_until(lambda: pinger.process.output().count("bytes from") > 5, "answers", 10)
    client_host.ip("route", "replace", "default", "via", gateway)
    client_host.ip("addr", "del", client_host.address4 + "/30", "dev", "eth0")
    count = pinger.process.output().count("bytes from")
    wait_until(lambda: pinger.process.output().count("bytes from") > count + 40, "answers", 15)
    assert pinger.longest_gap() < 1, "the data goes on at once"
    assert running_server.status()["udp"]["handshakes"] == handshakes


@pytest.mark.parametrize("side", ["client", "server"])
def test_udp_can_be_switched_off(wire, client_host, server, side):
    if side == "server":
        server.configure("udp", enabled=False)
    server.start()
    client = server.new_client(client_host, "alice")
    if side == "client":
        profile = client_host.dir / "etc/client/alice.toml"
        text = profile.read_text()
        profile.write_text("udp = false\n" + text)
    client.connect()
    client_host.ping(INSIDE4)
    assert client.status()["channel"] == "tls"
    assert (server.status()["udp"] is None) == (side == "server")
    if side == "client":
        assert server.status()["udp"]["challenged"] == 0


@pytest.mark.parametrize("off", ["tun", "gso", "gro", "all"])
def test_every_offload_can_be_done_without(wire, client_host, server, off):
    off = ("tun", "gso", "gro") if off == "all" else (off,)
    if "tun" in off:
        server.configure("tun", offloads=False)
    server.configure("udp", gso="gso" not in off, gro="gro" not in off)
    server.start()
    client = server.new_client(client_host, "alice")
    profile = client_host.dir / "etc/client/alice.toml"
    keys = "".join(f"{key} = false\n" for key, name in
                   (("offloads", "tun"), ("udp_gso", "gso"), ("udp_gro", "gro")) if name in off)
    profile.write_text(keys + profile.read_text())
    client.connect()
    wait_for_channel(client, "dtls")
    session = wait_for_session_channel(server, "alice", "dtls")
    for sender, receiver, address in ((client_host, wire.server, INSIDE4),
                                      (wire.server, client_host, session["ipv4"])):
        sent, received = transfer(sender, receiver, address, 4_000_000)
        assert sent == received
    udp = server.status()["udp"]
    assert udp["gso"] == ("gso" not in off) and udp["gro"] == ("gro" not in off), udp


@pytest.mark.parametrize("mtu", [1280, 1400, 9000])
def test_no_packet_size_falls_into_a_black_hole(world, wire, client_host, server, mtu):
    """The link's MTU is what it is, and nobody sends an ICMP message about it."""
    client_host.run("nft", "add table inet quiet")
    for hook in ("input", "output"):
        client_host.run("nft", f"add chain inet quiet {hook} "
                               f"{{ type filter hook {hook} priority 0; }}")
        client_host.run("nft", f"add rule inet quiet {hook} icmp type destination-unreachable drop")
        client_host.run("nft", f"add rule inet quiet {hook} icmpv6 type packet-too-big drop")
    for host, device in ((client_host, "eth0"), (wire.server, client_host.uplink)):
        host.ip("link", "set", device, "mtu", mtu)
    server.start()
    client = server.new_client(client_host, "alice")
    client.connect()
    session = server.session("alice")
    if mtu != 1280:  # too narrow for DTLS with IPv6 inside
        wait_for_channel(client, "dtls")
        wait_for_session_channel(server, "alice", "dtls")
    for size in (100, 1100, 1200, 1300, 1372, 1400, 1472, 3000, 8900):
        client_host.ping(INSIDE4, size=size, count=2)
        wire.server.ping(session["ipv6"], size=size, count=2)
    for sender, receiver, address in ((client_host, wire.server, INSIDE4),
                                      (wire.server, client_host, session["ipv4"])):
        sent, received = transfer(sender, receiver, address, 2_000_000)
        assert sent == received


def test_a_path_that_shrinks_is_followed(wire, client_host, running_server, tunnel):
    wait_for_channel(tunnel, "dtls")
    wait_for_session_channel(running_server, "alice", "dtls")
    before = tunnel.status()["mtu"]
    for host, device in ((client_host, "eth0"), (wire.server, client_host.uplink)):
        host.ip("link", "set", device, "mtu", 1400)
    session = running_server.session("alice")
    started = time.monotonic()
    for sender, receiver, address in ((client_host, wire.server, INSIDE4),
                                      (wire.server, client_host, session["ipv4"])):
        sent, received = transfer(sender, receiver, address, 2_000_000)
        assert sent == received
    assert time.monotonic() - started < 20
    wait_until(lambda: tunnel.status()["mtu"] < before, "a smaller MTU of the device", 45)

    # The client's connections announce what its device takes; datagrams know no such thing.
    def server_knows():
        wire.server.ping(session["ipv4"], size=before - 30, count=2, check=False, limit=1)
        return running_server.session("alice")["path_mtu"] < before
    wait_until(server_knows, "a smaller MTU of the server's route", 30)
    wire.server.ping(session["ipv4"], size=before - 30)
