"""Who may own a group, ranked, with a reason for every node. Health is a veto or no veto; there is no arithmetic."""

from msgspec.structs import replace

from hamail.core import policy, proof
from hamail.core.facts import Facts
from hamail.core.proof import RUNNING
from hamail.core.words import about, clock
from hamail.model.ids import GroupName, NodeName
from hamail.model.state import ClusterState, Failure, Trigger
from hamail.model.status import Candidate

RECENT_MS = 3_600_000  # so long is a failure on a node told of it, and a warning to who orders the group there


def refusal(state: ClusterState, facts: Facts, group: GroupName, node: NodeName) -> str:
    """Why `node` may not be given `group`, without its name; empty when it may."""
    why = _able(state, facts, group, node)
    quarantine = state.node(node).quarantine
    if why or quarantine is None or _last_resort(state, facts, group, node):
        return why
    lift = f"hamailctl quarantine --clear {node} lifts it"
    return f"it is in quarantine until {clock(quarantine.until_ms)} ({quarantine.reason}); {lift}"


def _able(state: ClusterState, facts: Facts, group: GroupName, node: NodeName) -> str:
    """Apart from quarantine."""
    why = unfit(state, facts, group, node)
    if not why and node in state.group(group).failed_on:
        return f"{group} failed there during this move; hamailctl clear {group} lifts it"
    return why or policy.held_back(state, group, node, facts.at_ms)


def _last_resort(state: ClusterState, facts: Facts, group: GroupName, node: NodeName) -> bool:
    """Mail on a node that comes and goes is better than no mail: nobody runs it, and nobody else will be able soon."""
    if state.group(group).phase in RUNNING or not facts.settled:
        return False
    others = [n for n in state.spec.groups[group].nodes if n != node]
    well = (n for n in others if state.node(n).quarantine is None)
    return all(_able(state, facts, group, n) and not facts.node(n).restarting for n in well)


def unfit(state: ClusterState, facts: Facts, group: GroupName, node: NodeName) -> str:
    """Why `node` could not have `group`, whatever happened there before; empty when it could."""
    spec = state.spec
    if node not in spec.nodes:
        return "it is not a node of this cluster"
    if spec.nodes[node].witness:
        return "a witness votes and never owns a group"
    if node not in spec.groups[group].nodes:
        return f"it is not listed in the nodes of {group}"
    replicated, heard = state.node(node), facts.node(node)
    if replicated.fence is not None:
        return "it is being fenced"
    if replicated.incarnation is None:
        return "it is out and has not joined again"
    if replicated.standby:
        return f"it is in standby; hamailctl unstandby {node} lifts it"
    if (ban := state.group(group).bans.get(node)) is not None:
        because = f": {ban.reason}" if ban.reason else ""
        lift = f"hamailctl unban {group} {node} lifts it"
        return f"{ban.actor} has banned {group} from it until {clock(ban.until_ms)}{because}; {lift}"
    if replicated.maintenance is not None:
        return f"it is in maintenance; hamailctl maintenance off --node {node} ends it"
    if heard.suspected or not heard.alive:
        return f"it has not been heard for {heard.silent_ms / 1000:.1f} s"
    if heard.restarting:
        return "its hamaild is restarting"
    if not heard.ready:
        return f"it is not ready: {heard.detail or 'no reason given'}"
    unclean = proof.unclean(spec.groups[group], group, state.group(group), state.node)
    if unasked := [n for n in unclean if heard_of(facts, n)]:
        who, told = " and ".join(unasked), f"hamailctl events --node {unasked[0]}"
        return f"{group} has changed, and {who} must verify first that nothing of it runs there; if it cannot: {told}"
    return ""


def heard_of(facts: Facts, node: NodeName) -> bool:
    """Can it be asked? One that is lost is not waited for."""
    return not facts.node(node).suspected


def candidates(state: ClusterState, facts: Facts, group: GroupName) -> tuple[Candidate, ...]:
    """All nodes of the cluster, best first. An ordered target comes first, then the order of preference."""
    g = state.group(group)
    order = list(state.spec.groups[group].nodes)
    order += [n for n in sorted(state.spec.nodes) if n not in order]
    if g.target in order:
        order.remove(g.target)
        order.insert(0, g.target)
    result, last = [], list[NodeName]()
    for node in order:
        why_not = refusal(state, facts, group, node)
        worse = _worse(state, group, node, facts.at_ms)
        if not why_not and worse:
            last.append(node)
        result.append(Candidate(node=node, eligible=not why_not, reason=why_not or _good(state, group, node, worse)))
    return tuple(sorted(result, key=lambda c: (not c.eligible, c.node in last)))


def recent_failure(state: ClusterState, facts: Facts, group: GroupName, node: NodeName) -> str:
    """What of the group has failed on the node, and how long ago; empty when nothing has of late.

    Only what failed of the group: a node that was lost and is back and ready says nothing against itself.
    """
    failure = failed_lately(state, group, node, facts.at_ms)
    if failure is None:
        return ""
    return f"{failure.resource} of {group} failed on {node} {about(max(0, facts.at_ms - failure.at_ms))} ago"


def failed_lately(state: ClusterState, group: GroupName, node: NodeName, at_ms: int) -> Failure | None:
    """The last failure of a resource of the group on the node, if that is not long ago."""
    failures = [f for f in state.group(group).failures if f.node == node and f.resource]
    last = max(failures, key=lambda f: f.at_ms, default=None)
    return last if last is not None and at_ms - last.at_ms < RECENT_MS else None


def told(state: ClusterState, facts: Facts, group: GroupName) -> tuple[Candidate, ...]:
    """The candidates as people are to see them: one that may have the group, but could not the last time, says so."""
    return tuple(
        replace(c, reason=f"{c.reason}, but {failed}")
        if c.eligible and c.node != state.group(group).owner and (failed := recent_failure(state, facts, group, c.node))
        else c
        for c in candidates(state, facts, group)
    )


def _good(state: ClusterState, group: GroupName, node: NodeName, worse: str) -> str:
    if node == state.group(group).target:
        return "it was asked for"
    if state.node(node).quarantine is not None:
        return "it is up, joined and ready; it is in quarantine, but no other node can have it"
    return "it is up, joined and ready" + (f", although {worse}" if worse else "")


def _worse(state: ClusterState, group: GroupName, node: NodeName, at_ms: int) -> str:
    """That the resource whose failure has moved the group has failed on this node, too."""
    g = state.group(group)
    if g.owner is not None or g.trigger is not Trigger.SERVICE_FAILED or not g.failures:
        return ""
    return policy.no_better(state.spec.groups[group], g, node, g.failures[-1].resource, at_ms)


def last_resorts(state: ClusterState, facts: Facts, group: GroupName) -> tuple[NodeName, ...]:
    """Nodes in quarantine that would be given it if its owner were out and nobody else could have it."""
    g = state.group(group)
    nodes = (n for n in state.spec.groups[group].nodes if n != g.owner and state.node(n).quarantine is not None)
    return tuple(n for n in nodes if not _able(state, facts, group, n))


def choose(state: ClusterState, facts: Facts, group: GroupName) -> NodeName | None:
    """The node that should get a group that nobody owns; None when no node may have it."""
    best = candidates(state, facts, group)[:1]
    return best[0].node if best and best[0].eligible else None
