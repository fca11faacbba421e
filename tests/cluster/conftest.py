"""Labs for the tests on real nodes.

Where a machine cannot host one, those tests fail in CI (CI=true) and are skipped elsewhere, with the reason.
"""

import os
from collections.abc import Iterator

import pytest

from tests.lab.lab import Lab, Missing

SAY = {"say": lambda line: print(f"lab: {line}", flush=True)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/cluster" in str(item.path):
            item.add_marker(pytest.mark.lab)


def started(name: str, **settings: object) -> Iterator[Lab]:
    lab = Lab(name, **SAY)
    try:
        lab.up(**settings)
    except Missing as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    except BaseException:
        lab.down()
        raise
    try:
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="session")
def running_lab() -> Iterator[Lab]:
    """One cluster for all tests, in whatever state the last one left it: use `lab`."""
    yield from started(os.environ.get("HAMAIL_TEST_LAB", "test"), watchdog_resets=True)


@pytest.fixture
def lab(running_lab: Lab) -> Lab:
    """A whole and healthy cluster: no faults, all nodes on, the group active on one of them."""
    running_lab.restore()
    running_lab.wait_healthy()
    return running_lab


@pytest.fixture(scope="module")
def bare_lab() -> Iterator[Lab]:
    """The same machines beside it, without hamail running: for tests of the lab's own instruments and of the units."""
    yield from started("bare", hamail=False)


@pytest.fixture
def bare(bare_lab: Lab) -> Lab:
    bare_lab.restore()
    bare_lab.watchdog_resets = False
    return bare_lab
