"""Several data threads: every session lives on one of them, and what the kernel gives to another one
reaches it all the same.

The kernel chooses by hash which thread gets a datagram or a packet of the TUN, so with four threads
and a few clients there is always something that comes to the wrong one.
"""
import re
import socket

import pytest

from harness.culvert import INSIDE4, INSIDE6
from harness.peers import Openconnect
from harness.wait import wait_until
from test_tunnel import transfer
from test_udp import Pinger, wait_for_channel, wait_for_session_channel

WORKERS = 4


@pytest.fixture
def many_workers(server):
    return server.configure("workers", count=WORKERS).start()


def handed_over(server, what):
    return sum(worker[what] for worker in server.status()["workers"])


def connected(server, world, wire, users, channel="dtls"):
    """A client for each user, connected; pairs of client and session."""
    clients = []
    for user in users:
        client = server.new_client(world.add_client(wire), user)
        client.connect()
        wait_for_channel(client, channel)
        clients.append((client, wait_for_session_channel(server, user, channel)))
    return clients


def test_sessions_are_spread_and_all_of_them_carry(world, wire, many_workers):
    clients = connected(many_workers, world, wire, [f"user{i}" for i in range(6)])
    status = many_workers.status()
    assert sorted(worker["sessions"] for worker in status["workers"]) == [1, 1, 2, 2], status
    assert {session["worker"] for _, session in clients} == set(range(WORKERS))
    for client, session in clients:
        client.host.ping(INSIDE4)
        client.host.ping(INSIDE6, size=3000)
        wire.server.ping(session["ipv4"], size=3000)
        wire.server.ping(session["ipv6"])
    client, session = clients[-1]
    for sender, receiver, address in ((client.host, wire.server, INSIDE4),
                                      (wire.server, client.host, session["ipv6"])):
        sent, received = transfer(sender, receiver, address, 8_000_000)
        assert sent == received
    assert many_workers.status()["traffic"]["no_session"] == 0
    assert handed_over(many_workers, "handover_drops") == 0
    for client, _ in clients:
        client.disconnect()
    many_workers.wait_for_sessions(0)
    assert [worker["sessions"] for worker in many_workers.status()["workers"]] == [0] * WORKERS


@pytest.mark.parametrize("channel,steering", [("dtls", False), ("tls", False), ("dtls", True)])
def test_packets_read_on_the_wrong_thread_arrive(world, wire, many_workers, channel, steering):
    """Flows of datagrams that nobody answers: the kernel has only their hash to go by."""
    many_workers.stop()
    many_workers.configure("udp", enabled=channel == "dtls")
    many_workers.configure("tun", steering=steering).start()
    assert many_workers.status()["tun"]["steering"] == steering
    (client, session), = connected(many_workers, world, wire, ["alice"], channel)
    flows = range(9000, 9040)
    sockets = []
    for port in flows:
        receiver = client.host.socket(kind=socket.SOCK_DGRAM)
        receiver.bind((session["ipv4"], port))
        receiver.settimeout(10)
        sockets.append(receiver)
    sender = wire.server.socket(kind=socket.SOCK_DGRAM)
    expected = [b"%d of %d " % (i, port) * 40 for port in flows for i in range(5)]
    for message in expected:
        sender.sendto(message, (session["ipv4"], int(message.split()[2])))
    got = [receiver.recv(2000) for receiver in sockets for _ in range(5)]
    assert got == expected, "all of them, in their order"
    for open_socket in (*sockets, sender):
        open_socket.close()
    passed_on = handed_over(many_workers, "packets_handed_over")
    assert passed_on == 0 if steering else passed_on > 20


def test_stock_clients_have_dtls_on_whichever_thread_it_arrives(world, wire, many_workers):
    sessions = []
    for number in range(6):
        user = f"user{number}"
        issued = many_workers.export_for(user)
        ca = many_workers.dir / "ca.crt"
        host = world.add_client(wire)
        peer = Openconnect(host, ca, issued.certificate, issued.key,
                           url="https://vpn.example.com/", arguments=()).wait_until_up()
        sessions.append((host, peer, wait_for_session_channel(many_workers, user, "dtls")))
    for host, peer, session in sessions:
        host.ping(INSIDE4, size=1000)
        wire.server.ping(session["ipv4"], size=3000)
        for sender, receiver, address in ((host, wire.server, INSIDE4),
                                          (wire.server, host, session["ipv4"])):
            sent, received = transfer(sender, receiver, address, 1_000_000)
            assert sent == received
    assert handed_over(many_workers, "trains_handed_over") > 0
    for host, peer, session in sessions:
        peer.stop()
    many_workers.wait_for_sessions(0)


def test_a_client_that_moves_stays_on_its_thread(world, wire, many_workers):
    (client, session), = connected(many_workers, world, wire, ["alice"])
    host = client.host
    handshakes = many_workers.status()["udp"]["handshakes"]
    for number in range(6):  # new ports are new hashes
        gateway = wire.add_second_link(host, number)
        pinger = Pinger(host, INSIDE4)
        wait_until(lambda: pinger.process.output().count("bytes from") > 5, "answers", 10)
        host.ip("route", "replace", "default", "via", gateway)
        count = pinger.process.output().count("bytes from")
        wait_until(lambda: pinger.process.output().count("bytes from") > count + 15, "answers", 15)
        assert pinger.longest_gap() < 1
    assert many_workers.status()["udp"]["handshakes"] == handshakes
    assert many_workers.session("alice")["worker"] == session["worker"]


def test_clients_come_and_go_under_load(world, wire, many_workers):
    (steady, session), = connected(many_workers, world, wire, ["steady"])
    iperf = wire.server.start("iperf3", "-s", "--forceflush")
    wait_until(lambda: "listening" in iperf.output(), "iperf3", 10)
    flow = steady.host.start("iperf3", "-c", INSIDE4, "-t", "8", "-P", "2", "--bidir")
    clients = [many_workers.new_client(world.add_client(wire), f"user{i}") for i in range(4)]
    for _ in range(3):
        for client in clients:
            client.connect()
            client.host.ping(INSIDE4, count=2)
        victim = clients[0]
        many_workers.run("disconnect", victim.name)
        for client in clients:
            client.run("disconnect", client.name, check=False)
    wait_until(lambda: not flow.running, "the end of the flow", 30)
    assert flow.returncode == 0, flow.output()
    many_workers.wait_for_sessions(1)
    assert sum(worker["sessions"] for worker in many_workers.status()["workers"]) == 1


def test_the_number_takes_effect_at_the_next_start(server):
    server.configure("workers", count="auto").start()
    assert len(server.status()["workers"]) >= 1
    server.configure("workers", count=3)
    answer = server.run("reload")
    assert "workers.count" in answer.stdout + answer.stderr
    server.stop()
    server.start()
    assert len(server.status()["workers"]) == 3
    text = server.run("status").stdout
    assert re.search(r"^data threads +3, 0 packets", text, re.MULTILINE), text


@pytest.mark.parametrize("count", [0, 65, "many", "-1", 1.5])
def test_a_number_that_cannot_be_is_refused(server, count):
    server.configure("workers", count=count)
    done = server.run("check", check=False)
    assert done.returncode == 2 and "workers.count" in done.stdout + done.stderr
