"""Fixtures of the multi-process tests.

The standard topology: each host is a network namespace, each line a veth pair.

    server                                                     client1
    lo 198.51.100.1, 2001:db8:ffff::1   to1 ─────────── eth0   192.0.2.6/30, 2001:db8:1::2/64
    TUN 10.99.0.1, fd99::1                                     TUN 10.99.0.x, fd99::x
                                        to2 ─────────── eth0   client2: 192.0.2.10/30, 2001:db8:2::2/64
"""
import os
import pathlib

import pytest

from harness import culvert
from harness.hostile import Stage, Victim
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
    with World.temporary(BIN) as world:
        request.node.culvert_world = world
        yield world


@pytest.fixture(scope="module")
def shared_world():
    """For tables whose cases leave a world as they found it. The tests that use it take
    `story` too."""
    with World.temporary(BIN) as world:
        yield world


@pytest.fixture
def story(request, shared_world):
    """The story of a shared world, told if this test fails."""
    request.node.culvert_world = shared_world


@pytest.fixture(scope="module")
def shared_victim(shared_world):
    victim = Victim(shared_world)
    yield victim
    victim.assert_as_before()


@pytest.fixture
def victim(shared_victim, story):
    """culvert, for servers that the test plays."""
    return shared_victim


@pytest.fixture(scope="module")
def shared_stage(request, shared_world):
    """A module may have SESSION: what its culvertd.toml says in [session]."""
    return Stage(shared_world, **getattr(request.module, "SESSION", {}))


@pytest.fixture
def stage(shared_stage, story):
    """culvertd, for clients that the test plays; a bystander must not notice."""
    yield shared_stage
    shared_stage.assert_unharmed()


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
