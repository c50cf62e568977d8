"""Whatever way a program ends, the system is afterwards what it was before.

    client1: addresses, routes, rules and nftables compared before and after
"""
import signal

from harness.culvert import INSIDE4, exists
from harness.wait import wait_until


def client_pid(client):
    return client.status()["pid"]


def assert_same(before, after):
    gone = sorted(set(before.splitlines()) - set(after.splitlines()))
    new = sorted(set(after.splitlines()) - set(before.splitlines()))
    assert not gone and not new, "gone:\n" + "\n".join(gone) + "\nleft over:\n" + "\n".join(new)


def test_disconnect_puts_everything_back(alice):
    before = alice.host.network_state()
    alice.connect()
    assert alice.host.network_state() != before
    pid = client_pid(alice)
    alice.disconnect()
    assert_same(before, alice.host.network_state())
    wait_until(lambda: not exists(pid), "the client's process being gone")
    assert alice.run("status", "alice", check=False).returncode == 7


def test_sigterm_puts_everything_back(alice):
    before = alice.host.network_state()
    foreground = alice.start()
    alice.wait_until_up()
    assert foreground.stop(signal.SIGTERM) == 0
    assert_same(before, alice.host.network_state())


def test_sigint_puts_everything_back(alice):
    before = alice.host.network_state()
    foreground = alice.start()
    alice.wait_until_up()
    assert foreground.stop(signal.SIGINT) == 0
    assert_same(before, alice.host.network_state())


def test_cleanup_puts_back_what_a_sigkill_left(alice):
    before = alice.host.network_state()
    foreground = alice.start()
    alice.wait_until_up()
    foreground.kill_all()
    assert alice.host.network_state() != before, "nothing was left over: the test proves nothing"
    alice.run("cleanup")
    assert_same(before, alice.host.network_state())
    alice.run("cleanup")  # and again, with nothing to do


def test_the_next_start_puts_back_what_a_sigkill_left(alice):
    before = alice.host.network_state()
    foreground = alice.start()
    alice.wait_until_up()
    foreground.kill_all()
    alice.connect()
    alice.host.ping(INSIDE4)
    alice.disconnect()
    assert_same(before, alice.host.network_state())


def test_cleanup_leaves_a_running_tunnel_alone(tunnel):
    tunnel.run("cleanup", check=False)
    tunnel.host.ping(INSIDE4)
    assert tunnel.is_up()


def test_a_refused_connect_leaves_nothing(alice, running_server):
    running_server.revoke("alice")
    before = alice.host.network_state()
    alice.connect(code=3)
    assert_same(before, alice.host.network_state())


def test_the_server_puts_everything_back(wire, server):
    before = wire.server.network_state()
    server.start()
    assert wire.server.network_state() != before
    server.stop()
    assert_same(before, wire.server.network_state())


def test_the_server_puts_everything_back_with_clients_on_it(wire, alice, running_server):
    alice.connect()
    devices = set(wire.server.links())
    running_server.stop()
    assert not [d for d in devices & set(wire.server.links()) if d.startswith("culvert")]
    assert "10.99" not in wire.server.network_state()


def test_the_servers_next_start_puts_back_what_a_sigkill_left(wire, server):
    before = wire.server.network_state()
    server.start()
    server.kill_all()
    assert wire.server.network_state() != before, "nothing was left over: the test proves nothing"
    server.start()
    server.stop()
    assert_same(before, wire.server.network_state())


def test_foreign_rules_and_routes_survive(alice):
    """What was there before, and what came while the tunnel was up, stays."""
    host = alice.host
    host.run("ip", "rule", "add", "from", "192.0.2.77", "lookup", "77", "priority", "77")
    host.run("ip", "route", "add", "203.0.113.0/24", "via", host.gateway4, "table", "77")
    alice.connect()
    host.run("ip", "route", "add", "203.0.113.128/25", "via", host.gateway4)
    alice.disconnect()
    state = host.network_state()
    assert "192.0.2.77" in state and "203.0.113.0/24" in state and "203.0.113.128/25" in state
