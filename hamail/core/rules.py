"""What the rules are called, and what they say. Rows of `transitions` go by their own names."""

from hamail.core.transitions import ROWS

RULES = {
    "refused": "An order of a person is carried out whole or refused with reasons; a refused one changes nothing.",
    "join": "A node that has started cleans up first and joins with nothing; what an earlier life of it held is free.",
    "cleaned_up": "What a new configuration names is started only when every node has seen that it does not run there.",
    "grant": "A group that surely nobody holds goes to the first node, in the configured order, without a veto.",
    "retry": "A group that no node could start is tried again, after pauses that grow.",
    "restarted": "A failed resource is restarted in place first, as often as the failure policy allows.",
    "owner_lost": "A node that a majority of voters does not hear is lost: what it owns is taken from it, with proof.",
    "owner_stuck": "An owner that is heard but does not follow the log is taken out if another node could take over.",
    "owner_back": "An owner that is heard again before anything irreversible was done keeps what it has.",
    "order_fence": "A node that cannot be asked is cut off by the first device, by level, that a live node can run.",
    "fence_done": "Only a device that itself reports the target off proves that it is off.",
    "fence_confirmed": "A person may vouch that a node is off, where the cluster takes it for lost.",
    "request_fence": "A person may have a node fenced that holds something.",
    "request_move": "An ordered move stops the group where it runs, starts it there, and goes back if that fails.",
    "set_standby": "A node in standby is given nothing, and what it holds moves away in order.",
    "set_maintenance": "In maintenance nothing is started, stopped, fenced or moved.",
    "hands_off": "In maintenance of a node or a group nothing of it is started, stopped, fenced or moved.",
    "set_ban": "A group is not given to a node that it is banned from; a ban always ends.",
    "lift_ban": "A person may end a ban before its time.",
    "lift_quarantine": "A person may end a quarantine before its time.",
    "request_failover": "A person may take a group from an owner that is not well; the proof is needed all the same.",
    "request_restart": "A restart that a person orders happens in place, one resource after the other.",
    "restart_ended": "How an ordered restart ended is told by the node that carried it out.",
    "schedule_move": "A scheduled move is made when its time has come, if its preflight allows it then.",
    "run_scheduled": "A scheduled move is made when its time has come, if its preflight allows it then.",
    "cancel": "A person may drop a scheduled move, or turn one that is under way back to where it came from.",
    "order_drill": "A drill does to a node what a failure would do; what follows is decided as in earnest.",
    "drill_done": "How a drill's fault ended is told by the node that carried it out.",
    "end_drill": "The end of a drill takes back what can be taken back.",
    "record_drill": "The result of a drill is kept by the cluster.",
    "change_incident": "An incident is kept by the cluster; it decides nothing.",
    "expire": "What was set for a time ends by itself.",
    "node_back": "A node that comes back too often is in quarantine: it gets a group only if no other node can.",
    "clear": "Who clears a group wants its failures forgotten and another try.",
    "apply_config": "All nodes take a configuration by the same entry of the log, or none does.",
}
_ROWS = {row.name: row for row in ROWS}


def sentence(rule: str) -> str:
    """What the rule says; empty for one that has only a name."""
    if (row := _ROWS.get(rule)) is not None:
        return f"A group that is {row.phase}, and {row.event}, is then {row.then}."
    return RULES.get(rule, "")
