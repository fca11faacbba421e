"""Scenarios as text: what happens to a cluster, and what must follow. Read by people first, run by a test second.

A line is a command; `#` begins a comment. The lines after a command that begin with `  | ` are what it must print. See
`Script.commands` for all of them; durations are written as 300ms or 2s.
"""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from msgspec.structs import replace

from hamail.core import explain, preflight
from hamail.core.engine import Engine
from hamail.model import commands as c
from hamail.model.ids import NodeName
from hamail.model.preflight import Preflight
from hamail.model.spec import ClusterSpec, Requirement, ResourceSpec
from hamail.model.state import Phase
from hamail.simulation.checkers.claims import Hazard
from hamail.simulation.fence_device import Mood
from hamail.simulation.machine import Machine
from hamail.simulation.script_policy import PolicyLines, budgets, quarantine
from hamail.simulation.spec import cluster
from hamail.simulation.world import WALL_START_MS, World

DEFAULT_LIMIT_MS = 15_000


class ScriptError(AssertionError):
    """The scenario did not go as it says, or cannot be read."""


def duration_ms(text: str) -> float:
    """Raises ScriptError for anything but a number with ms or s."""
    found = re.fullmatch(r"([0-9.]+)(ms|s)", text)
    if found is None:
        raise ScriptError(f"{text!r} is no duration (300ms, 2s)")
    return float(found[1]) * (1000 if found[2] == "s" else 1)


class Script:
    def __init__(self) -> None:
        self._world: World | None = None
        self._events_shown = 0
        self._printed: list[str] = []
        self.commands: tuple[tuple[str, Callable[..., None]], ...] = (
            *PolicyLines(self).commands,
            (r"cluster (.+)", self._cluster),
            (r"start(?: (.+))?", self._start),
            (r"run until (\S+) active(?: on (\S+))?(?: within (\S+))?", self._until_active),
            (r"wait (\S+)", self._wait),
            (r"cut (\S+)", self._cut),
            (r"power on (\S+)", self._power_on),
            (r"(\S+) reboots after a reset in (\S+)", self._reboots),
            (r"isolate (\S+)", self._isolate),
            (r"link (\S+) - (\S+) breaks", self._break_link),
            (r"nothing from (\S+) reaches (\S+)", self._one_way),
            (r"links heal", self._heal),
            (r"(\S+) of (\S+) dies on (\S+)", self._service_dies),
            (r"hamaild on (\S+) is restarted, taking (\S+)", self._restart_daemon),
            (r"hamaild on (\S+) dies(?:, back after (\S+))?", self._daemon_dies),
            (r"hamaild on (\S+) hangs for (\S+)", self._daemon_hangs),
            (r"hamaild on (\S+) dies when it proposes (\S+), back after (\S+)", self._dies_at),
            (r"executor on (\S+) dies(?:, back after (\S+))?", self._executor_dies),
            (r"journal on (\S+) breaks", self._journal_breaks),
            (r"disk of (\S+) hangs for (\S+)", self._disk_hangs),
            (r"(\S+) pauses for (\S+)", self._pauses),
            (r"(\S+) cannot start on (\S+)", self._cannot_start),
            (r"starts work on (\S+)", lambda n: self._machine(n).start_fails.clear()),
            (r"(\S+) of (\S+) is started by hand on (\S+)", self._by_hand),
            (r"stops fail on (\S+)", lambda n: setattr(self._machine(n), "stop_fails", True)),
            (r"stops work on (\S+)", lambda n: setattr(self._machine(n), "stop_fails", False)),
            (r"device (\S+) is unreachable from (\S+)", self._unreachable),
            (r"device (\S+) (works|fails|slow|silent)", self._device),
            (r'switchover (\S+) to (\S+)(?: "(.*)")?', self._switchover),
            (r"failover (\S+) to (\S+)", self._failover),
            (r"restart (?:(\S+) of )?(\S+)", self._restart),
            (r"schedule (\S+)(?: to (\S+))? in (\S+)", self._schedule),
            (r"cancel (scheduled|move) (\S+)", self._cancel),
            (r"preflight (switchover|failover) (\S+)", self._preflight),
            (r"preflight standby (\S+)", self._preflight_standby),
            (r"nothing is left behind for (\S+)", self._nothing_left),
            (r"standby (\S+)", lambda n: self.order(c.SetStandby(node=n, standby=True, **self._who()))),
            (r"unstandby (\S+)", lambda n: self.order(c.SetStandby(node=n, standby=False, **self._who()))),
            (r"maintenance (on|off)", lambda on: self.order(c.SetMaintenance(on=on == "on", **self._who()))),
            (r"clear (\S+)", lambda g: self.order(c.Clear(group=g, **self._who()))),
            (r"fence (\S+)", lambda n: self.order(c.RequestFence(target=n, **self._who()))),
            (r"fence confirm (\S+)", self._confirm),
            (r"config (.+)", self._config),
            (r"expect (\S+) active on (\S+) within (\S+)", self._active_within),
            (r"expect (\S+) stays active on (\S+) for (\S+)", self._stays),
            (r"expect (\S+) nowhere within (\S+)", self._nowhere_within),
            (r"expect (\S+) stays nowhere for (\S+)", self._stays_nowhere),
            (r"expect (\S+) (idle|starting|active|stopping|fencing|waiting|blocked)(?: within (\S+))?", self._phase),
            (r'expect sentence "(.*)"', self._sentence),
            (r"expect outage of (\S+) under (\S+)", self._outage),
            (r"events", self._events),
            (r"why (\S+)", self._why),
        )

    @property
    def world(self) -> World:
        if self._world is None:
            raise ScriptError("a scenario begins with `cluster`")
        return self._world

    def run(self, text: str) -> str:
        """Run the scenario. The result is the text with what was truly printed; equal when all went as it says.

        Raises ScriptError, with the line, when an expectation fails.
        """
        result: list[str] = []
        for number, line in enumerate(text.splitlines(), start=1):
            if line.startswith("  | "):
                continue
            result.append(line)
            command = line.strip()
            if command and not command.startswith("#"):
                try:
                    result += [f"  | {x}" for x in self.perform(command)]
                except AssertionError as e:
                    raise type(e)(f"line {number}: {command}\n{e}") from e
        return "\n".join(result) + "\n"

    def perform(self, command: str) -> list[str]:
        """Run one command; what it prints."""
        self._printed = []
        for pattern, handler in self.commands:
            found = re.fullmatch(pattern, command)
            if found is not None:
                handler(*found.groups())
                return self._printed
        raise ScriptError("no such command")

    # ---- building -----------------------------------------------------------------------------------------------

    def _cluster(self, words: str) -> None:
        given = dict(word.partition("=")[::2] for word in words.split())
        spec = cluster(
            tuple(given.pop("nodes", "n1,n2").split(",")),
            tuple(given.pop("witness", "n3").split(",")),
            requires=Requirement(given.pop("requires", "fencing")),
            levels=int(given.pop("devices", "1")),
            restarts=int(given.pop("restarts", "3")),
            groups=tuple(given.pop("groups", "mail").split(",")),
            failovers=budgets(given.pop("failovers", "3/1h")),
            quarantine=quarantine(given.pop("quarantine", "3/10m")),
        )
        dogs = frozenset(x for x in given.pop("watchdogs", "").split(",") if x)
        seed = int(given.pop("seed", "1"))
        if given:
            raise ScriptError(f"unknown words: {', '.join(given)}")
        self._world = World(spec, seed=seed, watchdogs=dogs)

    def _start(self, names: str | None) -> None:
        for name in names.split(",") if names else sorted(self.world.machines):
            self._machine(name).power_on()

    def _machine(self, name: NodeName) -> Machine:
        if name not in self.world.machines:
            raise ScriptError(f"there is no {name}")
        return self.world.machines[name]

    # ---- what happens -------------------------------------------------------------------------------------------

    def _wait(self, duration: str) -> None:
        self.world.run_ms(duration_ms(duration))

    def _cut(self, name: str) -> None:
        for n in sorted(self.world.machines) if name == "all" else [name]:
            self._machine(n).power_off()

    def _power_on(self, name: str) -> None:
        for n in sorted(self.world.machines) if name == "all" else [name]:
            self._machine(n).power_on()

    def _isolate(self, name: str) -> None:
        self.world.isolate(name)

    def _break_link(self, a: str, b: str) -> None:
        self.world.network.cut(a, b)

    def _one_way(self, a: str, b: str) -> None:
        self.world.network.block(a, b)

    def _heal(self) -> None:
        self.world.network.heal()

    def _reboots(self, name: str, duration: str) -> None:
        self._machine(name).reboot_ms = duration_ms(duration)

    def _service_dies(self, resource: str, group: str, node: str) -> None:
        executor = self._machine(node).executor
        if executor is None:
            raise ScriptError(f"{node} has no executor now")
        executor.crash_resource(group, resource)

    def _restart_daemon(self, node: str, taking: str) -> None:
        machine = self._machine(node)
        if machine.daemon is not None:
            machine.daemon.leave()
        machine.end_daemon()
        machine.after_ms(duration_ms(taking), machine.start_daemon)

    def _daemon_dies(self, node: str, back: str | None) -> None:
        machine = self._machine(node)
        machine.end_daemon()
        if back is not None:
            machine.after_ms(duration_ms(back), machine.start_daemon)

    def _daemon_hangs(self, node: str, duration: str) -> None:
        daemon = self._machine(node).daemon
        if daemon is not None:
            daemon.hung = True
            self._machine(node).after_ms(duration_ms(duration), daemon.wake)

    def _dies_at(self, node: str, kind: str, back: str) -> None:
        self.world.daemon_dies_at(node, kind, duration_ms(back))

    def _executor_dies(self, node: str, back: str | None) -> None:
        machine = self._machine(node)
        machine.end_executor()
        if back is not None:
            machine.after_ms(duration_ms(back), machine.start_executor)

    def _journal_breaks(self, node: str) -> None:
        self._machine(node).break_journal("the journal cannot be written: no space left on device")

    def _disk_hangs(self, node: str, duration: str) -> None:
        self._machine(node).hang_disk(True)
        self._machine(node).after_ms(duration_ms(duration), lambda: self._machine(node).hang_disk(False))

    def _pauses(self, node: str, duration: str) -> None:
        machine = self._machine(node)
        machine.pause()
        self.world.agenda.after_ms(duration_ms(duration), machine.resume)

    def _by_hand(self, resource: str, group: str, node: str) -> None:
        """By a person, whatever hamail thinks; it counts as active there."""
        self._machine(node).by_hand(group, resource)

    def _cannot_start(self, resource: str, node: str) -> None:
        self._machine(node).start_fails.add(resource)

    def _unreachable(self, device: str, node: str) -> None:
        self.world.devices[device].unreachable_from.add(node)

    def _device(self, device: str, mood: str) -> None:
        self.world.devices[device].mood = Mood(mood)

    # ---- orders of an operator ----------------------------------------------------------------------------------

    def _who(self, reason: str = "") -> dict[str, Any]:
        return {"at_ms": self.world.wall_ms, "actor": "anna", "reason": reason}

    def show(self, line: str) -> None:
        """What the present command prints."""
        self._printed.append(line)

    def order(self, command: c.AnyCommand) -> None:
        outcome = self.world.order(command)
        if outcome is None:
            self._printed.append("unknown: nobody could commit it")
        elif not outcome.accepted:
            self._printed.append(f"refused: {'; '.join(outcome.reasons)}")

    def _switchover(self, group: str, target: str, reason: str | None) -> None:
        epoch = self.world.state.group(group).epoch
        self.order(c.RequestMove(group=group, target=target, expected_epoch=epoch, **self._who(reason or "")))

    def _failover(self, group: str, target: str) -> None:
        epoch = self.world.state.group(group).epoch
        self.order(c.RequestFailover(group=group, target=target, expected_epoch=epoch, **self._who()))

    def _restart(self, resource: str | None, group: str) -> None:
        epoch = self.world.state.group(group).epoch
        self.order(c.RequestRestart(group=group, resource=resource or "", expected_epoch=epoch, **self._who()))

    def _schedule(self, group: str, target: str | None, when: str) -> None:
        due_ms = self.world.wall_ms + int(duration_ms(when))
        self.order(c.ScheduleMove(group=group, target=target, due_ms=due_ms, **self._who()))

    def _cancel(self, what: str, group: str) -> None:
        """The newest of its kind."""
        state = self.world.state
        found = [s.id for s in state.scheduled if s.group == group] if what == "scheduled" else []
        found += [m.id for m in state.moves if m.group == group] if what == "move" else []
        self.order(c.Cancel(order=found[-1] if found else 0, **self._who()))

    def _preflight(self, order: str, group: str) -> None:
        engine = self._engine()
        ask = preflight.failover if order == "failover" else preflight.switchover
        self._print_checks(ask(engine.state, engine.facts(), engine.timings, group))

    def _preflight_standby(self, node: str) -> None:
        engine = self._engine()
        self._print_checks(preflight.standby(engine.state, engine.facts(), node))

    def _print_checks(self, found: Preflight) -> None:
        for x in found.checks:
            step = f" ({x.next_step})" if x.next_step else ""
            self._printed.append(f"{x.verdict:8}{x.name}: {x.reason}{step}")
        self._printed += [f"proof   {found.proof}"] if found.proof else []
        self._printed += [f"loss    {words}" for words in found.loss]

    def _nothing_left(self, group: str) -> None:
        """No order of the past has a say in what happens to the group from now on."""
        state = self.world.state
        g = state.group(group)
        left: dict[str, object] = {
            "target": g.target,
            "failed_on": g.failed_on,
            "move": g.move,
            "bans": g.bans,
            "restart": g.restart,
        }
        left["scheduled"] = tuple(s for s in state.scheduled if s.group == group)
        if any(left.values()):
            raise ScriptError(f"left behind: {left}")

    def _engine(self) -> Engine:
        """Of the node that leads the log."""
        leader = self.world.log.leader
        daemon = self._machine(leader).daemon if leader is not None else None
        if daemon is None:
            raise ScriptError("nobody leads the log")
        return daemon.engine

    def _confirm(self, node: str) -> None:
        machine = self._machine(node)
        if any(machine.running.values()):
            self.world.checker.hazard(Hazard.VOUCHED)
        life = self.world.state.node(node).life
        self.order(c.FenceConfirmed(target=node, life=life, **self._who()))

    def _config(self, words: str) -> None:
        given = dict(word.partition("=")[::2] for word in words.split())
        revision = int(given.pop("revision", str(self.world.state.config.revision)))
        spec = changed(self.world.state.spec, given)
        self.world.groups |= set(spec.groups)
        self.order(c.ApplyConfig(spec=spec, source="", expected_revision=revision, **self._who()))

    # ---- expectations -------------------------------------------------------------------------------------------

    def _need(self, holds: Callable[[], bool], limit_ms: float, words: str) -> None:
        if not self.world.run_until(holds, limit_ms):
            raise ScriptError(f"{words}\n{self.world.recent()}")

    def _until_active(self, group: str, node: str | None, limit: str | None) -> None:
        def active() -> bool:
            on = self._settled_on(group)
            return on is not None and node in (None, on)

        self._need(active, duration_ms(limit) if limit else DEFAULT_LIMIT_MS, f"{group} is not active")

    def _settled_on(self, group: str) -> NodeName | None:
        """Truly active, and the log knows it."""
        on, g = self.world.active_on(group), self.world.state.group(group)
        return on if on == g.owner and g.phase is Phase.ACTIVE else None

    def _active_within(self, group: str, node: str, limit: str) -> None:
        words = f"{group} is on {self.world.active_on(group)}"
        self._need(lambda: self._settled_on(group) == node, duration_ms(limit), words)

    def _stays(self, group: str, node: str, duration: str) -> None:
        if self.world.run_until(lambda: self.world.active_on(group) != node, duration_ms(duration)):
            raise ScriptError(f"{group} left {node}\n{self.world.recent()}")

    def _nowhere_within(self, group: str, limit: str) -> None:
        self._need(lambda: not self._anywhere(group), duration_ms(limit), f"{group} still runs")

    def _anywhere(self, group: str) -> bool:
        return any(m.running.get(group) for m in self.world.machines.values())

    def _stays_nowhere(self, group: str, duration: str) -> None:
        if self.world.run_until(lambda: self._anywhere(group), duration_ms(duration)):
            raise ScriptError(f"{group} was started\n{self.world.recent()}")

    def _phase(self, group: str, phase: str, limit: str | None) -> None:
        limit_ms = duration_ms(limit) if limit else 0
        found = f"{group} is {self.world.state.group(group).phase}"
        self._need(lambda: self.world.state.group(group).phase == phase, limit_ms, found)

    def _sentence(self, words: str) -> None:
        if not any(words in e.sentence for e in self.world.state.events):
            said = "\n".join(f"  {e.sentence}" for e in self.world.state.events[-20:])
            raise ScriptError(f"nobody said so. What was said:\n{said}")

    def _outage(self, group: str, limit: str) -> None:
        spans = [x for x in self.world.checker.intervals if x[0] == group]
        gaps = [(b[2] - (a[3] or b[2])) / 1e6 for a, b in pairwise(spans)]
        if not gaps or gaps[-1] > duration_ms(limit):
            raise ScriptError(f"gaps in ms: {gaps}")

    def _events(self) -> None:
        """What the cluster has said since the last time, with the seconds since the start."""
        fresh = [e for e in self.world.state.events if e.index > self._events_shown]
        for e in fresh:
            self._printed.append(f"{(e.at_ms - WALL_START_MS) / 1000:6.1f} s  {e.sentence}")
        self._events_shown = self.world.state.applied

    def _why(self, group: str) -> None:
        daemon = next(m.daemon for m in self.world.machines.values() if m.votes and m.daemon is not None)
        self._printed += explain.why(daemon.engine.state, daemon.engine.facts(), group)


def changed(spec: ClusterSpec, given: dict[str, str]) -> ClusterSpec:
    """The same cluster with some settings changed: restarts, detection, requires, add, drop; nodes and device (of the
    store) of every group.
    """
    groups = dict(spec.groups)
    changes: dict[str, Any] = {}
    if "restarts" in given:
        changes["restarts"] = int(given["restarts"])
    if "nodes" in given:
        changes["nodes"] = tuple(given["nodes"].split(","))
    if "requires" in given:
        changes["requires"] = Requirement(given["requires"])
    groups = {name: replace(group, **changes) for name, group in spec.groups.items()}
    groups.pop(given.get("drop", ""), None)
    if "add" in given:
        groups[given["add"]] = replace(next(iter(spec.groups.values())), name=given["add"])
    if "device" in given:
        groups = {name: replace(g, resources=_on_device(g.resources, given["device"])) for name, g in groups.items()}
    nodes = dict(spec.nodes)
    if "readdress" in given:
        nodes[given["readdress"]] = replace(nodes[given["readdress"]], address="198.51.100.9")
    detection_ms = int(duration_ms(given["detection"])) if "detection" in given else spec.detection_ms
    return replace(spec, groups=groups, nodes=nodes, detection_ms=detection_ms)


def _on_device(resources: tuple[ResourceSpec, ...], device: str) -> tuple[ResourceSpec, ...]:
    store, *rest = resources
    return (replace(store, parameters={"device": device}), *rest)
