"""Labs for the tests on real nodes.

Where a machine cannot host one, those tests fail in CI (CI=true) and are skipped elsewhere, with the reason.
"""

import os
from collections.abc import Iterator

import pytest

from tests.cluster.world import BUILD, World
from tests.lab.lab import Lab, LabError, Missing

NAME = os.environ.get("HAMAIL_TEST_LAB", "test")
BARE_NAME = f"{NAME[:7]}0"
SAY = {"say": lambda line: print(f"lab: {line}", flush=True)}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "last: runs after all others on the running cluster")
    config.addinivalue_line("markers", "alone: makes a lab of its own, and runs before the running cluster is made")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of the bare machines first, so that never two labs run side by side; the judge of all mail last."""
    for item in items:
        if "tests/cluster" in str(item.path):
            item.add_marker(pytest.mark.lab)

    def order(item: pytest.Item) -> int:
        fixtures = getattr(item, "fixturenames", ())
        return (
            0
            if "bare_lab" in fixtures or item.get_closest_marker("alone")
            else 2
            if item.get_closest_marker("last")
            else 1
        )

    items.sort(key=order)


def missing(error: Missing) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(str(error))
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def worlds() -> Iterator[list[World]]:
    """The running lab; a second one where a test has left the first beyond repair (and has failed for it)."""
    Lab(BARE_NAME).down()
    lab = Lab(NAME, **SAY)
    worlds = [World(lab)]
    try:
        worlds[0].start()
        yield worlds
    except Missing as error:
        missing(error)
    finally:
        worlds[-1].stop()
        lab.down()


@pytest.fixture
def world(worlds: list[World]) -> Iterator[World]:
    """A whole and healthy cluster. Afterwards it must recover by itself, and never were two nodes active at once."""
    try:
        worlds[-1].begin()
    except LabError:
        worlds[-1].stop()
        worlds.append(World(worlds[-1].lab))
        worlds[-1].start()
        worlds[-1].begin()
    yield worlds[-1]
    worlds[-1].end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    world = getattr(item, "funcargs", {}).get("world")
    if report.when == "call" and report.failed and isinstance(world, World):
        file = BUILD / "cluster-logs" / f"{item.name}.txt"
        world.save_logs(file)
        report.sections.append(("logs of the nodes", str(file)))
    return report


@pytest.fixture(scope="session")
def bare_lab() -> Iterator[Lab]:
    """The same machines without hamail running: for tests of the lab's own instruments, the units, the agents."""
    lab = Lab(BARE_NAME, **SAY)
    try:
        lab.up(hamail=False)
        yield lab
    except Missing as error:
        missing(error)
    finally:
        lab.down()


@pytest.fixture
def bare(bare_lab: Lab) -> Lab:
    if not bare_lab.exists:
        bare_lab.up(hamail=False)
    bare_lab.restore()
    bare_lab.watchdog_resets = False
    return bare_lab
