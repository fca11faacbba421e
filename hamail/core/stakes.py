"""What an order may cost, and what makes it safe, in sentences for the person who is about to give it."""

from hamail.core.ordering import standing_on
from hamail.core.proof import DOUBTFUL, no_expiry
from hamail.model.ids import GroupName, NodeName, ResourceName
from hamail.model.preflight import Check, Verdict
from hamail.model.spec import Requirement, ResourceSpec
from hamail.model.state import ClusterState
from hamail.model.timings import Timings


def loss(source: NodeName | None) -> tuple[str, ...]:
    """A move in order."""
    if source is None:
        return ()
    return ("open client sessions end, and clients connect again; nothing that was acknowledged is lost",)


def forced_loss(state: ClusterState, group: GroupName, owner: NodeName) -> tuple[str, ...]:
    """A move away from an owner that is cut off."""
    kept = (
        "mail that was acknowledged is on the shared storage and is kept"
        if state.spec.groups[group].shared_storage
        else f"WITHOUT shared storage: what {owner} had not replicated to the target is lost or left behind"
    )
    found = [
        "open client sessions drop; what was being delivered and not acknowledged yet is sent again by its sender",
        kept,
        "what programs had not synced to the disk is lost, as in a power cut",
    ]
    others = [n for n in sorted(state.spec.groups) if n != group and state.group(n).owner == owner]
    if others and state.spec.devices_for(owner):
        found.append(f"fencing {owner} interrupts what else it holds: {', '.join(others)}")
    return tuple(found)


def proof(state: ClusterState, t: Timings, group: GroupName, owner: NodeName) -> str:
    """What will have to prove that the owner is out before the group starts elsewhere."""
    requires, ways = state.spec.groups[group].requires, []
    devices = [d.name for d in state.spec.devices_for(owner)]
    if devices:
        ways.append(f"a confirmed fence of {owner} ({', '.join(devices)})")
    if not no_expiry(requires, state.group(group), state.node(owner), state.maintenance):
        wait_ms = t.watchdog_wait_ms if requires is Requirement.WATCHDOG else t.wait_ms
        dog = " and its watchdog has had its time" if requires is Requirement.WATCHDOG else ""
        ways.append(f"a majority that says that every promise to {owner} has run out{dog} ({wait_ms / 1000:.1f} s)")
    if not ways:
        return f"only your word that {owner} is off (hamailctl fence confirm {owner})"
    begun = ", which has begun" if state.group(group).phase in DOUBTFUL else ""
    return " or ".join((*ways, f"{owner}'s own verified stop")) + begun


def interrupted(resources: tuple[ResourceSpec, ...], resource: ResourceName) -> Check:
    """Restart: what else is interrupted with it?"""
    if not resource:
        reason = "every resource is restarted, one after the other, in the order of their dependencies"
        return Check(name="interrupts", verdict=Verdict.NOTE, reason=reason)
    found, todo = [], [resource]
    while todo:  # every resource is looked at once
        fresh = [r.name for r in standing_on(resources, todo.pop()) if r.name not in found]
        found += fresh
        todo += fresh
    names = [r.name for r in resources if r.name in found]
    if not names:
        return Check(name="interrupts", verdict=Verdict.GOOD, reason=f"nothing stands on {resource}")
    reason = f"{', '.join(names)} stand on {resource}, and restart with it if they cannot live without it"
    return Check(name="interrupts", verdict=Verdict.NOTE, reason=reason)
