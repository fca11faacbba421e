"""The next replicated state while one command is applied to it: local to one call of apply, dropped on refusal."""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from hamail.core import outcome, record
from hamail.core.transitions import What, find
from hamail.model.commands import Command
from hamail.model.ids import Epoch, GroupName, LogIndex, NodeName, ResourceName
from hamail.model.state import (
    EARLIER_KEPT,
    EVENTS_KEPT,
    MOVES_KEPT,
    ClusterState,
    Event,
    GroupState,
    Move,
    NodeState,
    Past,
    Phase,
    Severity,
    Stamp,
    Trigger,
)

DETAIL_CHARS_MAX = 300
ENDS = (Stamp.DETECTED, Stamp.DECIDED, Stamp.STOPPED, Stamp.FENCED)  # of whoever had the group


class Rejected(Exception):
    """The command does not fit the state; the message is a sentence for the operator."""


class Draft:
    def __init__(self, state: ClusterState, index: LogIndex, command: Command) -> None:
        self._state = state
        self.index = index
        self.at_ms = command.at_ms
        self._command = command
        self.spec = state.spec
        self.config = state.config
        self.revisions = state.revisions
        self.maintenance = state.maintenance
        self.scheduled = state.scheduled
        self._groups = dict(state.groups)
        self._nodes = dict(state.nodes)
        self.drill = state.drill
        self.drills = state.drills
        self.incidents = state.incidents
        self.audit = state.audit
        self._moves = list(state.moves)
        self._events = list(state.events)

    def finish(self) -> ClusterState:
        return replace(
            self._state,
            spec=self.spec,
            config=self.config,
            revisions=self.revisions,
            applied=self.index,
            detection_ms_max=max(self._state.detection_ms_max, self.spec.detection_ms),
            watchdog_timeout_s_max=max(self._state.watchdog_timeout_s_max, self.spec.watchdog_timeout_s),
            groups=self._groups,
            nodes=self._nodes,
            maintenance=self.maintenance,
            drill=self.drill,
            drills=self.drills,
            incidents=self.incidents,
            audit=self.audit,
            scheduled=self.scheduled,
            moves=tuple(self._moves[-MOVES_KEPT:]),
            events=tuple(self._events[-EVENTS_KEPT:]),
        )

    def group(self, name: GroupName) -> GroupState:
        return self._groups.get(name, GroupState())

    def groups(self) -> Iterator[tuple[GroupName, GroupState]]:
        """Configured groups by name."""
        return iter([(name, self.group(name)) for name in sorted(self.spec.groups)])

    def keep_groups(self, names: set[GroupName]) -> None:
        self._groups = {name: g for name, g in self._groups.items() if name in names}

    def set_group(self, name: GroupName, **changes: Any) -> None:
        self._groups[name] = replace(self.group(name), **changes)

    def node(self, name: NodeName) -> NodeState:
        return self._nodes.get(name, NodeState())

    def set_node(self, name: NodeName, **changes: Any) -> None:
        self._nodes[name] = replace(self.node(name), **changes)

    def resumed(self, node: NodeName) -> None:
        """The dead-man's switch of this node is in force."""
        suspended = tuple(n for n in self.maintenance.suspended if n != node)
        self.maintenance = replace(self.maintenance, suspended=suspended)

    def event(
        self,
        kind: str,
        sentence: str,
        *,
        group: GroupName = "",
        node: NodeName = "",
        resource: ResourceName = "",
        actor: str = "",
        reason: str = "",
        severity: Severity = Severity.INFO,
        rule: str = "",
    ) -> None:
        about = self.group(group) if group else self._moving(node)
        first = not self._events or self._events[-1].index != self.index  # what it stood on is told once
        self._events.append(
            Event(
                index=self.index,
                at_ms=self.at_ms,
                kind=kind,
                sentence=sentence,
                group=group,
                node=node,
                resource=resource,
                actor=actor,
                reason=reason,
                severity=severity,
                decision=record.decision(self._command, about, rule, whole=first),
            )
        )

    def _moving(self, node: NodeName) -> GroupState:
        """The group of this node that is on the move, if there is one."""
        return next((g for _, g in self.groups() if g.move and g.owner == node), GroupState())

    def step(self, name: GroupName, what: What, **words: Any) -> None:
        """Take the group through its row of the table. Raises Rejected when the table has none."""
        g = self.group(name)
        row = find(g.phase, what)
        if row is None:
            raise Rejected(f"{name} is {g.phase}: it cannot be {what} now")
        sentence = row.sentence.format_map({"group": name, "why": "", "because": "", **words}).strip()
        since = self.at_ms if row.then is not g.phase else g.since_ms
        self.set_group(name, phase=row.then, sentence=sentence, since_ms=since)
        node = words.get("node") or ""
        self.event("group", sentence, group=name, node=node, severity=row.severity, rule=row.name)
        if g.restart is not None and row.then is not Phase.ACTIVE:
            meant = g.restart.resource or name
            self.set_group(name, restart=None)
            self.event("restart void", f"The ordered restart of {meant} is void: {name} is {row.then}.", group=name)

    def open_move(
        self,
        name: GroupName,
        trigger: Trigger,
        command: Command,
        *,
        target: NodeName | None = None,
        reason: str = "",
        stamps: dict[str, int] | None = None,
    ) -> None:
        """Begin a record for the history; one that is still open is closed as failed."""
        g, reason = self.group(name), (reason or command.reason).removeprefix("Why: ")  # as if it followed a sentence
        if g.move:
            self._change_move(g.move, result="failed", detail=f"It was overtaken by another: {trigger}.")
        self._moves.append(
            Move(
                id=self.index,
                group=name,
                source=g.owner,
                target=target,
                asked=target,
                trigger=trigger,
                actor=command.actor,
                reason=reason,
                started_at_ms=command.at_ms,
                stamps=stamps or {},
                request=command.request,
            )
        )
        self.set_group(name, move=self.index, trigger=trigger, actor=command.actor, reason=reason)

    def close_move(self, name: GroupName, node: NodeName) -> None:
        """The group runs again on `node`."""
        g = self.group(name)
        move = self._find_move(g.move)
        if move is not None:
            result, detail = outcome.ended(move, name, node)
            self._change_move(move.id, result=result, detail=detail, target=node)
            if detail:
                self.event("move", detail, group=name, node=node, severity=Severity.WARNING, rule=f"move {result}")
                self.set_group(name, reason=detail)  # or status would say that it is there since it was ordered away
        self.set_group(name, move=0, target=None, failed_on=(), retries=0, pardoned=False)

    def give_up(self, name: GroupName) -> None:
        """The open move has ended nowhere."""
        move = self._find_move(self.group(name).move)
        if move is not None:
            why = outcome.blamed(move)
            self._change_move(move.id, result="failed", detail=f"{name} runs nowhere: {why}." if why else "")
        self.set_group(name, move=0, target=None)

    def stamp(
        self, name: GroupName, stamps: dict[str, int], *, target: NodeName | None = None, keep_first: bool = False
    ) -> None:
        """Add points to the group's open move. Those of an attempt that went no further do not replace others."""
        move, trying = self.open_move_of(name), self.trying(name)
        if move is not None and move.epoch and Stamp.GRANTED in stamps and Stamp.GRANTED in move.stamps:
            self._past(move, Stamp.GRANTED, move.target or "", move.stamps[Stamp.GRANTED])
        if trying is not None:
            for point in [p for p in (Stamp.STOPPED, Stamp.FENCED) if p in stamps]:
                self._past(trying, point, self.group(name).owner or "", stamps[point])
            stamps = {p: at_ms for p, at_ms in stamps.items() if p not in ENDS}
        self._stamp_move(self.open_move_of(name), stamps, target, keep_first)

    def trying(self, name: GroupName) -> Move | None:
        """The group's open move, if its owner was granted it by that: what ends now is an attempt."""
        move = self.open_move_of(name)
        return move if move is not None and move.epoch and move.epoch == self.group(name).epoch else None

    def _past(self, move: Move, point: str, node: NodeName, at_ms: int) -> None:
        known = next((m for m in self._moves if m.id == move.id), move)
        past = [*known.earlier, Past(point=point, node=node, at_ms=at_ms)]
        past.sort(key=lambda p: (p.at_ms, p.point != Stamp.GRANTED))  # its grant is put aside only by the next one
        self._change_move(move.id, earlier=tuple(past[-EARLIER_KEPT:]))

    def mark(self, name: GroupName, **changes: Any) -> None:
        """Note something about the group's open move."""
        if self.group(name).move:
            self._change_move(self.group(name).move, **changes)

    def blame(self, name: GroupName, node: NodeName, why: str, *, again: bool = True) -> None:
        """`node` could not have the group during the open move; `why` goes on after its name."""
        move, trying = self.open_move_of(name), self.trying(name)
        if trying is not None and node == self.group(name).owner:
            self._past(trying, why.partition(" (")[0], node, self.at_ms)
        if move is not None and (again or node not in move.failures):
            self._change_move(move.id, failures={**move.failures, node: record.clip(why.rstrip("."), DETAIL_CHARS_MAX)})

    def open_move_of(self, name: GroupName) -> Move | None:
        return self._find_move(self.group(name).move)

    def stamp_epoch(self, name: GroupName, epoch: Epoch, stamps: dict[str, int]) -> None:
        """Add points to the newest move of the group, if it is still the one that led to `epoch`."""
        newest = next((m for m in reversed(self._moves) if m.group == name), None)
        if newest is not None and self.group(name).epoch == epoch:
            self._stamp_move(newest, stamps, None, True)

    def _stamp_move(self, move: Move | None, stamps: dict[str, int], target: NodeName | None, keep_first: bool) -> None:
        if move is None:
            return
        merged = {**stamps, **move.stamps} if keep_first else {**move.stamps, **stamps}
        self._change_move(move.id, stamps=merged, target=target or move.target)

    def _find_move(self, move_id: LogIndex) -> Move | None:
        return next((m for m in reversed(self._moves) if m.id == move_id), None) if move_id else None

    def _change_move(self, move_id: LogIndex, **changes: Any) -> None:
        self._moves = [replace(m, **changes) if m.id == move_id else m for m in self._moves]
