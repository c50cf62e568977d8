"""The certificate authority on the command line: renewing and showing users, and certificates without
users.

    culvert (client1) ── culvertd
"""
import json

import pytest

from harness import certs
from harness.certs import Issued
from harness.cstp import RawClient
from harness.culvert import INSIDE4, Client


def shown(server, name):
    return json.loads(server.run("user", "show", name, "--json").stdout)


def test_a_renewed_user_has_two_good_certificates_until_the_old_one_ends(server, client_host,
                                                                         running_server):
    old = server.export_for("alice")
    profile = server.host.dir / "alice-2.toml"
    done = server.run("user", "renew", "alice", "--profile", profile, "--days", "30")
    assert "The old one is good until it expires" in done.stdout
    assert [c["state"] for c in shown(server, "alice")["certificates"]] == ["valid", "valid"]
    RawClient(client_host, old).attach()
    client = Client(client_host, "alice")
    client.import_profile(profile)
    client.connect()
    client_host.ping(INSIDE4)
    serial = shown(server, "alice")["certificates"][0]["serial"]
    assert "sessions ended: 1" in server.run("pki", "revoke", serial.upper()).stdout
    assert [c["state"] for c in shown(server, "alice")["certificates"]] == ["revoked", "valid"]
    client_host.ping(INSIDE4)


def test_the_old_certificate_can_be_ended_with_the_renewal(server, client_host, running_server):
    old = server.export_for("alice")
    RawClient(client_host, old).attach()
    profile = server.host.dir / "alice-2.toml"
    server.run("user", "renew", "alice", "--profile", profile, "--revoke-old")
    server.wait_for_sessions(0)
    assert [c["state"] for c in shown(server, "alice")["certificates"]] == ["revoked", "valid"]


def test_a_renewal_that_fails_leaves_nothing(server):
    server.add_user("alice")
    before = shown(server, "alice")["certificates"]
    taken = server.host.dir / "taken.toml"
    taken.write_text("mine\n")
    for arguments in (("alice", "--profile", taken), ("alice", "--profile", "/no/such/dir/x.toml"),
                      ("nobody", "--profile", server.host.dir / "n.toml")):
        done = server.run("user", "renew", *arguments, check=False)
        assert done.returncode != 0 and done.stderr.startswith("culvertd: "), done.stderr
    assert taken.read_text() == "mine\n"
    assert shown(server, "alice")["certificates"] == before
    server.revoke("alice")
    done = server.run("user", "renew", "alice", "--profile", server.host.dir / "a.toml", check=False)
    assert done.returncode == 2 and "user add alice" in done.stderr


def test_show_says_what_there_is_about_a_user(server, client_host, running_server):
    client = server.new_client(client_host, "alice", "--group", "engineering",
                               "--network", "192.168.7.0/24", "--address", "10.99.0.77")
    client.connect()
    all_about = shown(server, "alice")
    assert all_about["group"] == "engineering" and all_about["ipv4"] == "10.99.0.77"
    assert all_about["networks"] == ["192.168.7.0/24"]
    [session] = all_about["sessions"]
    assert session["state"] == "attached"
    [certificate] = all_about["certificates"]
    text = server.run("user", "show", "alice").stdout
    assert certificate["serial"] in text and certificate["sha256"] in text and "engineering" in text
    done = server.run("user", "show", "alise", check=False)
    assert done.returncode == 1 and "did you mean alice?" in done.stderr


@pytest.fixture
def authority(server):
    """A CA where no server is; a function that runs pki commands of it."""
    folder = server.host.dir / "authority"

    def pki(*arguments, check=True):
        return server.host.run(server.program, "pki", *arguments, "--dir", folder, check=check)
    pki.folder = folder
    assert "ca.key" in pki("init", "--name", "Test Authority").stdout
    return pki


def test_an_authority_of_its_own(server, client_host, authority):
    out = server.host.dir / "out"
    authority("issue", "vpn.example.com", "--server", "--host", "198.51.100.1", "--out", out)
    authority("issue", "alice", "--group", "sales", "--out", out)
    text = certs.describe((out / "vpn.example.com.crt").read_text())
    assert "DNS:vpn.example.com" in text and "IP Address:198.51.100.1" in text
    assert "TLS Web Server Authentication" in text and "Test Authority" in text
    assert (out / "alice.key").stat().st_mode & 0o777 == 0o600
    for name, key in (("certificate", "vpn.example.com.crt"), ("key", "vpn.example.com.key")):
        (server.dir / f"own-{name}.pem").write_bytes((out / key).read_bytes())
    (server.dir / "clients.crt").write_bytes((authority.folder / "ca.crt").read_bytes())
    (server.dir / "clients.crl").write_bytes((authority.folder / "ca.crl").read_bytes())
    server.configure("tls", certificate="own-certificate.pem", key="own-key.pem",
                     client_ca="clients.crt", crl="clients.crl").start()
    alice = Issued(out / "alice.crt", out / "alice.key")
    RawClient(client_host, alice).attach()
    assert server.session("alice")["group"] == "sales"
    assert "Take " in authority("revoke", "alice").stdout
    listed = json.loads(authority("crl", "--json").stdout)
    assert listed["number"] == 3 and len(listed["revoked"]) == 1
    assert "1 revoked" in authority("crl").stdout
    (server.dir / "clients.crl").write_bytes((authority.folder / "ca.crl").read_bytes())
    server.run("reload")
    server.wait_for_sessions(0)


@pytest.mark.parametrize("arguments, code, text", [
    (("init",), 1, "ca.key"),
    (("issue", "../x", "--out", "o"), 2, "not a valid"),
    (("issue", "a b", "--server", "--out", "o"), 2, "not a valid"),
    (("issue", "alice", "--host", "x.example", "--out", "o"), 2, "--server"),
    (("issue", "x.example", "--server", "--host", "no host", "--out", "o"), 2, "no host"),
    (("issue", "alice", "--days", "7301", "--out", "o"), 2, "days"),
    (("issue", "alice", "--days", "7200", "--out", "/no/such/dir"), 1, "/no/such/dir"),
    (("revoke", "nobody"), 1, "nobody"),
])
def test_what_cannot_be_done_is_said_and_leaves_nothing(authority, arguments, code, text):
    before = sorted(authority.folder.rglob("*"))
    done = authority(*arguments, check=False)
    assert done.returncode in (code, 2), done.stderr
    assert text in done.stderr, done.stderr
    assert sorted(p for p in authority.folder.rglob("*") if p.is_file()) == \
        sorted(p for p in before if p.is_file())


def test_an_authority_that_is_not_there(server):
    for command in (("crl",), ("revoke", "x"), ("issue", "x", "--out", "o")):
        done = server.host.run(server.program, "pki", *command, "--dir", server.host.dir / "nothing",
                               check=False)
        assert done.returncode == 2 and "ca.crt" in done.stderr, done.stderr


def test_a_servers_certificate_is_no_users(server):
    server.add_user("alice")
    out = server.host.dir / "out"
    for name in ("alice", "2001:db8::1"):
        server.run("pki", "issue", name, "--server", "--out", out)
    assert len(shown(server, "alice")["certificates"]) == 1
    users = json.loads(server.run("user", "list", "--json").stdout)["users"]
    assert [u["user"] for u in users] == ["alice"]
    server.run("user", "renew", "alice", "--revoke-old", "--profile", server.host.dir / "b.toml")
    server.revoke("alice")
    revoked = json.loads(server.run("pki", "crl", "--json").stdout)["revoked"]
    assert len(revoked) == 2, "her two, and not the server's"
