"""The frame of an agent: parameters and actions are declared once; dispatch, meta-data and exit codes follow."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hamail.ocf import metadata
from hamail.ocf.codes import Code, Failure
from hamail.ocf.parameters import DIGITS_MAX, PREFIX, Parameter, Value, parse
from hamail.ocf.process import Process

FENCED = frozenset({"fenced", "confirmed by hand"})
RELEASED = "released"
PREPARE = "prepare"
DEFAULT_TIMEOUT_MS = 20_000
NS_PER_MS = 1_000_000
HINT = "hamail-watch: pid={pid} start={start}"


class Call:
    """One call of an agent: action, parsed parameters and what hamail's executor told about the group."""

    def __init__(
        self, action: str, environ: Mapping[str, str], values: Mapping[str, Value], advertised_ms: int
    ) -> None:
        self.action = action
        self.environ = environ
        self.values = values
        self._began_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.timeout_ms = _number(self.meta("timeout")) or advertised_ms
        self._watched: set[int] = set()

    def text(self, name: str) -> str:
        value = self.values[name]
        assert isinstance(value, str), name
        return value

    def number(self, name: str) -> int:
        value = self.values[name]
        assert isinstance(value, int), name
        return value

    def flag(self, name: str) -> bool:
        value = self.values[name]
        assert isinstance(value, bool), name
        return value

    def meta(self, name: str) -> str:
        """OCF_RESKEY_CRM_meta_<name>, "" where the caller gave none."""
        return self.environ.get(f"{PREFIX}CRM_meta_{name}", "")

    @property
    def probe(self) -> bool:
        """A monitor that asks "is it here?" where it is not expected to run."""
        return self.action in {"monitor", "status"} and self.meta("interval") == "0"

    @property
    def level(self) -> int:
        return _number(self.environ.get("OCF_CHECK_LEVEL", "")) or 0

    @property
    def epoch(self) -> int | None:
        """The grant's epoch, None where somebody else than hamail calls."""
        return _number(self.meta("hamail_epoch"))

    @property
    def fenced(self) -> bool:
        return self.meta("hamail_evidence") in FENCED

    @property
    def released(self) -> bool:
        return self.meta("hamail_evidence") == RELEASED

    @property
    def preparing(self) -> bool:
        """hamail expects a start in a moment; see hamail.ocf.prepared."""
        return self.meta("hamail_evidence") == PREPARE

    def remaining_s(self, reserve_s: float = 1.0) -> float:
        """Seconds left of this action's timeout, less a reserve to clean up in; never below 0.1."""
        spent_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._began_ns
        return max(0.1, self.timeout_ms / 1000 - spent_ns / 1e9 - reserve_s)

    def watch(self, process: Process) -> None:
        """Tell the executor to watch this main process by pidfd."""
        if process.pid not in self._watched:
            self._watched.add(process.pid)
            self.say(HINT.format(pid=process.pid, start=process.start_ticks))

    def cgroup(self, path: str) -> None:
        if path:
            self.say(f"hamail-cgroup: {path}")

    def say(self, line: str) -> None:
        print(line, file=sys.stdout, flush=True)  # noqa: T201 - the contract's channel

    def warn(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - the contract's channel


@dataclass(frozen=True, kw_only=True)
class Action:
    """`run` returns a code, or None for success, or raises Failure."""

    run: Callable[[Call], Code | None]
    timeout_s: int
    interval_s: int | None = None
    depth: int | None = None


@dataclass(frozen=True, kw_only=True)
class Agent:
    name: str
    version: str
    short: str
    long: str
    parameters: tuple[Parameter, ...]
    start: Action
    stop: Action
    monitor: Action
    validate: Action
    deep_monitor: Action | None = None  # advertised only; the depth arrives as OCF_CHECK_LEVEL
    more: Mapping[str, Action] = field(default_factory=dict)

    def actions(self) -> dict[str, Action]:
        return {
            "start": self.start,
            "stop": self.stop,
            "monitor": self.monitor,
            "status": self.monitor,  # the 1.0 name
            "validate-all": self.validate,
            **self.more,
        }

    def advertised(self) -> list[tuple[str, Action]]:
        listed = [("start", self.start), ("stop", self.stop), ("monitor", self.monitor)]
        if self.deep_monitor is not None:
            listed.append(("monitor", self.deep_monitor))
        listed += [("validate-all", self.validate), ("meta-data", Action(run=_nothing, timeout_s=5))]
        return listed + list(self.more.items())

    def main(self, argv: Sequence[str], environ: Mapping[str, str]) -> int:
        """Entry point of the executable and of the agent server alike. Only the first argument counts (OCF)."""
        name = argv[1] if len(argv) > 1 else ""
        if name in {"meta-data", "metadata"}:
            print(metadata.render(self), end="", flush=True)  # noqa: T201 - the contract's channel
            return Code.SUCCESS
        if name in {"usage", "help", "--help", "-h"}:
            print(self._usage(), flush=True)  # noqa: T201
            return Code.SUCCESS
        action = self.actions().get(name)
        if action is None:
            # Pacemaker asks for optional actions and expects a silent 3
            return Code.UNIMPLEMENTED
        try:
            call = Call(name, environ, parse(self.parameters, environ), action.timeout_s * 1000)
            return action.run(call) or Code.SUCCESS
        except Failure as failure:
            prefix = environ.get("OCF_EXIT_REASON_PREFIX", "ocf-exit-reason:")
            print(f"{prefix}{failure.reason}", file=sys.stderr, flush=True)  # noqa: T201
            return failure.code
        except OSError as error:
            # An edge nobody foresaw: say where, and never claim success or "not running".
            prefix = environ.get("OCF_EXIT_REASON_PREFIX", "ocf-exit-reason:")
            print(f"{prefix}{self.name} {name}: {error}; outcome unknown", file=sys.stderr, flush=True)  # noqa: T201
            return Code.GENERIC

    def _usage(self) -> str:
        return f"usage: {self.name} {{{'|'.join([*self.actions(), 'meta-data'])}}}; parameters in OCF_RESKEY_<name>"


def _nothing(call: Call) -> None:
    del call


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX else None
