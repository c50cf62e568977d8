"""What the administrator sees and does, and what becomes of sessions when things go away.

    client1 (alice), client2 (bob) ── culvertd
"""
import json
import pathlib
import signal

import pytest

from harness.certs import SERVER, Ca
from harness.cstp import RawClient, value_of
from harness.culvert import INSIDE4, NAME, Client
from harness.wait import wait_until
from test_udp import wait_for_channel

NOTICED = 8  # seconds for a loss without data to be noticed, on either channel; DPD asks after 30


@pytest.mark.smoke
def test_disconnect_by_the_administrator_ends_the_tunnel(alice, running_server):
    before = alice.host.network_state()
    foreground = alice.start()
    alice.wait_until_up()
    running_server.run("disconnect", "alice")
    assert foreground.wait(20) != 0
    assert "disconnect" in foreground.output().lower() or "ended" in foreground.output().lower()
    running_server.wait_for_sessions(0)
    assert alice.host.network_state() == before


def test_disconnect_by_number_ends_that_session_only(world, wire, alice, running_server):
    alice.connect()
    bob = running_server.new_client(world.add_client(wire), "bob")
    bob.connect()
    running_server.run("disconnect", str(running_server.session("alice")["id"]))
    left = running_server.wait_for_sessions(1)
    assert left[0]["user"] == "bob"
    bob.host.ping(INSIDE4)


def test_disconnect_of_nobody_is_an_error(running_server):
    done = running_server.run("disconnect", "nobody", check=False)
    assert done.returncode == 1 and "nobody" in done.stderr


def test_the_session_ends_with_the_client(tunnel, running_server):
    tunnel.disconnect()
    running_server.wait_for_sessions(0)


def test_a_killed_client_leaves_a_session_that_its_next_login_replaces_or_joins(
        wire, alice, running_server):
    foreground = alice.start()
    alice.wait_until_up()
    foreground.kill()
    wait_until(lambda: running_server.session("alice")["state"] == "detached", "detached")
    alice.connect()
    attached = [s for s in running_server.sessions() if s["state"] == "attached"]
    assert len(attached) == 1
    alice.host.ping(INSIDE4)


@pytest.mark.parametrize("channel", ["tls", "dtls"])
def test_the_client_comes_back_when_the_server_was_killed(server, client_host, channel):
    server.configure("udp", enabled=channel == "dtls").start()
    alice = server.new_client(client_host, "alice")
    foreground = alice.start()
    alice.wait_until_up()
    wait_for_channel(alice, channel)
    server.kill()
    wait_until(lambda: not alice.is_up(), "the loss being noticed", NOTICED)
    server.start()
    alice.wait_until_up(60)
    alice.host.ping(INSIDE4)
    assert foreground.running


def test_while_the_server_is_away_nothing_leaks_past_the_tunnel(server, client_host):
    """Routes stay while the client waits: traffic is held, not sent outside."""
    server.configure("network", routes=None).start()
    alice = server.new_client(client_host, "alice")
    alice.start()
    alice.wait_until_up()
    server.kill()
    wait_until(lambda: not alice.is_up(), "the loss being noticed", NOTICED)
    assert alice.host.json("route", "get", "203.0.113.9")[0]["dev"] != "eth0"


def test_a_stopped_server_tells_clients_to_come_back(alice, running_server):
    alice.start()
    alice.wait_until_up()
    running_server.stop()
    wait_until(lambda: not alice.is_up(), "the loss being noticed", NOTICED)
    running_server.start()
    alice.wait_until_up(60)


def test_too_many_sessions_of_a_user_are_refused_or_replace_the_oldest(world, wire, server):
    server.configure("session", max_per_user=1).start()
    profile = server.add_user("alice")
    clients = []
    for _ in range(2):
        client = Client(world.add_client(wire), "alice")
        client.import_profile(profile)
        clients.append(client)
    clients[0].connect()
    clients[1].run("connect", "alice", check=False)
    assert len([s for s in server.sessions() if s["state"] == "attached"]) == 1


def shown_certificate(server, host):
    """The serial number of the certificate that the server shows."""
    done = host.run("sh", "-c", "openssl s_client -connect 198.51.100.1:443 </dev/null 2>/dev/null"
                                " | openssl x509 -noout -serial", check=False)
    return done.stdout.strip().partition("=")[2]


def new_server_certificate(server):
    ca = Ca.of(server.host.world.dir, server.dir / "ca.crt", server.dir / "ca.key")
    return ca.issue(NAME, (SERVER,), (f"DNS:{NAME}", "IP:198.51.100.1"))


@pytest.mark.parametrize("way", ["command", "SIGHUP"])
def test_reload_takes_up_a_new_certificate_and_keeps_sessions(tunnel, running_server, way):
    server = running_server
    before = server.session("alice")["id"]
    old = shown_certificate(server, tunnel.host)
    issued = new_server_certificate(server)
    for name, path in (("server.crt", issued.certificate), ("server.key", issued.key)):
        (server.dir / name).write_bytes(pathlib.Path(path).read_bytes())
    assert shown_certificate(server, tunnel.host) == old, "not before somebody says so"
    if way == "command":
        server.run("reload")
    else:
        server.process.send(signal.SIGHUP)
    wait_until(lambda: shown_certificate(server, tunnel.host) not in ("", old), "the new one", 5)
    tunnel.host.ping(INSIDE4)
    assert server.session("alice")["id"] == before


def test_a_reload_is_all_or_nothing(tunnel, running_server):
    """The certificate is new and good, but its key is another one's: nothing is taken up, also of
    the configuration that came with it."""
    server = running_server
    old = shown_certificate(server, tunnel.host)
    issued = new_server_certificate(server)
    server.configure("session", dpd="7s")
    (server.dir / "server.crt").write_bytes(pathlib.Path(issued.certificate).read_bytes())
    done = server.run("reload", check=False)
    assert done.returncode == 2 and "server.key" in done.stderr, done.stderr
    assert shown_certificate(server, tunnel.host) == old
    raw = RawClient(tunnel.host, server.export_for("bob"))
    assert value_of(raw.attach(), "X-CSTP-DPD") != "7"
    tunnel.host.ping(INSIDE4)


def test_a_broken_configuration_at_reload_changes_nothing(tunnel, running_server):
    path = running_server.dir / "culvertd.toml"
    good = path.read_text()
    path.write_text(good + "\nnonsense = [\n")
    done = running_server.run("reload", check=False)
    assert done.returncode == 2, done.stderr
    assert "culvertd.toml" in done.stderr
    tunnel.host.ping(INSIDE4)
    path.write_text(good)
    running_server.run("reload")


def test_a_broken_crl_at_reload_keeps_the_old_one(tunnel, running_server):
    (running_server.dir / "ca.crl").write_text("not a CRL\n")
    assert running_server.run("reload", check=False).returncode != 0
    tunnel.host.ping(INSIDE4)


def test_fixed_addresses_are_given(world, wire, running_server):
    carol = running_server.new_client(world.add_client(wire), "carol", "--address", "10.99.0.77")
    carol.connect()
    assert running_server.session("carol")["ipv4"] == "10.99.0.77"
    carol.host.ping(INSIDE4)


def test_networks_behind_a_client_are_reached(world, wire, running_server):
    dave = running_server.new_client(world.add_client(wire), "dave", "--network", "10.50.0.0/24")
    dave.host.add_address("lo", "10.50.0.1/32")
    dave.connect()
    wire.server.ping("10.50.0.1")


def test_unknown_users_can_be_shut_out(world, wire, server):
    """A valid certificate whose user has no file is refused if the configuration says so."""
    server.configure("", unknown_users="refuse").start()
    client = server.new_client(world.add_client(wire), "erin")
    (server.dir / "users" / "erin.toml").unlink()
    server.run("reload")
    client.connect(code=3)


def test_status_counts_logins(tunnel, running_server):
    status = running_server.status()
    assert status["sessions"]["attached"] == 1
    assert status["logins"]["accepted"] >= 1
    assert status["tun"]["addresses"] == ["10.99.0.1", "fd99::1"]
    assert json.dumps(status)
