"""What is measured. Each test takes a candidate and adds one value to some of its metrics."""
import json
import pathlib
import re
import subprocess
import time

GB = 1e9
UDP_SIZES = (64, 512, 1300)  # of the IP packet
HEADERS = {4: 28, 6: 48}     # IP and UDP
BLAST_PORT = 9000
BULK_LEAD = 0.5              # seconds that a bulk stream gets before it counts as load
IDLE_PINGS = 150
MOST_LOSS = 0.005
SEARCH_STEPS = 5
SEARCH_SECONDS = 0.4

# Metric: unit and digits after the point, in the order of the table.
METRICS = {
    "up": ("Gbit/s", 2), "down": ("Gbit/s", 2), "both": ("Gbit/s", 2), "four": ("Gbit/s", 2),
    **{f"udp_{size}": ("kpps", 0) for size in UDP_SIZES},
    **{f"offered_{size}": ("kpps", 0) for size in UDP_SIZES},  # beside udp_…, in the JSON only
    **{f"lossless_{size}": ("kpps", 0) for size in UDP_SIZES},
    "queue_right": ("kpps", 0), "queue_wrong": ("kpps", 0),
    "idle_median": ("ms", 2), "idle_p99": ("ms", 2), "idle_worst": ("ms", 2),
    "load_median": ("ms", 2), "load_p99": ("ms", 2), "load_worst": ("ms", 2),
    "cpu_client": ("s/GB", 2), "cpu_server": ("s/GB", 2),
    "memory_client": ("MB", 1), "memory_server": ("MB", 1),
}


class Results:
    """metric -> values, one for each round."""

    def __init__(self):
        self.values = {}

    def add(self, metric, value):
        self.values.setdefault(metric, []).append(value)

    def last(self, metric):
        values = self.values.get(metric)
        return values[-1] if values else None


# --- Processes.

def cpu_seconds(pids):
    """User and system time of the processes, all threads."""
    ticks = 0
    for pid in pids:
        try:
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # 14 and 15 of proc(5)
    return ticks / 100  # USER_HZ


def resident_mb(pids):
    total = 0
    for pid in pids:
        try:
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        match = re.search(r"^VmRSS:\s*(\d+) kB", status, re.MULTILINE)
        total += int(match.group(1)) if match else 0
    return total / 1024


# --- TCP.

def iperf_arguments(candidate, seconds, *flags):
    return ["iperf3", "-c", candidate.inside, "-t", seconds, "-J", *flags]


def iperf(candidate, seconds, *flags):
    done = candidate.client.run(*iperf_arguments(candidate, seconds, *flags), limit=seconds + 30)
    return json.loads(done.stdout)["end"]


class Cpu:
    """What the tunnel's processes spend while the block runs, by side."""

    def __init__(self, candidate):
        self.candidate = candidate
        self.spent = {}

    def _read(self):
        return {side: cpu_seconds(pids) for side, pids in self.candidate.processes.items()}

    def __enter__(self):
        self.before = self._read()
        return self

    def __exit__(self, *_):
        after = self._read()
        self.spent = {side: after[side] - self.before[side] for side in after}


def one_way(candidate, results, bench, metric, flags):
    with Cpu(candidate) as cpu:
        end = iperf(candidate, bench.seconds, *flags)
    results.add(metric, end["sum_received"]["bits_per_second"] / 1e9)
    # Both directions count: what one side spends on sending, the other spends on receiving.
    results.cpu = getattr(results, "cpu", {})
    for side, seconds in cpu.spent.items():
        name = "client" if side.startswith("client") else "server"
        results.cpu.setdefault(name, []).append((seconds, end["sum_received"]["bytes"] / GB))


def test_up(candidate, results, bench):
    one_way(candidate, results, bench, "up", [])


def test_down(candidate, results, bench):
    one_way(candidate, results, bench, "down", ["-R"])


def settle_cpu(results):
    """Makes the round's cost of its one-stream runs."""
    for side, runs in getattr(results, "cpu", {}).items():
        gigabytes = sum(g for _, g in runs)
        if gigabytes > 0:
            results.add(f"cpu_{side}", sum(s for s, _ in runs) / gigabytes)
    results.cpu = {}


def test_both(candidate, results, bench):
    end = iperf(candidate, bench.seconds, "--bidir")
    rates = [end[key]["bits_per_second"] for key in ("sum_received", "sum_received_bidir_reverse")]
    results.add("both", sum(rates) / 1e9)


def test_four(candidate, results, bench):
    end = iperf(candidate, bench.seconds, "-P", 4)
    results.add("four", end["sum_received"]["bits_per_second"] / 1e9)


# --- UDP.

class Burst:
    """What udp_blast has sent and received."""

    def __init__(self, sent, received, seconds):
        self.offered = sent["offered"] / sent["seconds"]
        self.delivered = received["in_time"] / seconds
        self.loss = 1 - received["received"] / max(1, sent["offered"])


def blast(candidate, bench, size, rate, seconds, down=False, port=BLAST_PORT):
    """`size` is that of the IP packet; rate 0: as fast as possible."""
    tool = bench.bin / "udp_blast"
    source, sink = ((candidate.server, candidate.client) if down
                    else (candidate.client, candidate.server))
    target = candidate.back if down else candidate.inside
    payload = size - HEADERS[6 if ":" in target else 4]
    argv = sink._inside([tool, "receive", port, seconds])
    with subprocess.Popen(argv, env=sink.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as receiver:
        try:
            assert receiver.stdout.readline() == "ready\n", "udp_blast does not come up"
            done = source.run(tool, "send", target, port, payload, int(rate), seconds,
                              *([bench.train] if bench.train > 1 else []), limit=seconds + 30)
            receiver.stdin.close()
            received = json.loads(receiver.stdout.readline())
        finally:
            if receiver.poll() is None and not receiver.stdin.closed:
                receiver.kill()
    return Burst(json.loads(done.stdout), received, seconds)


def test_udp(candidate, results, bench):
    for size in UDP_SIZES:
        burst = blast(candidate, bench, size, 0, bench.seconds / 3)
        results.add(f"udp_{size}", burst.delivered / 1e3)
        results.add(f"offered_{size}", burst.offered / 1e3)


def test_lossless(candidate, results, bench):
    for size in UDP_SIZES:
        most = results.last(f"udp_{size}")
        if most is None:
            most = blast(candidate, bench, size, 0, SEARCH_SECONDS).delivered / 1e3
        guess = results.last(f"lossless_{size}") or 0.8 * most
        results.add(f"lossless_{size}", search(candidate, bench, size, guess, 1.3 * most))


def search(candidate, bench, size, guess, most):
    """The highest rate (kpps) that arrives with less than MOST_LOSS lost: bisection between what
    was seen to work and what was seen not to."""
    good, bad, rate = 0, most, guess
    for _ in range(SEARCH_STEPS):
        burst = blast(candidate, bench, size, rate * 1e3, SEARCH_SECONDS)
        if burst.loss < MOST_LOSS:
            good = max(good, burst.delivered / 1e3)
            if burst.offered < 0.95e3 * rate:
                break  # the sender can't offer more
        else:
            bad = min(bad, rate)
        if bad <= good * 1.04:
            break
        rate = (good + bad) / 2 if good else bad * 0.6
    return good


def test_queues(candidate, results, bench):
    """A server with two data threads reads a flow of packets for a client on the thread that the
    kernel chooses by the flow's hash: the client's own, or the other one, which has to hand them
    over. Flows to several ports are measured one by one, and the server's own counter tells which
    of them were handed over."""
    for port in range(BLAST_PORT, BLAST_PORT + 8):
        before = candidate.handed_over()
        if before is None:
            candidate.notes.append("queues: the server doesn't count packets handed over")
            return
        burst = blast(candidate, bench, 1300, 0, SEARCH_SECONDS, down=True, port=port)
        handed = candidate.handed_over() - before
        wrong = handed > burst.delivered * SEARCH_SECONDS / 2
        results.add("queue_wrong" if wrong else "queue_right", burst.delivered / 1e3)


# --- Waiting.

def ping_times(candidate, count):
    """Round trips in ms; what was lost counts as a second."""
    done = candidate.client.run("ping", "-n", "-i", "0.01", "-c", count, "-W", 1, candidate.inside,
                                check=False)
    times = [float(t) for t in re.findall(r"time=([\d.]+) ms", done.stdout)]
    return sorted(times + [1000.0] * (count - len(times)))


def add_ping(results, prefix, times):
    results.add(f"{prefix}_median", times[len(times) // 2])
    results.add(f"{prefix}_p99", times[(len(times) - 1) * 99 // 100])
    results.add(f"{prefix}_worst", times[-1])


def test_ping(candidate, results, bench):
    add_ping(results, "idle", ping_times(candidate, IDLE_PINGS))
    seconds = bench.seconds + 1
    bulk = candidate.client.start(*iperf_arguments(candidate, seconds))
    time.sleep(BULK_LEAD)
    add_ping(results, "load", ping_times(candidate, int(bench.seconds * 100)))
    assert bulk.wait(seconds + 30) == 0, bulk.output()


def test_memory(candidate, results, bench):
    """Once, before anything has passed."""
    for side, pids in candidate.processes.items():
        name = "client" if side.startswith("client") else "server"
        if not results.values.get(f"memory_{name}"):
            results.add(f"memory_{name}", resident_mb(pids))


# In this order. The slow ones don't need every round.
TESTS = {"memory": test_memory, "up": test_up, "down": test_down, "both": test_both,
         "four": test_four, "udp": test_udp, "lossless": test_lossless, "queues": test_queues,
         "ping": test_ping}
MOST_ROUNDS = {"both": 3, "lossless": 2, "queues": 3}


def measure(candidate, results, bench, round_number):
    for name, test in TESTS.items():
        if name not in bench.tests or round_number >= MOST_ROUNDS.get(name, bench.rounds):
            continue
        if name == "queues" and not hasattr(candidate, "handed_over"):
            continue
        if candidate.only_tests is not None and name not in candidate.only_tests:
            continue
        if name == "queues" and candidate.only_tests is None:
            continue
        test(candidate, results, bench)
    settle_cpu(results)
