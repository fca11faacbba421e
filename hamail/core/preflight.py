"""Before an order: what is looked at, what was found, and what to do about it. Pure; the same for people and schedules.

A check that is BAD refuses the order, whatever is said; a WARNING can be overruled; what cannot be seen is no failure.
`report` is what the target tells of its machine when it is asked; the coordinator has none.
"""

from collections.abc import Iterable

from hamail.core import budget, placement, preflight_ban, preflight_source, preflight_target, stakes
from hamail.core.changes_restart import STALE_MS
from hamail.core.facts import Facts
from hamail.model.ids import GroupName, NodeName, ResourceName
from hamail.model.preflight import Check, PhaseBudget, Preflight, PreflightAsk, Verdict
from hamail.model.report import NodeReport
from hamail.model.state import ClusterState, Phase
from hamail.model.timings import Timings


def switchover(
    state: ClusterState,
    facts: Facts,
    t: Timings,
    group: GroupName,
    to: NodeName | None = None,
    report: NodeReport | None = None,
) -> Preflight:
    g = state.group(group)
    target = to or best(state, facts, group)
    checks = [
        preflight_source.maintenance(state, group),
        preflight_source.at_rest(state, group),
        preflight_source.owner_can_stop(state, facts, t, group),
        *preflight_target.checks(state, facts, group, target, report),
    ]
    phases = ((budget.stop(state, group),) if g.owner else ()) + (budget.start(state, group),)
    return _done(
        "switchover", checks, group=group, source=g.owner, target=target, budget=phases, loss=stakes.loss(g.owner)
    )


def failover(
    state: ClusterState,
    facts: Facts,
    t: Timings,
    group: GroupName,
    to: NodeName | None = None,
    report: NodeReport | None = None,
) -> Preflight:
    g = state.group(group)
    target = to or best(state, facts, group)
    checks = [preflight_source.maintenance(state, group), *preflight_source.owner_is_ill(state, facts, t, group)]
    if g.owner is not None:
        checks.append(preflight_source.provable(state, facts, group, g.owner))
    checks += preflight_target.checks(state, facts, group, target, report, gone=g.owner)
    loss = stakes.forced_loss(state, group, g.owner) if g.owner else ()
    phases = (*(budget.out(state, group, g.owner, t) if g.owner else ()), budget.start(state, group))
    words = stakes.proof(state, t, group, g.owner) if g.owner else ""
    return _done("failover", checks, group=group, source=g.owner, target=target, budget=phases, loss=loss, proof=words)


def standby(state: ClusterState, facts: Facts, node: NodeName) -> Preflight:
    n = state.node(node)
    checks = []
    if state.spec.nodes[node].witness:
        step = "nothing has to leave it before work on it"
        checks.append(
            Check(
                name="node", verdict=Verdict.BAD, reason=f"{node} is a witness: it never owns a group", next_step=step
            )
        )
    elif n.standby:
        checks.append(Check(name="node", verdict=Verdict.GOOD, reason=f"{node} is in standby already"))
    owned = [name for name in sorted(state.spec.groups) if state.group(name).owner == node]
    phases: tuple[PhaseBudget, ...] = ()
    for group in owned:
        if state.maintenance.on:
            reason = "the cluster is in maintenance: nothing moves before it ends"
            checks.append(Check(name=group, verdict=Verdict.NOTE, reason=reason))
            continue
        checks.append(preflight_source.maintenance(state, group, group))
        checks += preflight_target.leaves(state, facts, group, node)
        phases = (budget.stop(state, group), budget.start(state, group))
    if not owned:
        checks.append(Check(name="groups", verdict=Verdict.GOOD, reason=f"{node} owns no group: nothing moves"))
    checks += preflight_target.left_alone(state, facts, node)
    return _done("standby", checks, node=node, source=node, budget=phases, loss=stakes.loss(node) if owned else ())


def ban(state: ClusterState, facts: Facts, t: Timings, group: GroupName, node: NodeName) -> Preflight:
    g = state.group(group)
    phases, loss = tuple[PhaseBudget, ...](), tuple[str, ...]()
    if g.owner == node:
        phases, loss = (budget.stop(state, group), budget.start(state, group)), stakes.loss(node)
    checks = preflight_ban.checks(state, facts, t, group, node)
    return _done("ban", checks, group=group, node=node, source=g.owner, budget=phases, loss=loss)


def restart(state: ClusterState, facts: Facts, t: Timings, group: GroupName, resource: ResourceName) -> Preflight:
    g, spec = state.group(group), state.spec.groups[group]
    known = [r.name for r in spec.resources]
    checks = [preflight_source.maintenance(state, group)]
    if resource and resource not in known:
        reason = f"{group} has no resource {resource}; it has {', '.join(known)}"
        checks.append(Check(name="resource", verdict=Verdict.BAD, reason=reason))
    if g.phase is not Phase.ACTIVE or g.owner is None:
        reason = f"{group} is {g.phase}: only what is active is restarted in place"
        checks.append(Check(name="group", verdict=Verdict.BAD, reason=reason, next_step=f"hamailctl why {group}"))
    else:
        checks.append(Check(name="group", verdict=Verdict.GOOD, reason=f"{group} is active on {g.owner}"))
        checks.append(preflight_source.owner_can_stop(state, facts, t, group))
    if g.restart is not None and facts.at_ms < g.restart.ordered_at_ms + STALE_MS:
        reason = f"{g.restart.resource or group} is being restarted already (order {g.restart.id})"
        checks.append(
            Check(name="other restart", verdict=Verdict.BAD, reason=reason, next_step="wait until it is over")
        )
    checks.append(stakes.interrupted(spec.resources, resource))
    meant = [r for r in spec.resources if r.name == resource] if resource else list(spec.resources)
    both = [
        (r.stop_timeout_ms or 0) + (r.start_timeout_ms or 0) for r in meant if r.stop_timeout_ms and r.start_timeout_ms
    ]
    limit_ms = sum(both) if len(both) == len(meant) and both else None
    phases = (PhaseBudget(phase="restart", limit_ms=limit_ms),)
    return _done("restart", checks, group=group, resource=resource, source=g.owner, target=g.owner, budget=phases)


def look(
    state: ClusterState, facts: Facts, t: Timings, ask: PreflightAsk, report: NodeReport | None = None
) -> Preflight:
    """Whatever the order is."""
    match ask.order:
        case "switchover":
            return switchover(state, facts, t, ask.group, ask.to, report)
        case "failover":
            return failover(state, facts, t, ask.group, ask.to, report)
        case "standby":
            return standby(state, facts, ask.node)
        case "ban":
            assert ask.to is not None, "a ban names its node"
            return ban(state, facts, t, ask.group, ask.to)
        case _:
            return restart(state, facts, t, ask.group, ask.resource)


def best(state: ClusterState, facts: Facts, group: GroupName) -> NodeName | None:
    """Who would get the group if nobody is named."""
    owner = state.group(group).owner
    return next((x.node for x in placement.candidates(state, facts, group) if x.eligible and x.node != owner), None)


def _done(order: str, checks: Iterable[Check], **fields: object) -> Preflight:
    found = tuple(checks)
    refusals = tuple(_sentence(x) for x in found if x.verdict is Verdict.BAD)
    warnings = tuple(_sentence(x) for x in found if x.verdict is Verdict.WARNING)
    return Preflight(order=order, checks=found, refusals=refusals, warnings=warnings, **fields)  # type: ignore[arg-type]


def _sentence(check: Check) -> str:
    return f"{check.reason} ({check.next_step})" if check.next_step else check.reason
