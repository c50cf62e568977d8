"""The server refuses bad client certificates, says why, and serves everybody else meanwhile.

    client1 (bob): pings through its tunnel all the time
    client2 (mallory): tries one bad certificate after another
"""
import re
import signal
import ssl

import pytest

from harness import certs, cstp
from harness.culvert import INSIDE4, Client, profile_table
from harness.wait import wait_until


@pytest.fixture
def bob_pings(world, wire, running_server):
    """A second client that must not lose a single packet during the test."""
    bob = running_server.new_client(world.add_client(wire), "bob")
    bob.connect()
    ping = bob.host.start("ping", "-n", "-i", "0.05", INSIDE4)
    ping.wait_for_output("bytes from")
    yield bob
    before = ping.output().count("bytes from")
    wait_until(lambda: ping.output().count("bytes from") > before + 3, "pings being answered still")
    ping.stop(signal.SIGINT)
    summary = re.search(r"(\d+) packets transmitted, (\d+) received", ping.output())
    assert summary, ping.output()
    # The last one may be on its way when the ping ends.
    assert int(summary[1]) - int(summary[2]) <= 1, ping.output()[-500:]
    assert "DUP" not in ping.output()


def server_ca(server):
    return certs.Ca.of(server.host.dir, server.dir / "ca.crt", server.dir / "ca.key")


def mallory(world, wire, server, issued):
    """A client with a good profile, except for its own certificate."""
    client = Client(world.add_client(wire), "mallory")
    table = profile_table(server.add_user("mallory"))
    table["tls"]["certificate"] = issued.certificate_pem
    table["tls"]["key"] = issued.key_pem
    client.import_text(table)
    return client


def wrong_ca(server):
    return certs.Ca(server.host.dir).issue("mallory")


def same_name_of_ca(server):
    name = certs.openssl("x509", "-noout", "-subject", "-nameopt", "multiline", "-in",
                         server.dir / "ca.crt").stdout
    common_name = re.search(r"commonName\s*=\s*(.*)", name)[1]
    return certs.Ca(server.host.dir, common_name).issue("mallory")


def expired(server):
    return server_ca(server).issue("mallory", start=-20, end=-10)


def not_yet_valid(server):
    return server_ca(server).issue("mallory", start=10, end=20)


def wrong_purpose(server):
    return server_ca(server).issue("mallory", purposes=[certs.SERVER])


def self_signed(server):
    folder = server.host.dir
    files = certs.Issued(folder / "self.crt", folder / "self.key")
    certs.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                  "-keyout", files.key, "-out", files.certificate, "-days", 10,
                  "-subj", "/CN=mallory", "-addext", "extendedKeyUsage=clientAuth")
    return files


# What is wrong, and a word that the user and the administrator must find in the message.
CASES = [(wrong_ca, "trusted CA"), (same_name_of_ca, "trusted CA"), (self_signed, "trusted CA"),
         (expired, "expired"),
         (not_yet_valid, "not valid before"), (wrong_purpose, "purpose|client authentication")]


@pytest.mark.parametrize("make,word", CASES, ids=[c[0].__name__ for c in CASES])
def test_refuses_and_says_why(world, wire, running_server, bob_pings, make, word):
    issued = make(running_server)
    client = mallory(world, wire, running_server, issued)
    said = client.connect(code=3)
    assert re.search(word, said, re.IGNORECASE), said
    assert re.search(word, running_server.log(), re.IGNORECASE), running_server.log()
    assert [s["user"] for s in running_server.sessions()] == ["bob"]


@pytest.mark.smoke
def test_refuses_a_revoked_certificate_and_says_why(world, wire, running_server, bob_pings):
    client = running_server.new_client(world.add_client(wire), "mallory")
    client.connect()
    client.disconnect()
    running_server.revoke("mallory")
    said = client.connect(code=3)
    assert "revoked" in said.lower(), said
    assert "revoked" in running_server.log()


def test_revoking_ends_the_live_session_and_no_other(world, wire, running_server, bob_pings):
    client = running_server.new_client(world.add_client(wire), "mallory")
    foreground = client.start()
    client.wait_until_up()
    running_server.wait_for_sessions(2)
    running_server.revoke("mallory")
    running_server.wait_for_sessions(1)
    assert foreground.wait(20) != 0
    assert "revoked" in foreground.output()


def test_refuses_a_client_without_a_certificate(world, wire, running_server, bob_pings):
    host = world.add_client(wire)
    for request in (f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(cstp.LOGIN)}\r\n\r\n"
                    + cstp.LOGIN, "GET / HTTP/1.1\r\n\r\n", "nonsense " * 10):
        head, body = cstp.RawClient(host).request(request)
        assert head.startswith("HTTP/1.1 200 ") and 'id="success"' not in body
        assert "certificate" in body
        assert "webvpn" not in head
    head, _ = cstp.RawClient(host).request(
        "CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nCookie: webvpn=x\r\n\r\n")
    assert head.startswith("HTTP/1.1 401 ")
    assert "certificate" in (cstp.value_of(head, "X-Reason") or "").lower()
    assert running_server.status()["logins"]["refused_total"] >= 4


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3],
                         ids=["tls12", "tls13"])
def test_judges_the_same_in_both_tls_versions(world, wire, running_server, version):
    host = world.add_client(wire)
    files = running_server.export_for("alice")
    assert cstp.RawClient(host, files, version=version).login()
    for make in (wrong_ca, expired, wrong_purpose):
        head, body = cstp.RawClient(host, make(running_server), version=version).request(
            f"POST / HTTP/1.1\r\nContent-Length: {len(cstp.LOGIN)}\r\n\r\n{cstp.LOGIN}")
        assert 'id="success"' not in body and "Set-Cookie" not in head, make.__name__


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1],
                         ids=["tls10", "tls11"])
def test_old_tls_versions_are_not_spoken(world, wire, running_server, version):
    with pytest.raises((cstp.Refused, ssl.SSLError)):
        cstp.RawClient(world.add_client(wire), version=version).login()


def test_a_crowd_of_refused_and_half_open_connections_disturbs_nobody(world, wire, running_server,
                                                                      bob_pings):
    host = world.add_client(wire)
    issued = wrong_ca(running_server)
    idle = [host.socket() for _ in range(30)]
    for one in idle:
        one.settimeout(5)
        one.connect(("198.51.100.1", 443))
    for one in idle[:10]:
        one.sendall(b"\x16\x03\x01\x02\x00garbage that is no ClientHello" * 3)
    for _ in range(10):
        cstp.RawClient(host, issued).request("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    late = running_server.new_client(world.add_client(wire), "late")
    late.connect()
    late.host.ping(INSIDE4)
    for one in idle:
        one.close()
