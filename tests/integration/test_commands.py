"""The commands as a contract: what they do, what they refuse, exit codes, files and their modes.

Exit codes: 0 done, 1 failure, 2 usage, 3 authentication refused, 5 server not trusted, 6 network,
7 not running, 8 already up, 9 permission.
"""
import json
import pathlib
import socket
import stat

import pytest

from harness import certs
from harness.culvert import Client, Server, profile_table


def mode(path):
    return stat.S_IMODE(pathlib.Path(path).stat().st_mode)


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes()
            for p in sorted(pathlib.Path(folder).rglob("*")) if p.is_file()}


# --- culvertd: init, user, pki, check ---


@pytest.mark.smoke
def test_init_writes_what_run_needs_and_says_what_to_do_next(wire, server):
    assert {"culvertd.toml", "ca.crt", "ca.key", "ca.crl", "server.crt",
            "server.key"} <= set(tree(server.dir))
    server.run("check")
    server.start()
    server.stop()


def test_secrets_are_for_their_owner_only(server):
    profile = server.add_user("alice")
    folder = server.export("alice")
    for path in [server.dir / "ca.key", server.dir / "server.key", profile, folder / "alice.key",
                 server.dir / "culvertd.toml", *(server.dir / "users").iterdir()]:
        assert mode(path) == 0o600, f"{path}: {mode(path):o}"


def test_init_never_overwrites(server):
    before = tree(server.dir)
    done = server.run("init", "--name", "other.example.com", check=False)
    assert done.returncode in (1, 2), done.stdout
    assert str(server.dir) in done.stderr
    assert tree(server.dir) == before


@pytest.mark.parametrize("file", ["ca.key", "server.key", "culvertd.toml", "ca.crl"])
def test_init_overwrites_no_single_file_either(wire, file):
    server = Server(wire.server)
    server.dir.mkdir()
    (server.dir / file).write_text("precious\n")
    done = server.run("init", "--name", "vpn.example.com", check=False)
    assert done.returncode in (1, 2) and file in done.stderr
    assert tree(server.dir) == {file: b"precious\n"}


def test_user_add_overwrites_neither_user_nor_profile(server):
    profile = server.add_user("alice")
    before = profile.read_bytes()
    done = server.run("user", "add", "alice", "--profile", server.host.dir / "again.toml",
                      check=False)
    assert done.returncode in (1, 2) and "alice" in done.stderr
    done = server.run("user", "add", "bob", "--profile", profile, check=False)
    assert done.returncode in (1, 2) and str(profile) in done.stderr
    assert profile.read_bytes() == before
    # And a refused command leaves no half of a user.
    assert "bob" not in server.run("user", "list").stdout


@pytest.mark.parametrize("name", ["", "../evil", ".hidden", "-dash", "a/b", "x" * 65, "a b", "a\nb"])
def test_bad_user_names_are_usage_errors(server, name):
    before = tree(server.dir)
    # "--" ends the options, so that a name with a dash arrives as a name.
    done = server.run("user", "add", "--profile", server.host.dir / "p.toml", check=False,
                      *(["--", name]) if name.startswith("-") else [name])
    assert done.returncode == 2, done.stdout + done.stderr
    assert tree(server.dir) == before


def test_user_list_tells_who_there_is_and_who_was_revoked(server):
    server.add_user("alice")
    server.add_user("bob")
    server.revoke("bob")
    listed = server.run("user", "list").stdout
    assert "alice" in listed and "bob" in listed and "revoked" in listed
    users = json.loads(server.run("user", "list", "--json").stdout)
    assert "alice" in json.dumps(users)
    assert server.run("user", "revoke", "nobody", check=False).returncode == 1


def test_a_user_may_come_back_after_revocation_with_a_new_certificate(server, client_host):
    old = server.new_client(client_host, "alice")
    server.revoke("alice")
    server.start()
    old.connect(code=3)
    new = Client(client_host, "alice2")
    profile = server.host.dir / "alice-new.toml"
    server.run("user", "add", "alice", "--profile", profile)
    new.import_profile(profile)
    new.connect()
    new.disconnect()
    old.connect(code=3)


def test_the_profile_is_one_file_with_everything(server):
    table = profile_table(server.add_user("alice"))
    assert table["name"] == "vpn.example.com" and table["user"] == "alice"
    for piece in ("ca", "certificate", "key"):
        assert "-----BEGIN " in table["tls"][piece]


def test_pki_export_writes_three_files_once(server):
    server.add_user("alice")
    folder = server.export("alice")
    assert set(tree(folder)) == {"alice.crt", "alice.key", "ca.crt"}
    before = tree(folder)
    assert server.run("pki", "export", "alice", "--out", folder, check=False).returncode in (1, 2)
    assert tree(folder) == before


def test_openssl_agrees_with_our_certificates(server):
    """A second opinion on names, purposes, usage and dates of what our commands issue."""
    server.add_user("alice", "--group", "engineering")
    folder = server.export("alice")
    ca = server.dir / "ca.crt"
    for name, path, purpose in [("server", server.dir / "server.crt", "sslserver"),
                                ("alice", folder / "alice.crt", "sslclient")]:
        other = {"sslserver": "sslclient", "sslclient": "sslserver"}[purpose]
        verify = ["verify", "-x509_strict", "-CAfile", ca, "-CRLfile", server.dir / "ca.crl",
                  "-crl_check"]
        certs.openssl(*verify, "-purpose", purpose, path)
        assert certs.openssl(*verify, "-purpose", other, path, check=False).returncode != 0, name
        text = certs.describe(path.read_text())
        assert "NIST CURVE: P-256" in text and "ecdsa-with-SHA256" in text
        assert "CA:FALSE" in text and "Digital Signature" in text
    assert "DNS:vpn.example.com" in certs.describe((server.dir / "server.crt").read_text())
    text = certs.describe((folder / "alice.crt").read_text())
    assert "CN = alice" in text and "engineering" in text
    text = certs.describe(ca.read_text())
    assert "CA:TRUE" in text and "Certificate Sign" in text and "CRL Sign" in text
    server.revoke("alice")
    done = certs.openssl("verify", "-CAfile", ca, "-CRLfile", server.dir / "ca.crl", "-crl_check",
                         folder / "alice.crt", check=False)
    assert "revoked" in done.stdout + done.stderr


def test_check_finds_what_run_would_stumble_over(server):
    assert server.run("check").returncode == 0
    (server.dir / "ca.crl").unlink()
    done = server.run("check", check=False)
    assert done.returncode != 0 and "ca.crl" in done.stdout + done.stderr
    assert server.start(wait=False).process.wait() != 0, "run must refuse what check refuses"
    assert "ca.crl" in server.log()


def test_a_ca_without_crl_must_be_accepted_in_so_many_words(server):
    (server.dir / "ca.crl").unlink()
    server.configure("tls", crl="none")
    server.run("check")
    server.start()


def test_a_foreign_crl_that_has_run_out_lets_nobody_in(world, server, client_host):
    client = server.new_client(client_host, "alice")
    ca = certs.Ca.of(world.dir, server.dir / "ca.crt", server.dir / "ca.key")
    (server.dir / "ca.crl").write_text(ca.crl(start=-20, end=-10))
    done = server.run("check", check=False)
    assert done.returncode != 0 and "expired" in done.stdout
    server.start()
    said = client.connect(code=3)
    assert "revocation list" in said or "CRL" in said, said


def test_a_key_that_does_not_match_is_named(world, server):
    other = certs.Ca(world.dir).issue("x")
    (server.dir / "server.key").write_text(other.key_pem)
    done = server.run("check", check=False)
    assert done.returncode != 0 and "server.key" in done.stdout + done.stderr


# --- culvertd: exit codes ---


@pytest.mark.parametrize("arguments", [["--no-such-option"], ["no-such-command"], [], ["init"],
                                       ["user", "add"], ["run", "surplus"]], ids=" ".join)
def test_culvertd_usage_errors_are_2(wire, arguments):
    server = Server(wire.server)
    done = wire.server.run(server.program, *arguments, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.strip()


def test_help_and_version_are_0(wire):
    for program in ("culvertd", "culvert"):
        for option in ("--help", "--version"):
            done = wire.server.run(wire.world.bin / program, option)
            assert done.stdout.strip() and not done.stderr.strip()


def test_culvertd_commands_without_a_server_are_7(server):
    for command in ("status", "sessions", "reload"):
        done = server.run(command, check=False)
        assert done.returncode == 7, done.stderr
    assert "culvertd" in done.stderr


def test_a_second_server_is_8(running_server):
    second = running_server.host.start(running_server.program, "run", "--dir", running_server.dir)
    assert second.wait() == 8, second.output()
    assert running_server.status()


def test_a_port_in_use_is_1(wire, server):
    taken = wire.server.socket(socket.AF_INET6)
    taken.bind(("::", 443))
    taken.listen()
    process = server.start(wait=False).process
    assert process.wait() == 1 and "443" in process.output()
    taken.close()


@pytest.mark.parametrize("text,word", [
    ("nonsense = 1\n", "nonsense"), ("[listen]\nadress = \"[::]:443\"\n", "address"),
    ("[session]\ndpd = 15\n", "dpd"), ("[session]\ndpd = \"15 parsecs\"\n", "dpd"),
    ("[network]\nipv4 = \"10.99.0.0/33\"\n", "ipv4"), ("[tls\n", "culvertd.toml"),
    ("[tls]\nmin_version = \"1.1\"\n", "min_version"),
], ids=["unknown", "near_miss", "no_unit", "unit", "prefix", "syntax", "version"])
def test_configuration_errors_are_2_and_name_the_line(server, text, word):
    path = server.dir / "culvertd.toml"
    lines = path.read_text().splitlines()
    # The text takes the place of what the file says in that section, so that nothing is there twice.
    head = text.split("\n")[0]
    start = next((i for i, line in enumerate(lines) if line.split("#")[0].strip() == head), None)
    if start is not None:
        stop = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("[")),
                    len(lines))
        del lines[start:stop]
    rest = "\n".join(lines) + "\n"
    path.write_text(rest + text if text.startswith("[") else text + rest)
    for command in ("check", "run"):
        done = server.run(command, check=False, limit=20)
        said = done.stdout + done.stderr
        assert done.returncode == 2, said
        assert word in said and "culvertd.toml:" in said, said


# --- culvert ---


def test_culvert_usage_errors_are_2(client_host, wire):
    for arguments in (["--no-such-option"], ["no-such-command"], ["connect", "nobody"],
                      ["import", "/nonexistent.toml"], ["run"]):
        done = client_host.run(wire.world.bin / "culvert", *arguments, check=False)
        assert done.returncode == 2, f"{arguments}: {done.returncode} {done.stdout}{done.stderr}"


@pytest.mark.smoke
def test_import_list_remove(alice):
    assert "alice" in alice.run("list").stdout
    assert "alice" in json.dumps(json.loads(alice.run("list", "--json").stdout))
    stored = [p for p in (alice.host.dir / "etc").rglob("*.toml")]
    assert len(stored) == 1 and mode(stored[0]) == 0o600
    again = alice.run("import", stored[0], "--name", "alice", check=False)
    assert again.returncode in (1, 2), "an import must not overwrite silently"
    alice.run("remove", "alice")
    assert not list((alice.host.dir / "etc").rglob("*.toml"))
    assert alice.run("remove", "alice", check=False).returncode in (1, 2)


@pytest.mark.parametrize("spoil", [
    lambda t: t["tls"].pop("key"), lambda t: t["tls"].update(certificate="nonsense"),
    lambda t: t.update(surprise=1), lambda t: t.pop("name"),
    lambda t: t["tls"].update(ca=t["tls"]["key"]),
], ids=["no_key", "bad_certificate", "unknown_key", "no_name", "key_for_ca"])
def test_a_bad_profile_is_2_and_nothing_is_imported(server, client_host, spoil):
    table = profile_table(server.add_user("alice"))
    spoil(table)
    client = Client(client_host, "alice")
    from harness.culvert import toml_text
    path = client_host.dir / "bad.toml"
    path.write_text(toml_text(table))
    done = client.run("import", path, "--name", "alice", check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert not list((client_host.dir / "etc").rglob("*.toml"))


def test_a_profile_file_connects_without_import(running_server, client_host):
    client = Client(client_host, "alice")
    profile = running_server.add_user("alice")
    client.run("connect", profile)
    assert client.is_up()
    client.run("disconnect")  # the only tunnel there is needs no name
    assert client.run("status", check=False).returncode == 7


def test_a_url_connects_without_a_profile(running_server, client_host):
    files = running_server.export_for("alice")
    client = Client(client_host, "198.51.100.1")
    arguments = ["connect", "https://198.51.100.1/", "--cert", files.certificate, "--key", files.key]
    client.run(*arguments, "--ca", running_server.dir / "ca.crt")
    client_host.ping("10.99.0.1")
    client.run("disconnect")
    # Without --ca there is nothing to check the server by.
    assert client.run(*arguments, check=False).returncode == 2


def test_not_running_is_7(alice):
    for command in ("status", "disconnect"):
        assert alice.run(command, "alice", check=False).returncode == 7
        assert alice.run(command, check=False).returncode == 7


def test_already_up_is_8(tunnel):
    tunnel.connect(code=8)
    assert tunnel.is_up()


def test_the_profile_of_a_tunnel_that_is_up_is_not_removed(tunnel):
    refused = tunnel.run("remove", "alice", check=False)
    assert refused.returncode == 8 and "culvert disconnect alice" in refused.stderr, refused
    assert "alice" in tunnel.run("list").stdout
    tunnel.disconnect()
    tunnel.run("remove", "alice")


def test_nobody_there_is_6_after_the_timeout(server, client_host):
    client = server.new_client(client_host, "alice")
    before = client_host.network_state()
    client.connect("--timeout", "2s", code=6, limit=20)
    assert client_host.network_state() == before


def test_no_name_resolution_is_6(server, client_host):
    table = profile_table(server.add_user("alice"))
    table["address"] = "no-such-host.invalid"
    client = Client(client_host, "alice")
    client.import_text(table)
    said = client.connect("--timeout", "5s", code=6, limit=30)
    assert "no-such-host.invalid" in said


def test_persist_waits_for_the_server(server, client_host):
    client = server.new_client(client_host, "alice")
    waiting = client_host.start(client.program, "connect", "alice", "--persist")
    waiting.wait_for_output("refused", 20)
    server.start()
    assert waiting.wait(60) == 0, waiting.output()
    client.host.ping("10.99.0.1")


def test_without_privileges_it_is_9_and_says_so(running_server, client_host, wire):
    alice = running_server.new_client(client_host, "alice")
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"]
    done = client_host.run(*nobody, alice.program, "connect", "alice", check=False)
    assert done.returncode == 9, f"{done.returncode}: {done.stderr}"
    done = wire.server.run(*nobody, running_server.program, "status", check=False)
    assert done.returncode == 9, f"{done.returncode}: {done.stderr}"
    done = wire.server.run(*nobody, running_server.program, "run", "--dir", running_server.dir,
                           check=False)
    assert done.returncode == 9, f"{done.returncode}: {done.stderr}"


def test_errors_can_be_had_as_json(alice):
    done = alice.run("status", "alice", "--json", check=False)
    assert done.returncode == 7
    assert json.loads(done.stdout)["error"]["code"] == "not_running"
