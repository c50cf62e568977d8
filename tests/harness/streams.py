"""Data that both ends can make for themselves, sent and compared by stream_check."""
import json
import signal

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
