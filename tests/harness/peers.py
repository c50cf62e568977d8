"""The stock peers: Debian's openconnect and ocserv."""
import pathlib
import re
import signal

from harness.net import end_pids
from harness.wait import wait_until

VPNC_SCRIPT = """#!/bin/sh
# What a stock client does with the parameters, cut down to what the tests look at.
case $reason in
  connect)
    ip link set dev "$TUNDEV" up mtu "${{INTERNAL_IP4_MTU:-1400}}"
    if [ -n "$INTERNAL_IP4_ADDRESS" ]; then
      ip addr add "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV"
      for net in {nets4}; do ip route add "$net" dev "$TUNDEV"; done
    fi
    if [ -n "$INTERNAL_IP6_ADDRESS" ]; then
      ip addr add "$INTERNAL_IP6_ADDRESS/128" dev "$TUNDEV" nodad
      for net in {nets6}; do ip -6 route add "$net" dev "$TUNDEV"; done
    fi ;;
esac
echo "$reason $INTERNAL_IP4_ADDRESS $INTERNAL_IP6_NETMASK mtu=$INTERNAL_IP4_MTU" >>"{log}"
"""


class Openconnect:
    """openconnect in the foreground, without DTLS."""

    def __init__(self, host, ca, certificate, key, url="https://198.51.100.1/",
                 nets4="10.99.0.0/24", nets6="fd99::/64", arguments=("--no-dtls",), pin=None):
        self.host = host
        script = host.dir / "vpnc-script"
        self.script_log = host.dir / "vpnc-script.log"
        script.write_text(VPNC_SCRIPT.format(log=self.script_log, nets4=nets4, nets6=nets6))
        script.chmod(0o755)
        self.script_log.write_text("")
        trust = ["--cafile", ca, "--resolve", "vpn.example.com:198.51.100.1"]
        self.process = host.start(
            "openconnect", "--non-inter", "--timestamp", *trust, "--certificate", certificate,
            "--sslkey", key, "--interface", "octun0", "--script", script, *arguments, url)

    def script_lines(self, reason):
        return [line.split() for line in self.script_log.read_text().splitlines()
                if line.startswith(reason + " ")]

    def wait_until_up(self, limit=20):
        def up():
            assert self.process.running, self.process.output()
            return self.script_lines("connect")
        self.address4 = wait_until(up, "openconnect being up", limit)[0][1]
        # Before it has its handlers, a signal would just kill it.
        wait_until(lambda: self._catches(signal.SIGINT), "openconnect minding signals", limit)
        return self

    def _catches(self, number):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        mask = int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE).group(1), 16)
        return mask >> (number - 1) & 1

    def reconnect(self):
        """Drops the connection and makes a new one with the cookie."""
        before = len(self.script_lines("reconnect"))
        self.process.send(signal.SIGUSR2)
        wait_until(lambda: len(self.script_lines("reconnect")) > before,
                   "openconnect having reconnected", 20)

    def stop(self):
        """SIGINT: openconnect says goodbye and ends."""
        return self.process.stop(signal.SIGINT)


class Ocserv:
    """ocserv with login by certificate; the client's user name is the certificate's CN."""

    INSIDE4, INSIDE6 = "10.77.0.1", "fd77::1"

    def __init__(self, host, ca, issued, crl=None, extra="", tls="NORMAL:-VERS-ALL:+VERS-TLS1.3",
                 port=443, rekey=172800, rekey_method="new-tunnel", cookie_timeout=60,
                 ipv4=True, ipv6=True, idle=None, lifetime=None):
        self.host = host
        self.dir = host.dir / "ocserv"
        self.dir.mkdir(exist_ok=True)
        self.dir.chmod(0o755)
        # It makes a device for each session; the kernel is not to look for its address elsewhere.
        host.run("sysctl", "-qw", "net.ipv6.conf.default.router_solicitation_delay=0",
                 "net.ipv6.conf.default.dad_transmits=0")
        config = self.dir / "ocserv.conf"
        crl_line = f"crl = {crl}" if crl else ""
        families = ""
        if ipv4:
            families += "ipv4-network = 10.77.0.0/24\nroute = 10.77.0.0/255.255.255.0\n"
        if ipv6:
            families += "ipv6-network = fd77::/64\nipv6-subnet-prefix = 128\nroute = fd77::/64\n"
        limits = "".join(f"{key} = {value}\n" for key, value in (
            ("idle-timeout", idle), ("mobile-idle-timeout", idle), ("session-timeout", lifetime))
            if value is not None)
        config.write_text(f"""
auth = "certificate"
tcp-port = {port}
run-as-user = nobody
run-as-group = daemon
socket-file = {self.dir}/socket
occtl-socket-file = {self.dir}/occtl
use-occtl = true
pid-file = {self.dir}/pid
server-cert = {issued.certificate}
server-key = {issued.key}
ca-cert = {ca}
{crl_line}
cert-user-oid = 2.5.4.3
isolate-workers = false
max-clients = 16
max-same-clients = 4
server-stats-reset-time = 604800
keepalive = 300
dpd = 30
mobile-dpd = 30
try-mtu-discovery = false
tls-priorities = "{tls}"
auth-timeout = 40
cookie-timeout = {cookie_timeout}
rekey-time = {rekey}
rekey-method = {rekey_method}
predictable-ips = true
default-domain = example.com
ping-leases = false
device = octun
{families}{limits}cisco-client-compat = false
dtls-legacy = false
{extra}
""")
        self._config = config
        self.start()

    def start(self):
        self.process = self.host.start("ocserv", "-f", "-d", "2", "-c", self._config,
                                       name="ocserv")
        wait_until(lambda: (self.dir / "occtl").exists() or not self.process.running,
                   "ocserv's control socket", 20)
        assert self.process.running, self.process.output()

    def stop(self):
        """Cleanly: it lets its clients go, and no session survives."""
        self.process.stop()
        self._clear()

    def restart(self):
        """As after a crash: no session survives."""
        self.process.kill()
        end_pids(self.host.pids())
        self._clear()
        self.start()

    def _clear(self):
        for left in ("occtl", "socket*"):
            for path in self.dir.glob(left):
                path.unlink()

    def occtl(self, *arguments, check=True):
        return self.host.run("occtl", "-s", self.dir / "occtl", *arguments, check=check)

    def users(self):
        return self.occtl("--json", "show", "users", check=False).stdout
