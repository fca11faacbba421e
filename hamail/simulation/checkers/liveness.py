"""L1 to L9: what must happen in time once nothing is in the way. Functions; whoever runs the world says when.

Each raises Violation. Bounds are true milliseconds: they hold for clocks that run wrong by what the timings allow for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hamail.core.timing import derive, stretched, watchdog_extra_ms
from hamail.model import commands as c
from hamail.model.ids import GroupName, NodeName
from hamail.model.spec import ClusterSpec, Requirement
from hamail.model.state import Phase
from hamail.simulation.checkers.violation import Violation

if TYPE_CHECKING:
    from hamail.simulation.world import World

START_BUDGET_MS = 5_000  # of a whole group
ELECTION_BUDGET_MS = 3_000
ANSWER_MS = 5_000
JITTER_MS = 1_000
QUIET_TAKEOVERS = 10


def _spec(world: "World") -> ClusterSpec:
    """Before the first configuration is in the log, what the files say."""
    return world.state.spec if world.state.config.revision else world.spec


def detect_ms(world: "World") -> int:
    return 2 * _spec(world).detection_ms + ELECTION_BUDGET_MS


def takeover_ms(world: "World", group: GroupName) -> int:
    """T: from a loss to the group running elsewhere, by what it requires: a fence, or the longest wait."""
    spec = _spec(world)
    t = derive(max(spec.detection_ms, world.state.detection_ms_max), spec.watchdog_timeout_s)
    requires = spec.groups[group].requires
    proof = sum(2 * d.timeout_ms for d in spec.fencing.values())  # each may be in the middle of an attempt that fails
    if requires is not Requirement.FENCING:
        dog_ms = watchdog_extra_ms(spec.watchdog_timeout_s) if requires is Requirement.WATCHDOG else 0
        proof = max(proof, stretched(t.wait_ms + dog_ms))
    return detect_ms(world) + t.settle_ms + proof + START_BUDGET_MS


def _fail(world: "World", mark: str, what: str) -> Violation:
    return Violation(f"at {world.now_ns / 1e9:.3f} s: {mark}: {what}\n{world.recent()}")


def served(world: "World", group: GroupName) -> bool:
    """Truly up, and the log knows where."""
    g = world.state.group(group)
    return g.phase is Phase.ACTIVE and g.owner is not None and world.active_on(group) == g.owner


def comes_up(world: "World", group: GroupName, limit_ms: float | None = None, mark: str = "L1") -> float:
    """L1, and L6 after a cold start: a healthy majority serves the group. Returns how long it took."""
    limit_ms = takeover_ms(world, group) if limit_ms is None else limit_ms
    began_ns = world.now_ns
    if not world.run_until(lambda: served(world, group), limit_ms):
        phase = world.state.group(group).phase
        raise _fail(world, mark, f"{group} is not served {limit_ms / 1000:g} s after the heal: it is {phase}")
    return (world.now_ns - began_ns) / 1e6


def stays(world: "World", group: GroupName, for_ms: float | None = None) -> None:
    """L2: no move any more, for ten takeovers."""
    place = (world.active_on(group), world.state.group(group).epoch)
    for_ms = QUIET_TAKEOVERS * takeover_ms(world, group) if for_ms is None else for_ms
    world.run_ms(for_ms)
    now = (world.active_on(group), world.state.group(group).epoch)
    if now != place:
        raise _fail(world, "L2", f"{group} went from {place} to {now} although nothing was wrong")


def no_outage(world: "World", group: GroupName, for_ms: float) -> None:
    """L3: whoever was just lost was not needed."""
    if world.run_until(lambda: world.active_on(group) is None, for_ms):
        raise _fail(world, "L3", f"{group} was interrupted")


@contextmanager
def no_move(world: "World", group: GroupName) -> Iterator[None]:
    """L4: what happens within (another leader of the log) is not a move."""
    before = (world.active_on(group), world.state.group(group).epoch)
    yield
    now = (world.active_on(group), world.state.group(group).epoch)
    if now != before:
        raise _fail(world, "L4", f"{group} went from {before} to {now}")


def lets_go(world: "World", node: NodeName, group: GroupName) -> float:
    """L5: `node`, cut off just now, has nothing of the group by its deadline, or is reset. Returns how long it took."""
    spec, machine, began_ns = world.state.spec, world.machines[node], world.now_ns
    limit_ms = stretched(derive(spec.detection_ms, spec.watchdog_timeout_s).lease_ms)
    if machine.watchdog:
        limit_ms += watchdog_extra_ms(spec.watchdog_timeout_s)
    if not world.run_until(lambda: not machine.premises.of(group), limit_ms):
        left = ", ".join(machine.premises.of(group))
        raise _fail(world, "L5", f"{node} was cut off {limit_ms / 1000:g} s ago and still has {left} of {group}")
    return (world.now_ns - began_ns) / 1e6


def not_delayed(world: "World", group: GroupName, deed: Callable[[], None], usual_ms: float) -> None:
    """L7: `deed` moves this group while an agent of another one misbehaves; it may take a second longer than usual."""
    deed()
    world.run_until(lambda: not served(world, group), usual_ms)
    began_ns = world.now_ns
    if not world.run_until(lambda: served(world, group), usual_ms + JITTER_MS):
        raise _fail(world, "L7", f"{group} is not up {(world.now_ns - began_ns) / 1e6:g} ms after its move began")


def answers(world: "World", node: NodeName, command: c.AnyCommand) -> None:
    """L8: an order gets an outcome, or an explicit "unknown", within five seconds."""
    said: list[c.Outcome | c.Unknown] = []
    world.log.propose(node, command, said.append)
    if not world.run_until(lambda: bool(said), ANSWER_MS):
        raise _fail(world, "L8", f"{type(command).__name__} through {node} got no answer in {ANSWER_MS / 1000:g} s")


def sizes(world: "World") -> dict[str, int]:
    """L9: how much everything that must not grow holds now."""
    found = {
        "agenda": world.agenda.length,
        "events": len(world.state.events),
        "moves": len(world.state.moves),
        "requests": len(world.state.requests),
    }
    for name, machine in world.machines.items():
        daemon, executor = machine.daemon, machine.executor
        if daemon is not None:
            found |= {f"{name} {k}": n for k, n in _containers(daemon.engine).items()}
            found |= {f"{name} local {k}": n for k, n in _containers(daemon.engine.local).items()}
            for part in ("cleaning", "reports", "repairs", "fences", "maintenance"):
                inner = _containers(getattr(daemon.engine.local, part))
                found |= {f"{name} {part} {k}": n for k, n in inner.items()}
            found |= {f"{name} lead {k}": n for k, n in _containers(daemon.engine.lead).items()}
        if executor is not None:
            found |= {f"{name} executor {k}": n for k, n in _containers(executor).items()}
    return found


def _containers(thing: object) -> dict[str, int]:
    return {k: len(v) for k, v in vars(thing).items() if isinstance(v, dict | list | set | tuple | frozenset)}


def grown(before: dict[str, int], after: dict[str, int], slack: int = 8) -> dict[str, tuple[int, int]]:
    """What has become larger than it may; bounded histories may fill up to their limits."""
    bounded = ("events", "moves", "requests")
    return {k: (before.get(k, 0), n) for k, n in after.items() if n > before.get(k, 0) + slack and k not in bounded}
