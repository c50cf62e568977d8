"""Which switches of the packet path are tested together: few rows in which every two switches meet
in every way."""
import itertools

# Switch: what turns it off.
SERVER_SWITCHES = {"server tun": ("tun", "offloads"), "server gso": ("udp", "gso"),
                   "server gro": ("udp", "gro")}
CLIENT_SWITCHES = {"client tun": "offloads", "client gso": "udp_gso", "client gro": "udp_gro"}
FAMILIES = ("inside6", "outside6")
OF_UDP = {"server gso", "server gro", "client gso", "client gro"}


def pairwise(names):
    """Sets of those that differ from the default, the first of them empty. For each two names there
    is a row with both, with either one alone, and with none: their columns are different triples of
    the five other rows, and any two such triples have a row in common."""
    columns = dict(zip(names, itertools.combinations(range(5), 3)))
    assert len(columns) == len(names), "at most ten"
    return [set()] + [{name for name in names if row in columns[name]} for row in range(5)]


class Combination:
    """The channel, and what differs from the default on both sides."""

    def __init__(self, channel, changed):
        self.channel, self.changed = channel, changed
        self.inside6, self.outside6 = ("inside6" in changed), ("outside6" in changed)

    def __str__(self):
        names = [*SERVER_SWITCHES, *CLIENT_SWITCHES]
        off = [name for name in names if name in self.changed]
        families = f"{'IPv6' if self.inside6 else 'IPv4'} in {'IPv6' if self.outside6 else 'IPv4'}"
        return f"{self.channel.upper()}, {families}, off: {', '.join(off) or 'nothing'}"

    def server_keys(self):
        """Section -> keys of culvertd.toml."""
        keys = {}
        for name, (section, key) in SERVER_SWITCHES.items():
            if name in self.changed:
                keys.setdefault(section, {})[key] = False
        return keys

    def profile_keys(self):
        keys = {key: False for name, key in CLIENT_SWITCHES.items() if name in self.changed}
        return {**keys, **({"udp": False} if self.channel == "tls" else {})}


def table():
    """Over TLS, where the switches of UDP do nothing, the others among themselves."""
    everything = [*SERVER_SWITCHES, *CLIENT_SWITCHES, *FAMILIES]
    without_udp = [name for name in everything if name not in OF_UDP]
    return ([Combination("dtls", changed) for changed in pairwise(everything)]
            + [Combination("tls", changed) for changed in pairwise(without_udp)])
