"""The server gives up what it no longer needs: user, capabilities, the way back."""
import os
import pathlib
import pwd

from harness.culvert import INSIDE4, proc_status

CAP_NET_ADMIN = 1 << 12


def assert_confined(status, capabilities):
    culvert = pwd.getpwnam("culvert")
    assert status["Uid"].split() == [str(culvert.pw_uid)] * 4
    assert status["Gid"].split() == [str(culvert.pw_gid)] * 4
    assert status["Groups"].split() in ([], [str(culvert.pw_gid)])
    for which in ("CapEff", "CapPrm"):
        assert int(status[which], 16) == capabilities, f"{which} {status[which]}"
    for which in ("CapInh", "CapAmb"):
        assert int(status[which], 16) == 0, f"{which} {status[which]}"
    assert int(status["CapBnd"], 16) & ~capabilities == 0
    assert status["NoNewPrivs"] == "1"


def test_what_talks_to_the_network_has_no_privilege_left(tunnel, running_server):
    tunnel.host.ping(INSIDE4)
    pid = running_server.process.pid
    threads = [int(t) for t in os.listdir(f"/proc/{pid}/task")]
    assert len(threads) >= 3, "control, login and data thread"
    for thread in threads:
        assert_confined(proc_status(f"{pid}/task/{thread}"), 0)


def test_the_helper_has_one_capability_and_the_network_in_none_of_its_descriptors(running_server):
    [pid] = running_server.host.processes("culvert-helper")
    assert os.listdir(f"/proc/{pid}/task") == [str(pid)]
    assert_confined(proc_status(pid), CAP_NET_ADMIN)
    links = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert "/dev/net/tun" not in links
    sockets = [link for link in links if link.startswith("socket:")]
    assert len(sockets) == 2, f"its program's and netlink's: {links}"
    journal = pathlib.Path(running_server.host.env["CULVERT_RUNTIME_DIR"]) / "culvertd.sock.undo"
    assert str(journal) in links


def test_the_control_socket_is_for_root_and_the_server_only(running_server):
    path = pathlib.Path(running_server.host.env["CULVERT_RUNTIME_DIR"]) / "culvertd.sock"
    assert path.stat().st_mode & 0o777 == 0o600


def test_reload_still_reads_the_keys_after_the_drop(running_server):
    running_server.run("reload")


def test_culvertd_can_be_told_to_stay_root(server):
    server.configure("", user="root").start()
    assert proc_status(server.process.pid)["Uid"].split()[0] == "0"


# --- as systemd starts them ---

UNITS = pathlib.Path(__file__).resolve().parents[2] / "packaging/systemd"


def as_in(unit):
    """What a program is started with to have what its unit leaves it: capabilities, no new ones."""
    lines = (UNITS / f"{unit}.in").read_text().splitlines()
    names = [name for line in lines if line.startswith("CapabilityBoundingSet=")
             for name in line.partition("=")[2].split()]
    assert names and "NoNewPrivileges=yes" in lines
    kept = ",".join("+" + name.removeprefix("CAP_").lower() for name in names)
    return ["setpriv", f"--bounding-set=-all,{kept}", "--no-new-privs"]


def test_the_units_leave_the_programs_what_they_need(server, client_host):
    client = server.new_client(client_host, "alice")
    before = server.host.network_state(), client_host.network_state()
    server.process = server.host.start(*as_in("culvertd.service"), server.program, "run", "--dir",
                                       server.dir, name="culvertd")
    server.wait_until_serving()
    foreground = client_host.start(*as_in("culvert@.service"), client.program, "run", "--persist",
                                   "alice", name="culvert")
    client.wait_until_up()
    client_host.ping(INSIDE4)
    assert_confined(proc_status(server.process.pid), 0)
    status = proc_status(foreground.pid)
    assert int(status["CapEff"], 16) == 0 and "0" not in status["Uid"].split(), status
    server.run("reload")
    foreground.stop()
    server.stop()
    assert (server.host.network_state(), client_host.network_state()) == before
