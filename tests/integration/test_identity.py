"""Who somebody is stands in his certificate; where in it, the configuration says. And certificates come
from elsewhere: a corporate CA with intermediates, RSA and other curves.

    culvert or a raw client (client1) ── culvertd
"""
import pytest

from harness.certs import SERVER, Ca, Issued, openssl
from harness.cstp import RawClient, Refused
from harness.culvert import INSIDE4, INSIDE6, NAME, Client, toml_text

UPN = "otherName:1.3.6.1.4.1.311.20.2.3;UTF8:a.liddell@corp.example"
SUBJECT = "/UID=liddell/O=wonderland/OU=sales/CN=Alice Liddell"
SANS = ("email:alice@example.com", "email:al@example.com", UPN)


@pytest.fixture
def own_ca(server):
    return Ca.of(server.host.world.dir, server.dir / "ca.crt", server.dir / "ca.key")


@pytest.mark.parametrize("rules, user, group", [
    ({"user": "email"}, "alice@example.com", "sales"),
    ({"user": "email", "strip_domain": True, "group": "dn:O"}, "alice", "wonderland"),
    ({"user": "upn", "group": "none"}, "a.liddell@corp.example", ""),
    ({"user": "dn:uid"}, "liddell", "sales"),
], ids=["email", "stripped", "upn", "uid"])
def test_the_user_is_found_where_the_configuration_says(server, client_host, own_ca, rules, user,
                                                        group):
    server.configure("identity", **rules).start()
    issued = own_ca.issue("x", sans=SANS, subject=SUBJECT)
    raw = RawClient(client_host, issued)
    cookie = raw.login()
    assert raw.open_tunnel(cookie).startswith("HTTP/1.1 200 "), "the cookie is this user's"
    session = server.session(user)
    assert session["group"] == group, session
    raw.close()
    again = RawClient(client_host, issued)
    assert again.open_tunnel(cookie).startswith("HTTP/1.1 200 "), "and stays his"


def test_a_certificate_without_the_name_is_refused_with_a_reason(server, client_host, own_ca):
    server.configure("identity", user="email").start()
    client = Client(client_host, "alice")
    plain = own_ca.issue("alice")
    client.import_text({"name": NAME, "address": "198.51.100.1", "user": "alice",
                        "tls": {"ca": own_ca.certificate_pem, "certificate": plain.certificate_pem,
                                "key": plain.key_pem}})
    assert "no e-mail address" in client.connect(code=3)
    assert "no e-mail address" in server.log()


def test_two_names_in_one_key_are_two_users(server, client_host, own_ca):
    """A cookie is bound to the name as well as to the key."""
    server.configure("identity", user="email").start()
    first = own_ca.issue("x", sans=("email:one@example.com",))
    second = own_ca.issue("x", sans=("email:two@example.com",), key=first.key)
    cookie = RawClient(client_host, first).login()
    assert RawClient(client_host, second).open_tunnel(cookie).startswith("HTTP/1.1 401 ")


def test_a_reload_that_renames_somebody_ends_his_session(server, client_host, own_ca):
    server.configure("identity", user="email").start()
    raw = RawClient(client_host, own_ca.issue("x", sans=SANS, subject=SUBJECT))
    raw.attach()
    server.configure("identity", user="upn")
    server.run("reload")
    server.wait_for_sessions(0)


@pytest.mark.parametrize("section, text", [
    ({"user": "mail"}, "identity.user"), ({"user": "dn:"}, "identity.user"),
    ({"group": "everybody"}, "identity.group"), ({"usr": "cn"}, "identity.usr"),
])
def test_rules_that_make_no_sense_are_refused(server, section, text):
    server.configure("identity", **section)
    done = server.run("check", check=False)
    assert done.returncode == 2 and text in done.stdout, done.stdout


# ---- certificates from elsewhere -----------------------------------------------------------------

class Corporate:
    """Root, policy CA, issuing CA."""

    def __init__(self, folder, algorithm):
        self.root = Ca(folder, "Corporate Root")
        self.policy = self.root.intermediate("Corporate Policy CA", algorithm)
        self.issuing = self.policy.intermediate("Corporate Issuing CA", algorithm)
        self.algorithm = algorithm

    def chain(self, *arguments, **options):
        """The certificate with the CAs between it and the root behind it."""
        issued = self.issuing.issue(*arguments, algorithm=self.algorithm, **options)
        path = issued.certificate.with_suffix(".chain")
        path.write_text(issued.certificate_pem + self.issuing.above)
        return Issued(path, issued.key)

    def lists(self):
        return "".join(ca.crl() for ca in (self.root, self.policy, self.issuing))

    def authorities(self):
        return "".join(ca.certificate_pem for ca in (self.root, self.policy, self.issuing))


@pytest.mark.parametrize("algorithm", ["RSA-2048", "P-256", "P-384"])
def test_a_corporate_ca_on_both_sides(wire, server, client_host, algorithm):
    corporate = Corporate(server.host.world.dir, algorithm)
    usage = {"key_usage": "digitalSignature,keyEncipherment"} if "RSA" in algorithm else {}
    for name, text in (("own.crt", None), ("own.key", None), ("clients.crt", corporate.authorities()),
                       ("clients.crl", corporate.lists())):
        if text is not None:
            (server.dir / name).write_text(text)
    shown = corporate.chain(NAME, (SERVER,), (f"DNS:{NAME}", "IP:198.51.100.1"), **usage)
    (server.dir / "own.crt").write_text(shown.certificate_pem)
    (server.dir / "own.key").write_text(shown.key_pem)
    server.configure("tls", certificate="own.crt", key="own.key", client_ca="clients.crt",
                     crl="clients.crl")
    server.run("check")
    server.start()
    mine = corporate.chain("alice", unit="sales", **usage)
    client = Client(client_host, "alice")
    client.import_text({"name": NAME, "address": "198.51.100.1", "user": "alice",
                        "tls": {"ca": corporate.root.certificate_pem,
                                "certificate": mine.certificate_pem, "key": mine.key_pem}})
    client.connect()
    for inside in (INSIDE4, INSIDE6):
        client_host.ping(inside)
    assert server.session("alice")["group"] == "sales"
    # A revoked intermediate shuts out whoever is below it.
    corporate.policy.revoke(Issued(corporate.issuing.certificate, corporate.issuing.key))
    (server.dir / "clients.crl").write_text(corporate.lists())
    server.run("reload")
    server.wait_for_sessions(0)


def test_a_chain_without_its_intermediates_is_refused(server, client_host):
    corporate = Corporate(server.host.world.dir, "P-256")
    (server.dir / "clients.crt").write_text(corporate.root.certificate_pem)
    server.configure("tls", client_ca="clients.crt", crl="none").start()
    with pytest.raises((Refused, AssertionError)):
        RawClient(client_host, corporate.issuing.issue("alice")).login()
    assert "unknown_ca" in server.log()
    RawClient(client_host, corporate.chain("alice")).login()


# ---- encrypted keys ------------------------------------------------------------------------------

def encrypted(issued):
    path = issued.key.with_suffix(".encrypted")
    openssl("pkcs8", "-topk8", "-in", issued.key, "-out", path, "-passout", "pass:secret")
    return path


def test_an_encrypted_key_of_the_server_is_refused_and_says_what_to_do(server, own_ca):
    issued = own_ca.issue(NAME, (SERVER,), (f"DNS:{NAME}",))
    (server.dir / "server.crt").write_text(issued.certificate_pem)
    (server.dir / "server.key").write_text(encrypted(issued).read_text())
    for command in ("check", "run"):
        done = server.run(command, check=False)
        assert done.returncode == 2
        text = done.stdout + done.stderr
        assert "server.key" in text and "encrypted" in text and "openssl pkey" in text, text


def test_an_encrypted_key_of_the_client_is_refused_and_says_what_to_do(running_server, client_host):
    issued = running_server.export_for("alice")
    client = Client(client_host, "alice")
    path = client_host.dir / "encrypted.toml"
    path.write_text(toml_text({
        "name": NAME, "address": "198.51.100.1",
        "tls": {"ca": (running_server.dir / "ca.crt").read_text(),
                "certificate": issued.certificate_pem, "key": encrypted(issued).read_text()}}))
    path.chmod(0o600)
    done = client.run("import", path, "--name", "alice", check=False)
    assert done.returncode == 2
    assert "encrypted" in done.stderr and "openssl pkey" in done.stderr, done.stderr
