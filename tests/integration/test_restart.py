"""The server goes and comes again, and its clients with their cookies: same session, same addresses.

    culvert (client1) ──eth0───to1── culvertd (server), killed or stopped, and started again
    10.99.0.x, fd99::x               10.99.0.1, fd99::1
"""
import os
import pathlib
import time

import pytest

from harness.cstp import RawClient, value_of
from harness.culvert import INSIDE4, INSIDE6
from harness.streams import Conversation
from harness.wait import wait_until


def database(server):
    return server.host.dir / "state" / "culvertd.db"


def wait_until_saved(server, user):
    """What happened in the last moments before a crash may be lost with them."""
    wal = database(server).with_name("culvertd.db-wal")
    wait_until(lambda: user.encode() in database(server).read_bytes() + wal.read_bytes(),
               "the session being saved")
    return wal


def logged(server, text):
    """How often the server, in all its runs, has logged something."""
    return sum(log.read_text(errors="replace").count(text)
               for log in (server.host.dir / "log").glob("culvertd-*.log"))


@pytest.mark.smoke
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_clients_come_back_with_their_cookies(wire, server, client_host, end):
    server.start()
    client = server.new_client(client_host, "alice")
    client.connect()
    before = server.session("alice")
    talk = Conversation(client_host, wire.server, before["ipv4"])
    talk.wait_for_more()
    getattr(server, end)()
    server.start()
    after = wait_until(lambda: (s := server.sessions()) and s[0]["state"] == "attached" and s[0],
                       "the session being taken up again", 30)
    for key in ("id", "user", "ipv4", "ipv6", "logged_in_since"):
        assert after.get(key) == before.get(key), key
    assert logged(server, "logged in") == 1, "one login for both runs"
    wait_until(client.is_up, "being up", 10)
    for inside in (INSIDE4, INSIDE6):
        client_host.ping(inside)
    talk.wait_for_more()  # the address that it speaks with was away and is there again
    talk.finish()
    server.run("disconnect", "alice")
    server.wait_for_sessions(0)


def test_what_was_over_before_the_restart_stays_over(server, client_host, running_server):
    issued = server.export_for("alice")
    raw = RawClient(client_host, issued)
    cookie = raw.login()
    raw.open_tunnel(cookie)
    server.run("disconnect", "alice")
    server.wait_for_sessions(0)
    server.kill()
    server.start()
    head = RawClient(client_host, issued).open_tunnel(cookie)
    assert head.startswith("HTTP/1.1 401 "), head


def test_a_revocation_between_two_runs_counts(server, client_host, running_server):
    issued = server.export_for("alice")
    raw = RawClient(client_host, issued)
    raw.attach()
    wait_until_saved(server, "alice")
    server.kill()
    server.revoke("alice")
    server.start()
    assert server.sessions() == []
    assert logged(server, "revoked") >= 1


def test_a_cookie_is_bound_to_its_key_in_the_next_run_too(server, client_host, running_server):
    raw = RawClient(client_host, server.export_for("alice"))
    cookie = raw.login()
    raw.open_tunnel(cookie)
    wait_until_saved(server, "alice")
    server.kill()
    server.start()
    thief = RawClient(client_host, server.export_for("mallory"))
    assert thief.open_tunnel(cookie).startswith("HTTP/1.1 401 ")
    assert server.session("alice")["state"] == "detached"


def test_addresses_are_the_users_over_restarts(world, wire, server, client_host, running_server):
    clients = [server.new_client(client_host, "alice"),
               server.new_client(world.add_client(wire), "bob")]
    had = {}
    for client in clients:
        client.connect()
        had[client.name] = (client.status()["ipv4"], client.status()["ipv6"])
        client.disconnect()
    server.stop()
    server.start()
    for client in reversed(clients):
        client.connect()
        assert (client.status()["ipv4"], client.status()["ipv6"]) == had[client.name]


def test_the_database_holds_no_cookie_and_is_for_the_server_alone(server, client_host,
                                                                  running_server):
    raw = RawClient(client_host, server.export_for("alice"))
    cookie = raw.login()
    raw.open_tunnel(cookie)
    wal = wait_until_saved(server, "alice")
    for path in (database(server), wal):
        assert cookie.encode() not in path.read_bytes()
        assert bytes.fromhex(cookie) not in path.read_bytes()
        assert path.stat().st_mode & 0o777 == 0o600
    assert database(server).parent.stat().st_mode & 0o777 == 0o700


def test_a_database_that_is_none_does_not_keep_the_server_down(server, client_host):
    server.start().stop()
    database(server).write_bytes(b"no database at all " * 100)
    server.start()
    assert "moved aside" in server.log()
    assert pathlib.Path(str(database(server)) + ".unusable").exists()
    client = server.new_client(client_host, "alice")
    client.connect()


def test_without_a_place_to_keep_them_sessions_are_served_all_the_same(server, client_host):
    database(server).parent.mkdir(mode=0o755)
    os.chown(database(server).parent, 0, 0)
    server.start()
    assert "will not survive a restart" in server.log()
    client = server.new_client(client_host, "alice")
    client.connect()
    client_host.ping(INSIDE4)


def test_a_session_has_its_time(server, client_host):
    server.configure("session", max_lifetime="4s").start()
    client = server.new_client(client_host, "alice")
    started = time.monotonic()
    foreground = client.start()
    client.wait_until_up()
    assert foreground.wait(20) != 0, foreground.output()
    assert 3 < time.monotonic() - started < 12
    assert "lasted as long as it may" in foreground.output()
    raw = RawClient(client_host, server.export_for("bob"))
    assert 2 <= int(value_of(raw.attach(), "X-CSTP-Session-Timeout")) <= 4


def test_a_stock_client_with_worn_keys_is_told_to_come_again(server, client_host):
    server.configure("session", rekey_records=1000).start()
    raw = RawClient(client_host, server.export_for("alice"))
    raw.attach()
    for _ in range(1001):
        raw.send_frame(7)  # KEEPALIVE
    wait_until(lambda: server.session("alice")["state"] == "detached", "the end", 15)
    assert raw.receive_record(5) == b"", "closed without a word"
    assert "the keys are worn" in server.log()
