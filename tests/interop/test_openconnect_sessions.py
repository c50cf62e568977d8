"""Debian's openconnect on culvertd, over the life of a session: the network breaks and moves, keys
wear, the server goes and comes, time runs out, and others are there as well.

    openconnect (client1) ──eth0───to1── culvertd (server)
    10.99.0.x, fd99::x                   10.99.0.1, fd99::1
"""
import pytest

from harness import peers
from harness.cstp import RawClient, value_of
from harness.culvert import INSIDE4, INSIDE6, Server
from harness.net import end_pids
from harness.streams import Conversation, Transfer, complaints
from harness.wait import wait_until

CHANNELS = pytest.mark.parametrize("channel", ["tls", "dtls"])


def openconnect(server, host, channel="tls", arguments=(), user="alice", limit=20, **options):
    """One that is up, on the channel that it should have."""
    oc = begin(server, host, channel, arguments, user, **options).wait_until_up(limit)
    if channel == "dtls":
        wait_for_dtls(server, user)
    return oc


def begin(server, host, channel="tls", arguments=(), user="alice", **options):
    folder = server.host.dir / f"export-{user}"
    if not folder.exists():
        server.export_for(user)
    return peers.Openconnect(
        host, folder / "ca.crt", folder / f"{user}.crt", folder / f"{user}.key",
        url="https://vpn.example.com/",
        arguments=(*(("--no-dtls",) if channel == "tls" else ()), *arguments), **options)


def wait_for_dtls(server, user="alice"):
    wait_until(lambda: server.session(user)["channel"] == "dtls", "packets going over DTLS", 15)


def talk_of(server, host):
    """Between openconnect and the server, on a connection that must live on."""
    talk = Conversation(host, server.host, server.session("alice")["ipv4"])
    talk.wait_for_more()
    return talk


def wait_for_reconnects(oc, count=1, limit=25):
    def seen():
        assert oc.process.running, oc.process.output()
        return len(oc.script_lines("reconnect")) >= count
    wait_until(seen, f"{count} reconnects", limit)


def assert_same_session(server, before):
    """The one that there was, with its addresses, on another connection."""
    after = wait_until(lambda: (s := server.session("alice"))["state"] == "attached" and s, "attached")
    for key in ("id", "ipv4", "ipv6", "since"):
        assert after[key] == before[key], key
    assert after["remote"] != before["remote"]
    return after


def assert_ended(oc, code, *words, limit=20):
    """openconnect has given up by itself, with this exit code, and has said why."""
    assert oc.process.wait(limit) == code, oc.process.output()
    for word in words:
        assert word in oc.process.output(), oc.process.output()


# ---- the network ---------------------------------------------------------------------------------

@CHANNELS
def test_a_connection_that_the_network_resets(server, client_host, channel):
    """Something is sent every second, so that the reset is noticed also when data takes DTLS."""
    server.configure("session", keepalive="1s").start()
    oc = openconnect(server, client_host, channel)
    before = server.session("alice")
    talk = talk_of(server, client_host)
    client_host.run("nft", "add table inet breaker")
    client_host.run("nft", "add chain inet breaker o { type filter hook output priority 0; }")
    port = before["remote"].rsplit(":", 1)[1]
    client_host.run("nft", f"add rule inet breaker o tcp sport {port} reject with tcp reset")
    wait_for_reconnects(oc)
    client_host.run("nft", "delete table inet breaker")
    talk.wait_for_more()
    assert_same_session(server, before)
    if channel == "dtls":
        wait_for_dtls(server)
        talk.wait_for_more()
    talk.finish()
    for address in (INSIDE4, INSIDE6):
        client_host.ping(address)


@pytest.mark.parametrize("channel, how", [("tls", "told"), ("tls", "by itself"),
                                          ("dtls", "by itself")])
def test_another_outer_address(wire, server, client_host, channel, how):
    """NetworkManager tells openconnect; otherwise its own dead-peer detection has to find out."""
    server.configure("session", dpd="15s" if how == "told" else "2s").start()
    oc = openconnect(server, client_host, channel)
    before = server.session("alice")
    talk = talk_of(server, client_host)
    gateway = wire.add_second_link(client_host)
    client_host.ip("route", "replace", "default", "via", gateway)
    client_host.ip("addr", "del", client_host.address4 + "/30", "dev", "eth0")
    if how == "told":
        oc.reconnect()
    wait_for_reconnects(oc)
    talk.wait_for_more()
    after = assert_same_session(server, before)
    assert after["remote"].startswith("203.0.113.2:"), after
    if channel == "dtls":
        wait_for_dtls(server)
        talk.wait_for_more()
    talk.finish()
    wire.server.ping(after["ipv4"])
    wire.server.ping(after["ipv6"])


# ---- new keys ------------------------------------------------------------------------------------

@CHANNELS
def test_new_keys_by_time(server, client_host, channel):
    """openconnect is told when, and to make a new tunnel: other ways its server does not know."""
    server.configure("session", rekey_time="3s").start()
    oc = openconnect(server, client_host, channel, ("--verbose",))
    before = server.session("alice")
    talk = talk_of(server, client_host)
    wait_for_reconnects(oc, 2)
    said = oc.process.output()
    assert "X-CSTP-Rekey-Time: 3\n" in said and "X-CSTP-Rekey-Method: new-tunnel\n" in said, said
    assert said.count("CSTP rekey due") >= 2, "because it was time"
    assert "Rekey-Method: ssl" not in said and "X-DTLS-Rekey" not in said
    talk.wait_for_more()
    talk.finish()
    assert_same_session(server, before)
    if channel == "dtls":
        wait_for_dtls(server)


@pytest.mark.parametrize("suites, told", [
    ("PSK-NEGOTIATE:OC-DTLS1_2-AES256-GCM:AES128-SHA", True),
    ("PSK-NEGOTIATE", True),
    (None, True),
    ("ECDHE-ECDSA-AES256-SHA:OC-DTLS1_2-AES256-GCM:PSK-NEGOTIATE", False),
], ids=["gnutls", "alone", "no dtls", "openssl"])
def test_who_is_told_when_to_renew_keys(client_host, running_server, suites, told):
    """openconnect built with OpenSSL, which lists PSK-NEGOTIATE last, loses DTLS at each new
    connection."""
    raw = RawClient(client_host, running_server.export_for("alice"))
    head = raw.attach(f"X-DTLS-CipherSuite: {suites}\r\n" if suites else "")
    assert value_of(head, "X-CSTP-Rekey-Time") == ("86400" if told else None)
    assert value_of(head, "X-CSTP-Rekey-Method") == ("new-tunnel" if told else None)
    assert (value_of(head, "X-DTLS-App-ID") is not None) == (suites is not None)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_new_keys_by_use(server, client_host, direction):
    """In the middle of a transfer, more than once; each time the same session, and nothing is lost
    that TCP inside would not send again."""
    server.configure("session", rekey_records=1000).start()
    oc = openconnect(server, client_host)
    before = server.session("alice")
    assert before["tls"] == "TLSv1.3"
    if direction == "up":
        transfer = Transfer(client_host, server.host, INSIDE4, streams=2, seconds=60)
    else:
        transfer = Transfer(server.host, client_host, before["ipv4"], streams=2, seconds=60)
    wait_for_reconnects(oc, 2)
    report = transfer.stop()
    assert not complaints(report), report
    assert server.log().count("the keys are worn") >= 2
    assert_same_session(server, before)


def test_tls_1_2_has_no_limit_of_records(server, client_host):
    """Nobody sends a KeyUpdate there."""
    server.configure("session", rekey_records=1000).start()
    oc = openconnect(server, client_host, arguments=(
        "--gnutls-priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2"))
    transfer = Transfer(client_host, server.host, INSIDE4, size=8_000_000)
    assert not complaints(transfer.finish())
    session = server.session("alice")
    assert session["tls"] == "TLSv1.2" and session["rx_packets"] > 4000, session
    # The limit is looked at once a second.
    client_host.run("ping", "-n", "-c", "3", "-i", "1", INSIDE4)
    assert not oc.script_lines("reconnect") and "the keys are worn" not in server.log()
