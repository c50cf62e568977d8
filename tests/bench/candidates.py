"""Who is measured: each candidate brings up one tunnel between two hosts of its own, configured at
its best. "At its best" has one limit: no packet on the outside is fragmented, because on a real path
that is how packets get lost.

    client1 (192.0.2.6, eth0) ──veth── (to1) server (198.51.100.1)
    tunnel's address           tunnel            tunnel's address
"""
import os
import pathlib
import re
import subprocess

from harness import certs, culvert, peers
from harness.net import Wire, World
from harness.wait import wait_until

MB = 1 << 20


class Missing(Exception):
    """Why a candidate cannot be measured here: a line of the table, not an error."""


def program(name):
    """The path of an installed program."""
    for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        path = pathlib.Path(folder, name)
        if path.exists():
            return path
    raise Missing(f"{name} is not installed (scripts/bootstrap --for bench)")


def first_line(*argv):
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown"


def last_line(text):
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def brief(error):
    """What failed, and the last that the program had to say about it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " … ".join(dict.fromkeys((lines[0], lines[-1]))) if lines else type(error).__name__


class Candidate:
    """Subclasses set `inside` and `back`, the addresses of the server and the client to measure
    between, in set_up(). `processes` are the tunnel's own, by host."""

    has_tunnel = True
    only_tests = None  # names of tests; None: all

    def __init__(self, name, title):
        self.name, self.title = name, title
        self.notes = []
        self.inside = self.back = None
        self.world = self.client = self.server = None
        self.processes = {}

    def version(self):
        return None

    def bring_up(self, bench):
        """Raises Missing with the reason if that cannot be done here."""
        self.bench = bench
        folder = bench.dir / self.name
        folder.mkdir()
        folder.chmod(0o755)
        self.world = World(folder, bench.bin)
        wire = self.world.wire()
        self.server, self.client = wire.server, bench.add_client(self.world, wire)
        # Without a link-local address Linux cannot ask who has a neighbour's address when the packet's
        # own source is on another device, as the server's is: it would be lost after some seconds.
        self.server.add_address(self.client.uplink, "fe80::1/64")
        self.client.add_address("eth0", "fe80::2/64")
        for host in self.hosts():
            bench.congestion.apply(host)
        try:
            self.set_up()
            wait_until(lambda: self.client.ping(self.inside, check=False),
                       f"a ping through {self.title}", 20)
        except (AssertionError, subprocess.SubprocessError, OSError) as error:
            if bench.verbose:
                print(self.world.story())
            raise Missing("does not come up: " + brief(error)) from error
        if self.has_tunnel:
            self.processes = {host.name: host.pids() for host in self.hosts()}
        iperf = self.server.start("iperf3", "-s", "--forceflush")
        iperf.wait_for_output("listening")

    def set_up(self):
        raise NotImplementedError

    def hosts(self):
        return [self.client, self.server]

    def close(self):
        if self.world is not None:
            self.world.close()
            self.world = None

    def address(self, host, device, address, mtu):
        wait_until(lambda: device in host.links(), f"the device {device}")
        host.add_address(device, address)
        host.ip("link", "set", device, "mtu", mtu, "up")


class Veth(Candidate):
    """No tunnel: what the wire does."""

    has_tunnel = False

    def set_up(self):
        self.inside, self.back = Wire.SERVER4, self.client.address4


# --- What is possible: see limit_probe.h.

class Probe(Candidate):
    """Ours, or (with `folder`) one that was built from a yardstick's source there."""

    NET, PORT = "10.6.0", 7000

    def __init__(self, name, title, folder=None):
        super().__init__(name, title)
        self.folder = folder

    def tool(self, ours, theirs):
        path = self.folder / theirs if self.folder else self.bench.bin / ours
        if not path.exists():
            raise Missing(f"{path.name} is not built (libipsec-mb-dev)")
        return path

    def start(self, host, tool, *arguments):
        process = host.start(tool, *arguments)
        wait_until(lambda: "lim0" in host.links() or not process.running, "the probe's device")
        assert process.running, process.output()

    def set_addresses(self, mtu):
        self.inside, self.back = self.NET + ".1", self.NET + ".2"
        self.address(self.server, "lim0", self.inside + "/24", mtu)
        self.address(self.client, "lim0", self.back + "/24", mtu)


class UdpProbe(Probe):
    def set_up(self):
        tool = self.tool("udp_limit_probe", "udp_limit")
        ends = ((self.server, Wire.SERVER4, self.client.address4),
                (self.client, self.client.address4, Wire.SERVER4))
        for host, local, peer in ends:
            if self.folder:
                self.start(host, tool, local, self.PORT, peer, "lim0", 1)
            else:
                self.start(host, tool, f"{local}:{self.PORT}", f"{peer}:{self.PORT}", "lim0")
        self.set_addresses(1400)


class TcpProbe(Probe):
    def set_up(self):
        tool = self.tool("tcp_limit_probe", "tcp_limit")
        for host, theirs, ours in ((self.server, "server", "listen"),
                                   (self.client, "client", "connect")):
            if self.folder:
                self.start(host, tool, theirs, Wire.SERVER4, self.PORT, "lim0", 1, 1)
            else:
                self.start(host, tool, ours, f"{Wire.SERVER4}:{self.PORT}", "lim0")
            if host is self.server:
                wait_until(lambda: str(self.PORT) in host.run("ss", "-ltnH").stdout,
                           "the probe listening")
        self.set_addresses(1500)


# --- The peers.

class WireguardGo(Candidate):
    """MTU 1,440: the most that fits 1,500 over IPv4."""

    PORT, MTU = 51820, 1440

    def __init__(self, name, title, path=None):
        super().__init__(name, title)
        self.path = path

    def find(self):
        if self.path is None:
            return program("wireguard-go")
        if not self.path.exists():
            raise Missing(f"{self.path} is not there (scripts/bootstrap --for bench)")
        return self.path

    def version(self):
        package = self.find().parents[2] / "version"  # of the package that it was unpacked from
        note = f", package {package.read_text().strip()}" if package.exists() else ""
        return first_line(self.find(), "--version") + note

    def set_up(self):
        tool, wg = self.find(), program("wg")
        self.inside, self.back = "10.66.0.1", "10.66.0.2"
        keys = {host.name: self.make_key(wg, host) for host in self.hosts()}
        for number, host in enumerate(self.hosts()):
            # Its control socket is in /run/wireguard, which all namespaces share.
            device = f"wg{os.getpid() % 100000}{self.name[-3:]}{number}"
            host.start(tool, "-f", device, env={"LOG_LEVEL": "error"})
            socket = pathlib.Path(f"/run/wireguard/{device}.sock")
            wait_until(socket.exists, "wireguard-go's control socket")
            other = self.server if host is self.client else self.client
            ours, theirs = ((self.inside, self.back) if host is self.server
                            else (self.back, self.inside))
            outside = Wire.SERVER4 if other is self.server else self.client.address4
            host.run(wg, "set", device, "listen-port", self.PORT, "private-key",
                     host.dir / "wg.key", "peer", keys[other.name], "allowed-ips", theirs + "/32",
                     "endpoint", f"{outside}:{self.PORT}")
            self.address(host, device, ours + "/24", self.MTU)

    @staticmethod
    def make_key(wg, host):
        private = host.run(wg, "genkey").stdout
        path = host.dir / "wg.key"
        path.touch(0o600)
        path.write_text(private)
        return host.run(wg, "pubkey", stdin=private).stdout.strip()


class OpenVpn(Candidate):
    """Certificates, AES-128-GCM, in user space. Over UDP an MTU of 1,448, the most that fits 1,500
    with its 24 bytes a packet; over TCP packets are not tied to that, and 1,500 is what hosts behind
    a gateway send. Two more rows show what a large MTU does for the ends of the tunnel themselves:
    over UDP its outside packets are then fragmented, which is the exception to the rule above."""

    PORT = 1194

    def __init__(self, name, title, tcp, mtu, only_tests=None):
        super().__init__(name, title)
        self.tcp, self.mtu, self.only_tests = tcp, mtu, only_tests

    def version(self):
        return " ".join(first_line(program("openvpn"), "--version").split()[:2])

    def set_up(self):
        tool = program("openvpn")
        self.inside, self.back = "10.8.0.1", "10.8.0.2"
        ca = certs.Ca(self.world.dir)
        server = ca.issue("vpn.example.com", [certs.SERVER])
        user = ca.issue("alice")
        common = ["--dev", "ovpn0", "--dev-type", "tun", "--topology", "subnet", "--ca",
                  ca.certificate, "--data-ciphers", "AES-128-GCM", "--disable-dco",
                  "--tun-mtu", self.mtu, "--mssfix", 0, "--txqueuelen", 500,
                  "--sndbuf", MB, "--rcvbuf", MB, "--keepalive", 10, 60, "--verb", 3]
        if self.tcp:
            common += ["--socket-flags", "TCP_NODELAY"]
        else:
            common += ["--fast-io"]
        on_server = self.server.start(
            tool, *common, "--server", "10.8.0.0", "255.255.255.0", "--dh", "none",
            "--local", Wire.SERVER4, "--port", self.PORT, "--proto", "tcp-server" if self.tcp else "udp", "--cert",
            server.certificate, "--key", server.key,
            *(["--tcp-queue-limit", 1024] if self.tcp else []))
        on_server.wait_for_output("Initialization Sequence Completed")
        on_client = self.client.start(
            tool, *common, "--client", "--nobind", "--remote", Wire.SERVER4,
            self.PORT, "--proto", "tcp-client" if self.tcp else "udp", "--remote-cert-tls",
            "server", "--cert", user.certificate, "--key", user.key)
        on_client.wait_for_output("Initialization Sequence Completed")


class Ocserv(Candidate):
    """Stock server and client. AES-128-GCM in both channels, no isolation, long queues."""

    TLS = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-DTLS1.2:-CIPHER-ALL:+AES-128-GCM"

    def __init__(self, name, title, dtls):
        super().__init__(name, title)
        self.dtls = dtls

    def version(self):
        return (f"{first_line(program('ocserv'), '--version')}, "
                f"{first_line(program('openconnect'), '--version')}")

    def set_up(self):
        program("ocserv"), program("openconnect")
        self.inside = peers.Ocserv.INSIDE4
        ca = certs.Ca(self.world.dir)
        server = ca.issue("vpn.example.com", [certs.SERVER],
                          ["DNS:vpn.example.com", "IP:" + Wire.SERVER4])
        extra = "dtls-psk = true\nudp-port = 443\n" if self.dtls else ""
        peers.Ocserv(self.server, ca.certificate, server, extra=extra, tls=self.TLS)
        self.connect(ca.certificate, ca.issue("alice"), nets4="10.77.0.0/24", nets6="fd77::/64")

    def connect(self, ca, issued, **networks):
        """The stock client, in the channel that is wanted."""
        arguments = ("--queue-len", "32") + (() if self.dtls else ("--no-dtls",))
        client = peers.Openconnect(self.client, ca, issued.certificate, issued.key,
                                   url="https://vpn.example.com/", arguments=arguments, **networks)
        client.wait_until_up()
        self.back = client.address4
        if self.dtls:
            established = re.compile(r"Established DTLS connection.*")
            try:
                wait_until(lambda: established.search(client.process.output()), "DTLS", 10)
            except AssertionError as error:
                raise Missing("DTLS does not come up") from error
            self.notes.append(established.search(client.process.output()).group(0))


# --- Ours.

class OpenconnectOnCulvertd(Ocserv):
    def version(self):
        return (f"{first_line(self.bench.bin / 'culvertd', '--version')}, "
                f"{first_line(program('openconnect'), '--version')}")

    def set_up(self):
        program("openconnect")
        self.inside = culvert.INSIDE4
        server = culvert.Server(self.server).init()
        issued = server.export_for("alice")
        server.start()
        self.connect(server.dir / "ca.crt", issued)


class Culvert(Candidate):
    """Our pair. `channel` is what must carry the packets: "dtls", "tls", or None for whatever comes
    up. `server` and `profile` are keys of the two configurations that differ from the default."""

    def __init__(self, name, title, channel=None, server=None, profile=None, inside6=False,
                 outside6=False, only_tests=None):
        super().__init__(name, title)
        self.channel, self.server_keys, self.profile_keys = channel, server or {}, profile or {}
        self.inside6, self.outside6, self.only_tests = inside6, outside6, only_tests
        self.daemon = None

    def version(self):
        return first_line(self.bench.bin / "culvertd", "--version")

    def set_up(self):
        address = f"[{Wire.SERVER6}]" if self.outside6 else Wire.SERVER4
        self.daemon = culvert.Server(self.server).init(address=address)
        for section, keys in self.server_keys.items():
            self.daemon.configure(section, **keys)
        if self.server_keys:
            self.must_be_known(self.daemon.run("check", check=False))
        profile = culvert.profile_table(self.daemon.add_user("alice"))
        self.daemon.start()
        tunnel = culvert.Client(self.client, "alice")
        self.import_profile(tunnel, profile)
        tunnel.connect()
        self.check_channel(tunnel)
        status = tunnel.status()
        self.inside = culvert.INSIDE6 if self.inside6 else culvert.INSIDE4
        self.back = status["ipv6" if self.inside6 else "ipv4"]

    def import_profile(self, tunnel, profile):
        try:
            tunnel.import_text({**profile, **self.profile_keys})
        except AssertionError as error:
            # Before there was a DTLS channel there was nothing to switch off.
            if self.profile_keys != {"udp": False}:
                raise Missing("not available: " + last_line(str(error))) from error
            tunnel.import_text(profile)

    @staticmethod
    def must_be_known(checked):
        if checked.returncode == 2:  # usage: for example a key that this build doesn't know
            lines = [line for line in (checked.stdout + checked.stderr).splitlines()
                     if "FAILED" in line or "unknown" in line]
            reason = lines[0] if lines else "culvertd check is not content"
            raise Missing("not available: " + re.sub(r"^FAILED\s+\w+\s+(\S*/)?", "", reason))

    def check_channel(self, tunnel):
        """DTLS comes up beside TLS, a moment later."""
        if self.channel != "tls":
            try:
                wait_until(lambda: tunnel.status()["channel"] == "dtls", "DTLS", 8)
            except AssertionError:
                pass
        channel = tunnel.status()["channel"]
        self.notes.append(f"channel {channel}")
        if self.channel not in (None, channel) and not (
                self.channel == "tls" and channel != "dtls"):
            raise Missing(f"not available: the packets go over {channel}")

    def handed_over(self):
        """Packets that the server's data threads have passed on to another thread so far, or None
        if it doesn't count them."""
        workers = self.daemon.status().get("workers")
        if not isinstance(workers, list):
            return None
        counts = [w.get("packets_handed_over") for w in workers]
        return None if None in counts else sum(counts)


NO_UDP_OFFLOADS = {"gso": False, "gro": False}


def everybody(root):
    """All candidates, in the order of the table."""
    newest = root / ".deps/wireguard-go/usr/bin/wireguard-go"
    # Steered by destination, nothing would ever come to the wrong thread.
    two_workers = {"workers": {"count": 2}, "tun": {"steering": False}}
    family = ("up", "down", "udp", "ping", "memory")
    mtu_matters = ("up", "down", "four", "ping", "memory")
    return [
        Veth("veth", "bare veth"),
        UdpProbe("udp-probe", "limit probe, UDP"),
        TcpProbe("tcp-probe", "limit probe, TCP"),
        Culvert("culvert-dtls", "culvert, DTLS", channel="dtls"),
        Culvert("culvert-tls", "culvert, TLS", channel="tls", profile={"udp": False}),
        Culvert("culvert-plain", "culvert, DTLS, no offloads", channel="dtls",
                server={"tun": {"offloads": False}, "udp": NO_UDP_OFFLOADS},
                profile={"offloads": False, "udp_gso": False, "udp_gro": False}),
        Culvert("culvert-in6", "culvert, IPv6 inside", inside6=True, only_tests=family),
        Culvert("culvert-out6", "culvert, IPv6 outside", outside6=True, only_tests=family),
        Culvert("culvert-queues", "culvert, DTLS, two workers", channel="dtls",
                server=two_workers, only_tests=("up", "down", "four", "queues", "memory")),
        OpenconnectOnCulvertd("oc-culvertd-dtls", "openconnect on culvertd, DTLS", dtls=True),
        OpenconnectOnCulvertd("oc-culvertd-tls", "openconnect on culvertd, TLS", dtls=False),
        Ocserv("ocserv-dtls", "ocserv + openconnect, DTLS", dtls=True),
        Ocserv("ocserv-tls", "ocserv + openconnect, TLS", dtls=False),
        WireguardGo("wireguard-new", "wireguard-go, newest", newest),
        WireguardGo("wireguard-old", "wireguard-go, Debian 12"),
        OpenVpn("openvpn-udp", "OpenVPN, UDP", tcp=False, mtu=1448),
        OpenVpn("openvpn-tcp", "OpenVPN, TCP", tcp=True, mtu=1500),
        OpenVpn("openvpn-udp-large", "OpenVPN, UDP, MTU 6,000", tcp=False, mtu=6000,
                only_tests=mtu_matters),
        OpenVpn("openvpn-tcp-large", "OpenVPN, TCP, MTU 15,000", tcp=True, mtu=15000,
                only_tests=mtu_matters),
    ]


def yardsticks(folder):
    return [UdpProbe("udp-yardstick", "yardstick, UDP", folder),
            TcpProbe("tcp-yardstick", "yardstick, TCP", folder)]
