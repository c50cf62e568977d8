"""What passes through a tunnel while something happens to it: data that both ends can make for
themselves, sent and compared by stream_check; a conversation over TCP; a cable that is pulled."""
import json
import signal
import threading
import time

from harness.culvert import INSIDE4
from harness.wait import wait_until

PORT = 5100


class Transfer:
    """TCP streams, and datagrams beside them, from one host to another; runs in the background
    until finish(). Ends after `size` bytes, or `seconds`."""

    def __init__(self, sender, receiver, address, streams=1, size=0, seconds=0, rate=0, seed=1,
                 congestion=None, port=PORT):
        tool = sender.world.bin / "stream_check"
        self.receiver = receiver.start(tool, "receive", port, streams, name="stream_check-receive")
        self.receiver.wait_for_output("ready")
        self.sender = sender.start(tool, "send", address, port, streams, size, seconds, rate, seed,
                                   *([congestion] if congestion else []), name="stream_check-send")

    def stop(self, limit=60):
        """Ends one that was given seconds before they are over."""
        self.sender.send(signal.SIGTERM)
        return self.finish(limit)

    def finish(self, limit=60):
        """What the receiver says about it."""
        self.sender.wait(limit)
        self.receiver.wait(limit)
        said = self.receiver.output() + self.sender.output()
        assert self.sender.returncode == 0 and self.receiver.returncode in (0, 1), said
        return json.loads(self.receiver.output().splitlines()[-1])


def exchange(near, far, far_address, near_address, size, streams=2, rate=0, seed=1, limit=60):
    """`size` bytes in all, half of them each way at the same time; both reports."""
    transfers = [Transfer(near, far, far_address, streams, size // 2, rate=rate, seed=seed),
                 Transfer(far, near, near_address, streams, size // 2, rate=rate, seed=seed + 1,
                          port=PORT + 1)]
    return [transfer.finish(limit) for transfer in transfers]


def complaints(report):
    """What a report says that it should not; lost datagrams are the network's business, but some
    have to arrive."""
    found = [f"stream: {stream}" for stream in report["streams"]
             if stream["ended"] != "whole" or stream["first_wrong"] is not None]
    datagrams = report["datagrams"]
    if datagrams["wrong"] or datagrams["twice"]:
        found.append(f"datagrams: {datagrams}")
    return found


class Conversation:
    """A TCP connection through the tunnel on which numbers go out and come back, one after the other."""

    def __init__(self, client_host, server_host, inside, server_inside=INSIDE4, port=5006):
        self._listener = server_host.socket()
        self._listener.bind((server_inside, port))
        self._listener.listen()
        self._out = client_host.socket()
        self._out.bind((inside, 0))
        self._out.settimeout(120)
        self._out.connect((server_inside, port))
        self._in, _ = self._listener.accept()
        self.turns, self.failure, self._talking = 0, None, True
        self.longest_pause = 0.0  # seconds from a word to its answer
        self._threads = [threading.Thread(target=t, daemon=True) for t in (self._talk, self._echo)]
        for thread in self._threads:
            thread.start()

    def _talk(self):
        try:
            while self._talking:
                word, said = b"%08d" % self.turns, time.monotonic()
                self._out.sendall(word)
                back = b""
                while len(back) < len(word):
                    back += self._out.recv(len(word) - len(back)) or word[:0] or self._closed()
                if back != word:
                    self.failure = f"sent {word}, got {back}"
                    return
                self.turns += 1
                self.longest_pause = max(self.longest_pause, time.monotonic() - said)
                time.sleep(0.02)  # the pace of the talk
        except OSError as error:
            self.failure = str(error)
        finally:
            self._out.close()

    @staticmethod
    def _closed():
        raise OSError("the connection was closed")

    def _echo(self):
        try:
            while data := self._in.recv(4096):
                self._in.sendall(data)
        except OSError:
            pass  # the other side says why
        self._in.close()

    def wait_for_more(self, limit=40):
        turns = self.turns
        wait_until(lambda: self.failure or self.turns > turns + 3, "the conversation going on", limit)
        assert not self.failure, self.failure

    def finish(self):
        self._talking = False
        for thread in self._threads:
            thread.join(20)
        self._listener.close()
        assert not self.failure, self.failure


class Cable:
    """The link between a client and the server, as the client's host sees it."""

    def __init__(self, server_host, client_host):
        self.server, self.client = server_host, client_host

    def pull(self):
        self.server.ip("link", "set", self.client.uplink, "down")

    def plug_in(self):
        # An interface that goes down loses its IPv6 addresses.
        self.server.add_address(self.client.uplink, self.client.gateway6 + "/64")
        self.server.ip("link", "set", self.client.uplink, "up")
        return time.monotonic()


def out_for(seconds):
    """Lets the time pass that an outage lasts."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, "the end of the outage", seconds + 5)


def wait_for_packets(host, since, limit=20, inside=INSIDE4):
    """Returns how long after `since` the first packet came through."""
    wait_until(lambda: host.ping(inside, count=1, check=False, limit=0.2), "packets", limit, 0.02)
    return time.monotonic() - since
