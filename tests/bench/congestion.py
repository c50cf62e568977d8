"""TCP congestion control of the measured hosts."""
import pathlib


class Congestion:
    """A namespace may only choose what the machine allows to everybody; where that is not enough,
    the list is made longer and put back at the end."""

    ALLOWED = pathlib.Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")

    def __init__(self, name):
        self.name = name
        self.before = self.ALLOWED.read_text()
        self.changed = name not in self.before.split()
        if self.changed:
            self.ALLOWED.write_text(f"{self.before.strip()} {name}")

    def apply(self, host):
        host.run("sh", "-c", f"echo {self.name} >/proc/sys/net/ipv4/tcp_congestion_control")

    def close(self):
        if self.changed:
            self.ALLOWED.write_text(self.before)
