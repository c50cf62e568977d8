"""Between our programs packets cross DTLS without their TCP and UDP checksums (culvert-protocol(7)).
Whoever is behind the tunnel must not notice: its packets have right ones.

    culvert (client1) ──eth0───to1── culvertd (server) ──lan0───eth0── office
    10.99.0.x, fd99::x                                  10.7.0.1       10.7.0.2, fd07::2
"""
import contextlib
import socket
import threading

import pytest

from harness.culvert import INSIDE4, Client, Server, profile_table
from harness.net import veth
from harness.streams import complaints, exchange
from harness.wait import wait_until
from test_udp import wait_for_channel, wait_for_session_channel

MB = 1_000_000
OFFICE4, OFFICE6 = "10.7.0.2", "fd07::2"
ETH_P_ALL = 3
ARRIVING = 0  # PACKET_HOST


class Scales(threading.Thread):
    """Sums up the TCP and UDP packets that arrive on a host's device: another opinion than that of
    the kernel, which trusts what a neighbour on a veth says about sums."""

    def __init__(self, host, device):
        super().__init__(daemon=True)
        self.right, self.wrong = 0, []
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((device, ETH_P_ALL))
        self._socket.settimeout(0.2)
        self._over = threading.Event()

    def run(self):
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                frame, (_, _, kind, *_) = self._socket.recvfrom(65600)
                if kind == ARRIVING:
                    self._weigh(frame[14:])

    def finish(self):
        self._over.set()
        self.join()
        self._socket.close()

    def _weigh(self, packet):
        if packet[0] >> 4 == 4:
            length, protocol, addresses = (packet[0] & 15) * 4, packet[9], packet[12:20]
            if int.from_bytes(packet[6:8], "big") & 0x3fff:
                return  # a fragment
            packet = packet[:int.from_bytes(packet[2:4], "big")]
        elif packet[0] >> 4 == 6:
            length, protocol, addresses = 40, packet[6], packet[8:40]
        else:
            return
        if protocol not in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
            return
        segment = packet[length:]
        block = addresses + len(segment).to_bytes(4, "big") + bytes([0, 0, 0, protocol]) + segment
        block += bytes(len(block) % 2)
        # The sum of 16-bit words, with the carries, is the remainder by 0xffff.
        if int.from_bytes(block, "big") % 0xffff == 0:
            self.right += 1
        else:
            self.wrong.append(packet[:64].hex())


@pytest.fixture
def office(world, wire):
    host = world.add_host("office")
    veth((wire.server, "lan0"), (host, "eth0"))
    for owner, device, four, six in ((wire.server, "lan0", "10.7.0.1", "fd07::1"),
                                     (host, "eth0", OFFICE4, OFFICE6)):
        owner.ip("link", "set", device, "addrgenmode", "none", "up")
        owner.add_address(device, four + "/24", six + "/64")
    host.add_route("default", "10.7.0.1")
    host.ip("-6", "route", "add", "default", "via", "fd07::1")
    wire.server.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    # As a network card without any offload: what goes to the office is summed by then.
    wire.server.refuse_superpackets("lan0")
    return host


@pytest.mark.parametrize("without_offloads", ["nobody", "client", "server"])
def test_a_host_behind_the_server_gets_right_checksums(wire, client_host, office, without_offloads):
    server = Server(wire.server).init()
    server.configure("network", routes=["10.7.0.0/24", "fd07::/64"])
    if without_offloads == "server":
        server.configure("tun", offloads=False)
    server.start()
    client = Client(client_host, "alice")
    no_offloads = {"offloads": False} if without_offloads == "client" else {}
    client.import_text({**profile_table(server.add_user("alice")), **no_offloads})
    client.connect()
    wait_for_channel(client, "dtls")
    session = wait_for_session_channel(server, "alice", "dtls")
    for far, near in ((OFFICE4, session["ipv4"]), (OFFICE6, session["ipv6"])):
        scales = Scales(office, "eth0")
        scales.start()
        for report in exchange(client_host, office, far, near, 8 * MB, rate=200):
            assert not complaints(report), report
            assert report["datagrams"]["right"] > 0, report
        wait_until(lambda: scales.right > 500, "packets on the scales")
        scales.finish()
        assert not scales.wrong, scales.wrong[:3]
    session = server.session("alice")
    assert session["channel"] == "dtls"
    for side in (session, client.status()):
        assert not any(side["drops"].get(reason) for reason in ("malformed", "bad_superpacket")), side
