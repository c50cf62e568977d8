"""Debian's openconnect on culvertd, over the life of a session: the network breaks and moves, keys
wear, the server goes and comes, time runs out, and others are there as well.

    openconnect (client1) ──eth0───to1── culvertd (server)
    10.99.0.x, fd99::x                   10.99.0.1, fd99::1
"""
import re
import signal
import time

import pytest

from harness import peers
from harness.cstp import RawClient, value_of
from harness.culvert import INSIDE4, INSIDE6, Server
from harness.streams import Conversation, Transfer, complaints
from harness.wait import wait_until

CHANNELS = pytest.mark.parametrize("channel", ["tls", "dtls"])


def openconnect(server, host, channel="tls", arguments=(), user="alice"):
    """One that is up, on the channel that it should have."""
    oc = begin(server, host, channel, arguments, user).wait_until_up()
    if channel == "dtls":
        wait_for_dtls(server, user)
    return oc


def begin(server, host, channel="tls", arguments=(), user="alice"):
    folder = server.host.dir / f"export-{user}"
    if not folder.exists():
        server.export_for(user)
    return peers.Openconnect(
        host, folder / "ca.crt", folder / f"{user}.crt", folder / f"{user}.key",
        url="https://vpn.example.com/",
        arguments=(*(("--no-dtls",) if channel == "tls" else ()), *arguments))


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


def assert_ended(oc, code, *words):
    """openconnect has given up by itself, with this exit code, and has said why."""
    assert oc.process.wait() == code, oc.process.output()
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


def test_udp_that_stops_passing(server, client_host):
    """Both sides go on over TLS, and the next connection tries UDP at once."""
    server.configure("session", dpd="2s").start()
    oc = openconnect(server, client_host, "dtls")
    talk = talk_of(server, client_host)
    connected = server.session("alice")["connected_since"]
    # Where it arrives: who sends is told nothing.
    for host, port in ((server.host, "dport"), (client_host, "sport")):
        host.run("nft", "add table inet wall")
        host.run("nft", "add chain inet wall i { type filter hook input priority 0; }")
        host.run("nft", f"add rule inet wall i udp {port} 443 drop")
    wait_until(lambda: server.session("alice")["channel"] == "tls", "packets going over TLS", 15)
    talk.wait_for_more()
    assert server.session("alice")["connected_since"] == connected
    for host in (server.host, client_host):
        host.run("nft", "delete table inet wall")
    oc.reconnect()
    wait_for_dtls(server)
    talk.wait_for_more()
    talk.finish()


def test_a_nat_that_gives_udp_another_port(server, client_host):
    """openconnect has no connection IDs: it notices that nobody answers, and begins anew."""
    server.configure("session", dpd="2s").start()
    oc = openconnect(server, client_host, "dtls")
    before = server.session("alice")
    handshakes = server.status()["udp"]["handshakes"]
    talk = talk_of(server, client_host)
    # What comes in first would make the box take the old port for one that it knows.
    client_host.run("nft", "add table ip box")
    client_host.run("nft", "add chain ip box in { type filter hook prerouting priority raw; }")
    client_host.run("nft", "add rule ip box in udp sport 443 drop")
    client_host.run("nft", "add chain ip box out { type nat hook postrouting priority srcnat; }")
    client_host.run("nft", "add rule ip box out udp dport 443 counter masquerade to :61000-61999")
    wait_until(lambda: "packets 0" not in client_host.run("nft", "list table ip box").stdout,
               "the box giving out another port", 10)
    client_host.run("nft", "flush chain ip box in")
    wait_until(lambda: server.status()["udp"]["handshakes"] > handshakes, "another handshake", 15)
    wait_for_dtls(server)
    talk.wait_for_more()
    talk.finish()
    after = server.session("alice")
    assert after["id"] == before["id"] and after["connected_since"] == before["connected_since"]
    assert not oc.script_lines("reconnect")


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
    # A look at the sessions is one at their keys too; without it there is one every five seconds.
    wait_until(lambda: server.sessions() and len(oc.script_lines("reconnect")) >= 2, "new keys", 20)
    report = transfer.stop()
    assert not complaints(report), report
    worn = [int(records) for records in re.findall(r"the keys are worn.* records=(\d+)", server.log())]
    assert len(worn) >= 2
    assert_same_session(server, before)
    # What each of the connections has carried counts.
    counted = server.session("alice")["rx_packets" if direction == "up" else "tx_packets"]
    assert counted > 0.9 * sum(worn), f"{counted} of {worn}"


def test_tls_1_2_has_no_limit_of_records(server, client_host):
    """Nobody sends a KeyUpdate there."""
    server.configure("session", rekey_records=1000).start()
    oc = openconnect(server, client_host, arguments=(
        "--gnutls-priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2"))
    transfer = Transfer(client_host, server.host, INSIDE4, size=8_000_000)
    assert not complaints(transfer.finish())
    for _ in range(2):  # with each look at what it has carried goes one at its keys
        session = server.session("alice")
        assert session["tls"] == "TLSv1.2" and session["rx_packets"] > 4000, session
    assert not oc.script_lines("reconnect") and "the keys are worn" not in server.log()


# ---- the end of a session ------------------------------------------------------------------------

def test_a_cookie_has_its_time(server, client_host):
    """A computer that sleeps for longer than its session waits."""
    server.configure("session", dpd="1s", cookie_timeout="2s").start()
    oc = openconnect(server, client_host)
    oc.process.send(signal.SIGSTOP)
    server.wait_for_sessions(0)
    oc.process.send(signal.SIGCONT)
    assert_ended(oc, 2, "Cookie was rejected by server")
    assert server.log().count("logged in") == 1
    assert "the client did not come back in time" in server.log()
    assert "the session is over" in server.log(), "which its cookie was told"


def test_a_cookie_of_somebody_who_left_for_a_while(server, client_host):
    """As NetworkManager has it: one program logs in, another one has the tunnel."""
    server.configure("session", cookie_timeout="3s").start()
    said = begin(server, client_host, arguments=("--authenticate",)).process
    assert said.wait() == 0, said.output()
    cookie = re.search("^COOKIE='(.*)'$", said.output(), re.MULTILINE).group(1)
    first = openconnect(server, client_host, arguments=(f"--cookie={cookie}",))
    before = server.session("alice")
    assert first.process.stop(signal.SIGHUP) == 0, "which means: without a goodbye"
    wait_until(lambda: server.session("alice")["state"] == "detached", "detached")
    second = openconnect(server, client_host, arguments=(f"--cookie={cookie}",))
    assert_same_session(server, before)
    client_host.ping(INSIDE4)
    second.process.stop(signal.SIGHUP)
    server.wait_for_sessions(0)
    assert_ended(begin(server, client_host, arguments=(f"--cookie={cookie}",)), 2,
                 "Cookie was rejected by server")
    assert server.log().count("logged in") == 1


@CHANNELS
def test_a_stopped_server_is_found_again(server, client_host, channel):
    """A stop says no goodbye: clients are to come back. openconnect tries at once, and then every ten
    seconds."""
    server.start()
    oc = openconnect(server, client_host, channel)
    before = server.session("alice")
    talk = talk_of(server, client_host)
    server.stop()
    server.start()
    wait_for_reconnects(oc)
    talk.wait_for_more()
    talk.finish()
    assert_same_session(server, before)
    assert "logged in" not in server.log() and "terminated by server" not in oc.process.output()
    if channel == "dtls":
        wait_for_dtls(server)
    client_host.ping(INSIDE6)


@CHANNELS
def test_whoever_is_thrown_out_stays_out(server, client_host, channel):
    server.start()
    oc = openconnect(server, client_host, channel)
    server.run("disconnect", "alice")
    assert_ended(oc, 1, "Received server disconnect", "administrator",
                 "Session terminated by server")
    server.wait_for_sessions(0)
    assert server.log().count("tunnel up") == 1 and not oc.script_lines("reconnect")
    assert oc.script_lines("disconnect"), "which is where its script puts things back"


@CHANNELS
def test_an_idle_openconnect_is_ended(server, client_host, channel):
    """Neither signs of life nor what its kernel says to its neighbours there is use."""
    server.configure("session", idle_timeout="3s", dpd="2s", keepalive="1s").start()
    oc = openconnect(server, client_host, channel)
    client_host.run("ping", "-n", "-c", "5", "-i", "1", INSIDE4)  # longer than the limit
    assert not oc.script_lines("reconnect")
    server.wait_for_sessions(0, 8)
    assert_ended(oc, 1, "idle for too long", "Session terminated by server")


@CHANNELS
def test_the_longest_life_counts_from_the_login(server, client_host, channel):
    """Another connection gives no more time."""
    server.configure("session", max_lifetime="6s").start()
    oc = begin(server, client_host, channel, ("--verbose",))
    wait_until(lambda: server.sessions(), "the login")
    started = time.monotonic()
    oc.wait_until_up()
    client_host.run("ping", "-n", "-c", "4", "-i", "1", INSIDE4)
    oc.reconnect()
    assert_ended(oc, 1, "lasted as long as it may", "Session terminated by server")
    assert 4 < time.monotonic() - started < 9
    left = [int(s) for s in re.findall(r"X-CSTP-Session-Timeout: (\d+)", oc.process.output())]
    assert len(left) == 2 and 4 <= left[0] <= 6 and left[1] <= left[0] - 2, left
    assert "Session authentication will expire at" in oc.process.output()
    assert len(oc.script_lines("reconnect")) == 1
    server.wait_for_sessions(0)


# ---- others --------------------------------------------------------------------------------------

@CHANNELS
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_one_family_inside(wire, client_host, channel, family):
    server = Server(wire.server).init(**{"ipv4": None} if family == "ipv6" else {"ipv6": None})
    server.start()
    oc = openconnect(server, client_host, channel)
    session = server.session("alice")
    other = {"ipv4": "ipv6", "ipv6": "ipv4"}[family]
    assert session[family] and session[other] is None
    for size in (None, 1200):
        client_host.ping({"ipv4": INSIDE4, "ipv6": INSIDE6}[family], size=size)
        wire.server.ping(session[family], size=size)
    oc.reconnect()
    assert_same_session(server, session)
    wire.server.ping(session[family])


def test_a_client_that_takes_ipv4_only(wire, client_host, running_server):
    openconnect(running_server, client_host, arguments=("--disable-ipv6",))
    session = running_server.session("alice")
    assert session["ipv4"] and session["ipv6"] is None
    client_host.ping(INSIDE4)
    assert not [a for link in client_host.json("addr", "show", "octun0")
                for a in link["addr_info"] if a["local"].startswith("fd99:")]


def forward(host):
    for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        host.run("sh", "-c", f"echo 1 >/proc/sys/net/{switch}")


@pytest.mark.parametrize("channels", [("tls", "tls"), ("dtls", "dtls"), ("dtls", "tls")],
                         ids=["tls", "dtls", "both"])
def test_two_of_them_talk_with_each_other(world, wire, client_host, server, channels):
    """The server's kernel decides about it, and forwards nothing unless it is told to."""
    server.start()
    others_host = world.add_client(wire)
    openconnect(server, client_host, channels[0], user="alice")
    openconnect(server, others_host, channels[1], user="bob")
    alice, bob = server.session("alice"), server.session("bob")
    for family in ("ipv4", "ipv6"):
        assert not client_host.ping(bob[family], count=1, check=False, limit=0.5)
    forward(wire.server)
    for size in (None, 1200):
        for family in ("ipv4", "ipv6"):
            client_host.ping(bob[family], size=size)
            others_host.ping(alice[family], size=size)
    talk = Conversation(client_host, others_host, alice["ipv4"], bob["ipv4"])
    talk.wait_for_more()
    talk.finish()
    report = Transfer(client_host, others_host, bob["ipv4"], streams=2, size=4_000_000).finish()
    assert not complaints(report), report


def test_a_third_one_of_the_same_user(world, wire, client_host, server):
    """The limit is about connections: one that is away makes room."""
    server.configure("session", max_per_user=2).start()
    hosts = [client_host, world.add_client(wire), world.add_client(wire)]
    first, second = (openconnect(server, host) for host in hosts[:2])
    third = begin(server, hosts[2])
    assert_ended(third, 1, "alice has 2 connections already")
    assert len(server.sessions()) == 2
    for host in hosts[:2]:
        host.ping(INSIDE4)
    first.process.stop(signal.SIGHUP)
    wait_until(lambda: "detached" in [s["state"] for s in server.sessions()], "one being away")
    openconnect(server, hosts[2])
    hosts[2].ping(INSIDE4)
    assert second.process.running and [s["state"] for s in server.sessions()] == ["attached"] * 2
    assert "displaced by a newer session" in server.log()
