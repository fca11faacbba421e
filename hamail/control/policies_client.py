"""The client's side of bans, quarantine, and maintenance of one group or node."""

from urllib.parse import urlencode

from hamail.control import policies_api as api
from hamail.control.api import Done, MaintenanceRequest
from hamail.control.client import ControlClient
from hamail.model.ids import GroupName, NodeName, RequestId
from hamail.model.leaving import Leaving


class PolicyClient:
    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def leaving(self, group: GroupName = "", node: NodeName = "") -> Leaving:
        """What would follow if this maintenance ended now; neither named: that of the whole cluster."""
        given = {key: value for key, value in (("group", group), ("node", node)) if value}
        query = f"?{urlencode(given, errors='replace')}" if given else ""
        return self._client.get(f"maintenance/leaving{query}", api.LeavingAnswer).leaving

    def ban(
        self,
        group: GroupName,
        node: NodeName,
        for_ms: int,
        reason: str = "",
        request: RequestId = "",
        force: bool = False,
    ) -> Done:
        body = api.BanRequest(group=group, node=node, for_ms=for_ms, reason=reason, request=request, force=force)
        return self._client.order("ban", body)

    def unban(self, group: GroupName, node: NodeName, reason: str = "", request: RequestId = "") -> Done:
        return self._client.order("unban", api.UnbanRequest(group=group, node=node, reason=reason, request=request))

    def lift_quarantine(self, node: NodeName, reason: str = "", request: RequestId = "") -> Done:
        return self._client.order("quarantine", api.QuarantineRequest(node=node, reason=reason, request=request))

    def maintenance(
        self,
        on: bool,
        group: GroupName = "",
        node: NodeName = "",
        for_ms: int = 0,
        reason: str = "",
        request: RequestId = "",
    ) -> Done:
        """Of a group, of a node, or (neither named) of the whole cluster."""
        if not group and not node:
            whole = MaintenanceRequest(on=on, for_ms=for_ms, reason=reason, request=request)
            return self._client.order("maintenance", whole)
        body = api.HandsOffRequest(on=on, group=group, node=node, for_ms=for_ms, reason=reason, request=request)
        return self._client.order("hands-off", body)
