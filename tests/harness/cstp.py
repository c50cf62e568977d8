"""The wire protocol once more, in Python: a client and a server that tests can make misbehave, and
an independent opinion on what our programs send. It reads one TLS record at a time."""
import collections
import contextlib
import select
import socket
import ssl
import struct
import threading
import warnings

from harness.wait import wait_until

DATA, DPD_REQUEST, DPD_RESPONSE, DISCONNECT, KEEPALIVE, TERMINATE = 0, 3, 4, 5, 7, 9
SUPERPACKET, SWITCH = 0x20, 0x21  # culvert-protocol(7)
SYN, ACK = 0x02, 0x10
MAX_RECORD = 16384
LOGIN = ('<?xml version="1.0" encoding="UTF-8"?>\n'
         '<config-auth client="vpn" type="init" aggregate-auth-version="2">'
         '<version who="vpn">v9.12</version><device-id>linux-64</device-id>'
         '<group-access>https://vpn.example.com/</group-access></config-auth>')
LOGIN_DONE = ('<?xml version="1.0" encoding="UTF-8"?>\n<config-auth client="vpn" type="complete">'
              '<auth id="success"><title>x</title></auth></config-auth>')


def http(body, *headers, status="200 OK"):
    """An answer to a request, with its length."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: text/xml", f"Content-Length: {len(body)}",
             "X-Transcend-Version: 1", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def frame(kind, payload=b""):
    return b"STF\x01" + struct.pack(">HBB", len(payload), kind, 0) + payload


def parse_record(record):
    """(type, payload) of a record, which must hold exactly one frame."""
    assert record[:4] == b"STF\x01" and len(record) >= 8 and record[7] == 0, record[:16]
    length, kind = struct.unpack(">HB", record[4:7])
    assert len(record) == 8 + length, f"a record of {len(record)} bytes, a frame of {8 + length}"
    return kind, record[8:]


def split_frames(data):
    """[(type, payload)] of a stream of whole frames, and the bytes behind them."""
    frames = []
    while len(data) >= 8:
        assert data[:4] == b"STF\x01" and data[7] == 0, data[:16]
        length, kind = struct.unpack(">HB", data[4:7])
        if len(data) < 8 + length:
            break
        frames.append((kind, data[8:8 + length]))
        data = data[8 + length:]
    return frames, data


def ones_complement_sum(data):
    total = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def inner_ip4(source, destination, protocol, payload):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0x4000, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(destination))
    return head[:10] + struct.pack(">H", ~ones_complement_sum(head) & 0xFFFF) + head[12:] + payload


def pseudo_header4(source, destination, protocol, length):
    return (socket.inet_aton(source) + socket.inet_aton(destination)
            + struct.pack(">HH", protocol, length))


def inner_tcp4(source, destination, sport, dport, seq, ack, flags, payload=b""):
    """An IPv4 packet with a TCP segment and its checksum."""
    tcp = struct.pack(">HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 5 << 4, flags,
                      65535, 0, 0) + payload
    pseudo = pseudo_header4(source, destination, 6, len(tcp))
    checksum = ~ones_complement_sum(pseudo + tcp) & 0xFFFF
    return inner_ip4(source, destination, 6, tcp[:16] + struct.pack(">H", checksum) + tcp[18:])


def vnet(flags=1, kind=5, headers=28, gso_size=100, start=20, offset=6):
    """The header of a superpacket; by default of UDP datagrams of 100 bytes over IPv4."""
    return struct.pack("<BBHHHH", flags, kind, headers, gso_size, start, offset)


def super_udp4(source, destination, payload, sport=4000, dport=9, **header):
    """A superpacket of UDP datagrams: the payload of a frame."""
    partial = ones_complement_sum(pseudo_header4(source, destination, 17, 8 + len(payload)))
    udp = struct.pack(">HHHH", sport, dport, 8 + len(payload), partial) + payload
    return vnet(**header) + inner_ip4(source, destination, 17, udp)


def inner_udp4(source, destination, payload=b"culvert", sport=4000, dport=9):
    """An IPv4 packet with a UDP datagram; checksum of UDP left out, which IPv4 allows."""
    udp = struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                       socket.inet_aton(source), socket.inet_aton(destination))
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack(">H", ~total & 0xFFFF) + head[12:] + udp


def inner_udp6(source, destination, payload=b"culvert", sport=4000, dport=9):
    src, dst = (socket.inet_pton(socket.AF_INET6, a) for a in (source, destination))
    udp = struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload
    pseudo = src + dst + struct.pack(">IHBB", len(udp), 0, 0, 17) + udp + b"\0" * (len(udp) % 2)
    total = sum(struct.unpack(f">{len(pseudo) // 2}H", pseudo))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    checksum = (~total & 0xFFFF) or 0xFFFF
    udp = udp[:6] + struct.pack(">H", checksum) + udp[8:]
    return struct.pack(">IHBB", 6 << 28, len(udp), 17, 64) + src + dst + udp


class Refused(Exception):
    """The other side ended the TLS connection or would not begin it."""


class _Peer:
    """What both ends have in common: a TLS socket, read record by record."""

    tls = None

    def send_frame(self, kind, payload=b""):
        self.tls.sendall(frame(kind, payload))

    def send_raw(self, data):
        """As one record, if it is not longer than one."""
        self.tls.sendall(data)

    def receive_record(self, limit=10):
        """One record; b"" at the end of the stream, None if nothing came."""
        if not self.tls.pending() and not select.select([self.tls], [], [], limit)[0]:
            return None
        self.tls.settimeout(limit)
        try:
            return self.tls.recv(MAX_RECORD)
        except (ssl.SSLError, ConnectionError):
            return b""
        except TimeoutError:
            return None

    def receive_frame(self, *kinds, limit=10):
        """The payload of the next frame of one of these types; others are passed over."""
        while True:
            record = self.receive_record(limit)
            assert record is not None, f"no frame of type {kinds} within {limit} s"
            assert record != b"", f"the connection ended before a frame of type {kinds}"
            kind, payload = parse_record(record)
            if kind in kinds:
                return payload

    def receive_head(self, limit=10):
        """An HTTP head and the body that its Content-Length promises, as (head, body)."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.receive_record(limit)
            if not more:
                raise Refused(data)
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                length = int(value)
        while len(body) < length:
            more = self.receive_record(limit)
            if not more:
                raise Refused(data)
            body += more
        return head.decode(), body.decode(errors="replace")

    def bare(self):
        """The TCP connection, without the TLS over it, for an end without manners."""
        tls, self.tls = self.tls, None
        connection = socket.socket(fileno=tls.detach())
        connection.setblocking(True)
        return connection

    def close(self):
        if self.tls is not None:
            with contextlib.suppress(OSError):
                self.tls.close()
            self.tls = None


def headers_of(head):
    """[(name, value)] of an HTTP head."""
    return [(n, v.strip()) for n, _, v in (line.partition(":") for line in head.split("\r\n")[1:])]


def value_of(head, name):
    values = [v for n, v in headers_of(head) if n == name]
    return values[0] if values else None


def speak_only(context, version):
    """One version of TLS, also one that the library's own policy would not speak any more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    if version < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("ALL:@SECLEVEL=0")


class RawClient(_Peer):
    """A client of culvertd. `issued` is anything with .certificate and .key, or None."""

    def __init__(self, host, issued=None, address="198.51.100.1", port=443, version=None,
                 ciphers=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if issued is not None:
            context.load_cert_chain(issued.certificate, issued.key)
        if version is not None:
            speak_only(context, version)
        if ciphers is not None:
            context.set_ciphers(ciphers)  # of TLS 1.2
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        raw = host.socket(family)
        raw.settimeout(10)
        raw.connect((address, port))
        try:
            self.tls = context.wrap_socket(raw, server_hostname="vpn.example.com")
        except (ssl.SSLError, ConnectionError) as error:
            raw.close()
            raise Refused(str(error)) from error
        host.world.servers.append(self)

    def request(self, text, limit=10):
        """Sends a request and returns (head, body) of the answer."""
        try:
            self.tls.sendall(text.encode())
        except (ssl.SSLError, ConnectionError):
            pass  # the answer may be there already
        return self.receive_head(limit)

    def login(self):
        """The cookie."""
        head, body = self.request(
            "POST / HTTP/1.1\r\nHost: vpn.example.com\r\nUser-Agent: test\r\n"
            f"Content-Type: application/xml\r\nContent-Length: {len(LOGIN)}\r\n\r\n{LOGIN}")
        assert head.startswith("HTTP/1.1 200 "), head
        cookies = [v for n, v in headers_of(head) if n.lower() == "set-cookie"]
        cookies = [c.split(";")[0].partition("=")[2] for c in cookies if c.startswith("webvpn=")]
        assert 'id="success"' in body and cookies, head + body
        return cookies[0]

    def open_tunnel(self, cookie, extra=""):
        """CONNECT; returns the head of the answer, whatever its status is."""
        head, _ = self.request(
            "CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: vpn.example.com\r\nUser-Agent: Open "
            f"AnyConnect VPN Agent v9.12\r\nCookie: webvpn={cookie}\r\nX-CSTP-Version: 1\r\n"
            "X-CSTP-Hostname: raw\r\nX-CSTP-Base-MTU: 1500\r\nX-CSTP-MTU: 1400\r\n"
            "X-CSTP-Address-Type: IPv6,IPv4\r\nX-CSTP-Full-IPv6-Capability: true\r\n"
            f"{extra}\r\n")
        return head

    def attach(self, extra=""):
        """Login and CONNECT; returns the head of the answer, which is a 200."""
        head = self.open_tunnel(self.login(), extra)
        assert head.startswith("HTTP/1.1 200 "), head
        self.address4 = value_of(head, "X-CSTP-Address")
        self.address6 = (value_of(head, "X-CSTP-Address-IP6") or "").split("/")[0]
        return head


class FakeServer:
    """A server for culvert to connect to. Runs in a thread of the test; each connection is handed
    to `serve(connection)`, an object like RawClient that has finished its handshake. The default
    logs everybody in and answers DPD."""

    def __init__(self, host, issued, address="198.51.100.1", port=443, serve=None, client_ca=None,
                 parameters=(), login=None, attach=None, version=None):
        """`login` and `attach`: what is sent, byte for byte, in answer to POST and to CONNECT;
        `version`: the only one of TLS that is spoken."""
        self.login, self.attach = login, attach
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(issued.certificate, issued.key)
        if version is not None:
            speak_only(self.context, version)
        if client_ca is not None:
            self.context.verify_mode = ssl.CERT_OPTIONAL
            self.context.load_verify_locations(client_ca)
        self.serve = serve or FakeServer.behave
        self.parameters = list(parameters) or [
            "X-CSTP-Version: 1", "X-CSTP-Address: 10.7.0.2", "X-CSTP-Netmask: 255.255.255.0",
            "X-CSTP-Address-IP6: fd07::2/64", "X-CSTP-MTU: 1400", "X-CSTP-Base-MTU: 1500",
            "X-CSTP-DPD: 5", "X-CSTP-Keepalive: 20"]
        self.requests, self.frames, self.failures = [], [], []
        self.handshake_errors = []
        self.connections = []
        self._outbox = collections.deque()
        self.listener = host.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        host.world.servers.append(self)

    def _run(self):
        while not self._closing:
            if not select.select([self.listener], [], [], 0.1)[0]:
                continue
            raw, _ = self.listener.accept()
            raw.settimeout(10)
            threading.Thread(target=self._one, args=(raw,), daemon=True).start()

    def _one(self, raw):
        connection = _Peer()
        try:
            connection.tls = self.context.wrap_socket(raw, server_side=True)
        except (ssl.SSLError, OSError) as error:
            self.handshake_errors.append(str(error))
            raw.close()
            return
        self.connections.append(connection)
        try:
            self.serve(self, connection)
        except (Refused, OSError, AttributeError):
            pass  # the connection has ended, perhaps because close() took it away
        except AssertionError as error:
            if not self._closing:
                self.failures.append(str(error))
        finally:
            connection.close()

    def log_in(self, connection):
        """Answers requests up to and including CONNECT."""
        while True:
            head, body = connection.receive_head()
            self.requests.append((head, body))
            if head.startswith("CONNECT "):
                connection.send_raw(self.attach or self.attached())
                return head
            connection.send_raw(self.login or self.logged_in())

    def attached(self, status="200 CONNECTED", *more):
        """The answer to CONNECT, with `more` header lines."""
        lines = [f"HTTP/1.1 {status}", *self.parameters, *more]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def logged_in(self):
        return http(LOGIN_DONE, f"Set-Cookie: webvpn={self.cookie}; Secure; HttpOnly")

    cookie = "c0ffee" * 10

    def frames_until_end(self, connection):
        """Answers DPD and remembers every frame; each record must hold exactly one. Sends what
        say() wants said."""
        while not self._closing:
            while self._outbox:
                connection.send_raw(self._outbox.popleft())
            record = connection.receive_record(0.05)
            if record == b"":
                return
            if record is None:
                continue
            kind, payload = parse_record(record)
            self.frames.append((kind, payload))
            if kind == DPD_REQUEST:
                connection.send_frame(DPD_RESPONSE, payload)

    def say(self, *records):
        """Sends them in the tunnel, one by one, from the thread that has the connection."""
        self._outbox.extend(records)

    def ask(self, text, limit=10):
        """A question for a sign of life, which must come back as it was."""
        self.say(frame(DPD_REQUEST, text))
        wait_until(lambda: (DPD_RESPONSE, text) in self.frames, f"the answer to {text[:40]}", limit)

    def behave(self, connection):
        self.log_in(connection)
        self.frames_until_end(connection)

    def close(self):
        self._closing = True
        self._thread.join(5)
        self.listener.close()
        for connection in self.connections:
            connection.close()
        assert not self.failures, self.failures
