"""Connecting and disconnecting again and again leaves nothing behind: no memory (ASan's leak checker
speaks when the programs end), no descriptors, no threads, no addresses, no kernel state.

CULVERT_LEAK_ROUNDS sets how often (default 10; scripts/check leaks: 100), CULVERT_LEAK_CLIENTS how many
clients do so at once (default 3; there 10).
"""
import concurrent.futures
import os

from harness import cstp
from harness.culvert import INSIDE4, proc_status
from harness.wait import wait_until

ROUNDS = int(os.environ.get("CULVERT_LEAK_ROUNDS", "10"))
CLIENTS = int(os.environ.get("CULVERT_LEAK_CLIENTS", "3"))


def resources(server):
    pid = server.process.pid
    return {"descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            "threads": int(proc_status(pid)["Threads"]),
            "kernel": server.host.network_state()}


def more_than(baseline, now):
    """What there is more of. The baseline itself may include a connection that is just closing."""
    more = {k: now[k] for k in ("descriptors", "threads") if now[k] > baseline[k]}
    lines = set(now["kernel"].splitlines()) ^ set(baseline["kernel"].splitlines())
    if lines:
        more["kernel"] = sorted(lines)
    return more


def test_leaks_over_connects_and_disconnects(alice, running_server):
    before = alice.host.network_state()
    baseline = resources(running_server)
    for number in range(ROUNDS):
        alice.connect()
        alice.host.ping(INSIDE4, count=1)
        alice.disconnect()
        running_server.wait_for_sessions(0)
        assert alice.host.network_state() == before, f"round {number}"
    assert not more_than(baseline, resources(running_server))
    assert running_server.status()["pools"][0]["used"] == 0
    running_server.stop()


def test_leaks_with_several_clients_at_once(world, wire, running_server):
    clients = [running_server.new_client(world.add_client(wire), f"user{number}")
               for number in range(CLIENTS)]
    before = [client.host.network_state() for client in clients]
    baseline = resources(running_server)

    def come_and_go(client):
        for _ in range(ROUNDS):
            client.connect()
            client.host.ping(INSIDE4, count=1)
            client.disconnect()

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(come_and_go, clients))
    running_server.wait_for_sessions(0)
    assert [client.host.network_state() for client in clients] == before
    assert not more_than(baseline, resources(running_server))
    assert [pool["used"] for pool in running_server.status()["pools"]] == [0, 0]
    log = running_server.log()
    assert log.count("logged in") == CLIENTS * ROUNDS
    assert not [line for line in log.splitlines() if " error " in line or " warning " in line]
    running_server.stop()


def test_leaks_over_refused_broken_and_lost_connections(world, client_host, running_server):
    files = running_server.export_for("alice")
    baseline = resources(running_server)
    for _ in range(ROUNDS):
        cstp.RawClient(client_host).request("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        raw = cstp.RawClient(client_host, files)
        cookie = raw.login()
        raw.open_tunnel(cookie)
        raw.send_raw(b"garbage that is no frame")
        lost = cstp.RawClient(client_host, files)
        lost.open_tunnel(cookie)
        lost.close()
        end = cstp.RawClient(client_host, files)
        end.open_tunnel(cookie)
        end.send_frame(cstp.DISCONNECT, b"\xb0end")
        running_server.wait_for_sessions(0)
        for peer in world.servers:
            peer.close()
        world.servers.clear()
    # Refused connections linger for up to two seconds, so that the reason arrives.
    wait_until(lambda: not more_than(baseline, resources(running_server)),
               lambda: f"giving back {more_than(baseline, resources(running_server))}")
    running_server.stop()
