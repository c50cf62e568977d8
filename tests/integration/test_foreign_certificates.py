"""Certificates as easy-rsa makes them, on both sides: RSA, long names, the text of the certificate
in front of it, and an authority key identifier that also names the issuer and its serial number.

    culvert (client1) ── culvertd
"""
import pytest

from harness.certs import CLIENT, SERVER, Ca, Issued, openssl
from harness.culvert import INSIDE4, INSIDE6, NAME, Client

ORGANISATION = "/C=US/ST=California/L=San Francisco/O=Copyleft Certificate Co/OU=Field staff"


class EasyRsa:
    """What `easyrsa init-pki`, `build-ca`, `build-server-full` and `build-client-full` leave."""

    def __init__(self, folder, bits):
        self.bits = bits
        self.folder = folder / f"easy-rsa-{bits}"
        self.folder.mkdir()
        self.certificate, self.key = self.folder / "ca.crt", self.folder / "ca.key"
        openssl("req", "-x509", "-newkey", f"rsa:{bits}", "-nodes", "-keyout", self.key, "-out",
                self.certificate, "-days", 3650, "-subj", "/CN=Easy-RSA CA",
                "-addext", "keyUsage=cRLSign,keyCertSign")
        self.ca = Ca.of(self.folder, self.certificate, self.key)

    def issue(self, name, purpose, subject, sans=()):
        stem = self.folder / name
        request, extensions = stem.with_suffix(".req"), stem.with_suffix(".ext")
        files = Issued(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        openssl("req", "-new", "-newkey", f"rsa:{self.bits}", "-nodes", "-keyout", files.key,
                "-subj", subject, "-out", request)
        usage = "digitalSignature" + (",keyEncipherment" if purpose == SERVER else "")
        extensions.write_text("basicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\n"
                              "authorityKeyIdentifier=keyid,issuer:always\n"
                              f"extendedKeyUsage={purpose}\nkeyUsage={usage}\n"
                              + (f"subjectAltName={','.join(sans)}\n" if sans else ""))
        openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
                "-CAcreateserial", "-days", 825, "-text", "-extfile", extensions, "-out",
                files.certificate)
        assert files.certificate_pem.startswith("Certificate:"), "with its text in front"
        return files


@pytest.mark.parametrize("bits", [2048, 3072])
def test_easy_rsa_on_both_sides(server, client_host, bits):
    pki = EasyRsa(server.host.world.dir, bits)
    shown = pki.issue(NAME, SERVER, f"/CN={NAME}", (f"DNS:{NAME}", "IP:198.51.100.1"))
    mine = pki.issue("alice", CLIENT, ORGANISATION
                     + "/CN=alice/name=EasyRSA/emailAddress=alice@example.com")
    for name, text in (("own.crt", shown.certificate_pem), ("own.key", shown.key_pem),
                       ("clients.crt", pki.certificate.read_text()), ("clients.crl", pki.ca.crl())):
        (server.dir / name).write_text(text)
    server.configure("tls", certificate="own.crt", key="own.key", client_ca="clients.crt",
                     crl="clients.crl")
    server.configure("identity", user="dn:emailAddress", strip_domain=True, group="dn:O")
    checked = server.run("check").stdout
    assert "users by emailAddress without its domain, groups: O" in checked, checked
    server.start()
    client = Client(client_host, "alice")
    client.import_text({"name": NAME, "address": "198.51.100.1", "user": "alice",
                        "tls": {"ca": pki.certificate.read_text(),
                                "certificate": mine.certificate_pem, "key": mine.key_pem}})
    client.connect()
    for inside in (INSIDE4, INSIDE6):
        client_host.ping(inside)
    # "Copyleft Certificate Co" holds spaces and is no group's name.
    assert server.session("alice")["group"] == ""
    server.configure("identity", user="cn", strip_domain=None, group="dn:C")
    server.run("reload")
    assert server.session("alice")["group"] == "US", "the name is the same: the session stays"


def test_files_of_another_authority_are_enough_for_a_client(server, client_host):
    """--ca, --cert and --key as they came, without a profile."""
    pki = EasyRsa(server.host.world.dir, 2048)
    mine = pki.issue("alice", CLIENT, "/CN=alice")
    own_ca = Ca.of(server.host.world.dir, server.dir / "ca.crt", server.dir / "ca.key")
    (server.dir / "clients.crt").write_text(pki.certificate.read_text())
    server.configure("tls", client_ca="clients.crt", crl="none").start()
    Client(client_host, "x").run("connect", "https://198.51.100.1/", "--ca", own_ca.certificate,
                                 "--cert", mine.certificate, "--key", mine.key)
    client_host.ping(INSIDE4)


@pytest.mark.parametrize("rules, words", [
    ({"user": "email"}, "common name only"), ({"user": "dn:UID"}, "common name only"),
    ({"strip_domain": True}, "would call this user alice"),
])
def test_users_are_not_added_whom_the_server_would_not_know(server, rules, words):
    """A certificate of ours has a common name only. It would be refused, or be somebody else's."""
    server.add_user("alice@example.com")
    server.configure("identity", **rules)
    before = sorted(server.dir.rglob("*"))
    profile = server.host.dir / "new.toml"
    for command, name in (("renew", "alice"), ("add", "bob")):
        done = server.run("user", command, f"{name}@example.com", "--profile", profile, check=False)
        assert done.returncode == 2 and words.replace("alice", name) in done.stderr, done.stderr
        assert "identity." in done.stderr, "it says which key is behind it"
    assert not profile.exists() and sorted(server.dir.rglob("*")) == before
    if "strip_domain" in rules:
        server.run("user", "add", "bob", "--profile", profile)
        checked = server.run("check", check=False).stdout
        assert "alice@example.com.toml is nobody's" in checked, checked
