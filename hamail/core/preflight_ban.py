"""Before a ban: does it move the group, and who is left to take over while it lasts?"""

from hamail.core import placement, preflight_source, preflight_target
from hamail.core.facts import Facts
from hamail.model.ids import GroupName, NodeName
from hamail.model.preflight import Check, Verdict
from hamail.model.state import ClusterState, Phase
from hamail.model.timings import Timings


def checks(state: ClusterState, facts: Facts, t: Timings, group: GroupName, node: NodeName) -> list[Check]:
    g = state.group(group)
    if state.spec.nodes[node].witness or node not in state.spec.groups[group].nodes:
        return [Check(name="node", verdict=Verdict.BAD, reason=f"{node} may not own {group} anyway")]
    found = []
    if g.owner == node:
        found += [
            preflight_source.maintenance(state, group),
            preflight_source.at_rest(state, group),
            preflight_source.owner_can_stop(state, facts, t, group),
            *preflight_target.leaves(state, facts, group, node),
        ]
    else:
        reason = f"{group} runs on {g.owner or 'no node'}: nothing moves"
        found.append(Check(name="group", verdict=Verdict.GOOD, reason=reason))
    return [*found, _left(state, facts, group, node)]


def _left(state: ClusterState, facts: Facts, group: GroupName, node: NodeName) -> Check:
    """While it lasts."""
    listed = [n for n in state.spec.groups[group].nodes if n != node]
    able = [n for n in listed if not placement.unfit(state, facts, group, n)]
    name = "afterwards"
    if not able and state.group(group).phase is not Phase.IDLE:
        reason = f"while it lasts, no other node may have {group}"
        return Check(name=name, verdict=Verdict.WARNING, reason=reason, next_step="a shorter ban, or --force")
    if len(able) == 1:
        reason = f"while it lasts, nobody could take {group} over from {able[0]}"
        return Check(name=name, verdict=Verdict.NOTE, reason=reason)
    return Check(name=name, verdict=Verdict.GOOD, reason=f"{' and '.join(able) or 'nobody'} may have it all the same")
