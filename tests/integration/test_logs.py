"""The logs: one line an event, with session, user and reason; JSON that parses; no secrets.

    client1 (alice) connects, pings, leaves; then a refused one
"""
import json
import re

import pytest

from harness import certs, cstp
from harness.culvert import INSIDE4

SESSION_LIFE = ["alice", "10.99.0.", "192.0.2.6"]


def life(server, client):
    client.connect()
    client.host.ping(INSIDE4)
    client.disconnect()
    server.wait_for_sessions(0)
    server.revoke("alice")
    client.connect(code=3)


@pytest.mark.smoke
def test_a_person_can_follow_a_session(alice, running_server):
    life(running_server, alice)
    log = running_server.log()
    for word in SESSION_LIFE + ["revoked"]:
        assert word in log
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in log.splitlines() if line), log


def test_json_lines_parse_and_carry_session_user_and_reason(server, client_host):
    server.start("--log-format", "json")
    client = server.new_client(client_host, "alice")
    life(server, client)
    events = [json.loads(line) for line in server.log().splitlines()]
    assert all({"level", "message"} <= set(e) for e in events), events[0]
    text = json.dumps(events)
    assert '"user": "alice"' in text and "revoked" in text
    assert any("session" in e and e.get("user") == "alice" for e in events)


def test_levels_choose_what_is_said(server, client_host):
    server.start("--log-level", "debug")
    client = server.new_client(client_host, "alice")
    client.connect()
    client.disconnect()
    debug = server.log()
    server.stop()
    server.start("--log-level", "error")
    client.connect()
    client.disconnect()
    assert len(debug.splitlines()) > 3
    assert server.log() == ""


def test_packets_are_not_logged(tunnel, running_server):
    before = len(running_server.log().splitlines())
    tunnel.host.ping(INSIDE4, count=50)
    assert len(running_server.log().splitlines()) - before < 5


@pytest.mark.parametrize("level", ["debug", "trace"])
def test_no_cookie_and_no_key_in_any_log(server, client_host, world, wire, level):
    server.start("--log-level", level)
    client = server.new_client(client_host, "alice")
    foreground = client.start("--log-level", level)
    client.wait_until_up()
    raw = cstp.RawClient(world.add_client(wire), server.export_for("bob"))
    cookie = raw.login()
    assert raw.open_tunnel(cookie).startswith("HTTP/1.1 200 ")
    assert foreground.stop() == 0
    server.stop()
    for log in (server.log(), foreground.output()):
        assert cookie not in log
        # A cookie is 64 hexadecimal digits; only fingerprints of certificates may look like that.
        for line in log.splitlines():
            assert "webvpn=" not in line
            assert not re.search(r"(?i)cookie\W{1,3}[0-9a-f]{32,}", line), line
        assert "PRIVATE KEY" not in log


def test_names_in_certificates_cannot_drive_a_terminal(world, client_host, running_server):
    """Anybody can present a certificate with any name: it is logged, escaped."""
    evil = certs.Ca(world.dir, "Evil \x1b[31m CA").issue("mall\x1b]0;owned\x07ory")
    cstp.RawClient(client_host, evil).request("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    log = running_server.log()
    assert "owned" in log and "\x1b" not in log and "\x07" not in log


def test_no_secret_in_the_arguments_or_environment_of_a_process(tunnel, running_server):
    for pid in (tunnel.status()["pid"], running_server.process.pid):
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                assert b"PRIVATE KEY" not in file.read()
