"""What commands about the life of a group do to the replicated state: grants, and the reports of owners."""

from hamail.core import policy_notes
from hamail.core.draft import Draft, Rejected
from hamail.core.proof import HELD, RUNNING, no_expiry, remedy, trusted, unclean
from hamail.core.retries import pause_ms
from hamail.core.transitions import What
from hamail.model import commands as c
from hamail.model.ids import Epoch, GroupName, NodeName, ResourceName
from hamail.model.state import Evidence, Phase, Severity, Stamp, Trigger


def owned_at(d: Draft, group: GroupName, node: NodeName, epoch: Epoch) -> None:
    """Compare-and-set: the command is about the grant that is in force."""
    if group not in d.spec.groups:
        raise Rejected(f"there is no group {group}")
    g = d.group(group)
    if g.epoch != epoch or g.owner != node:
        raise Rejected(f"{group} is at epoch {g.epoch} with {g.owner or 'nobody'}, not at epoch {epoch} with {node}")


def free(d: Draft, group: GroupName, evidence: Evidence) -> None:
    """Nobody holds the group any more, and this is why that is certain."""
    g = d.group(group)
    assert g.owner is not None
    d.set_group(group, owner=None, former=g.owner, evidence=evidence, released_epoch=g.epoch, stuck=False)
    _fence_over(d, g.owner)


def _fence_over(d: Draft, node: NodeName) -> None:
    """Unless something else must be taken from it: the next case is a new one and waits for no pause of this one."""
    if not any(g.owner == node and g.phase is Phase.FENCING for _, g in d.groups()):
        d.set_node(node, fence_attempts=0)


def doubt(d: Draft, group: GroupName, why: str) -> None:
    """The owner cannot be trusted to be out: fence it, wait for its promises to run out, or ask an operator."""
    g = d.group(group)
    assert g.owner is not None
    why_not = no_expiry(d.spec.groups[group].requires, g, d.node(g.owner), d.maintenance)
    fenceable = bool(d.spec.devices_for(g.owner))
    because = why_not if fenceable else f"{why_not}, and no fence device is configured for it"
    d.step(group, remedy(fenceable, why_not), node=g.owner, why=why, because=because)


def grant(d: Draft, command: c.Grant) -> None:
    name, node = command.group, command.node
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    g = d.group(name)
    if g.epoch != command.expected_epoch:
        raise Rejected(f"{name} is at epoch {g.epoch}, not {command.expected_epoch}")
    _may_own(d, name, node)
    unasked = set(unclean(d.spec.groups[name], name, g, d.node)) - set(command.unheard)
    if unasked:
        raise Rejected(f"{_and(tuple(sorted(unasked)))} may still run something of {name}, which has changed")
    evidence = g.evidence if g.phase is Phase.IDLE else _expired(d, command)
    if not g.move:
        again = g.trigger in (Trigger.CLEARED, Trigger.TRIED_AGAIN)
        d.open_move(name, g.trigger if again else Trigger.FIRST_START, command)
    former = g.owner or g.former
    words = _evidence_words(evidence, former)
    d.step(name, What.GRANTED, node=node, epoch=d.index, evidence=words, why=command.sentence)
    d.set_group(name, owner=node, former=former, epoch=d.index, evidence=evidence, released_epoch=g.epoch, stuck=False)
    if g.target is not None and g.target != node:
        d.blame(name, g.target, f"could not take it ({_passed_over(command.sentence, g.target)})", again=False)
    d.stamp(name, {Stamp.GRANTED: command.at_ms}, target=node)
    policy_notes.granted(d, name, former, node)
    d.mark(name, evidence=evidence, epoch=d.index)


def _passed_over(sentence: str, node: NodeName) -> str:
    """The coordinator's reason why `node` was not taken."""
    return sentence.partition(f"not {node}: ")[2].partition(";")[0].rstrip(".") or "it was not eligible any more"


def retry(d: Draft, command: c.Retry) -> None:
    name = command.group
    if name not in d.spec.groups:
        raise Rejected(f"there is no group {name}")
    g = d.group(name)
    if g.epoch != command.expected_epoch:
        raise Rejected(f"{name} is at epoch {g.epoch}, not {command.expected_epoch}")
    if g.phase is not Phase.IDLE or not (g.failed_on or (g.failures and not g.pardoned)):
        raise Rejected(f"{name} is {g.phase}, and it waits for no further try")
    if why := policy_notes.off(d, name):
        raise Rejected(why)
    d.set_group(name, failed_on=(), retries=g.retries + 1, pardoned=True)
    if not g.move:
        d.set_group(name, trigger=Trigger.TRIED_AGAIN)
    tried = " and ".join(sorted(g.failed_on))
    waited = f"{name} could not be started on {tried}" if tried else f"{name} has waited, for it moved too often"
    d.event("retry", f"{waited}; it is tried again (try {g.retries + 1}).", group=name)


def _may_own(d: Draft, group: GroupName, node: NodeName) -> None:
    if node not in d.spec.nodes:
        raise Rejected(f"there is no node {node}")
    known = d.node(node)
    if why := policy_notes.off(d, group) or policy_notes.kept_from(d, group, node):
        raise Rejected(why)
    if d.spec.nodes[node].witness or node not in d.spec.groups[group].nodes:
        raise Rejected(f"{node} may not own {group}")
    if known.incarnation is None or known.fence is not None:
        raise Rejected(f"{node} has not joined, or is being fenced")
    if known.standby:
        raise Rejected(f"{node} is in standby")


def _expired(d: Draft, command: c.Grant) -> Evidence:
    """The former owner may still believe in its grant: is it certain that its lease is over?"""
    name, g = command.group, d.group(command.group)
    if g.phase not in (Phase.WAITING, Phase.FENCING) or command.evidence is not Evidence.EXPIRED or g.owner is None:
        raise Rejected(f"{name} is {g.phase}: {g.owner} may still hold it")
    why_not = no_expiry(d.spec.groups[name].requires, g, d.node(g.owner), d.maintenance)
    if why_not:
        raise Rejected(f"{g.owner} may still hold {name}: {why_not}")
    said_yes = set(command.voters) & set(d.spec.voters())
    if len(said_yes) < d.spec.majority():
        raise Rejected(f"only {len(said_yes)} voters say that their promise to {g.owner} has run out")
    return Evidence.EXPIRED


def _evidence_words(evidence: Evidence, former: NodeName | None) -> str:
    return {
        Evidence.NEVER_OWNED: "nobody has held it before",
        Evidence.RELEASED: f"{former} has verified its stop",
        Evidence.FENCED: f"{former} was fenced",
        Evidence.CONFIRMED: f"an operator vouched that {former} is off",
        Evidence.EXPIRED: f"a majority of voters says that every promise to {former} has run out",
        Evidence.REJOINED: f"{former} has restarted and holds nothing",
    }[evidence]


def started(d: Draft, command: c.Started) -> None:
    owned_at(d, command.group, command.node, command.epoch)
    if d.group(command.group).phase is Phase.ACTIVE:
        d.stamp(command.group, command.stamps)
        return
    d.step(command.group, What.STARTED, node=command.node)
    d.stamp(command.group, {**command.stamps, Stamp.DONE: command.at_ms})
    d.close_move(command.group, command.node)


def start_failed(d: Draft, command: c.StartFailed) -> None:
    owned_at(d, command.group, command.node, command.epoch)
    name = command.group
    why = f"{command.resource}: {command.detail}"
    _failed_on(d, name, command.node, command.resource)
    d.blame(name, command.node, f"could not start it ({why})")
    if not command.clean:
        d.set_group(name, stuck=True)
        doubt(d, name, f"the start of {name} failed ({why}), and what was started could not be stopped.")
        return
    d.step(name, What.START_FAILED, node=command.node, why=why)
    free(d, name, Evidence.RELEASED)
    if set(d.spec.groups[name].nodes) <= set(d.group(name).failed_on):
        d.give_up(name)
        pause_s = pause_ms(d.group(name).retries) // 1000
        d.event(
            "group",
            f"{name} could not be started anywhere and stays down; it is tried again in {pause_s} s. "
            f"Find out why; hamailctl clear {name} tries at once.",
            group=name,
            severity=Severity.CRITICAL,
        )


def failed(d: Draft, command: c.Failed) -> None:
    owned_at(d, command.group, command.node, command.epoch)
    g = d.group(command.group)
    if g.phase not in RUNNING:
        raise Rejected(f"{command.group} is already {g.phase}")
    if off := policy_notes.off(d, command.group):
        raise Rejected(off)
    why = f"{command.resource}: {command.detail}"
    if not g.move:
        stamps: dict[str, int] = {Stamp.DETECTED: command.at_ms, Stamp.DECIDED: command.at_ms}
        d.open_move(command.group, Trigger.SERVICE_FAILED, command, reason=why, stamps=stamps)
    d.set_group(command.group, target=None)
    _failed_on(d, command.group, command.node, command.resource)
    d.blame(command.group, command.node, f"could not keep it ({why})")
    d.step(command.group, What.FAILED, node=command.node, why=why)


def _failed_on(d: Draft, group: GroupName, node: NodeName, resource: ResourceName) -> None:
    policy_notes.failure(d, group, node, resource)
    d.set_group(group, failed_on=tuple(dict.fromkeys((*d.group(group).failed_on, node))))


def restarted(d: Draft, command: c.Restarted) -> None:
    owned_at(d, command.group, command.node, command.epoch)
    policy_notes.restart(d, command.group, command.node, command.resource)
    d.event(
        "restart",
        f"{command.resource} failed on {command.node} and was restarted in place: {command.detail}",
        group=command.group,
        node=command.node,
        resource=command.resource,
        severity=Severity.WARNING,
    )


def released(d: Draft, command: c.Released) -> None:
    owned_at(d, command.group, command.node, command.epoch)
    g = d.group(command.group)
    if not g.move:
        d.open_move(command.group, Trigger.LEASE_LOST, command, stamps={Stamp.DETECTED: command.at_ms})
    d.step(command.group, What.RELEASED, node=command.node, why=command.reason)
    d.stamp(command.group, {Stamp.STOPPED: command.at_ms, **command.stamps})
    free(d, command.group, Evidence.RELEASED)


def stop_failed(d: Draft, command: c.StopFailed) -> None:
    owned_at(d, command.group, command.node, command.epoch)
    g = d.group(command.group)
    if g.stuck and g.phase not in HELD:
        raise Rejected(f"{command.group} is already {g.phase}")
    which = f"{command.resource} could not be stopped: " if command.resource else ""
    why = f"{which}{command.detail}; {command.group} counts as still running there."
    if not g.move:
        d.open_move(command.group, Trigger.STOP_FAILED, command, reason=why)
    _failed_on(d, command.group, command.node, command.resource)
    d.blame(command.group, command.node, f"could not stop it ({which}{command.detail})")
    d.set_group(command.group, stuck=True)
    doubt(d, command.group, why)


def owner_lost(d: Draft, command: c.OwnerLost) -> None:
    owned_at(d, command.group, command.node, command.epoch)
    if len(set(command.voters) & set(d.spec.voters())) < d.spec.majority():
        raise Rejected(f"only {len(command.voters)} voters miss {command.node}")
    why = f"{_and(command.voters)} have not heard {command.node} for {command.silent_ms / 1000:.1f} s."
    _take_away(d, command, Trigger.NODE_LOST, why)
    if d.trying(command.group) is None:  # or the silence is a part of the move
        d.mark(command.group, silent_ms=command.silent_ms)


def owner_stuck(d: Draft, command: c.OwnerStuck) -> None:
    """The coordinator alone has seen this; no more than a fence for nothing can come of its error."""
    owned_at(d, command.group, command.node, command.epoch)
    told = f" ({command.detail})" if command.detail else ""
    why = f"it is heard, but it has not followed the log for {command.behind_ms / 1000:.1f} s{told}."
    _take_away(d, command, Trigger.NODE_STUCK, why)


def _take_away(d: Draft, command: c.OwnerLost | c.OwnerStuck, trigger: Trigger, why: str) -> None:
    g = d.group(command.group)
    if g.phase not in HELD:
        raise Rejected(f"{command.group} is already {g.phase}")
    if off := policy_notes.off(d, command.group):
        raise Rejected(off)
    policy_notes.failure(d, command.group, command.node)
    if not g.move:
        d.open_move(command.group, trigger, command, reason=why)
    d.stamp(command.group, {Stamp.DETECTED: command.at_ms})
    d.blame(command.group, command.node, "was lost" if trigger is Trigger.NODE_LOST else "did not follow the log")
    if g.target == command.node:
        d.set_group(command.group, target=None)
    doubt(d, command.group, why)


def _and(names: tuple[str, ...]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)


def owner_back(d: Draft, command: c.OwnerBack) -> None:
    owned_at(d, command.group, command.node, command.epoch)
    if d.node(command.node).fence is not None:
        raise Rejected(f"a fence of {command.node} is under way and cannot be called back")
    if not trusted(d.group(command.group)):
        raise Rejected(f"{command.node} is not trusted with {command.group} although it is heard")
    d.step(command.group, What.OWNER_BACK, node=command.node)
    _fence_over(d, command.node)
