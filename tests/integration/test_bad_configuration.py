"""Broken configurations and profiles, one after the other in a table: which file, which line, which
key, what is wrong; exit code 2, and nothing is started or stored.
"""
import os
import re
import shutil
import tomllib

import pytest

from harness.culvert import Server, toml_text


def change(section, **values):
    def apply(table):
        part = table.setdefault(section, {}) if section else table
        for key, value in values.items():
            part.pop(key, None)
            if value is not None:
                part[key] = value
    return apply


# What is done to a good culvertd.toml (or what is in its place); what must be said.
CONFIGURATIONS = {
    "nothing": ("", "listen.address: missing.*more problems"),
    "binary": ("\0\1\2", r"case\.toml:1: .*u0000"),
    "no_utf8": (b'user = "\xff\xfe"\n', r"case\.toml:1: .*utf-8"),
    "string_without_end": ('[session]\ndpd = "1s\n', r"case\.toml:2: .*string"),
    "key_twice": ('[session]\ndpd = "1s"\ndpd = "2s"\n', r"case\.toml:3: .*redefine.*dpd"),
    "table_twice": ("[session]\n[session]\n", r"case\.toml:2: .*redefine.*session"),
    "list_for_a_table": ('[[session]]\ndpd = "1s"\n', r"case\.toml:1: session: must be a table"),
    "number_of_80_bits": ("[session]\nmax_per_user = 99999999999999999999\n",
                          r"case\.toml:2: .*64 bits"),
    "nested_deep": ("a = " + "[" * 5000, r"case\.toml:1: .*depth"),
    "no_address": (change("listen", address=None), "listen.address: missing"),
    "address_without_port": (change("listen", address="0.0.0.0"),
                             r":\d+: listen.address: .*0\.0\.0\.0"),
    "address_is_a_name": (change("listen", address="localhost:443"),
                          r":\d+: listen.address: .*localhost"),
    "port_0": (change("listen", address="[::]:0"), r":\d+: listen.address: "),
    "port_above_65535": (change("listen", address="[::]:70000"), r":\d+: listen.address: .*70000"),
    "multicast": (change("listen", address="224.0.0.1:443"), r":\d+: listen.address: .*multicast"),
    "number_for_a_string": (change("listen", address=443),
                            r":\d+: listen.address: must be a string"),
    "no_such_certificate": (change("tls", certificate="no.crt"), "no.crt: there is no such file"),
    "key_for_a_certificate": (change("tls", certificate="server.key"),
                              "server.key: no certificate"),
    "certificate_for_a_key": (change("tls", key="server.crt"), "server.crt: no private key"),
    "folder_for_a_ca": (change("tls", client_ca="users"), "users: not a regular file"),
    "leaf_for_a_ca": (change("tls", client_ca="server.crt"), "belongs to no trusted CA"),
    "no_crl": (change("tls", crl=None), "tls.crl: missing"),
    "certificate_for_a_crl": (change("tls", crl="ca.crt"),
                              "ca.crt: no certificate revocation list"),
    "strength": (change("tls", strength=192), r":\d+: tls.strength: must be 128 or 256"),
    "no_network": (change("network", ipv4=None, ipv6=None), "network.ipv4: missing.*at least one"),
    "bits_behind_the_length": (change("network", ipv4="10.99.0.5/24"),
                               r":\d+: network.ipv4: .*10.99.0.0/24"),
    "network_too_small": (change("network", ipv4="10.99.0.0/31"), r":\d+: network.ipv4: .*/30"),
    "network_too_small6": (change("network", ipv6="fd99::/127"), r":\d+: network.ipv6: .*/126"),
    "wrong_family": (change("network", ipv4="fd99::/64"),
                     r":\d+: network.ipv4: not an IPv4 network"),
    "loopback": (change("network", ipv4="127.0.0.0/24"), r":\d+: network.ipv4: cannot be given"),
    "no_routes": (change("network", routes=[]), r":\d+: network.routes: is empty"),
    "bits_behind_a_route": (change("network", routes=["10.0.0.1/8"]),
                            r":\d+: network.routes: 10.0.0.1/8"),
    "string_for_a_list": (change("network", routes="10.0.0.0/8"),
                          r":\d+: network.routes: must be a list"),
    "dns_by_name": (change("network", dns=["a.example.com"]),
                    r":\d+: network.dns\[0\]: .*a.example.com"),
    "later_version": (change("network", nat=True), r":\d+: network.nat: not supported yet"),
    "negative_time": (change("session", dpd="-1s"), r":\d+: session.dpd: .*not a duration"),
    "no_time": (change("session", dpd="0s"), r":\d+: session.dpd: must be from 1s to 1h"),
    "endless_time": (change("session", dpd="1000000000000h"), r":\d+: session.dpd: .*3650d"),
    "half_a_second": (change("session", dpd="1500ms"), r":\d+: session.dpd: must be whole seconds"),
    "nobody": (change("session", max_per_user=0), r":\d+: session.max_per_user: must be from 1"),
    "word_for_a_number": (change("session", max_per_user="many"),
                          r":\d+: session.max_per_user: .*integer"),
    "no_workers": (change("workers", count=0), r":\d+: workers.count: must be from 1 to 64"),
    "long_device": (change("tun", device="x" * 16), r":\d+: tun.device: .*15 characters"),
    "device_with_a_slash": (change("tun", device="a/b"), r":\d+: tun.device: not a name"),
    "word_for_a_boolean": (change("udp", enabled="yes"),
                           r":\d+: udp.enabled: must be true or false"),
    "no_name": (change("profile", name=None), "profile.name: is missing"),
    "bad_name": (change("profile", name="not a name"), r":\d+: profile.name: neither"),
    "bad_address": (change("profile", address="host:99999"), r":\d+: profile.address: not a port"),
    "level": (change("log", level="loud"), r':\d+: log.level: "loud" is not one of'),
    "user": (change("", user="no/such"), r":\d+: user: not the name"),
    "unknown_users": (change("", unknown_users="maybe"),
                      r':\d+: unknown_users: "maybe" is not one of'),
}


@pytest.fixture(scope="module")
def idle_server(shared_world):
    """Set up and never started, in a folder that cases put their configurations into."""
    return Server(shared_world.wire("idle").server).init()


@pytest.mark.parametrize("command", ["check", "run"])
def test_broken_configurations(idle_server, story, command):
    good = idle_server.dir / "culvertd.toml"
    path = idle_server.dir / "case.toml"
    for case, (what, words) in CONFIGURATIONS.items():
        broken(path, good, what)
        done = idle_server.host.run(idle_server.program, command, "-c", path, check=False, limit=10)
        assert done.returncode == 2, f"{case}: {done.returncode} {done.stdout}{done.stderr}"
        said = re.sub(r"\n\s*", " ", done.stdout if command == "check" else done.stderr)
        assert re.search(words, said), f"{case}: {words!r} is not in: {said}"
        faults = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
        assert len(faults) == (1 if command == "check" else 0), f"{case}: {faults}"
        assert len(done.stderr.splitlines()) <= 2, f"{case}: {done.stderr}"


def broken(path, good, what):
    """Writes it as the good one is: who may read it is not the question."""
    text = what
    if callable(what):
        table = tomllib.loads(good.read_text())
        what(table)
        text = toml_text(table)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    shutil.copymode(good, path)
    os.chown(path, good.stat().st_uid, good.stat().st_gid)


def swap(into, source):
    return lambda table: table["tls"].update({into: table["tls"][source]})


PROFILES = {
    **{name: CONFIGURATIONS[name] for name in ("binary", "no_utf8", "nested_deep")},
    "nothing": ("", "name: is missing.*more problems"),
    "another_configuration": ('[session]\ndpd = "1s"\n', r"case\.toml:1: session: unknown table"),
    "no_ca": (change("tls", ca=None), "tls.ca: is missing.*PEM text itself"),
    "no_certificate": (change("tls", certificate=None), "tls.certificate: is missing"),
    "file_name_for_a_ca": (change("tls", ca="ca.crt"), r":\d+: tls.ca: holds no PEM text"),
    "key_for_a_certificate": (swap("certificate", "key"), "certificate: no certificate in it"),
    "certificate_for_a_key": (swap("key", "certificate"), "private key: no private key in it"),
    "certificate_for_a_crl": (swap("crl", "certificate"), "CRL: no certificate revocation list"),
    "cut_certificate": (lambda t: t["tls"].update(certificate=t["tls"]["certificate"][:200]),
                        "certificate: cannot read the certificate"),
    "bad_name": (change("", name="not a name"), r":\d+: name: neither"),
    "empty_name": (change("", name=""), r":\d+: name: must not be empty"),
    "port_0": (change("", address="vpn:0"), r":\d+: address: .*vpn:0 .*HOST:PORT"),
    "port_above_65535": (change("", address="vpn:65536"), r":\d+: address: .*vpn:65536"),
    "open_bracket": (change("", address="[fd00::1"), r":\d+: address: .*\[fd00::1"),
    "url_for_an_address": (change("", address="https://vpn/"), r":\d+: address: .*https"),
    "relative_path": (change("", path="no-slash"), r":\d+: path: must begin with /"),
    "blank_in_the_path": (change("", path="/a b"), r":\d+: path: .*no spaces"),
    "long_device": (change("", device="x" * 16), r":\d+: device: .*15 characters"),
    "small_mtu": (change("", mtu=575), r":\d+: mtu: must be from 576 to 16376"),
    "negative_mtu": (change("", mtu=-1), r":\d+: mtu: must be from 576"),
    "string_for_a_number": (change("", mtu="1400"), r":\d+: mtu: must be an integer"),
    "routes": (change("", routes="some"), r':\d+: routes: "some" is not one of'),
    "dns": (change("", dns="all"), r':\d+: dns: "all" is not one of'),
    "table_of_the_system": (change("routing", table=254), r":\d+: routing.table: must be from 256"),
    "priority": (change("routing", priority=0), r":\d+: routing.priority: must be from 1"),
    "mark": (change("routing", fwmark=0), r":\d+: routing.fwmark: must be from 1"),
    "word_for_a_boolean": (change("", udp="no"), r":\d+: udp: must be true or false"),
    "old_tls": (change("tls", min_version="1.1"), r':\d+: tls.min_version: "1.1" is not one of'),
    "trust_anybody": (change("tls", verify=False), r":\d+: tls.verify: unknown key"),
}


@pytest.mark.parametrize("command", ["import", "connect"])
def test_broken_profiles(shared_victim, story, command):
    host = shared_victim.host
    good = next((host.dir / "etc").rglob("alice.toml"))
    path = host.dir / "case.toml"
    files = sorted((host.dir / "etc").rglob("*.toml"))
    for case, (what, words) in PROFILES.items():
        broken(path, good, what)
        done = shared_victim.client.run(command, path, check=False, limit=10)
        assert done.returncode == 2, f"{case}: {done.returncode} {done.stdout}{done.stderr}"
        assert re.search(words, done.stderr), f"{case}: {words!r} is not in: {done.stderr}"
        assert str(path) in done.stderr, f"{case}: which file? {done.stderr}"
        assert len(done.stderr.splitlines()) == 1 and not done.stdout
    assert sorted((host.dir / "etc").rglob("*.toml")) == files
