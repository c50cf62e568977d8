"""Debian's openconnect on culvertd: login by certificate, both families, both ways.

    openconnect (client1) ──eth0───to1── culvertd (server)
"""
import pytest

from harness import peers
from harness.culvert import INSIDE4, INSIDE6
from harness.wait import wait_until


@pytest.fixture
def files(server):
    issued = server.export_for("alice")
    issued.ca = server.dir / "ca.crt"
    return issued


def openconnect(host, files, **options):
    options.setdefault("url", "https://vpn.example.com/")
    return peers.Openconnect(host, files.ca, files.certificate, files.key, **options)


@pytest.mark.smoke
def test_both_families_both_ways(wire, client_host, files, running_server):
    oc = openconnect(client_host, files).wait_until_up()
    session = running_server.session("alice")
    client_host.ping(INSIDE4)
    client_host.ping(INSIDE6)
    wire.server.ping(session["ipv4"])
    wire.server.ping(session["ipv6"])
    assert "AnyConnect" in session["user_agent"] or "OpenConnect" in session["user_agent"]
    oc.stop()


@pytest.mark.smoke
@pytest.mark.parametrize("over", ["198.51.100.1", "2001:db8:ffff::1"], ids=["over4", "over6"])
def test_uses_dtls(wire, client_host, files, running_server, over):
    oc = openconnect(client_host, files,
                     arguments=("--resolve", f"vpn.example.com:{over}")).wait_until_up(limit=8)
    session = wait_until(lambda: (s := running_server.session("alice"))["channel"] == "dtls" and s,
                         "packets going over DTLS", 10)
    for size in (None, 1200):
        client_host.ping(INSIDE4, size=size)
        client_host.ping(INSIDE6, size=size)
        wire.server.ping(session["ipv4"], size=size)
        wire.server.ping(session["ipv6"], size=size)
    assert "Established DTLS connection" in oc.process.output(), oc.process.output()
    # It has probed, and every probe of a size that fits was echoed.
    mtu = int(oc.script_lines("connect")[0][3].removeprefix("mtu="))
    assert mtu >= 1400 if over == "198.51.100.1" else mtu >= 1380
    oc.stop()


def test_dtls_comes_back_after_a_reconnect(client_host, files, running_server):
    oc = openconnect(client_host, files, arguments=()).wait_until_up()
    for _ in range(2):
        wait_until(lambda: running_server.session("alice")["channel"] == "dtls", "DTLS", 10)
        oc.reconnect()
    wait_until(lambda: running_server.session("alice")["channel"] == "dtls", "DTLS", 10)
    client_host.ping(INSIDE4)


def test_comes_up_where_udp_is_not_served(wire, client_host, files, server):
    """No UDP is offered, so a client that would like it comes up without delay."""
    server.configure("udp", enabled=False)
    server.start()
    openconnect(client_host, files, arguments=()).wait_until_up(limit=8)
    client_host.ping(INSIDE4)


def test_over_ipv6_outside(client_host, files, running_server):
    oc = openconnect(client_host, files, arguments=(
        "--no-dtls", "--resolve", "vpn.example.com:2001:db8:ffff::1"))
    oc.wait_until_up()
    client_host.ping(INSIDE4)
    client_host.ping(INSIDE6)


def test_reconnect_keeps_the_addresses(wire, client_host, files, running_server):
    oc = openconnect(client_host, files).wait_until_up()
    before = running_server.session("alice")
    oc.reconnect()
    after = running_server.session("alice")
    assert {k: before[k] for k in ("id", "ipv4", "ipv6")} == {
        k: after[k] for k in ("id", "ipv4", "ipv6")}
    client_host.ping(INSIDE4)
    wire.server.ping(after["ipv6"])


def test_a_clean_exit_ends_the_session(client_host, files, running_server):
    oc = openconnect(client_host, files).wait_until_up()
    oc.stop()
    running_server.wait_for_sessions(0)


def test_disconnect_by_the_administrator_ends_openconnect(client_host, files, running_server):
    oc = openconnect(client_host, files).wait_until_up()
    running_server.run("disconnect", "alice")
    assert oc.process.wait(20) == 1
    assert "terminated by server" in oc.process.output()


def test_a_killed_server_is_found_again(client_host, files, running_server):
    """The cookie is good in the server's next run as well."""
    oc = openconnect(client_host, files).wait_until_up()
    before = running_server.session("alice")
    running_server.kill()
    running_server.start()
    wait_until(lambda: oc.script_lines("reconnect"), "openconnect having reconnected", 60)
    after = running_server.session("alice")
    assert after["id"] == before["id"] and after["ipv4"] == before["ipv4"] == oc.address4
    client_host.ping(INSIDE4)


def test_a_refusal_tells_the_reason(world, wire, client_host, files, running_server):
    running_server.revoke("alice")
    oc = openconnect(client_host, files)
    assert oc.process.wait(20) != 0
    assert "revoked" in oc.process.output()


def test_without_a_certificate_the_reason_is_told_too(client_host, files, running_server):
    done = client_host.run("openconnect", "--non-inter", "--no-dtls", "--cafile", files.ca,
                           "--resolve", "vpn.example.com:198.51.100.1",
                           "https://vpn.example.com/", check=False, limit=30)
    assert done.returncode != 0
    assert "certificate" in done.stdout + done.stderr


@pytest.mark.parametrize("dpd", ["2s", "1s"])
def test_an_idle_openconnect_stays_up_by_dpd(server, client_host, files, dpd):
    """Both sides ask and are answered: nothing else is said, and nobody is given up. Told of one
    second, openconnect would ask without a pause and read no answer."""
    server.configure("session", dpd=dpd).start()
    oc = openconnect(client_host, files, arguments=()).wait_until_up()
    started = server.session("alice")["connected_since"]
    client_host.run("ping", "-n", "-c", "2", "-i", "7", INSIDE4)  # seven silent seconds between
    assert server.session("alice")["connected_since"] == started
    assert "dead peer" not in oc.process.output().lower()


def test_openconnect_and_culvert_side_by_side(world, wire, client_host, files, running_server):
    oc = openconnect(client_host, files).wait_until_up()
    bob = running_server.new_client(world.add_client(wire), "bob")
    bob.connect()
    # Clients reach each other or not as the server's kernel is told (forwarding is off by default),
    # but each of them reaches the server.
    client_host.ping(INSIDE4)
    bob.host.ping(INSIDE4)
    assert {s["user"] for s in running_server.sessions()} == {"alice", "bob"}
    assert oc.process.running


def test_tls12_without_extended_master_secret(client_host, files, running_server):
    """As the GnuTLS build of openconnect speaks it."""
    oc = openconnect(client_host, files, arguments=(
        "--no-dtls", "--gnutls-priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2"))
    oc.wait_until_up()
    client_host.ping(INSIDE4)
    assert running_server.session("alice")["tls"] == "TLSv1.2"
