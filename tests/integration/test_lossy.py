"""A bad path: 5% of the packets lost, 10 ms each way, a fifth of them overtaken by later ones.
Neither channel stands still, nothing arrives changed, and bad luck is not mistaken for a dead path
or for a narrow one. How fast it is says scripts/check lossy.

    culvert (client1) ──eth0───near1── lossy_relay ──far1───to1── culvertd (server)
"""
import json

import pytest

from harness.culvert import INSIDE4, Client, profile_table
from harness.streams import Transfer, complaints
from harness.wait import wait_until
from test_udp import wait_for_channel, wait_for_session_channel

LOSS, REORDER = 0.05, 0.2
SECONDS = 6
LONGEST_GAP = 3
PATH = ["--seed", 1, "--loss", LOSS, "--delay-ms", 10, "--reorder", REORDER, "--hold-ms", 2]


@pytest.fixture
def lossy_host(world, wire):
    """A client, and what its packets pass."""
    relay_host = world.add_host("relay")
    client = world.add_client(wire, between=relay_host)
    client.refuse_superpackets("eth0")
    wire.server.refuse_superpackets(client.uplink)
    client.relay = relay_host.start(world.bin / "lossy_relay", *PATH, "near1", "far1")
    client.relay.wait_for_output("ready")
    return client


@pytest.mark.parametrize("channel", ["dtls", "tls"])
def test_a_lossy_path_is_slow_and_no_more(wire, lossy_host, running_server, channel):
    profile = profile_table(running_server.add_user("alice"))
    client = Client(lossy_host, "alice")
    client.import_text({**profile, **({"udp": False} if channel == "tls" else {})})
    client.connect()
    if channel == "dtls":
        wait_for_channel(client, "dtls")
        wait_for_session_channel(running_server, "alice", "dtls")
        wait_until(lambda: client.status()["mtu"] > 1400, "the whole of the path being used", 30)
    before = client.status()
    near = running_server.session("alice")["ipv4"]
    transfers = [Transfer(lossy_host, wire.server, INSIDE4, 2, seconds=SECONDS, rate=500),
                 Transfer(wire.server, lossy_host, near, 2, seconds=SECONDS, rate=500, port=5101)]
    for transfer in transfers:
        report = transfer.finish(60)
        assert not complaints(report), report
        assert max(s["longest_gap"] for s in report["streams"]) < LONGEST_GAP, report
        flow = report["datagrams"]
        if channel == "dtls":
            # Large datagrams are several packets. What was overtaken arrives as well.
            assert flow["right"] > (1 - 1.6 * LOSS) * flow["numbers"], report
            assert flow["reordered"] > 0, report
    after = client.status()
    for key in ("channel", "channel_since", "reconnects", "mtu"):
        assert after[key] == before[key], key
    lossy_host.relay.stop()
    counters = json.loads(lossy_host.relay.output().splitlines()[-1])
    for way in counters.values():
        assert way["largest"] <= 1514, "single packets, or whole trains would have been hit"
        assert way["lost"] > 0.5 * LOSS * way["received"] and way["missed"] == 0, counters
