"""What a person has asked for, in the words of hamailctl: "unstandby n1", for the history."""

from msgspec import Struct

# Of a request to the control API, and of the command that becomes of it.
NAMES = {
    "MoveRequest": "switchover",
    "RequestMove": "switchover",
    "ScheduleRequest": "switchover",
    "ScheduleMove": "switchover",
    "FailoverRequest": "failover",
    "RequestFailover": "failover",
    "RestartRequest": "restart",
    "RequestRestart": "restart",
    "CancelRequest": "cancel",
    "Cancel": "cancel",
    "StandbyRequest": "standby",
    "SetStandby": "standby",
    "MaintenanceRequest": "maintenance",
    "SetMaintenance": "maintenance",
    "HandsOffRequest": "maintenance",
    "HandsOff": "maintenance",
    "ClearRequest": "clear",
    "Clear": "clear",
    "FenceRequest": "fence",
    "RequestFence": "fence",
    "FenceConfirmRequest": "fence confirm",
    "FenceConfirmed": "fence confirm",
    "ConfigRequest": "config apply",
    "ApplyConfig": "config apply",
    "BanRequest": "ban",
    "SetBan": "ban",
    "UnbanRequest": "unban",
    "LiftBan": "unban",
    "QuarantineRequest": "quarantine --clear",
    "LiftQuarantine": "quarantine --clear",
    "DrillRequest": "drill",
    "OrderDrill": "drill",
    "EndDrillRequest": "drill --abort",
    "EndDrill": "drill --abort",
    "DrillRecordRequest": "drill",
    "RecordDrill": "drill",
    "IncidentRequest": "incident",
    "ChangeIncident": "incident",
}
_SUBJECT = ("group", "node", "to", "target", "resource")
_FLAGS = {"switchover": {"to": "--to ", "target": "--to "}, "failover": {"to": "--to ", "target": "--to "}}
_FLAGS["maintenance"] = {"group": "--group ", "node": "--node "}


def asked_for(order: Struct) -> str:
    """`order`: a request or a command; of a kind that no person gives, its name."""
    kind = type(order).__name__
    name = NAMES.get(kind, kind)
    flags = _FLAGS.get(name, {})
    if name == "standby" and not getattr(order, "standby", True):
        name = "unstandby"
    if name == "maintenance":
        name += " on" if getattr(order, "on", True) else " off"
    if name == "incident":
        name += f" {getattr(order, 'what', '')}".rstrip()
    if name == "cancel":
        name += f" {getattr(order, 'order', '')}".rstrip()
    said = ((flags.get(field, ""), str(getattr(order, field, "") or "")) for field in _SUBJECT)
    return " ".join((name, *(f"{flag}{value}" for flag, value in said if value)))
