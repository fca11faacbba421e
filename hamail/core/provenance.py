"""Who may say what: a command enters the log only from a node that can know it, or may decide it.

The leader asks this of every command that another node hands to it, where the sender is certain (its certificate). So a
node that has fallen into wrong hands can speak for itself only: it cannot report that another one has stopped, is off
or has joined, and it cannot decide in the coordinator's place. What a leader itself writes nobody can check.
"""

from hamail.model import commands as c
from hamail.model.ids import NodeName
from hamail.model.state import ClusterState


def refusal(state: ClusterState, sender: NodeName, command: c.AnyCommand) -> str:
    """Why `sender` may not have this in the log; empty when it may."""
    match command:
        case c.Grant() | c.Retry() | c.OwnerLost() | c.OwnerStuck() | c.OwnerBack() | c.OrderFence() | c.RunScheduled():
            return "only the leader of the log decides that"
        case c.Expire() | c.NodeBack():
            return "only the leader of the log decides that"
        case c.FenceDone(target=target, order=order):
            known = state.node(target).fence
            if known is None or known.id != order or known.by != sender:
                return f"the fence order {order} is not {sender}'s"
            return ""
        case c.RequestFailover() | c.RequestRestart() | c.ScheduleMove() | c.Cancel():
            return ""
        case c.FenceConfirmed() | c.ApplyConfig():
            return operator_refusal(state, sender, command)
        case c.RequestFence() | c.RequestMove() | c.SetStandby() | c.SetMaintenance() | c.Clear():
            return ""
        case c.OrderDrill() | c.EndDrill() | c.RecordDrill() | c.ChangeIncident():
            return ""
        case c.SetBan() | c.LiftBan() | c.LiftQuarantine() | c.HandsOff():
            return ""
        case _:
            about = command.node
            return "" if about in (sender, "") else f"{sender} cannot speak for {about}"


def operator_refusal(state: ClusterState, sender: NodeName, command: c.AnyCommand) -> str:
    """The two orders that could end in two active nodes are taken only where mail can run.

    A witness is the machine that people look after least, and where mail cannot run neither order is needed.
    """
    if not isinstance(command, c.FenceConfirmed | c.ApplyConfig):
        return ""
    node = state.spec.nodes.get(sender)
    if node is None or not node.witness:
        return ""
    return f"{sender} is a witness; give this order on a mail node"
