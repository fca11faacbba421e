"""The failure policy of a group with its counts, for the screens of `status`."""

from rich.text import Text

from hamail.cli.words import listed, moment, roughly
from hamail.model.state import Term
from hamail.model.status import GroupView, NodeView, PolicyView

POOR, BAD = "yellow", "bold red"


def line(policy: PolicyView) -> Text:
    """ "failovers 1 of 3 in 1h; restarts 3 in 10m (postfix 2)"."""
    words = Text("failovers ")
    for n, budget in enumerate(policy.failovers):
        words.append(", " if n else "")
        words.append(f"{budget.used} of {budget.allowed}", style=BAD if budget.used >= budget.limit else "")
    if not policy.failovers:
        words.append("without limit")
    counts = ", ".join(f"{name} {count}" for name, count in sorted(policy.restarted.items()))
    words.append(f"; restarts at most {policy.restarts}" + (f" (so far {counts})" if counts else ""))
    return words


def kept_away(group: GroupView, now_ms: int) -> Text:
    """Bans and maintenance; empty when there are none."""
    text = Text()
    if group.policy is None:
        return text
    if group.policy.hands_off:
        text.append(f"nothing is done about it: {group.policy.hands_off}", style=POOR)
    for node, term in sorted(group.policy.bans.items()):
        text.append("\n" if text else "")
        text.append(f"banned from {node} {until(term, now_ms)}", style=POOR)
        text.append(f" by {term.actor}" + (f": {term.reason}" if term.reason else ""))
    return text


def until(term: Term, now_ms: int) -> str:
    """For how much longer."""
    if not term.until_ms:
        return "until somebody ends it"
    return f"for another {roughly(max(0, term.until_ms - now_ms))}, until {moment(term.until_ms)}"


def node_words(node: NodeView, now_ms: int) -> str:
    """What people or the cluster have said of a node; "" when nothing."""
    found = []
    if node.standby:
        end = until(node.standby_term, now_ms) if node.standby_term and node.standby_term.until_ms else "by hand"
        found.append(f"put on standby {end}")
    if node.maintenance is not None:
        found.append(f"in maintenance {until(node.maintenance, now_ms)}")
    if node.quarantine is not None:
        found.append(f"in quarantine {until(node.quarantine, now_ms)}")
    return listed(found) if found else ""
