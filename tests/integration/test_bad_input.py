"""Whatever comes in, from the network, the system or a file: one clear message (what, where, what
to do), the right exit code, and the others are served as before.

Bad certificates: test_server_refuses.py, test_client_refuses.py. Cookies that are forged, another's
or replayed after the end, spoofed and malformed packets: test_wire.py. No privilege, a TCP port in
use: test_commands.py. Files: test_bad_configuration.py. What a peer says in HTTP and in frames:
test_hostile.py, test_hostile_client.py.
"""
import re
import socket
import ssl
import time

import pytest

from harness import cstp
from harness.culvert import INSIDE4, Client, profile_table
from harness.hostile import Listener, ends
from harness.wait import wait_until


SESSION = {"cookie_timeout": "2s"}


def logged(stage, before, words, limit=15):
    """The first line that the server has logged since and that matches."""
    return wait_until(lambda: [line for line in stage.server.log()[before:].splitlines()
                               if re.search(words, line)], f"{words!r} in the log", limit)[0]


# --- on the server's port, something that is no TLS ---

NO_TLS = "client refused .*the peer does not speak TLS"
GARBAGE = {
    "plain_http": (b"GET / HTTP/1.1\r\nHost: vpn.example.com\r\n\r\n", NO_TLS),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", NO_TLS),
    "zeros": (b"\0" * 2000, NO_TLS),
    "every_byte": (bytes(range(256)) * 4, NO_TLS),
    "ssl_2": (b"\x80\x2e\x01\x03\x01" + b"x" * 43, NO_TLS),
    "record_above_the_limit": (b"\x16\x03\x01\xff\xff" + b"x" * 2000, NO_TLS),
    "alert": (b"\x15\x03\x01\x00\x02\x02\x28", "client refused .*the client ended"),
    "data_before_the_handshake": (b"\x17\x03\x03\x00\x05hello", "client refused .*handshake"),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_on_the_port(stage, case):
    data, words = GARBAGE[case]
    before = len(stage.server.log())
    with stage.host.socket() as raw:
        raw.settimeout(5)
        raw.connect(("198.51.100.1", 443))
        raw.sendall(data)
        assert len(drain(raw)) < 100, "an alert at most, and the end"
    assert "remote=192.0.2." in logged(stage, before, words)


def drain(raw):
    """What comes until the end of the connection."""
    data = b""
    while True:
        try:
            more = raw.recv(4096)
        except ConnectionResetError:
            return data
        if not more:
            return data
        data += more


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1],
                         ids=["tls1.0", "tls1.1"])
def test_a_client_of_old(stage, version):
    before = len(stage.server.log())
    with pytest.raises(cstp.Refused, match="(?i)protocol.version"):
        stage.raw(version=version)
    assert "remote=192.0.2." in logged(stage, before, "client refused .*no common TLS version")


def test_a_handshake_that_never_ends_is_cut_off(stage):
    """One byte at a time, each of them welcome."""
    before, began = len(stage.server.log()), time.monotonic()
    with stage.host.socket() as raw:
        raw.connect(("198.51.100.1", 443))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = iter(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500)

        def cut_off():
            try:
                raw.sendall(bytes([next(hello)]))
                return False
            except (BrokenPipeError, ConnectionResetError):
                return True
        wait_until(cut_off, "the end of the server's patience", 15, every=0.2)
    assert time.monotonic() - began > 8, "a slow client is not a bad one"
    assert "remote=192.0.2." in logged(stage, before, "handshake took too long")


# --- endless heads and bodies, to the server ---

ENDLESS = {
    "head": (b"POST / HTTP/1.1\r\n", b"X-Line: " + b"x" * 1000 + b"\r\n",
             "header block is too long"),
    "line": (b"POST / HTTP/1.1\r\nX: ", b"x" * 1000, "header block is too long"),
    "first_line": (b"POST /", b"x" * 1000, "header block is too long"),
    "body": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
             b"3e8\r\n" + b"x" * 1000 + b"\r\n", "body is too long"),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_endless_requests_are_cut_off(stage, case):
    first, more, words = ENDLESS[case]
    before = len(stage.server.log())
    raw = stage.raw()
    raw.send_raw(first)
    sent = 0
    try:
        while sent < 2_000_000:
            raw.send_raw(more)
            sent += len(more)
    except (OSError, ssl.SSLError):
        pass
    assert sent < 2_000_000, "it would have gone on for ever"
    said = ends(raw)
    assert not said or said.startswith(b"HTTP/1.1 400 ")
    assert "remote=192.0.2." in logged(stage, before, words)


# --- at the server's address, something that is no VPN server ---

def says(data, first=True):
    def serve(connection):
        if first:
            connection.recv(4096)
        connection.sendall(data)
        connection.recv(4096)
    return serve


def floods(data):
    def serve(connection):
        connection.recv(4096)
        while True:
            connection.sendall(data)
    return serve


def keeps_silent(connection):
    while connection.recv(4096):
        pass


AT = r"vpn\.example\.com: "
HINT = r".*check address and port: is this a VPN server\?"
NO_SERVER = {
    "plain_http": (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), 6,
                   AT + ".*does not speak TLS" + HINT),
    "ssh": (says(b"SSH-2.0-OpenSSH_9.2\r\n", first=False), 6, AT + ".*does not speak TLS" + HINT),
    "zeros": (says(b"\0" * 100), 6, AT + ".*does not speak TLS" + HINT),
    "flood": (floods(b"x" * 10000), 6, AT + ".*does not speak TLS" + HINT),
    "record_above_the_limit": (says(b"\x16\x03\x03\xff\xff" + b"x" * 70000), 6, AT + ".*handshake"),
    "closes_at_once": (lambda connection: None, 6, AT + ".*closed by the peer"),
    "closes_after_hello": (lambda connection: connection.recv(4096), 6,
                           AT + ".*closed by the peer"),
    "alert": (says(b"\x15\x03\x03\x00\x02\x02\x28"), 6, AT + ".*no common version, cipher suite"),
    "keeps_silent": (keeps_silent, 6, "198.51.100.1:443: the TLS handshake timed out .*VPN's port"),
}


@pytest.mark.parametrize("case", NO_SERVER)
def test_no_server_at_all(victim, case):
    serve, code, words = NO_SERVER[case]
    with Listener(victim.wire.server, serve):
        victim.refuses(code, words, limit="2s")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1],
                         ids=["tls1.0", "tls1.1"])
def test_a_server_of_old(victim, version):
    with victim.facing(version=version) as server:
        victim.refuses(6, AT + r".*protocol version not supported.*has to speak TLS 1\.2 or 1\.3")
        assert not server.requests


# --- endless and slow answers, to the client ---

ANSWERS = {
    "endless_head": (b"HTTP/1.1 200 OK\r\n", b"X-Line: " + b"x" * 1000 + b"\r\n", 1, "too long"),
    "endless_line": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000, 1, "too long"),
    "endless_body": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000, 1, "too long"),
    "endless_chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                       b"3e8\r\n" + b"x" * 1000 + b"\r\n", 1, "too long"),
    "endless_patience": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 6, "stopped answering"),
    "slow_head": (b"HTTP/1.1 200 OK\r\nX: ", b"x", 6, "stopped answering"),
    "slow_body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x", 6,
                  "stopped answering"),
    "no_answer": (b"", b"", 6, "stopped answering"),
    "cut_body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello", None, 6,
                 "closed .*in the middle|closed the connection"),
}


# What follows an answer to CONNECT is the tunnel: only its head can be too long.
TURNS = [(case, turn) for case in ANSWERS for turn in ("POST", "CONNECT")
         if turn == "POST" or not ANSWERS[case][0].endswith(b"\r\n\r\n") and ANSWERS[case][1]]


@pytest.mark.parametrize("case,turn", TURNS, ids=["-".join(turn) for turn in TURNS])
def test_endless_and_slow_answers(victim, case, turn):
    first, more, code, words = ANSWERS[case]

    def serve(server, connection):
        head, _ = connection.receive_head()
        if turn == "CONNECT":
            connection.send_raw(server.logged_in())
            connection.receive_head()
        if first:
            connection.send_raw(first)
        if more is None:
            return
        while not server._closing:
            if len(more) != 1 and more:
                connection.send_raw(more)
            elif connection.receive_record(0.1) == b"":  # drop by drop
                return
            elif more:
                connection.send_raw(more)

    with victim.facing(serve=serve):
        victim.refuses(code, "198.51.100.1:443: .*" + words, limit="2s")


# --- cookies that have run out ---

def test_a_login_that_is_not_used_in_time_is_worth_nothing(stage):
    raw = stage.raw()
    cookie = raw.login()
    before = len(stage.server.log())
    logged(stage, before, "session ended .*user=mallory .*not used in time")
    head = raw.open_tunnel(cookie)
    assert head.startswith("HTTP/1.1 401 ") and "log in again" in cstp.value_of(head, "X-Reason")
    logged(stage, before, "connection refused user=mallory .*unknown_cookie")


def test_a_session_that_nobody_takes_up_again_is_over(stage):
    raw = stage.raw()
    cookie = raw.login()
    raw.address4 = cstp.value_of(raw.open_tunnel(cookie), "X-CSTP-Address")
    raw.close()
    wait_until(lambda: stage.session_of(raw) is None, "the end of the session")
    head = stage.raw().open_tunnel(cookie)
    assert head.startswith("HTTP/1.1 401 ") and "log in again" in cstp.value_of(head, "X-Reason")


@pytest.mark.parametrize("how", ["disconnect", "revoke"])
def test_a_cookie_ends_with_what_it_stood_for(stage, how):
    files = stage.server.export_for(f"victor-{how}")
    raw = cstp.RawClient(stage.host, files)
    cookie = raw.login()
    assert raw.open_tunnel(cookie).startswith("HTTP/1.1 200 ")
    stage.server.run(*(["disconnect"] if how == "disconnect" else ["user", "revoke"]),
                     f"victor-{how}")
    ends(raw)
    assert cstp.RawClient(stage.host, files).open_tunnel(cookie).startswith("HTTP/1.1 401 ")


# --- no addresses left ---

def test_an_exhausted_pool(world, wire, server, client_host):
    """/30: the server, one client, and nobody else."""
    server.configure("network", ipv4="10.99.0.0/30", ipv6=None)
    server.configure("session", cookie_timeout="1s").start()
    first = server.new_client(client_host, "first")
    first.connect()
    second = server.new_client(world.add_client(wire), "second")
    said = second.connect("--timeout", "5s", code=6)
    assert "no free address" in said, said
    assert re.search("connection refused user=second .*no free address", server.log())
    client_host.ping(INSIDE4)
    assert first.status()["reconnects"] == 0
    first.disconnect()
    second.connect()
    second.host.ping(INSIDE4)


# --- what the client's machine has already ---

def test_addresses_and_routes_that_the_machine_has_already(running_server, client_host):
    """The tunnel has a routing table of its own: it works, and what was there stays."""
    client_host.ip("link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    for device in ("lan0", "lan1"):
        client_host.ip("link", "set", device, "addrgenmode", "none", "up")
    client_host.add_address("lan0", "10.99.0.2/24", "fd99::2/64")
    client_host.ip("route", "add", "10.99.0.0/16", "dev", "lan0")
    before = client_host.network_state()
    client = running_server.new_client(client_host, "alice")
    client.connect()
    assert running_server.session("alice")["ipv4"] == "10.99.0.2"
    client_host.ping(INSIDE4)
    client_host.ping("fd99::1")
    client.disconnect()
    assert client_host.network_state() == before


def test_a_route_in_the_tunnels_own_table_is_named_and_stays(running_server, client_host):
    client_host.ip("route", "add", "10.99.0.0/24", "dev", "eth0", "table", "51700")
    before = client_host.network_state()
    client = running_server.new_client(client_host, "alice")
    said = client.connect(code=1)
    assert "10.99.0.0/24" in said and "51700" in said and "is there already" in said, said
    assert client_host.network_state() == before


# --- no TUN device ---

WITHOUT_TUN = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh"]


def test_a_machine_without_tun(wire, server, client_host):
    client = server.new_client(client_host, "alice")
    server.start()
    done = client_host.run(*WITHOUT_TUN, client.program, "connect", "alice", check=False)
    assert done.returncode == 1 and re.search("/dev/net/tun: no TUN support.*load", done.stderr)
    server.stop()
    for command in ("run", "check"):
        done = wire.server.run(*WITHOUT_TUN, server.program, command, "--dir", server.dir,
                               check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 1, said
        assert re.search("/dev/net/tun: no TUN support.*\n.*load", said), said


def test_a_device_name_that_is_taken(wire, server, client_host):
    wire.server.ip("tuntap", "add", "dev", "vpn0", "mode", "tun")
    client = Client(client_host, "alice")
    table = profile_table(server.add_user("alice"))
    for device in ("vpn0", "to1", "lo"):
        server.configure("tun", device=device).start(wait=False)
        assert server.process.wait() == 1
        assert re.search(f"{device}: cannot create the TUN interface.*busy\n *the name is taken",
                         server.log()), server.log()
    server.configure("tun", device=None).start()
    before = client_host.network_state()
    client.import_text({**table, "device": "eth0"})
    said = client.connect(code=1)
    assert re.search("eth0: cannot create the TUN interface.*choose another name", said), said
    assert client_host.network_state() == before


# --- ports ---

def test_ports_that_cannot_be_had(wire, server):
    with wire.server.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
        taken.bind(("::", 443))
        server.start(wait=False)
        assert server.process.wait() == 1
        assert re.search(r"\[::\]:443: .*UDP.*in use\n *another program", server.log())
    server.configure("listen", address="203.0.113.9:443").start(wait=False)
    assert server.process.wait() == 1
    assert re.search("203.0.113.9:443: this machine does not have the address", server.log())
