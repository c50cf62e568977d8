"""Packets cross the tunnel, both families inside and outside, both ways, unchanged.

    culvert (client1) ──eth0───to1── culvertd (server)
    10.99.0.x, fd99::x               10.99.0.1, fd99::1        TCP checks run between these
"""
import hashlib
import ipaddress
import os
import socket
import threading

import pytest

from harness.culvert import INSIDE4, INSIDE6, Client, Server, profile_table
from harness.wait import wait_until


def transfer(sender_host, receiver_host, address, size, port=5001):
    """Sends random bytes over TCP and returns both sides' SHA-256."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = receiver_host.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen()
    listener.settimeout(30)
    received = hashlib.sha256()

    def receive():
        connection, _ = listener.accept()
        connection.settimeout(30)
        with connection:
            while data := connection.recv(65536):
                received.update(data)

    thread = threading.Thread(target=receive)
    thread.start()
    content = os.urandom(size)
    with sender_host.socket(family) as out:
        out.settimeout(30)
        out.connect((address, port))
        out.sendall(content)
    thread.join(60)
    listener.close()
    return hashlib.sha256(content).hexdigest(), received.hexdigest()


@pytest.mark.smoke
@pytest.mark.parametrize("outside", ["198.51.100.1", "[2001:db8:ffff::1]"], ids=["over4", "over6"])
def test_carries_both_families(wire, client_host, outside):
    server = Server(wire.server).init(address=outside).start()
    client = server.new_client(client_host, "alice")
    client.connect()
    session = server.session("alice")
    client_host.ping(INSIDE4)
    client_host.ping(INSIDE6)
    wire.server.ping(session["ipv4"])
    wire.server.ping(session["ipv6"])
    remote = session["remote"]
    assert remote.startswith("[2001:db8:1::2]:" if ":" in outside else "192.0.2.6:")


@pytest.mark.smoke
def test_tcp_arrives_unchanged_in_both_directions(wire, tunnel, running_server):
    session = running_server.session("alice")
    for near, far, address in [(tunnel.host, wire.server, INSIDE4),
                               (tunnel.host, wire.server, INSIDE6),
                               (wire.server, tunnel.host, session["ipv4"]),
                               (wire.server, tunnel.host, session["ipv6"])]:
        sent, received = transfer(near, far, address, 3_000_000)
        assert sent == received


@pytest.mark.parametrize("server_offloads, client_offloads",
                         [(False, False), (True, False), (False, True)],
                         ids=["neither", "server", "client"])
def test_superpackets_are_each_sides_own_business(wire, client_host, server_offloads,
                                                  client_offloads):
    server = Server(wire.server).init()
    server.configure("tun", offloads=server_offloads)
    server.start()
    offloads = server.status()["tun"]["offloads"]
    assert (offloads == "none") == (not server_offloads)
    profile = profile_table(server.add_user("alice"))
    profile["offloads"] = client_offloads
    client = Client(client_host, "alice")
    client.import_text(profile)
    client.connect()
    for near, far, address in [(client_host, wire.server, INSIDE4),
                               (wire.server, client_host, server.session("alice")["ipv6"])]:
        sent, received = transfer(near, far, address, 2_000_000)
        assert sent == received


def test_every_packet_size_up_to_the_mtu_passes(wire, tunnel, running_server):
    mtu = tunnel.status()["mtu"]
    assert 1280 <= mtu <= 1500
    for size in (0, 1, 100, 1232, mtu - 28):
        tunnel.host.ping(INSIDE4, count=1, size=size)
        wire.server.ping(running_server.session("alice")["ipv4"], count=1, size=size)
    # One byte more must be cut by the kernel, not lost: it knows the device's MTU.
    tunnel.host.ping(INSIDE4, count=1, size=mtu - 27)
    wire.server.ping(running_server.session("alice")["ipv4"], count=1, size=mtu - 27)


def test_the_server_says_packet_too_big_to_hosts_behind_it(wire, tunnel, running_server):
    """The session's host route carries its MTU, so a too big packet gets an ICMP answer."""
    session = running_server.session("alice")
    done = wire.server.run("ping", "-n", "-c", 1, "-W", 2, "-M", "do", "-s", 1480,
                           session["ipv4"], check=False)
    assert done.returncode != 0
    assert f"mtu={running_server.session('alice')['mtu']}" in done.stderr, done.stderr


@pytest.mark.parametrize("pools", [{"ipv6": None}, {"ipv4": None}], ids=["only4", "only6"])
def test_one_family_is_enough(wire, client_host, pools):
    server = Server(wire.server).init(**pools).start()
    client = server.new_client(client_host, "alice")
    client.connect()
    session = server.session("alice")
    client_host.ping(INSIDE4 if session["ipv4"] else INSIDE6)
    assert (session["ipv4"] is None) == ("ipv4" in pools)
    assert (session["ipv6"] is None) == ("ipv6" in pools)


def test_two_clients_have_their_own_addresses_and_both_work(world, wire, running_server):
    clients = []
    for name in ("alice", "bob"):
        client = running_server.new_client(world.add_client(wire), name)
        client.connect()
        clients.append(client)
    sessions = {s["user"]: s for s in running_server.sessions()}
    assert sessions["alice"]["ipv4"] != sessions["bob"]["ipv4"]
    assert sessions["alice"]["ipv6"] != sessions["bob"]["ipv6"]
    for client in clients:
        client.host.ping(INSIDE4)
        client.host.ping(INSIDE6)
    for session in sessions.values():
        assert ipaddress.ip_address(session["ipv4"]) in ipaddress.ip_network("10.99.0.0/24")
        assert ipaddress.ip_address(session["ipv6"]) in ipaddress.ip_network("fd99::/64")
        wire.server.ping(session["ipv4"])
    clients[0].disconnect()
    running_server.wait_for_sessions(1)
    clients[1].host.ping(INSIDE4)


def test_status_and_sessions_tell_the_same_story(tunnel, running_server):
    tunnel.host.ping(INSIDE4, count=5)
    wait_until(lambda: tunnel.status()["channel"] == running_server.session("alice")["channel"]
               == "dtls", "both sides sending over DTLS")
    mine, theirs = tunnel.status(), running_server.session("alice")
    assert mine["state"] == "up"
    assert theirs["state"] == "attached"
    text = str(mine)
    assert theirs["ipv4"] in text and theirs["ipv6"] in text
    assert theirs["tls"] == mine["tls"] == "TLSv1.3"
    assert theirs["channel_reason"] == mine["channel_reason"] == "proven"
    assert theirs["dtls_cipher"] == mine["dtls_cipher"]
    assert theirs["channel_since"] and mine["channel_since"]
    assert theirs["rx_packets"] >= 5 and theirs["tx_packets"] >= 5
    # What people read names the same things.
    human = tunnel.run("status", "alice").stdout
    assert theirs["ipv4"] in human and "198.51.100.1" in human and "dtls for" in human
    human = running_server.run("sessions").stdout
    assert "alice" in human and theirs["ipv4"] in human
    assert "dtls" in human and theirs["channel_since"] in human and "proven" in human
    assert "culvertd" in running_server.run("status").stdout


def test_addresses_of_absent_clients_are_answered_not_looped(wire, running_server):
    """Each pool has an unreachable route: packets for nobody get an answer and go nowhere."""
    done = wire.server.run("ping", "-n", "-c", 1, "-W", 2, "10.99.0.200", check=False)
    assert done.returncode != 0
    assert "No route to host" in done.stderr


def test_routes_of_the_server_reach_the_client(wire, client_host):
    """Only what [network] routes names goes into the tunnel."""
    server = Server(wire.server).init().configure("network", routes=["10.20.0.0/16", "fd20::/48"])
    wire.server.add_address("lo", "10.20.0.53/32", "fd20::53/128")
    server.start()
    client = server.new_client(client_host, "alice")
    client.connect()
    client_host.ping("10.20.0.53")
    client_host.ping("fd20::53")
    # The rest of the world does not go into the tunnel: the gateway is still the veth's.
    got = client_host.json("route", "get", "203.0.113.9")
    assert got[0]["dev"] == "eth0"


def test_everything_goes_into_the_tunnel_when_the_server_names_no_routes(server, client_host):
    server.configure("network", routes=None).start()
    tunnel = server.new_client(client_host, "alice")
    tunnel.connect()
    for address in ("203.0.113.9", "2001:db8:dead::1"):
        got = tunnel.host.json("route", "get", address)
        assert got[0]["dev"] != "eth0", got
    # The transport itself stays outside, or nothing at all would work.
    tunnel.host.ping(INSIDE4)


def test_bulk_traffic_does_not_starve_a_ping(world, wire, tunnel):
    iperf = wire.server.start("iperf3", "-s", "--forceflush")
    iperf.wait_for_output("listening")
    bulk = tunnel.host.start("iperf3", "-c", INSIDE4, "-t", "3", "-R")
    wait_until(lambda: tunnel.status()["rx"]["bytes"] > 1_000_000, "the transfer going on")
    assert tunnel.host.ping(INSIDE4, count=20, limit=5)
    assert bulk.wait(20) == 0, bulk.output()
