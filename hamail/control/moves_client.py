"""The client's side of the orders about single groups."""

from urllib.parse import urlencode

from hamail.control import moves_api as api
from hamail.control.api import Done
from hamail.control.client import ControlClient, part
from hamail.model.ids import GroupName, LogIndex, NodeName, RequestId, ResourceName
from hamail.model.preflight import Preflight


class MovesClient:
    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def preflight(self, order: str, subject: str, to: NodeName | None = None, resource: ResourceName = "") -> Preflight:
        """`order`: switchover, failover, standby (then `subject` is a node), restart."""
        given = {key: value for key, value in (("to", to), ("resource", resource)) if value}
        query = f"?{urlencode(given, errors='replace')}" if given else ""
        return self._client.get(f"preflight/{order}/{part(subject)}{query}", api.PreflightAnswer).preflight

    def scheduled(self) -> api.Scheduled:
        return self._client.get("scheduled", api.Scheduled)

    def failover(
        self,
        group: GroupName,
        to: NodeName | None = None,
        reason: str = "",
        request: RequestId = "",
        force: bool = False,
    ) -> Done:
        body = api.FailoverRequest(group=group, to=to, reason=reason, request=request, force=force)
        return self._client.order("failover", body)

    def restart(
        self,
        group: GroupName,
        resource: ResourceName = "",
        reason: str = "",
        request: RequestId = "",
        force: bool = False,
    ) -> Done:
        body = api.RestartRequest(group=group, resource=resource, reason=reason, request=request, force=force)
        return self._client.order("restart", body)

    def schedule(self, body: api.ScheduleRequest) -> Done:
        return self._client.order("scheduled", body)

    def cancel(self, order: LogIndex, reason: str = "", request: RequestId = "") -> Done:
        return self._client.order("cancel", api.CancelRequest(order=order, reason=reason, request=request))
