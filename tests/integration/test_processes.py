"""Three processes each: the program, the helper that changes the system for it, and the guard that
waits for both. Whichever is killed, the others end and the system is put back, or go on.

    culvert (client1) ──eth0───to1── culvertd (server)
"""
import os
import pwd
import signal

import pytest

from harness.culvert import INSIDE4, exists, proc_status
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


# ---- the client ----------------------------------------------------------------------------------

@pytest.fixture
def foreground(alice):
    """culvert run, up; alice.before is the state of the system before it."""
    alice.before = alice.host.network_state()
    process = alice.start()
    alice.wait_until_up()
    assert alice.host.network_state() != alice.before
    return process


def test_the_client_that_talks_to_the_network_has_no_privilege_left(alice, foreground):
    alice.host.ping(INSIDE4)
    nobody = pwd.getpwnam("nobody")
    for thread in os.listdir(f"/proc/{foreground.pid}/task"):
        status = proc_status(f"{foreground.pid}/task/{thread}")
        assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert status["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert status["Groups"].split() in ([], [str(nobody.pw_gid)])
        for which in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"):
            assert int(status[which], 16) == 0, f"{which} {status[which]}"
        assert status["NoNewPrivs"] == "1"
    [helper] = alice.host.processes("culvert-helper")
    links = {os.readlink(f"/proc/{helper}/fd/{fd}") for fd in os.listdir(f"/proc/{helper}/fd")}
    assert "/dev/net/tun" not in links


def test_a_killed_client_is_put_back_at_once(alice, foreground):
    foreground.kill()
    wait_until_alone(alice.host)
    assert_same(alice.before, alice.host.network_state())
    left = [p.name for p in (alice.host.dir / "run").iterdir()]
    assert left == [], left
    alice.connect()
    alice.host.ping(INSIDE4)


def test_a_client_whose_helper_is_killed_ends_and_is_put_back(alice, foreground):
    os.kill(one(alice.host, "culvert-helper"), signal.SIGKILL)
    assert foreground.wait(15) == 1
    assert "helper" in foreground.output()
    wait_until_alone(alice.host)
    assert_same(alice.before, alice.host.network_state())
    alice.connect()


def test_a_client_does_without_its_guard(alice, foreground):
    os.kill(one(alice.host, "culvert-guard"), signal.SIGKILL)
    alice.host.ping(INSIDE4)
    assert foreground.stop() == 0
    wait_until_alone(alice.host)
    assert_same(alice.before, alice.host.network_state())


def test_a_background_client_leaves_nothing_behind(alice):
    before = alice.host.network_state()
    alice.connect()
    alice.disconnect()
    assert_same(before, alice.host.network_state())
    wait_until_alone(alice.host)
    left = [p.name for p in (alice.host.dir / "run").iterdir() if p.suffix != ".log"]
    assert left == [], left
