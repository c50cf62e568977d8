"""What goes through the tunnel comes out as it went in, whatever the packet path's switches are: a
short form of scripts/check integrity.

    culvert (client1) ──eth0───to1── culvertd (server)
    10.99.0.x, fd99::x               10.99.0.1, fd99::1        streams and datagrams both ways at once
"""
import pytest

from harness import combinations
from harness.culvert import INSIDE4, INSIDE6, Client, Server, profile_table
from harness.streams import complaints, exchange
from test_udp import wait_for_channel, wait_for_session_channel

MB = 1_000_000
TABLE = combinations.table()
# The default of each channel, and one in which the two sides differ in most.
ROWS = {"dtls": TABLE[0], "mixed": TABLE[4], "tls": TABLE[6]}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_every_byte_arrives_as_it_was_sent(wire, client_host, row):
    server = Server(wire.server).init(address="[2001:db8:ffff::1]" if row.outside6
                                      else "198.51.100.1")
    for section, keys in row.server_keys().items():
        server.configure(section, **keys)
    server.start()
    client = Client(client_host, "alice")
    client.import_text({**profile_table(server.add_user("alice")), **row.profile_keys()})
    client.connect()
    if row.channel == "dtls":
        wait_for_channel(client, "dtls")
        wait_for_session_channel(server, "alice", "dtls")
    session = server.session("alice")
    far, near = ((INSIDE6, session["ipv6"]) if row.inside6 else (INSIDE4, session["ipv4"]))
    for report in exchange(client_host, wire.server, far, near, 64 * MB, rate=1000):
        assert not complaints(report), report
        assert report["datagrams"]["right"] > 0, report
    assert server.session("alice")["channel"] == client.status()["channel"] == row.channel
