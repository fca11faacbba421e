"""What the control API asks of hamaild."""

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from hamail import __version__
from hamail.control.api import GIVEN, Why
from hamail.control.port import NotProposed
from hamail.core import (
    account,
    config_effects,
    explain,
    leaving,
    links,
    placement,
    policy,
    policy_view,
    preflight,
    record,
    retries,
)
from hamail.core.changes_orders import NODES_ARE_FIXED
from hamail.core.facts import Facts, NodeFacts
from hamail.core.provenance import operator_refusal
from hamail.daemon.config_checks import ConfigChecks
from hamail.daemon.reports import Reports
from hamail.daemon.shell import Shell, wall_ms
from hamail.model.commands import Annotate, AnyCommand, Outcome, Unknown
from hamail.model.ids import GroupName, LogIndex, NodeName, RequestId
from hamail.model.leaving import Leaving
from hamail.model.preflight import Preflight, PreflightAsk
from hamail.model.report import NodeReport
from hamail.model.situation import MOVES_TOLD, SITUATION_SCHEMA, Situation
from hamail.model.spec import ClusterSpec
from hamail.model.state import ClusterState, Phase
from hamail.model.status import STATUS_SCHEMA, GroupView, NodeView, Status
from hamail.model.timings import Timings
from hamail.monitoring import alerts
from hamail.monitoring.board import Board

MS = 1_000_000
TEXT_ONLY = "only the text itself: comments, order or layout"


class DaemonBackend:
    """Implements hamail.control.port.Backend."""

    def __init__(
        self,
        shell: Shell,
        reports: Reports,
        configs: ConfigChecks,
        certificates_end: Callable[[], dict[NodeName, int]] = dict,
        revoked: Callable[[], frozenset[NodeName]] = frozenset,
    ) -> None:
        """`certificates_end`: when those of the nodes do, in ms since 1970, as far as is known."""
        self._shell = shell
        self._reports = reports
        self._engine = shell.engine
        self._configs = configs
        self._certificates_end = certificates_end
        self._revoked = revoked
        self._board = Board()

    def now_ms(self) -> int:
        return wall_ms()

    def state(self) -> ClusterState:
        return self._engine.state

    def timings(self) -> Timings:
        return self._engine.timings

    def why(self, group: GroupName) -> tuple[str, ...]:
        return explain.why(self.state(), self._engine.facts(), group)

    def account(self, number: LogIndex) -> Why | None:
        state = self.state()
        move, events = account.move_of(state, number), account.events_of_entry(state, number)
        if move is None and not events:
            return None
        told = account.events_of_move(state, move) if move is not None else events
        return Why(group="", sentences=account.of_entry(state, number), events=told, move=move)

    def situation(self) -> Situation:
        state, facts = self.state(), self._engine.facts()
        config = replace(state.config, source="")
        return Situation(
            schema=SITUATION_SCHEMA,
            cluster=state.spec.name,
            node=self._engine.me,
            at_ms=wall_ms(),
            coordinator=self._shell.health().leader,
            state=replace(state, events=(), requests=(), moves=state.moves[-MOVES_TOLD:], config=config, revisions=()),
            heard=facts.nodes,
            retry_in_ms=facts.retry_in_ms,
            behind_ms=facts.behind_ms,
        )

    def preflight(self, ask: PreflightAsk, report: NodeReport | None = None) -> Preflight:
        return preflight.look(self.state(), self._engine.facts(), self.timings(), ask, report)

    async def report_of(self, node: NodeName) -> NodeReport | str:
        return await self._reports.of(node)

    def leaving(self, group: GroupName, node: NodeName) -> Leaving:
        return leaving.preview_on(self._engine, group, node)

    def check_config(self, source: str) -> tuple[ClusterSpec | None, tuple[str, ...], tuple[str, ...]]:
        from hamail.config import ConfigError, diff, parse_cluster

        try:
            spec = parse_cluster(source, GIVEN)
        except ConfigError as e:
            return None, tuple(f"{p.place}: {p.reason}" for p in e.problems), ()
        if unusable := self._configs.own(spec):
            return None, unusable, ()
        state = self.state()
        if state.config.revision and (spec.name, spec.nodes) != (state.spec.name, state.spec.nodes):
            return None, (NODES_ARE_FIXED,), ()
        changes = tuple(diff(state.spec, spec))
        return spec, (), changes or ((TEXT_ONLY,) if source != state.config.source else ())

    async def check_config_elsewhere(self, source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return await self._configs.elsewhere(source)

    def config_effects(self, spec: ClusterSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
        state = self.state()
        return config_effects.refusals(state, spec), config_effects.effects(state, spec)

    async def submit(self, command: AnyCommand) -> Outcome | Unknown:
        if self._engine.problem or self._shell.consensus is None:
            raise NotProposed(f"this node takes no part: {self._engine.problem}")
        if not self._engine.state.config.revision:
            raise NotProposed("the cluster has not started yet: no majority of nodes has been reached")
        if why_not := operator_refusal(self._engine.state, self._engine.me, command):
            raise NotProposed(why_not)
        result: asyncio.Future[Outcome | Unknown] = asyncio.get_running_loop().create_future()

        def done(outcome: object) -> None:
            if not result.done():
                result.set_result(outcome)  # type: ignore[arg-type]

        self._shell.propose(command, done)
        return await result

    def note_refusal(self, request: RequestId, actor: str, reason: str, what: str, group: GroupName, why: str) -> None:
        state = self.state()
        sentence = record.refusal_words(actor, what, why)
        silent = self._engine.problem or not self._shell.health().leader or not state.config.revision
        if silent or record.repeated(state, sentence) or any(known == request for known, _, _ in state.requests):
            return
        note = Annotate(at_ms=wall_ms(), actor=actor, reason=reason, event="refused", group=group, sentence=sentence)
        self._shell.propose(note, lambda _: None)

    async def reports(self) -> tuple[dict[NodeName, NodeReport], dict[NodeName, str]]:
        return await self._reports.collect()

    async def wait_applied(self, after: int, timeout_ms: int) -> int:
        return await self._shell.wait_applied(after, timeout_ms / 1000)

    def status(self) -> Status:
        """Call it now and then also when nobody asks: since when an alert is pending is known from here."""
        status = self._status()
        return replace(status, alerts=self._board.see(alerts.pending(status), status.at_ms))

    def _status(self) -> Status:
        engine, state = self._engine, self.state()
        facts = engine.facts()
        health = self._shell.health()
        spec = state.spec if state.config.revision else engine.bootstrap
        heard = sum(1 for n in spec.nodes if facts.node(n).alive)
        ends = self._certificates_end()
        return Status(
            schema=STATUS_SCHEMA,
            cluster=spec.name,
            node=engine.me,
            at_ms=wall_ms(),
            version=__version__,
            quorum=health.leader is not None and heard >= spec.majority() and not engine.problem,
            coordinator=health.leader,
            term=health.term,
            applied=state.applied,
            config_revision=state.config.revision,
            maintenance=state.maintenance,
            broken_links=links.broken(engine.members, engine.now_ns, engine.timings),
            nodes=tuple(self._node(spec, state, facts, n, ends.get(n, 0)) for n in sorted(spec.nodes)),
            groups=tuple(self._group(state, facts, g) for g in sorted(state.spec.groups)),
            fault=engine.problem,
            last_drill=state.drills[-1] if state.drills else None,
            incidents=tuple(i for i in state.incidents if not i.closed_ms),
        )

    def _node(self, spec: ClusterSpec, state: ClusterState, facts: Facts, name: NodeName, ends_ms: int) -> NodeView:
        n, heard = state.node(name), facts.node(name)
        peer = self._engine.members.peers.get(name)
        beat = peer.heartbeat if peer else None
        devices = {}
        for device in spec.devices_for(name):
            reports = [facts.node(by).fence_ready.get(device.name) for by in spec.fence_executors(device, name)]
            known = [r for r in reports if r is not None]
            devices[device.name] = "" if "" in known else (known[0] if known else "not checked yet")
        configured = spec.nodes[name].watchdog_device is not None
        return NodeView(
            name=name,
            address=spec.nodes[name].address,
            witness=spec.nodes[name].witness,
            alive=heard.alive,
            suspected=heard.suspected,
            silent_ms=heard.silent_ms,
            joined=n.incarnation is not None,
            standby=n.standby,
            ready=heard.ready,
            detail=heard.detail,
            watchdog="armed" if heard.watchdog_armed else ("not armed" if configured else "none"),
            fence=n.fence,
            fence_failure=n.fence_failure,
            fence_devices=devices,
            restarting=heard.restarting,
            standby_term=n.standby_term,
            quarantine=n.quarantine,
            maintenance=n.maintenance,
            returns=len(policy.recent(n.returns, facts.at_ms, spec.quarantine.window_ms)) if spec.quarantine else 0,
            version=__version__ if name == self._engine.me else (beat.version if beat else ""),
            applied=state.applied if name == self._engine.me else (beat.applied if beat else 0),
            certificate_expires_ms=ends_ms,
            certificate_revoked=name in self._revoked(),
        )

    def _group(self, state: ClusterState, facts: Facts, name: GroupName) -> GroupView:
        g, spec = state.group(name), state.spec.groups[name]
        return GroupView(
            name=name,
            phase=g.phase,
            owner=g.owner,
            epoch=g.epoch,
            since_ms=g.since_ms,
            sentence=g.sentence,
            trigger=g.trigger,
            actor=g.actor,
            reason=g.reason,
            requires=spec.requires,
            protection=explain.protection(state.spec, name),
            unsafe_reason=spec.unsafe_reason,
            lease_ms=self._engine.local.lease_ms(name),
            resources=self._resources(state, name),
            candidates=placement.told(state, facts, name),
            policy=policy_view.view(state, name, facts.at_ms),
            optional=tuple(r.name for r in spec.resources if not r.critical),
            held=name in self._engine.local.held,
            denied=g.phase is Phase.ACTIVE and g.owner is not None and denies(facts.node(g.owner), name),
            last_resorts=placement.last_resorts(state, facts, name),
            retry=retries.words(state, facts, name),
        )

    def _resources(self, state: ClusterState, name: GroupName) -> dict[str, str]:
        owner = state.group(name).owner
        if owner is None:
            return {r.name: "down" for r in state.spec.groups[name].resources}
        if owner == self._engine.me:
            told = self._engine.local.resources().get(name, {})
        else:
            peer = self._engine.members.peers.get(owner)
            told = peer.heartbeat.resources.get(name, {}) if peer and peer.heartbeat else {}
        return {r.name: told.get(r.name, "unknown") for r in state.spec.groups[name].resources}


def denies(owner: NodeFacts, group: GroupName) -> bool:
    """Is it heard, and says that nothing of the group runs there?"""
    return owner.alive and owner.holds is not None and group not in owner.holds
