"""From results to a table, and to a document that other programs (and chart.py) read."""
import datetime
import os
import pathlib
import platform
import re
import statistics
import textwrap

import measure

SCHEMA = 1

# Sections of the table: title, then column heading and metric.
SECTIONS = [
    ("TCP, Gbit/s", [("one stream up", "up"), ("one stream down", "down"),
                     ("both ways, sum", "both"), ("four streams up", "four")]),
    ("UDP up, thousands of packets a second, delivered when far more are offered; IP length",
     [(f"{size} bytes", f"udp_{size}") for size in measure.UDP_SIZES]),
    ("UDP up, thousands of packets a second, the highest rate that loses less than 0.5%",
     [(f"{size} bytes", f"lossless_{size}") for size in measure.UDP_SIZES]),
    ("UDP down, 1,300 bytes, thousands of packets a second: read by the client's own thread of the "
     "server, or by another", [("own thread", "queue_right"), ("other thread", "queue_wrong")]),
    ("ping, ms: an idle tunnel",
     [("median", "idle_median"), ("99th percentile", "idle_p99"), ("worst", "idle_worst")]),
    ("ping, ms: beside one TCP stream",
     [("median", "load_median"), ("99th percentile", "load_p99"), ("worst", "load_worst")]),
    ("cost: CPU seconds per GB (one stream, both directions) and MB resident (idle)",
     [("CPU client", "cpu_client"), ("CPU server", "cpu_server"),
      ("memory client", "memory_client"), ("memory server", "memory_server")]),
]
NAME_WIDTH = 31
CELL_WIDTH = 21


def machine_facts(bench):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {"kernel": platform.release(), "cpu": cpu.group(1) if cpu else platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "congestion_control": bench.congestion.name,
            "socket_buffer_limit": int(pathlib.Path("/proc/sys/net/core/rmem_max").read_text()),
            "load_before": bench.load_before}


def document(bench, rows):
    """rows: (candidate, results or None, reason or None)."""
    return {
        "schema": SCHEMA,
        "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine_facts(bench),
        "settings": {"rounds": bench.rounds, "seconds": bench.seconds, "udp_train": bench.train},
        "candidates": [row_document(*row) for row in rows],
    }


def row_document(candidate, results, reason):
    return {"name": candidate.name, "title": candidate.title, "missing": reason,
            "version": candidate.version_text, "notes": candidate.notes,
            "results": {} if results is None else {
                metric: {"unit": measure.METRICS[metric][0], "median": statistics.median(values),
                         "min": min(values), "max": max(values), "values": values}
                for metric, values in results.values.items()}}


def number(value, digits):
    """No more digits than mean something."""
    if value >= 10 and digits > 1:
        digits -= 1
    return f"{value:.{0 if value >= 100 else digits}f}"


def cell(metric, row):
    found = row["results"].get(metric)
    if found is None:
        return "-"
    median, low, high = (number(found[key], measure.METRICS[metric][1])
                         for key in ("median", "min", "max"))
    return f"{median} ({low}..{high})" if len(found["values"]) > 1 else median


def section_lines(title, columns, rows):
    shown = [row for row in rows if any(metric in row["results"] for _, metric in columns)]
    if not shown:
        return
    yield ""
    yield from textwrap.wrap(title, 110)
    yield " " * NAME_WIDTH + "".join(f"{heading:>{CELL_WIDTH}}" for heading, _ in columns)
    for row in shown:
        yield (f"{row['title']:<{NAME_WIDTH}}"
               + "".join(f"{cell(metric, row):>{CELL_WIDTH}}" for _, metric in columns))


def table(doc):
    machine, settings = doc["machine"], doc["settings"]
    lines = [f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, load "
             f"{machine['load_before']:.1f} before",
             f"TCP congestion control {machine['congestion_control']}, inside and outside; socket "
             f"buffers up to {machine['socket_buffer_limit'] >> 10} KB",
             f"{settings['rounds']} interleaved rounds, {settings['seconds']:g} s a run; median "
             "(lowest..highest)"]
    for title, columns in SECTIONS:
        lines += section_lines(title, columns, doc["candidates"])
    lines += ["", "who"]
    for row in doc["candidates"]:
        facts = [row["version"] or "", *row["notes"]]
        if row["missing"]:
            facts.insert(0, "not measured: " + row["missing"])
        lines.append(f"{row['title']:<{NAME_WIDTH}}" + "; ".join(f for f in facts if f))
    return "\n".join(lines)
