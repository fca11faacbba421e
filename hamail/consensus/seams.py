"""Every place where hamail reaches into PySyncObj. Nothing else may.

PySyncObj takes its clock, randomness, journal, serialiser and pickle from module globals. They are replaced here, once
for the process; each replacement asks which node is acting just now (its `Seat`), so that whole clusters run in one
process, each node with its own clock, dice and disk. Outside of an acting node the replacements refuse to work.
"""

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

_INET = (socket.inet_pton, socket.inet_ntop)  # before the library is imported: see below

import pysyncobj  # noqa: E402
import pysyncobj.journal  # noqa: E402
import pysyncobj.pickle  # noqa: E402
import pysyncobj.serializer  # noqa: E402
import pysyncobj.syncobj  # noqa: E402
from pysyncobj.node import Node  # noqa: E402
from pysyncobj.version import VERSION  # noqa: E402

from hamail.consensus.codec import REGULAR  # noqa: E402
from hamail.consensus.journal import Journal  # noqa: E402
from hamail.consensus.snapshots import Snapshots  # noqa: E402
from hamail.model.ids import LogIndex, NodeName  # noqa: E402

# Being imported, PySyncObj puts its own inet_ntop, which works on Windows only, into the socket module of the process.
socket.inet_pton, socket.inet_ntop = _INET

KNOWN_VERSION = "0.3.17"
CLOCK_OFFSET_S = 1000.0  # PySyncObj forces an election by the deadline 0, which must lie in the past
NEVER_S = 1e9  # its own election timeouts: out of reach, since `election` decides
APPLY = 0  # the one replicated method


class UnsupportedLibrary(Exception):
    """PySyncObj is not the version whose internals were checked."""


class PickleRefused(Exception):
    """Something tried to pickle. There is no such thing in hamail."""


class Seat:
    """What one node brings to the library: its clock, dice, journal and snapshots."""

    def __init__(self, rng: Random, journal: Journal, snapshots: Snapshots) -> None:
        self.now_s = 0.0
        self.rng = rng
        self.journal = journal
        self.snapshots = snapshots

    def set_clock(self, now_ns: int) -> None:
        self.now_s = now_ns / 1e9


_acting: Seat | None = None
_originals: list[tuple[Any, str, Any]] = []


def _seat() -> Seat:
    assert _acting is not None, "PySyncObj was called outside of an acting node"
    return _acting


@contextmanager
def acting(seat: Seat) -> Iterator[None]:
    """The library works for this node inside. May be nested (a simulated network delivers at once)."""
    global _acting  # noqa: PLW0603
    before = _acting
    _acting = seat
    try:
        yield
    finally:
        _acting = before


class Member(Node):  # type: ignore[misc]
    """A voter as the library sees it. The hash is its number, so that sets iterate alike in every process."""

    def __init__(self, name: NodeName, number: int) -> None:
        super().__init__(name)
        object.__setattr__(self, "_number", number)

    def __hash__(self) -> int:
        return int(self._number)


class _Dice:
    @staticmethod
    def random() -> float:
        return _seat().rng.random()


class _NoPoller:
    """hamail's own loop waits; the library never does."""

    def subscribe(self, *_: object) -> None:
        pass

    unsubscribe = poll = subscribe


class _CommandCodec:
    """Stands where `pickle` stood. A committed command goes to the one replicated method as bytes."""

    @staticmethod
    def loads(command: bytes) -> tuple[int, tuple[bytes]]:
        return APPLY, (REGULAR + command,)  # the library has cut the type byte off

    def __getattr__(self, name: str) -> Any:
        raise PickleRefused(f"pickle.{name}")


def _refuse(*_: object, **__: object) -> Any:
    raise PickleRefused("pickle is not used")


def _replacements() -> Iterable[tuple[Any, str, Any]]:
    core = pysyncobj.syncobj
    yield core, "createJournal", lambda _file: _seat().journal
    yield core, "createPoller", lambda _kind: _NoPoller()
    yield core, "monotonicTime", lambda: _seat().now_s + CLOCK_OFFSET_S
    yield core, "random", _Dice
    yield core, "Serializer", lambda *_: _seat().snapshots
    yield core, "PIPE_NOTIFIER_ENABLED", False  # it leaks two descriptors for each SyncObj and wakes nobody here
    yield core, "pickle", _CommandCodec()
    yield pysyncobj.serializer, "pickle", _CommandCodec()
    for module, names in (
        (pysyncobj.pickle, ("load", "loads", "dump", "dumps")),
        (pysyncobj.journal, ("loads", "dumps")),
    ):
        for name in names:
            yield module, name, _refuse


def install() -> None:
    """Replace the globals; once is enough. Raises UnsupportedLibrary."""
    if _originals:
        return
    if VERSION != KNOWN_VERSION:
        raise UnsupportedLibrary(
            f"PySyncObj {VERSION} is installed, but hamail reaches into {KNOWN_VERSION} and was proven only with it"
        )
    for module, name, replacement in _replacements():
        _originals.append((module, name, getattr(module, name)))  # AttributeError: its internals have moved
        setattr(module, name, replacement)


def remove() -> None:
    """Give the stock library back (for tests that compare with it)."""
    while _originals:
        module, name, original = _originals.pop()
        setattr(module, name, original)


def build(
    node: Member,
    others: list[Member],
    transport: Any,
    apply: Callable[[bytes], None],
    append_s: float,
    fallback_s: float,
) -> Any:
    """A SyncObj for the acting node, driven by `doTick`, with everything that is unsafe as shipped switched off."""
    settings = pysyncobj.SyncObjConf(
        autoTick=False,
        raftMinTimeout=NEVER_S,
        raftMaxTimeout=2 * NEVER_S,
        connectionTimeout=4 * NEVER_S,
        appendEntriesPeriod=append_s,
        leaderFallbackTimeout=fallback_s,
        appendEntriesUseBatch=False,
        appendEntriesBatchSizeBytes=_seat().snapshots.batch_bytes,
        commandsWaitLeader=False,
        dynamicMembershipChange=False,
        useFork=False,
        logCompactionSplit=False,
        logCompactionMinEntries=_seat().snapshots.compact_entries,
        logCompactionMinTime=NEVER_S,
    )
    library = pysyncobj.SyncObj(node, others, settings, transport=transport)
    library._idToMethod[APPLY] = lambda command, _doApply: apply(command)  # noqa: N803
    return library


def set_applied(library: Any, index: LogIndex) -> None:
    """Tell a new SyncObj that the state machine was restored up to `index`. There is no public way."""
    assert library._SyncObj__raftLastApplied == 1, "only once, before the first tick"
    library._SyncObj__raftLastApplied = index


def submit(library: Any, command: bytes, answer: Callable[[Any, int], None]) -> None:
    """Queue a complete log command (with its type byte) for the next tick."""
    library._applyCommand(command, answer)


def campaign(library: Any, transport: Any) -> None:
    """Make the next tick start an election: the message a leader sends to hand over, as if from the known leader."""
    transport.hand_over(library._getLeader(), {"type": "timeout_now", "term": library.raftCurrentTerm})


def adopt_term(transport: Any, peer: Member, term: int) -> None:
    """Move to a higher term without voting: a request for a vote from a log that is older than any."""
    transport.hand_over(peer, {"type": "request_vote", "term": term, "last_log_index": 0, "last_log_term": -1})
