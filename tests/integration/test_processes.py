"""Three processes each: the program, the helper that changes the system for it, and the guard that
waits for both. Whichever is killed, the others end and the system is put back, or go on.

    culvert (client1) ──eth0───to1── culvertd (server)
"""
import os
import signal

import pytest

from harness.culvert import INSIDE4, exists
from harness.wait import wait_until
from test_put_back import assert_same


def one(host, name):
    [pid] = host.processes(name)
    return pid


def wait_until_alone(host):
    wait_until(lambda: not host.processes("culvert-helper") and not host.processes("culvert-guard"),
               "helper and guard being gone", 15)


def test_a_killed_server_is_put_back_at_once(wire, server):
    before = wire.server.network_state()
    server.start()
    assert wire.server.network_state() != before
    server.kill()
    wait_until_alone(wire.server)
    assert_same(before, wire.server.network_state())
    assert not (wire.server.dir / "run" / "culvertd.sock.undo").exists()


def test_a_server_whose_helper_is_killed_ends_and_is_put_back(wire, server, client_host):
    before = wire.server.network_state()
    server.start()
    client = server.new_client(client_host, "alice")
    client.connect()
    os.kill(one(wire.server, "culvert-helper"), signal.SIGKILL)
    assert server.process.wait(15) == 1
    assert "helper process is gone" in server.log()
    wait_until_alone(wire.server)
    assert_same(before, wire.server.network_state())
    server.start()
    wait_until(lambda: client_host.ping(INSIDE4, count=1, check=False, limit=1),
               "the tunnel being up again", 30)


def test_a_server_does_without_its_guard(wire, server, client_host):
    before = wire.server.network_state()
    server.start()
    guard = one(wire.server, "culvert-guard")
    os.kill(guard, signal.SIGKILL)
    client = server.new_client(client_host, "alice")
    client.connect()
    client_host.ping(INSIDE4)
    client.disconnect()
    server.stop()
    wait_until_alone(wire.server)
    assert_same(before, wire.server.network_state())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
                         ids=["term", "int", "hup"])
def test_signals_to_all_of_them_end_the_program_first(wire, server, number):
    """As a service manager sends them, or a terminal."""
    before = wire.server.network_state()
    server.start()
    os.killpg(server.process.pid, number)
    if number == signal.SIGHUP:  # asks for a reload
        wait_until(lambda: "reloaded" in server.log(), "the reload", 5)
        server.stop()
    assert server.process.wait(15) == 0
    wait_until_alone(wire.server)
    assert_same(before, wire.server.network_state())


def test_a_start_that_fails_leaves_no_process(wire, server):
    server.configure("tls", certificate="missing.crt")
    done = server.run("run", check=False)
    assert done.returncode == 2, done.stderr
    wait_until_alone(wire.server)


def test_a_second_server_leaves_the_first_alone(wire, server):
    server.start()
    state = wire.server.network_state()
    assert server.run("run", check=False).returncode == 8
    wait_until(lambda: len(wire.server.processes("culvert-guard")) == 1, "its guard being gone", 15)
    assert_same(state, wire.server.network_state())
    assert server.process.running and exists(one(wire.server, "culvert-helper"))
