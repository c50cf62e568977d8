"""Peers that do everything wrong, and bystanders who must not notice."""
import contextlib
import re
import select
import socket
import struct
import threading

from harness import certs, cstp
from harness.culvert import INSIDE4, Client, Server
from harness.wait import wait_until

NAME = "vpn.example.com"
NOT_CSTP = "not a CSTP frame"  # what both programs say of one

# How one side of a TCP connection ends, below TLS. Stock peers never send close_notify.
ENDINGS = {
    "fin": lambda raw: raw.shutdown(socket.SHUT_RDWR),
    "reset": lambda raw: (
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)), raw.close()),
    "garbage": lambda raw: (raw.sendall(b"garbage that is no record" * 10),
                            raw.shutdown(socket.SHUT_RDWR)),
    "half_a_record": lambda raw: (raw.sendall(b"\x17\x03\x03\x01\x00half"),
                                  raw.shutdown(socket.SHUT_RDWR)),
}


class Stage:
    """A server that many cases are tried on. mallory has a certificate and a machine; bob has a
    tunnel that goes on as if nothing were the matter."""

    def __init__(self, world, **session):
        self.world = world
        self.wire = world.wire()
        # Sessions that cases leave behind wait for their cookie's timeout.
        self.server = Server(self.wire.server).init(ipv4="10.99.0.0/16")
        self.server.configure("session", max_per_user=60000, **session).start()
        self.files = self.server.export_for("mallory")
        self.host = world.add_client(self.wire, "mallory")
        self.bob = self.server.new_client(world.add_client(self.wire, "bob"), "bob")
        self.bob.connect()
        self._bobs_session = self.server.session("bob")["id"]

    def raw(self, **options):
        return cstp.RawClient(self.host, self.files, **options)

    def tunnel(self, extra=""):
        """A client whose tunnel is up: the data thread has answered."""
        raw = self.raw()
        raw.head = raw.attach(extra)
        raw.send_frame(cstp.DPD_REQUEST, b"up")
        raw.receive_frame(cstp.DPD_RESPONSE)
        return raw

    def session_of(self, raw):
        found = [s for s in self.server.sessions() if s["ipv4"] == raw.address4]
        return found[0] if found else None

    def assert_unharmed(self):
        assert self.server.process.running, self.server.log()
        self.bob.host.ping(INSIDE4, count=1)
        assert self.bob.status()["reconnects"] == 0
        assert self.server.session("bob")["id"] == self._bobs_session


class Victim:
    """A machine with culvert and a profile for a server that the test plays."""

    def __init__(self, world):
        self.world = world
        self.wire = world.wire("fake")
        self.host = world.add_client(self.wire, "victim")
        self.ca = certs.Ca(world.dir, "Good CA")
        self.issued = self.ca.issue(NAME, [certs.SERVER], [f"DNS:{NAME}"])
        mine = self.ca.issue("alice")
        self.client = Client(self.host, "alice")
        self.client.import_text({
            "name": NAME, "address": "198.51.100.1", "user": "alice", "device": "cvt0",
            "tls": {"ca": self.ca.certificate_pem, "certificate": mine.certificate_pem,
                    "key": mine.key_pem}})
        self._before = self.host.network_state()

    @contextlib.contextmanager
    def facing(self, **options):
        """A server (harness/cstp.py) for one case."""
        server = cstp.FakeServer(self.wire.server, self.issued, client_ca=self.ca.certificate,
                                 **options)
        try:
            yield server
        finally:
            server.close()

    def refuses(self, code, words, limit="5s"):
        """culvert connect ends with this code and says something that matches; nothing is left.
        `words` is a regular expression."""
        done = self.client.run("connect", "alice", "--timeout", limit, check=False)
        said = done.stdout + done.stderr
        if done.returncode == 0:
            self.client.disconnect()
        assert done.returncode == code, f"{done.returncode}, not {code}: {said}"
        assert re.search(words, said), f"{words!r} is not in: {said}"
        problems = [line for line in said.splitlines() if line.startswith("culvert: ")]
        assert len(problems) == 1, f"not one message but {len(problems)}: {said}"
        assert said.isprintable() or not re.search(r"[^\x20-\x7e\n]", said), repr(said)
        assert self.host.links() == ["lo", "eth0"]
        return said

    @contextlib.contextmanager
    def connected(self):
        """The tunnel in the foreground, up; ended afterwards if it has not ended by itself."""
        foreground = self.client.start()
        try:
            self.client.wait_until_up()
            yield foreground
        finally:
            foreground.stop()
        assert self.host.links() == ["lo", "eth0"]

    def assert_as_before(self):
        assert self.host.network_state() == self._before


class Listener:
    """A TCP server that hands each connection to `serve(socket)` in a thread; no TLS."""

    def __init__(self, host, serve, address="198.51.100.1", port=443):
        self._serve = serve
        self._listener = host.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((address, port))
        self._listener.listen()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._closing:
            if not select.select([self._listener], [], [], 0.05)[0]:
                continue
            connection, _ = self._listener.accept()
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection):
        connection.settimeout(10)
        with connection, contextlib.suppress(OSError):
            self._serve(connection)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._closing = True
        self._thread.join(5)
        self._listener.close()


def ends(raw, limit=10):
    """Waits until the other side has ended the connection; returns what it still said."""
    said = b""

    def over():
        nonlocal said
        record = raw.receive_record(0.2)
        said += record or b""
        return record == b""
    wait_until(over, "the end of the connection", limit)
    return said


def message(*lines, body=""):
    """An HTTP message; the lines are its head."""
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
