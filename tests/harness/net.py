"""Hosts: a network namespace each, with folders and an environment of their own, so that many
servers and clients run side by side on one machine and none of them touches the machine itself."""
import contextlib
import ctypes
import fcntl
import itertools
import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import tempfile

from harness.process import Process

_numbers = itertools.count(1)
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM, _ETHTOOL_STSO, _ETHTOOL_SGSO, _ETHTOOL_SGRO = 0x17, 0x1f, 0x24, 0x2c
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*arguments):
    subprocess.run(["ip", *map(str, arguments)], check=True, capture_output=True, text=True)


def veth(one, other):
    """A line between two hosts: (host, name of its device) twice."""
    ip("link", "add", one[1], "netns", one[0].netns, "type", "veth",
       "peer", "name", other[1], "netns", other[0].netns)


def inside(netns, *argv):
    """The command line that runs another one in a namespace. Neither `ip netns exec` nor `ip -n`:
    both want to remount /, which a chroot doesn't let them."""
    return ["nsenter", f"--net=/run/netns/{netns}", "--", *map(str, argv)]


class Host:
    """A machine of the topology. run() and start() run programs inside it."""

    def __init__(self, world, name):
        self.world = world
        self.name = name
        self.netns = f"cv{os.getpid()}-{next(_numbers)}-{name}"
        self.dir = world.dir / name
        for folder in ("run", "etc", "log"):
            (self.dir / folder).mkdir(parents=True)
        self.env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.dir),
            "LC_ALL": "C.UTF-8",
            "CULVERT_RUNTIME_DIR": str(self.dir / "run"),
            "CULVERT_STATE_DIR": str(self.dir / "state"),
            "CULVERT_CONFIG_DIR": str(self.dir / "etc"),
            **world.sanitizer_env,
        }
        ip("netns", "add", self.netns)
        self.ip("link", "set", "lo", "up")

    # --- programs ---

    def _inside(self, argv):
        return inside(self.netns, *argv)

    def run(self, *argv, check=True, limit=60, env=None, stdin=None):
        """Runs a program to its end and returns what subprocess.run() returns, output as text."""
        done = subprocess.run(self._inside(argv), env={**self.env, **(env or {})}, text=True,
                              errors="replace", capture_output=True, timeout=limit,
                              **({"input": stdin} if stdin is not None
                                 else {"stdin": subprocess.DEVNULL}))
        self.world.note(f"{self.name}$ {' '.join(map(str, argv))}\n  -> {done.returncode}\n"
                        + done.stdout[-3000:] + done.stderr[-3000:])
        if check:
            assert done.returncode == 0, (
                f"{self.name}: {' '.join(map(str, argv))} ended with {done.returncode}\n"
                f"{done.stdout}{done.stderr}")
        return done

    def start(self, *argv, name=None, env=None):
        name = name or os.path.basename(str(argv[0]))
        log = self.dir / "log" / f"{name}-{next(_numbers)}.log"
        process = Process(self._inside(argv), log, env={**self.env, **(env or {})}, name=name)
        self.world.processes.append(process)
        return process

    def pids(self):
        """Every process that lives in this host."""
        done = subprocess.run(["ip", "netns", "pids", self.netns], capture_output=True, text=True)
        return [int(pid) for pid in done.stdout.split()]

    def processes(self, name):
        """Those that live in this host under a name (comm, proc(5)), by process id."""
        found = []
        for pid in self.pids():
            try:
                if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == name:
                    found.append(pid)
            except FileNotFoundError:
                pass
        return found

    # --- network ---

    def ip(self, *arguments):
        return subprocess.run(inside(self.netns, "ip", *arguments), check=True,
                              capture_output=True, text=True).stdout

    def add_address(self, device, *addresses):
        for address in addresses:
            flags = ["nodad"] if ":" in address else []
            self.ip("addr", "add", address, "dev", device, *flags)

    def add_route(self, destination, via):
        self.ip("route", "add", destination, "via", via)

    def json(self, *arguments):
        return json.loads(self.ip("-j", *arguments) or "[]")

    def links(self):
        return [link["ifname"] for link in self.json("link")]

    def refuse_superpackets(self, device):
        """Each frame that the device sends is one packet with a finished checksum, as on a real wire.
        A device that does no checksums does no segmentation of UDP either; programs may go on using
        UDP_SEGMENT (since Linux 6.11), the kernel cuts by itself."""
        with self.socket(kind=socket.SOCK_DGRAM) as control:
            for command in (_ETHTOOL_STXCSUM, _ETHTOOL_STSO, _ETHTOOL_SGSO, _ETHTOOL_SGRO):
                value = ctypes.create_string_buffer(struct.pack("II", command, 0))
                fcntl.ioctl(control, _SIOCETHTOOL,
                            struct.pack("16sP", device.encode(), ctypes.addressof(value)))

    def ping(self, address, count=3, check=True, size=None, source=None, limit=3):
        """True if every one of `count` pings was answered."""
        # ping waits for its last answer only twice as long as the others took: one more is sent.
        extra = count > 1
        done = self.run("ping", "-n", "-c", count + extra, "-i", "0.05", "-W", limit,
                        *(["-s", size] if size else []), *(["-I", source] if source else []),
                        address, check=False)
        answered = {int(n) for n in re.findall(r"icmp_seq=(\d+) ttl=", done.stdout)}
        good = done.returncode == 0 and answered >= set(range(1, count + 1))
        if check:
            assert good, f"{self.name}: ping {address}:\n{done.stdout}{done.stderr}"
        return good

    def network_state(self):
        """Everything a VPN may change here, as text that two moments can be compared by."""
        parts = []
        for what in (["addr"], ["-4", "route", "show", "table", "all"],
                     ["-6", "route", "show", "table", "all"], ["-4", "rule"], ["-6", "rule"]):
            # The kernel adds the multicast route when the carrier is there, up to a second later.
            entries = [json.dumps(_without_noise(e), sort_keys=True) for e in self.json(*what)
                       if e.get("dst") != "ff00::/8"]
            parts += [" ".join(what) + ":", *sorted(set(entries))]
        rules = self.run("nft", "list", "ruleset", check=False).stdout
        parts += ["nft:", re.sub(r"# handle \d+", "", rules)]
        for path in ("net/ipv4/conf/all/rp_filter", "net/ipv4/ip_forward",
                     "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/src_valid_mark"):
            parts.append(path + " " + self.run("cat", "/proc/sys/" + path).stdout.strip())
        return "\n".join(parts)

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        """A socket of this host for the test's own process."""
        with open("/proc/self/ns/net") as home, open(f"/run/netns/{self.netns}") as inside:
            _setns(inside)
            try:
                return socket.socket(family, kind)
            finally:
                _setns(home)

    def log_text(self):
        """All that programs of this host have logged."""
        return "".join(p.read_text(errors="replace")
                       for p in sorted((self.dir / "log").iterdir()))

    def remove(self):
        subprocess.run(["ip", "netns", "del", self.netns], capture_output=True)


def _setns(file):
    if _libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _without_noise(value):
    """Life times, and carriers that come up by themselves, do not belong to the comparison."""
    if isinstance(value, dict):
        return {k: _without_noise(v) for k, v in value.items()
                if k not in ("expires", "valid_life_time", "preferred_life_time", "operstate")}
    if isinstance(value, list):
        return [_without_noise(v) for v in value if v not in ("NO-CARRIER", "LOWER_UP", "linkdown")]
    return value


class Wire:
    """The standard topology, see the picture in conftest.py."""

    SERVER4, SERVER6 = "198.51.100.1", "2001:db8:ffff::1"

    def __init__(self, world, server="server"):
        self.world = world
        self.server = Host(world, server)
        self.server.add_address("lo", self.SERVER4 + "/32", self.SERVER6 + "/128")
        self.clients = []

    def add_client(self, name=None, between=None):
        """`between`: a host that the line is cut at; its devices near1 and far1 are up, without
        addresses, and what passes between them is its business."""
        number = len(self.clients) + 1
        host = Host(self.world, name or f"client{number}")
        if between is None:
            veth((host, "eth0"), (self.server, f"to{number}"))
        else:
            veth((host, "eth0"), (between, f"near{number}"))
            veth((between, f"far{number}"), (self.server, f"to{number}"))
            for device in (f"near{number}", f"far{number}"):
                between.ip("link", "set", device, "addrgenmode", "none", "up")
        # No link-local addresses: they come late and would blur comparisons.
        host.ip("link", "set", "eth0", "addrgenmode", "none")
        self.server.ip("link", "set", f"to{number}", "addrgenmode", "none")
        near4, far4 = f"192.0.2.{4 * number + 2}", f"192.0.2.{4 * number + 1}"
        near6, far6 = f"2001:db8:{number}::2", f"2001:db8:{number}::1"
        host.add_address("eth0", near4 + "/30", near6 + "/64")
        self.server.add_address(f"to{number}", far4 + "/30", far6 + "/64")
        host.ip("link", "set", "eth0", "up")
        self.server.ip("link", "set", f"to{number}", "up")
        host.add_route("default", far4)
        host.ip("-6", "route", "add", "default", "via", far6)
        host.address4, host.address6, host.uplink = near4, near6, f"to{number}"
        host.gateway4, host.gateway6 = far4, far6
        self.clients.append(host)
        return host

    def add_second_link(self, host, number=0):
        """Another network that the client can move to; returns the gateway there."""
        device, far_device = f"eth{number + 1}", f"lte{number}"
        near, far = f"203.0.113.{4 * number + 2}", f"203.0.113.{4 * number + 1}"
        ip("link", "add", device, "netns", host.netns, "type", "veth",
           "peer", "name", far_device, "netns", self.server.netns)
        host.add_address(device, near + "/30")
        self.server.add_address(far_device, far + "/30")
        host.ip("link", "set", device, "up")
        self.server.ip("link", "set", far_device, "up")
        return far


class World:
    """All that one test has started; close() leaves nothing behind."""

    @classmethod
    @contextlib.contextmanager
    def temporary(cls, bin_dir):
        """With a folder of its own; what the sanitizers say fails the test, or those that share it.
        CULVERT_KEEP in the environment keeps the folder."""
        # Not pytest's tmp_path: the path of a unix socket has 107 characters, and the server's own
        # user must get there.
        directory = tempfile.mkdtemp(prefix="cvt-", dir="/tmp")
        os.chmod(directory, 0o755)
        world = cls(directory, bin_dir)
        try:
            yield world
        finally:
            reports = world.close()
            if not os.environ.get("CULVERT_KEEP"):
                shutil.rmtree(directory, ignore_errors=True)
            assert not reports, "a sanitizer complained:\n" + "\n".join(reports)

    def __init__(self, directory, bin_dir):
        self.dir = pathlib.Path(directory)
        self.bin = pathlib.Path(bin_dir)
        self.hosts = []
        self.processes = []
        self.servers = []   # things with close(), e.g. threads of the test's own peers
        self._notes = []
        reports = self.dir / "sanitizer"
        reports.mkdir()
        reports.chmod(0o1777)  # the server writes there as its own user
        self.reports = reports
        options = f"log_path={reports}/report:exitcode=66:abort_on_error=0"
        self.sanitizer_env = {
            "ASAN_OPTIONS": options + ":detect_leaks=1:detect_stack_use_after_return=1",
            "UBSAN_OPTIONS": options + ":print_stacktrace=1:halt_on_error=1",
            "TSAN_OPTIONS": options + ":second_deadlock_stack=1",
            "ASAN_SYMBOLIZER_PATH": "/usr/bin/llvm-symbolizer-14",
        }

    def note(self, text):
        self._notes.append(text)

    def wire(self, server="server"):
        """`server`: what its host is called, where a world has several topologies."""
        wire = Wire(self, server)
        self.hosts.append(wire.server)
        return wire

    def add_host(self, name):
        """One that stands between others."""
        host = Host(self, name)
        self.hosts.append(host)
        return host

    def add_client(self, wire, name=None, between=None):
        host = wire.add_client(name, between)
        self.hosts.append(host)
        return host

    def story(self):
        """What happened, for the report of a failed test."""
        parts = ["--- commands", *self._notes[-40:]]
        for host in self.hosts:
            for log in sorted((host.dir / "log").iterdir()):
                lines = log.read_text(errors="replace").splitlines()[-60:]
                parts += [f"--- {host.name}: {log.name}", *lines]
        return "\n".join(parts + self.sanitizer_reports())

    def sanitizer_reports(self):
        return [f"--- sanitizer: {report.name}\n" + report.read_text(errors="replace")[:8000]
                for report in sorted(self.reports.iterdir())]

    def close(self):
        """Ends everything and returns what the sanitizers had to say."""
        for server in self.servers:
            server.close()
        for process in reversed(self.processes):
            process.close()
        for host in self.hosts:
            end_pids(host.pids())
            host.remove()
        return self.sanitizer_reports()


def end_pids(pids):
    """Ends processes that live in a namespace of ours: politely, then not."""
    from harness.wait import wait_until
    import signal

    def runs(pid):
        try:
            return " Z " not in pathlib.Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False

    def alive():
        return [pid for pid in pids if runs(pid)]

    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in alive():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        try:
            wait_until(lambda: not alive(), "the end of left-over processes", 10)
            return
        except AssertionError:
            continue
