"""DTLS 1.2 with a pre-shared key, as the UDP channel speaks it, for peers of the tests' own. Python
has no DTLS: this drives the OpenSSL library that Python's ssl module has loaded anyway."""
import ctypes
import select
import socket

from harness.cstp import value_of
from harness.wait import wait_until

_LABEL = b"EXPORTER-openconnect-psk"
_SUITE = b"PSK-AES128-GCM-SHA256"
_DTLS_1_2 = 0xFEFD
_OP_NO_QUERY_MTU = 0x1000
_CTRL_SET_MTU = 17
_MTU = 1400
_WANT_READ, _ZERO_RETURN = 2, 6

_ssl = ctypes.CDLL("libssl.so.3")
_crypto = ctypes.CDLL("libcrypto.so.3")
_P, _I, _L, _Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_size_t
_CLIENT_PSK = ctypes.CFUNCTYPE(ctypes.c_uint, _P, _P, _P, ctypes.c_uint, _P, ctypes.c_uint)
_SERVER_PSK = ctypes.CFUNCTYPE(ctypes.c_uint, _P, _P, _P, ctypes.c_uint)


def _declare(library, result, name, *arguments):
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


for _result, _name, *_arguments in [
        (_P, "DTLS_client_method"), (_P, "DTLS_server_method"), (_P, "SSL_CTX_new", _P),
        (None, "SSL_CTX_free", _P), (_I, "SSL_CTX_set_cipher_list", _P, ctypes.c_char_p),
        (None, "SSL_CTX_set_psk_client_callback", _P, _CLIENT_PSK),
        (None, "SSL_CTX_set_psk_server_callback", _P, _SERVER_PSK), (_P, "SSL_new", _P),
        (None, "SSL_free", _P), (None, "SSL_set_bio", _P, _P, _P),
        (None, "SSL_set_connect_state", _P), (None, "SSL_set_accept_state", _P),
        (ctypes.c_uint64, "SSL_set_options", _P, ctypes.c_uint64),
        (_L, "SSL_ctrl", _P, _I, _L, _P), (_I, "SSL_do_handshake", _P),
        (_I, "SSL_get_error", _P, _I),
        (_I, "SSL_read", _P, _P, _I), (_I, "SSL_write", _P, _P, _I), (_I, "SSL_shutdown", _P),
        (_P, "SSL_get_ciphers", _P), (_P, "SSL_SESSION_new"),
        (_I, "SSL_SESSION_set_protocol_version", _P, _I), (_I, "SSL_SESSION_set_cipher", _P, _P),
        (_I, "SSL_SESSION_set1_id", _P, _P, ctypes.c_uint),
        (_I, "SSL_SESSION_set1_master_key", _P, _P, _Z), (_I, "SSL_set_session", _P, _P),
        (None, "SSL_SESSION_free", _P),
        (_I, "SSL_export_keying_material", _P, _P, _Z, ctypes.c_char_p, _Z, _P, _Z, _I)]:
    _declare(_ssl, _result, _name, *_arguments)
for _result, _name, *_arguments in [
        (_P, "BIO_s_mem"), (_P, "BIO_new", _P), (_I, "BIO_read", _P, _P, _I),
        (_I, "BIO_write", _P, _P, _I), (_P, "OPENSSL_sk_value", _P, _I), (None, "ERR_clear_error")]:
    _declare(_crypto, _result, _name, *_arguments)


def exported_key(tls):
    """The key of the UDP channel that belongs to a TLS connection (an ssl.SSLSocket)."""
    # CPython's PySSLSocket: the object's head, a weak reference, SSL *.
    handle = _P.from_address(id(tls._sslobj) + 24).value
    key = ctypes.create_string_buffer(32)
    done = _ssl.SSL_export_keying_material(handle, key, 32, _LABEL, len(_LABEL), None, 0, 0)
    assert done == 1, "no key could be exported"
    return key.raw


def app_id(head):
    """Of an answer to CONNECT."""
    return bytes.fromhex(value_of(head, "X-DTLS-App-ID"))


class DtlsPeer:
    """One end. As a client it sends `session_id` in its ClientHello; as a server it takes the first
    datagram's sender for its peer."""

    def __init__(self, host, key, session_id=None, server=("198.51.100.1", 443)):
        self.is_client = session_id is not None
        self.udp = host.socket(kind=socket.SOCK_DGRAM)
        if self.is_client:
            self.udp.connect(server)
        else:
            self.udp.bind(server)
        method = _ssl.DTLS_client_method if self.is_client else _ssl.DTLS_server_method
        self._context = _ssl.SSL_CTX_new(method())
        assert _ssl.SSL_CTX_set_cipher_list(self._context, _SUITE) == 1
        self._key = key
        self._callback = self._set_key_callback()
        self._handle = _ssl.SSL_new(self._context)
        self._input, self._output = (_crypto.BIO_new(_crypto.BIO_s_mem()) for _ in range(2))
        _ssl.SSL_set_bio(self._handle, self._input, self._output)
        _ssl.SSL_set_options(self._handle, _OP_NO_QUERY_MTU)
        _ssl.SSL_ctrl(self._handle, _CTRL_SET_MTU, _MTU, None)
        if self.is_client:
            _ssl.SSL_set_connect_state(self._handle)
            self._claim(session_id)
        else:
            _ssl.SSL_set_accept_state(self._handle)
        self.closed = False
        host.world.servers.append(self)

    def _set_key_callback(self):
        def as_client(_ssl_handle, _hint, identity, _identity_size, key, _key_size):
            ctypes.memmove(identity, b"psk\0", 4)
            ctypes.memmove(key, self._key, len(self._key))
            return len(self._key)

        def as_server(_ssl_handle, _identity, key, _key_size):
            ctypes.memmove(key, self._key, len(self._key))
            return len(self._key)

        if self.is_client:
            callback = _CLIENT_PSK(as_client)
            _ssl.SSL_CTX_set_psk_client_callback(self._context, callback)
        else:
            callback = _SERVER_PSK(as_server)
            _ssl.SSL_CTX_set_psk_server_callback(self._context, callback)
        return callback

    def _claim(self, session_id):
        """The App-ID travels as the id of a session that the other side does not have."""
        session = _ssl.SSL_SESSION_new()
        _ssl.SSL_SESSION_set_protocol_version(session, _DTLS_1_2)
        _ssl.SSL_SESSION_set_cipher(
            session, _crypto.OPENSSL_sk_value(_ssl.SSL_get_ciphers(self._handle), 0))
        _ssl.SSL_SESSION_set1_master_key(session, b"\x5a" * 48, 48)
        _ssl.SSL_SESSION_set1_id(session, session_id, len(session_id))
        assert _ssl.SSL_set_session(self._handle, session) == 1
        _ssl.SSL_SESSION_free(session)

    def _flush(self):
        buffer = ctypes.create_string_buffer(65536)
        size = _crypto.BIO_read(self._output, buffer, len(buffer))
        if size > 0:
            self.udp.send(buffer.raw[:size])

    def _take_datagram(self, limit):
        """False if none came."""
        if not select.select([self.udp], [], [], limit)[0]:
            return False
        try:
            datagram, sender = self.udp.recvfrom(65536)
        except ConnectionRefusedError:
            return False
        if not self.is_client:
            self.udp.connect(sender)
        _crypto.BIO_write(self._input, datagram, len(datagram))
        return True

    def handshake(self, limit=10):
        """True once it is done, False if the other side ended it or kept silent."""
        while True:
            _crypto.ERR_clear_error()
            result = _ssl.SSL_do_handshake(self._handle)
            error = _ssl.SSL_get_error(self._handle, result)
            self._flush()
            if result == 1:
                return True
            if error != _WANT_READ or not self._take_datagram(limit):
                return False

    def send(self, kind, body=b""):
        """A packet: one record, one datagram."""
        plain = bytes([kind]) + body
        assert _ssl.SSL_write(self._handle, plain, len(plain)) == len(plain)
        self._flush()

    def send_raw(self, datagram):
        self.udp.send(datagram)

    def receive(self, limit=10):
        """(type, body) of the next packet; None if none came or the other side closed."""
        buffer = ctypes.create_string_buffer(65536)
        while True:
            _crypto.ERR_clear_error()
            size = _ssl.SSL_read(self._handle, buffer, len(buffer))
            if size > 0:
                return buffer.raw[0], buffer.raw[1:size]
            self.closed = _ssl.SSL_get_error(self._handle, size) == _ZERO_RETURN
            self._flush()
            if self.closed or not self._take_datagram(limit):
                return None

    def ask(self, body, limit=10):
        """A question for a sign of life; its answer must have the same body."""
        self.send(3, body)
        self.serve_until(lambda packet: packet == (4, body), f"the answer to {body[:40]} over DTLS",
                         limit)

    def serve_until(self, condition, what, limit=15):
        """Answers questions until condition(packet) is true; the packet is None if none came."""
        def met():
            packet = self.receive(0.1)
            if packet and packet[0] == 3:
                self.send(4, packet[1])
            return condition(packet)
        wait_until(met, what, limit, every=0)

    def say_closed(self):
        _ssl.SSL_shutdown(self._handle)
        self._flush()

    def close(self):
        if self._handle is not None:
            self.udp.close()
            _ssl.SSL_free(self._handle)
            _ssl.SSL_CTX_free(self._context)
            self._handle = None
