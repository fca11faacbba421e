"""The replicated state machine: (state, index, command) -> (state, outcome). Pure and total; it never raises.

A rejected command changes nothing but `applied`. The epoch of a grant is the index of its entry. What each command
does is in `changes_groups`, `changes_nodes`, `changes_orders` and `changes_policy`.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from hamail.core import changes_groups as groups
from hamail.core import changes_moves as moves
from hamail.core import changes_nodes as nodes
from hamail.core import changes_orders as orders
from hamail.core import changes_policy as policy
from hamail.core import changes_practice as practice
from hamail.core import changes_restart as restart
from hamail.core import record
from hamail.core.draft import Draft, Rejected
from hamail.model import commands as c
from hamail.model.ids import LogIndex
from hamail.model.spec import ClusterSpec
from hamail.model.state import REQUESTS_KEPT, ClusterState, ConfigRevision


def empty_state() -> ClusterState:
    """Before the first configuration is in the log."""
    return ClusterState(
        spec=ClusterSpec(name="", nodes={}, groups={}),
        config=ConfigRevision(revision=0, index=0, applied_at_ms=0, actor="", reason="", source=""),
    )


def apply(state: ClusterState, index: LogIndex, command: c.AnyCommand) -> tuple[ClusterState, c.Outcome]:
    """Apply one committed entry."""
    if command.request:
        for request, at, refusal in state.requests:
            if request == command.request:
                outcome = c.Outcome(index=at, accepted=not refusal, reasons=(refusal,) if refusal else ())
                return replace(state, applied=index), outcome
    draft = Draft(state, index, command)
    try:
        HANDLERS[type(command)](draft, command)
        result, reasons = draft.finish(), tuple[str, ...]()
    except Rejected as e:
        result, reasons = record.refused(replace(state, applied=index), command, str(e)), (str(e),)
    if command.request:
        answered = (command.request, index, "; ".join(reasons))
        result = replace(result, requests=(*result.requests[1 - REQUESTS_KEPT :], answered))
    return result, c.Outcome(index=index, accepted=not reasons, reasons=reasons)


HANDLERS: dict[type, Callable[[Draft, Any], None]] = {
    c.Barrier: orders.barrier,
    c.Join: nodes.join,
    c.CleanedUp: nodes.cleaned_up,
    c.Grant: groups.grant,
    c.Started: groups.started,
    c.StartFailed: groups.start_failed,
    c.Failed: groups.failed,
    c.Restarted: groups.restarted,
    c.Released: groups.released,
    c.StopFailed: groups.stop_failed,
    c.OwnerLost: groups.owner_lost,
    c.OwnerStuck: groups.owner_stuck,
    c.OwnerBack: groups.owner_back,
    c.OrderFence: nodes.order_fence,
    c.FenceDone: nodes.fence_done,
    c.FenceConfirmed: nodes.fence_confirmed,
    c.RequestFence: nodes.request_fence,
    c.RequestMove: orders.request_move,
    c.RequestFailover: moves.request_failover,
    c.ScheduleMove: moves.schedule_move,
    c.RunScheduled: moves.run_scheduled,
    c.Cancel: moves.cancel,
    c.RequestRestart: restart.request_restart,
    c.RestartEnded: restart.restart_ended,
    c.SetStandby: orders.set_standby,
    c.SetMaintenance: orders.set_maintenance,
    c.AckMaintenance: orders.ack_maintenance,
    c.Clear: orders.clear,
    c.Retry: groups.retry,
    c.SetBan: policy.set_ban,
    c.LiftBan: policy.lift_ban,
    c.LiftQuarantine: policy.lift_quarantine,
    c.HandsOff: policy.set_hands_off,
    c.Expire: policy.expire,
    c.NodeBack: policy.node_back,
    c.ApplyConfig: orders.apply_config,
    c.OrderDrill: practice.order_drill,
    c.DrillDone: practice.drill_done,
    c.EndDrill: practice.end_drill,
    c.RecordDrill: practice.record_drill,
    c.ChangeIncident: practice.incident,
    c.ReportAudit: practice.audit_head,
    c.Annotate: orders.annotate,
}
