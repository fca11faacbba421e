"""What would hamail do? The sandbox run to its end, told group by group; and every single failure tried."""

from collections.abc import Iterable

from hamail.core import hands_off, hypotheses, placement, plan_times
from hamail.core.hypotheses import Hypothesis, Suppose
from hamail.core.proof import RUNNING
from hamail.core.retries import pause_ms
from hamail.core.sandbox import Sandbox
from hamail.core.words import about
from hamail.model.ids import GroupName, NodeName
from hamail.model.plan import PLAN_SCHEMA, Forecast, Plan, Risk, Service, Step
from hamail.model.situation import Situation
from hamail.model.state import Failure, Phase, Stamp, Trigger

RISKS_MAX = 64  # single failures that are tried


def plan(situation: Situation, supposed: Iterable[Hypothesis] = (), *, ends: bool = True) -> Plan:
    """Run it forward. Changes nothing anywhere. `ends`: what holds for a time ends when its time is over."""
    sandbox = Sandbox(situation, supposed, ends=ends)
    sandbox.run()
    groups = tuple(_forecast(sandbox, name) for name in sorted(sandbox.state.spec.groups))
    return Plan(
        schema=PLAN_SCHEMA,
        node=situation.node,
        at_ms=situation.at_ms,
        supposed=tuple(str(h) for h in sandbox.supposed),
        steps=tuple(Step(at_ms=at, event=e, assumed=at >= sandbox.assumed_from_ms) for at, e in sandbox.told),
        groups=groups,
        at_rest=sandbox.at_rest,
        continues=all(f.service is not Service.DOWN for f in groups),
    )


def _forecast(s: Sandbox, name: GroupName) -> Forecast:
    g, gaps = s.state.group(name), s.gaps[name]
    ended = len(gaps) % 2 == 0
    moved = {m.id: m for m in s.situation.state.moves if m.group == name}
    move = next((m for m in reversed(s.state.moves) if m.group == name and moved.get(m.id) != m), None)
    served = s.served[name]
    before = s.situation.state.group(name)
    phases = plan_times.phases(s, name)
    usual_ms = plan_times.total(tuple(p.usual_ms for p in phases))
    outage_ms = sum(b - a for a, b in zip(gaps[::2], gaps[1::2], strict=True)) if ended else None
    trigger = str(move.trigger) if move else ""
    if outage_ms and usual_ms is not None and trigger != Trigger.SERVICE_FAILED:  # there the repairs come before
        outage_ms = usual_ms
    return Forecast(
        group=name,
        before=before.owner if before.phase is Phase.ACTIVE else None,
        after=served,
        service=Service.DOWN if not ended else Service.INTERRUPTED if gaps else Service.UNINTERRUPTED,
        outage_ms=outage_ms,
        assumed=bool(gaps) and gaps[-1] >= s.assumed_from_ms,
        phases=phases,
        usual_ms=usual_ms,
        limit_ms=plan_times.total(tuple(p.limit_ms for p in phases)),
        counted_from=plan_times.counted_from(phases, trigger),
        phase=g.phase,
        trigger=trigger,
        result=move.result if move else "",
        evidence=move.evidence if move else None,
        nodes=_nodes(s, name, served),
        then="" if ended else _then(s, name),
        estimated_from=s.estimates[name].seen,
    )


def _nodes(s: Sandbox, name: GroupName, served: NodeName | None) -> dict[NodeName, str]:
    g, found = s.state.group(name), {}
    for c in placement.candidates(s.state, s.facts(), name):
        if c.node == served:
            found[c.node] = "runs it"
        elif c.node in s.off:
            found[c.node] = "it is off"
        elif s.coordinator is None:
            found[c.node] = "hears no majority, so it may not run it"
        elif c.node == g.owner and g.phase not in RUNNING:
            found[c.node] = f"may still hold it ({g.phase})"
        elif c.node == g.owner:
            found[c.node] = "has it, but does not serve it"
        elif c.eligible and hands_off.from_group(s.state, name):
            found[c.node] = "could take over, but nothing is done now"
        elif c.eligible:
            found[c.node] = "could take over"
        else:
            found[c.node] = f"could not take over: {c.reason}"
    return found


def _then(s: Sandbox, name: GroupName) -> str:
    """What would bring it back."""
    g = s.state.group(name)
    if s.state.maintenance.on:
        return "maintenance is on, so nothing is done about it meanwhile: hamailctl maintenance off"
    if why := hands_off.from_group(s.state, name):
        return f"nothing is done about it meanwhile, for {why}"
    if s.coordinator is None:
        return "no majority of nodes hears each other: bring one of them back"
    if g.phase is Phase.FENCING:
        return f"fencing is tried again and again; if {g.owner} is surely off: hamailctl fence confirm {g.owner}"
    if g.phase is Phase.BLOCKED:
        return f"make sure that {g.owner} is off, then: hamailctl fence confirm {g.owner}"
    if g.phase is Phase.IDLE and g.failed_on:
        seconds = pause_ms(g.retries) // 1000
        return f"it is tried again after {seconds} s; find out why it failed, then: hamailctl clear {name}"
    if g.phase is Phase.IDLE:
        return "no node may have it: bring one back, or lift what keeps it away"
    if g.phase is Phase.ACTIVE and g.owner not in s.off:
        return "it is restarted in place again and again: find out why it fails"
    return f"bring {g.owner} back"


def single_failures(situation: Situation) -> tuple[Hypothesis, ...]:
    """One node, one link, one fence device, one service."""
    spec = situation.state.spec
    names = sorted(spec.nodes)
    found = [Hypothesis(suppose=Suppose.NODE_DOWN, node=n) for n in names]
    found += [Hypothesis(suppose=Suppose.NODE_CUT_OFF, node=n) for n in names]
    found += [
        Hypothesis(suppose=Suppose.LINK_DOWN, node=a, other=b) for i, a in enumerate(names) for b in names[i + 1 :]
    ]
    found += [Hypothesis(suppose=Suppose.FENCE_FAILS, device=d) for d in sorted(spec.fencing)]
    for group, g in sorted(spec.groups.items()):
        found += [
            Hypothesis(suppose=Suppose.RESOURCE_FAILED, group=group, resource=r.name) for r in g.resources if r.critical
        ]
    return tuple(found[:RISKS_MAX])


def risks(situation: Situation) -> tuple[Risk, ...]:
    """Each single failure tried, those that end in an outage first. Nodes that are lost already are not lost again.

    It is about now: maintenance, bans and the like stay, for what strikes meanwhile does not wait for their end.
    A node where something of a group has failed of late is no standby: there it is supposed to fail again.
    """
    lost = {n for n, heard in situation.heard.items() if heard.suspected}
    found = [_risk(situation, h) for h in single_failures(situation) if not {h.node, h.other} & lost]
    return tuple(sorted(found, key=lambda r: (r.continues, -(r.outage_ms or 0))))


def _risk(situation: Situation, h: Hypothesis) -> Risk:
    if h.suppose is Suppose.FENCE_FAILS:
        return _fence_risk(situation, h)
    result, again = plan(situation, [h], ends=False), _again(situation)
    why = "; ".join(_why_down(f) for f in result.groups if f.service is Service.DOWN)
    if result.continues and again:
        result = plan(situation, [h, *again], ends=False)
        down = [f.group for f in result.groups if f.service is Service.DOWN]
        why = "; ".join(_why_again(a, told) for a, told in again.items() if a.group in down)
    outages = [f.outage_ms for f in result.groups]
    return Risk(
        failure=hypotheses.words(h),
        supposed=result.supposed,
        continues=result.continues,
        outage_ms=None if None in outages else max((ms for ms in outages if ms is not None), default=0),
        assumed=any(f.assumed for f in result.groups),
        why=why,
    )


def _again(situation: Situation) -> dict[Hypothesis, str]:
    """What has failed of late on a node that does not run it now, and has not run there since -> when that was."""
    state, found = situation.state, {}
    for name, spec in sorted(state.spec.groups.items()):
        critical, owner = {r.name for r in spec.resources if r.critical}, state.group(name).owner
        for node in spec.nodes if owner else ():
            failure = placement.failed_lately(state, name, node, situation.at_ms)
            if node != owner and failure and failure.resource in critical and not _ran_since(situation, name, failure):
                again = Hypothesis(suppose=Suppose.RESOURCE_FAILED, group=name, resource=failure.resource, node=node)
                found[again] = about(max(0, situation.at_ms - failure.at_ms))
    return found


def _ran_since(situation: Situation, group: GroupName, failure: Failure) -> bool:
    moves = (m for m in situation.state.moves if m.group == group and m.target == failure.node)
    return any(m.stamps.get(Stamp.DONE, 0) > failure.at_ms for m in moves)


def _why_again(a: Hypothesis, ago: str) -> str:
    return (
        f"{a.group} would be down if {a.resource} failed on {a.node} again, as it did {ago} ago. "
        f"If its cause is mended: hamailctl clear {a.group}"
    )


def _why_down(f: Forecast) -> str:
    kept_off = "; ".join(f"{n}: {why.removeprefix('could not take over: ')}" for n, why in f.nodes.items())
    phase = "" if f.phase is Phase.ACTIVE else f" ({f.phase})"
    return f"{f.group} would be down{phase}. {kept_off}. To bring it back: {f.then}"


def _fence_risk(situation: Situation, h: Hypothesis) -> Risk:
    """A broken fence device alone stops nothing: does the loss of an owner then become an outage?"""
    spec, weak = situation.state.spec, []
    for owner in sorted({g.owner for g in situation.state.groups.values() if g.owner is not None}):
        loss = Hypothesis(suppose=Suppose.NODE_DOWN, node=owner)
        helped = owner in spec.fencing[h.device].targets and plan(situation, [loss], ends=False).continues
        if helped and not plan(situation, [h, loss], ends=False).continues:
            weak.append(f"without it the loss of {owner} would be an outage: nothing else could fence {owner}")
    return Risk(
        failure=hypotheses.words(h), supposed=(str(h),), continues=True, outage_ms=0, assumed=False, why="; ".join(weak)
    )
