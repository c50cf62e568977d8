"""Fixtures of the tests with a stock ocserv, for modules that import them."""
import pytest

from harness import certs
from harness.culvert import Client
from harness.peers import Ocserv


@pytest.fixture
def ca(world):
    return certs.Ca(world.dir, "Office CA")


@pytest.fixture
def start_ocserv(wire, ca):
    def start(**options):
        issued = ca.issue("vpn.example.com", [certs.SERVER], ["DNS:vpn.example.com"])
        return Ocserv(wire.server, ca.certificate, issued, **options)
    return start


@pytest.fixture
def new_client(ca):
    """A client that ocserv lets in, not yet connected."""
    def new(host, user):
        mine = ca.issue(user)
        client = Client(host, user)
        client.import_text({"name": "vpn.example.com", "address": "198.51.100.1", "user": user,
                            "tls": {"ca": ca.certificate_pem, "certificate": mine.certificate_pem,
                                    "key": mine.key_pem}})
        client.issued = mine
        return client
    return new


@pytest.fixture
def client(client_host, new_client):
    return new_client(client_host, "alice")
