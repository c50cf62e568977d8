"""The client trusts nobody whom it was not told to trust, and explains what it saw.

    server: a TLS server with one bad certificate after another (harness/cstp.py)
    client1: culvert, which must end with exit code 5, or 3 where its own certificate is at fault
"""
import re

import pytest

from harness import certs, cstp
from harness.culvert import Client, toml_text

NAME = "vpn.example.com"


@pytest.fixture
def ca(world):
    return certs.Ca(world.dir, "Good CA")


def profile(ca, client_cert, name=NAME, address="198.51.100.1"):
    return {"name": name, "address": address, "user": "alice",
            "tls": {"ca": ca.certificate_pem, "certificate": client_cert.certificate_pem,
                    "key": client_cert.key_pem}}


@pytest.fixture
def client(client_host, ca):
    client = Client(client_host, "alice")
    client.import_text(profile(ca, ca.issue("alice")))
    return client


def server_certificate(ca, **changes):
    wanted = {"name": NAME, "purposes": [certs.SERVER], "sans": [f"DNS:{NAME}"], **changes}
    return ca.issue(**wanted)


# Changes to a good certificate; what the message must name: the fault, what came, what was wanted.
CASES = {
    "wrong_name": (dict(sans=["DNS:other.example.org"]), ["other.example.org", NAME]),
    "name_only_in_the_subject": (dict(sans=[]), [NAME]),
    "suffix_of_the_name": (dict(sans=["DNS:example.com"]), ["example.com", NAME]),
    "wildcard_over_two_labels": (dict(sans=["DNS:*.com"]), [NAME]),
    "an_address_for_a_name": (dict(sans=["IP:198.51.100.1"]), [NAME]),
    "expired": (dict(start=-20, end=-10), ["expired"]),
    "not_yet_valid": (dict(start=10, end=20), ["not valid before"]),
    "wrong_purpose": (dict(purposes=[certs.CLIENT]), ["purpose|server authentication"]),
}


@pytest.mark.parametrize("case", CASES)
def test_refuses_a_server_certificate_and_says_why(wire, client, ca, case):
    changes, words = CASES[case]
    server = cstp.FakeServer(wire.server, server_certificate(ca, **changes))
    before = client.host.network_state()
    said = client.connect(code=5)
    for word in words:
        assert re.search(word, said), f"{word!r} is not in: {said}"
    assert not server.requests, "it spoke to a server that it does not trust"
    assert client.host.network_state() == before


@pytest.mark.smoke
def test_refuses_a_server_of_another_ca_and_names_both(world, wire, client):
    foreign = certs.Ca(world.dir, "Evil CA")
    server = cstp.FakeServer(wire.server, server_certificate(foreign))
    said = client.connect(code=5)
    assert "Evil CA" in said, said
    assert not server.requests


def test_names_in_certificates_cannot_drive_a_terminal(world, wire, client):
    foreign = certs.Ca(world.dir, "Evil \x1b[31m CA")
    cstp.FakeServer(wire.server, server_certificate(foreign, name="x\x1b]0;owned\x07"))
    said = client.connect(code=5)
    assert "Evil" in said and "\x1b" not in said and "\x07" not in said


def test_refuses_a_ca_that_only_shares_the_name(world, wire, client):
    server = cstp.FakeServer(wire.server, server_certificate(certs.Ca(world.dir, "Good CA")))
    client.connect(code=5)
    assert not server.requests


def test_refuses_a_revoked_server_when_the_profile_has_a_crl(wire, client_host, ca):
    issued = server_certificate(ca)
    ca.revoke(issued)
    table = profile(ca, ca.issue("alice"))
    table["tls"]["crl"] = ca.crl()
    client = Client(client_host, "alice")
    client.import_text(table)
    server = cstp.FakeServer(wire.server, issued)
    assert "revoked" in client.connect(code=5)
    assert not server.requests


# What the profile's list is, and what the client must say of it: it was given a list so that it is
# looked at, and a list that says nothing about this server is no reassurance.
LISTS = {
    "out_of_date": (lambda ca, other: ca.crl(start=-20, end=-10), 5, "out of date"),
    "of_the_future": (lambda ca, other: ca.crl(start=10, end=20), 5, "dated in the future"),
    "of_another_ca": (lambda ca, other: other.crl(), 2, "Other CA"),
    "of_another_ca_of_that_name": (lambda ca, other: certs.Ca(ca.folder, "Good CA").crl(), 2,
                                   "not signed by"),
    "not_a_list": (lambda ca, other: ca.certificate_pem, 2, "no certificate revocation list"),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_list_that_says_nothing_about_the_server_is_refused(world, wire, client_host, ca, case):
    make, code, words = LISTS[case]
    table = profile(ca, ca.issue("alice"))
    table["tls"]["crl"] = make(ca, certs.Ca(world.dir, "Other CA"))
    client = Client(client_host, "alice")
    server = cstp.FakeServer(wire.server, server_certificate(ca), client_ca=ca.certificate)
    if code == 2:
        path = client_host.dir / "spoilt.toml"
        path.write_text(toml_text(table))
        path.chmod(0o600)
        done = client.run("import", path, "--name", "alice", check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 2, said
    else:
        client.import_text(table)
        said = client.connect(code=code)
    assert words in said, said
    assert not server.requests


def test_a_list_that_does_not_name_the_server_lets_it_be(wire, client_host, ca):
    ca.revoke(server_certificate(ca))
    table = profile(ca, ca.issue("alice"))
    table["tls"]["crl"] = ca.crl()
    client = Client(client_host, "alice")
    client.import_text(table)
    cstp.FakeServer(wire.server, server_certificate(ca), client_ca=ca.certificate)
    client.connect()


def test_a_list_on_the_command_line_is_looked_at(wire, client_host, ca):
    issued, mine = server_certificate(ca, sans=[f"DNS:{NAME}", "IP:198.51.100.1"]), ca.issue("alice")
    good, revoked = client_host.dir / "good.crl", client_host.dir / "revoked.crl"
    good.write_text(ca.crl())
    ca.revoke(issued)
    revoked.write_text(ca.crl())
    server = cstp.FakeServer(wire.server, issued, client_ca=ca.certificate)
    client = Client(client_host, "198.51.100.1")

    def connect(crl):
        return client.run("connect", "https://198.51.100.1/", "--ca", ca.certificate, "--cert",
                          mine.certificate, "--key", mine.key, "--crl", crl, check=False)
    done = connect(revoked)
    assert done.returncode == 5 and "revoked" in done.stderr, done.stdout + done.stderr
    assert not server.requests
    done = connect(good)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_revoked_ca_between_refuses_the_servers_below_it(wire, client_host, ca):
    """With the CAs in between among the trusted ones, as their lists need it."""
    between = ca.intermediate("Issuing CA")
    issued = server_certificate(between)
    chain = issued.certificate.with_suffix(".chain")
    chain.write_text(issued.certificate_pem + between.above)
    table = profile(ca, ca.issue("alice"))
    table["tls"]["ca"] = ca.certificate_pem + between.certificate_pem
    table["tls"]["crl"] = ca.crl() + between.crl()
    client = Client(client_host, "alice")
    client.import_text(table)
    server = cstp.FakeServer(wire.server, certs.Issued(chain, issued.key),
                             client_ca=ca.certificate)
    client.connect()
    client.disconnect()
    before = len(server.requests)
    ca.revoke(certs.Issued(between.certificate, between.key))
    table["tls"]["crl"] = ca.crl() + between.crl()
    client.run("remove", "alice")
    client.import_text(table)
    assert "revoked" in client.connect(code=5)
    assert len(server.requests) == before


def test_a_wildcard_for_one_label_is_good(wire, client, ca):
    cstp.FakeServer(wire.server, server_certificate(ca, sans=["DNS:*.example.com"]),
                    client_ca=ca.certificate)
    client.connect()


def test_an_address_is_checked_against_addresses(wire, client_host, ca):
    client = Client(client_host, "alice")
    client.import_text(profile(ca, ca.issue("alice"), name="198.51.100.1"))
    bad = cstp.FakeServer(wire.server, server_certificate(ca, sans=["DNS:198.51.100.1"]),
                          client_ca=ca.certificate)
    client.connect(code=5)
    bad.close()
    cstp.FakeServer(wire.server, server_certificate(ca, sans=["IP:198.51.100.1"]),
                    client_ca=ca.certificate)
    client.connect()


def test_a_server_that_never_asks_for_our_certificate_is_refused(wire, client, ca):
    """Both sides prove themselves, always: a server that does not want to know is not ours."""
    cstp.FakeServer(wire.server, server_certificate(ca))
    said = client.connect(code=3)
    assert "did not ask for our certificate" in said


def test_our_own_expired_certificate_is_code_3(wire, client_host, ca):
    client = Client(client_host, "alice")
    client.import_text(profile(ca, ca.issue("alice", start=-20, end=-10)))
    cstp.FakeServer(wire.server, server_certificate(ca), client_ca=ca.certificate)
    said = client.connect(code=3)
    assert "expired" in said


def test_the_check_is_repeated_on_every_connection(wire, client, ca):
    """A tunnel that loses its connection does not come back through somebody else's server."""
    good = cstp.FakeServer(wire.server, server_certificate(ca), client_ca=ca.certificate)
    foreground = client.start()
    client.wait_until_up()
    good.close()
    foreign = certs.Ca(wire.server.dir, "Evil CA")
    bad = cstp.FakeServer(wire.server, server_certificate(foreign), client_ca=ca.certificate)
    foreground.wait_for_output("Evil CA", 30)
    assert not bad.requests
