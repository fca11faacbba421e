"""How a move ended, measured by what was asked for."""

from hamail.model.ids import GroupName, NodeName
from hamail.model.state import Move, Trigger

ASKED_AWAY = frozenset({Trigger.SWITCHOVER, Trigger.STANDBY, Trigger.FAILOVER, Trigger.BAN})


def ended(move: Move, group: GroupName, node: NodeName) -> tuple[str, str]:
    """(result, why it is not what was asked: a sentence, or nothing) now that the group runs on `node`."""
    if move.trigger not in ASKED_AWAY:
        return "done", ""
    others = blamed(move, node)
    if node != move.source:
        if move.asked in (None, node):
            return "done", ""
        return "done", f"{group} runs on {node} and not on {move.asked}" + (f", because {others}." if others else ".")
    if move.cancelled:
        return "cancelled", f"{group} was turned back to {node}: {move.cancelled}"
    if others:
        return "rolled back", f"{group} was rolled back to {node} because {others}."
    return "done", f"No other node could take {group}: it was down until {node} could have it again."


def blamed(move: Move, node: NodeName | None = None) -> str:
    """Who could not have the group, and why; `node`: not this one."""
    return " and ".join(f"{name} {why}" for name, why in sorted(move.failures.items()) if name != node)
