"""The one file that reaches into PySyncObj, held against the library's source: it fails when the internals move."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pysyncobj
import pysyncobj.journal
import pysyncobj.pickle
import pysyncobj.serializer
import pysyncobj.syncobj
import pytest

import hamail.consensus
from hamail.consensus import seams
from hamail.consensus.journal import Journal
from hamail.consensus.link import Link
from hamail.consensus.snapshots import NOT_SERIALIZING, SUCCESS, Snapshots
from hamail.consensus.syncobj import NOT_DONE
from tests.consensus.cluster import Cluster

SOURCE = inspect.getsource(pysyncobj.syncobj)

ROOT = Path(__file__).parents[2]


def test_version_is_checked(monkeypatch):
    assert seams.VERSION == seams.KNOWN_VERSION == "0.3.17"
    monkeypatch.setattr(seams, "VERSION", "0.3.18")
    with pytest.raises(seams.UnsupportedLibrary, match=r"0\.3\.18 is installed"):
        seams.install()
    assert pysyncobj.syncobj.pickle is pysyncobj.pickle, "nothing was replaced"


def test_all_that_is_replaced_exists_and_comes_back():
    before = {(m.__name__, n): getattr(m, n) for m, n, _ in seams._replacements()}
    seams.install()
    seams.install()
    assert all(getattr(sys.modules[m], n) is not value for (m, n), value in before.items())
    seams.remove()
    assert all(getattr(sys.modules[m], n) is value for (m, n), value in before.items())


def test_no_pickle_is_reachable():
    seams.install()
    for module in (pysyncobj.syncobj.pickle, pysyncobj.serializer.pickle, pysyncobj.pickle):
        for name in ("load", "dump", "dumps"):
            with pytest.raises(seams.PickleRefused):
                getattr(module, name)(b"x")
    for refused in (pysyncobj.pickle.loads, pysyncobj.journal.loads, pysyncobj.journal.dumps):
        with pytest.raises(seams.PickleRefused):
            refused(b"x")
    for path in Path(hamail.consensus.__file__).parent.glob("*.py"):
        imported = {
            name.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in node.names
        }
        assert "pickle" not in imported, path


def test_library_is_touched_in_one_file_only():
    for path in Path(hamail.consensus.__file__).parent.parent.rglob("*.py"):
        if path.name != "seams.py":
            text = path.read_text()
            assert "import pysyncobj" not in text and "from pysyncobj" not in text, path


def test_outside_of_an_acting_node_the_library_does_not_run():
    seams.install()
    with pytest.raises(AssertionError, match="outside of an acting node"):
        pysyncobj.SyncObj(pysyncobj.node.Node("a"), [], pysyncobj.SyncObjConf(autoTick=False))


def calls_on(name):
    """Methods that the library calls on one of its private attributes."""
    return {
        node.func.attr
        for node in ast.walk(ast.parse(SOURCE))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Attribute)
        and node.func.value.attr == name
    }


def test_our_parts_have_all_methods_that_the_library_calls():
    assert calls_on("__raftLog") and calls_on("__serializer") and calls_on("__transport")
    assert not [m for m in calls_on("__raftLog") if not hasattr(Journal, m)]
    assert not [m for m in calls_on("__serializer") if not hasattr(Snapshots, m)]
    # Blocking start-up, and dynamic membership, which is switched off:
    unused = {"waitReady", "addNode", "dropNode"}
    assert not [m for m in calls_on("__transport") - unused if not hasattr(Link, m)]


def test_call_sites_that_our_journal_relies_on():
    """`clear` only when a snapshot is loaded, `deleteEntriesTo` only after serialising."""
    assert SOURCE.count("__raftLog.clear()") == 1
    assert SOURCE.count("self.__deleteEntriesTo(") == 1
    assert SOURCE.count("__raftLog.add(") == 6  # first entry, leader's command, follower's, no-op, two of a snapshot
    assert "self.__deleteEntriesTo(serializeID)" in SOURCE
    assert "self.__raftLastApplied = 1\n" in SOURCE
    assert SOURCE.count("pickle.loads(command[1:])") == 3


def test_names_and_numbers_that_we_use():
    assert (pysyncobj.SERIALIZER_STATE.NOT_SERIALIZING, pysyncobj.SERIALIZER_STATE.SUCCESS) == (
        NOT_SERIALIZING,
        SUCCESS,
    )
    reasons = pysyncobj.FAIL_REASON
    assert frozenset({1, 2, 4, 6}) == NOT_DONE
    assert (reasons.SUCCESS, reasons.QUEUE_FULL, reasons.MISSING_LEADER) == (0, 1, 2)
    assert (reasons.NOT_LEADER, reasons.REQUEST_DENIED) == (4, 6)
    types = pysyncobj._COMMAND_TYPE
    assert (types.REGULAR, types.NO_OP, types.MEMBERSHIP, types.VERSION) == (0, 1, 2, 3)
    assert "node == self.__raftLeader" in SOURCE, "hand-over as a way to start a campaign"


def test_nothing_is_opened_and_no_thread_is_started():
    import threading

    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    before, threads = descriptors(), threading.active_count()
    c = Cluster()
    c.elect()
    assert (descriptors(), threading.active_count()) == (before, threads)


RUN = """
import structlog
from tests.consensus.cluster import Cluster
c = Cluster(seed={seed}, compact_entries=10)
for i in range(20):
    c.commit(c.elect(), f"e{{i}}")
    if i % 5 == 0:
        c.kill(c.leader(), power=True, rng=c.rng)
        c.elect()
        for name in c.names:
            if name not in c.nodes:
                c.boot(name)
print(c.trace.hexdigest(), c.now_ns)
"""


def test_runs_are_equal_for_equal_seeds_in_any_process():
    def trace(seed, hash_seed):
        return subprocess.run(
            [sys.executable, "-c", RUN.format(seed=seed)],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()[-1]

    assert trace(1, "1") == trace(1, "2")
    assert trace(2, "1") != trace(1, "1")


def address_after(module: str) -> str:
    """What inet_ntop says in a fresh process that has imported `module`."""
    ask = f"import {module}, socket; print(socket.inet_ntop(socket.AF_INET, bytes([192, 0, 2, 1])))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip()


def test_stock_breaks_addresses_of_the_whole_process_and_ours_does_not():
    assert address_after("pysyncobj") != "192.0.2.1"
    assert address_after("hamail.consensus.syncobj") == "192.0.2.1"
