"""Fixtures of the multi-process tests.

The standard topology: each host is a network namespace, each line a veth pair.

    server                                                     client1
    lo 198.51.100.1, 2001:db8:ffff::1   to1 ─────────── eth0   192.0.2.6/30, 2001:db8:1::2/64
    TUN 10.99.0.1, fd99::1                                     TUN 10.99.0.x, fd99::x
                                        to2 ─────────── eth0   client2: 192.0.2.10/30, 2001:db8:2::2/64
"""
import os
import pathlib
import shutil
import tempfile

import pytest

from harness import culvert
from harness.net import World

ROOT = pathlib.Path(__file__).resolve().parents[1]
BIN = pathlib.Path(os.environ.get("CULVERT_BIN", ROOT / "build/asan/bin")).resolve()


def pytest_sessionstart(session):
    if os.getuid() != 0:
        pytest.exit("the tests make network namespaces and TUN devices: run them as root", 1)
    for program in ("culvertd", "culvert"):
        if not (BIN / program).exists():
            pytest.exit(f"{BIN / program} is missing: build it, or set CULVERT_BIN", 1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    world = getattr(item, "culvert_world", None)
    if report.when == "call":
        item.culvert_failed = report.failed
        if report.failed and world is not None:
            report.sections.append(("what happened", world.story()))


@pytest.fixture
def world(request):
    # Not pytest's tmp_path: the path of a unix socket has 107 characters, and the server's own user
    # must get there.
    directory = tempfile.mkdtemp(prefix="cvt-", dir="/tmp")
    os.chmod(directory, 0o755)
    world = World(directory, BIN)
    request.node.culvert_world = world
    yield world
    reports = world.close()
    if not os.environ.get("CULVERT_KEEP"):
        shutil.rmtree(directory, ignore_errors=True)
    if reports:
        pytest.fail("a sanitizer complained:\n" + "\n".join(reports), pytrace=False)


@pytest.fixture
def wire(world):
    return world.wire()


@pytest.fixture
def client_host(world, wire):
    return world.add_client(wire)


@pytest.fixture
def server(world, wire):
    """A server that is set up and not yet started."""
    return culvert.Server(wire.server).init()


@pytest.fixture
def running_server(server):
    return server.start()


@pytest.fixture
def alice(running_server, client_host):
    """A client with a profile of the running server, not yet connected."""
    return running_server.new_client(client_host, "alice")


@pytest.fixture
def tunnel(alice):
    """The same, connected."""
    alice.connect()
    return alice
