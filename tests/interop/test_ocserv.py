"""culvert on Debian's ocserv: login by certificate, both families, both ways.

    culvert (client1) ──eth0───to1── ocserv (server)
    10.77.0.x, fd77::x               10.77.0.1, fd77::1
"""
import pytest

from harness import certs, peers
from harness.peers import Ocserv
from harness.wait import wait_until
from harness.with_ocserv import ca, client, new_client, start_ocserv


def inside_addresses(client):
    status = client.status()
    return status["ipv4"], status["ipv6"]


@pytest.mark.smoke
@pytest.mark.parametrize("tls", ["NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.2"],
                         ids=["tls13", "tls12"])
def test_both_families_both_ways(wire, client, start_ocserv, tls):
    ocserv = start_ocserv(tls=tls)
    client.connect()
    client.host.ping(Ocserv.INSIDE4)
    client.host.ping(Ocserv.INSIDE6)
    ipv4, ipv6 = inside_addresses(client)
    wire.server.ping(ipv4)
    wire.server.ping(ipv6)
    assert "alice" in ocserv.users()


@pytest.mark.smoke
@pytest.mark.parametrize("tls", ["NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.2"],
                         ids=["tls13", "tls12"])
def test_uses_dtls(wire, client, start_ocserv, tls):
    start_ocserv(tls=tls, extra="udp-port = 443")
    client.connect()
    wait_until(lambda: client.status()["channel"] == "dtls", "packets going over DTLS", 15)
    ipv4, ipv6 = inside_addresses(client)
    for size in (None, 1200):
        client.host.ping(Ocserv.INSIDE4, size=size)
        client.host.ping(Ocserv.INSIDE6, size=size)
        wire.server.ping(ipv4, size=size)
        wire.server.ping(ipv6, size=size)
    assert client.status()["channel"] == "dtls"


def test_bulk_both_ways(wire, client, start_ocserv):
    start_ocserv()
    client.connect()
    iperf = wire.server.start("iperf3", "-s", "--forceflush")
    iperf.wait_for_output("listening")
    for direction in ([], ["-R"]):
        client.host.run("iperf3", "-c", Ocserv.INSIDE4, "-n", "20M", *direction)


def test_disconnect_puts_everything_back_and_ends_the_session(client, start_ocserv):
    ocserv = start_ocserv()
    before = client.host.network_state()
    client.connect()
    client.disconnect()
    assert client.host.network_state() == before
    wait_until(lambda: "alice" not in ocserv.users(), "ocserv letting the session go")


def test_disconnect_by_the_server_ends_the_tunnel(client, start_ocserv):
    ocserv = start_ocserv()
    before = client.host.network_state()
    foreground = client.start()
    client.wait_until_up()
    ocserv.occtl("disconnect", "user", "alice")
    foreground.wait(30)
    assert client.host.network_state() == before


def test_a_restarted_ocserv_is_found_again(client, start_ocserv):
    ocserv = start_ocserv()
    client.start()
    client.wait_until_up()
    ocserv.process.kill()
    client.host.world.hosts[0].run("sh", "-c", f"rm -f {ocserv.dir}/occtl {ocserv.dir}/socket*")
    from harness.net import end_pids
    end_pids(ocserv.host.pids())
    start_ocserv()
    wait_until(lambda: client.status()["reconnects"] >= 1 and client.is_up(), "up again", 60)
    client.host.ping(Ocserv.INSIDE4)


def test_keys_are_renewed_when_ocserv_says_so(wire, client, start_ocserv):
    """It knows one way: to come again with the cookie."""
    start_ocserv(rekey=5)
    client.connect()
    before = inside_addresses(client)
    wait_until(lambda: (s := client.status())["reconnects"] >= 1 and s["state"] == "up",
               "another connection", 30)
    assert inside_addresses(client) == before
    status = client.status()
    assert status["rekeys"] == 0 and status["last_error"] is None, status
    client.host.ping(Ocserv.INSIDE4)


def test_a_revoked_certificate_is_refused_with_code_3(world, client, ca, start_ocserv):
    ca.revoke(client.issued)
    ca.crl()
    start_ocserv(crl=ca.folder / "ca.crl")
    client.connect(code=3)


def test_ocserv_that_shows_the_wrong_name_is_refused_with_code_5(world, wire, client, ca):
    issued = ca.issue("other.example.org", [certs.SERVER], ["DNS:other.example.org"])
    Ocserv(wire.server, ca.certificate, issued)
    assert "other.example.org" in client.connect(code=5)


def test_culvert_and_openconnect_on_one_ocserv(world, wire, client, ca, start_ocserv):
    start_ocserv()
    client.connect()
    other = ca.issue("bob")
    oc = peers.Openconnect(world.add_client(wire), ca.certificate, other.certificate, other.key,
                           url="https://vpn.example.com/", nets4="10.77.0.0/24",
                           nets6="fd77::/64").wait_until_up()
    client.host.ping(Ocserv.INSIDE4)
    oc.host.ping(Ocserv.INSIDE4)
