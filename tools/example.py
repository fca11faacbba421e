"""A status with something of everything in it: what the metrics' names and labels are read from."""

from hamail.model.alert import alert
from hamail.model.practice import DrillRecord
from hamail.model.state import Maintenance, Phase
from hamail.model.status import STATUS_SCHEMA, BudgetView, GroupView, NodeView, PolicyView, Status

_NODE = NodeView(
    name="n1", address="192.0.2.1", witness=False, alive=True, suspected=False, silent_ms=0, joined=True, standby=False,
    ready=True, watchdog="armed", fence_devices={"ipmi": ""}, certificate_expires_ms=1,
)  # fmt: skip
_GROUP = GroupView(
    name="mail", phase=Phase.ACTIVE, owner="n1", epoch=1, since_ms=1, sentence="", trigger="", actor="", reason="",
    requires="fencing", protection="", unsafe_reason=None, lease_ms=1, resources={"postfix": "up"}, held=True,
    policy=PolicyView(restarts="", failovers=(BudgetView(allowed="3 in 24h", limit=3, window_ms=86_400_000, used=0),)),
)  # fmt: skip
STATUS = Status(
    schema=STATUS_SCHEMA, cluster="mail-pair", node="n1", at_ms=1, version="", quorum=True, coordinator="n1", term=1,
    applied=1, config_revision=1, maintenance=Maintenance(), nodes=(_NODE,), groups=(_GROUP,),
    last_drill=DrillRecord(id="d", name="", group="mail", at_ms=1, verdict="passed", rto_ms=1, rpo=0),
    alerts=(alert("no-standby", "mail", ""),),
)  # fmt: skip
