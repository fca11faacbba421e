"""Drills and incidents over the control API. What the log refuses is refused here with its reason."""

from aiohttp import web

from hamail.control import errors
from hamail.control.actions import Actions, Head, read
from hamail.control.api import PREFIX
from hamail.control.practice_api import DrillRecordRequest, DrillRequest, EndDrillRequest, IncidentRequest
from hamail.control.views import known_group, known_node
from hamail.model import commands
from hamail.model.commands import AnyCommand
from hamail.model.practice import TEXT_CHARS_MAX


class Practice(Actions):
    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(f"{PREFIX}/drills/order", self.order_drill),
            web.post(f"{PREFIX}/drills/end", self.end_drill),
            web.post(f"{PREFIX}/drills/record", self.record_drill),
            web.post(f"{PREFIX}/incidents", self.incident),
        ]

    async def order_drill(self, request: web.Request) -> web.Response:
        body = await read(request, DrillRequest)

        def build(head: Head) -> AnyCommand:
            state = self._backend.state()
            known_group(state, body.group)
            known_node(state, body.node)
            known_node(state, body.target or body.node)
            return commands.OrderDrill(
                **head,
                fault=body.fault,
                group=body.group,
                epoch=body.epoch,
                node=body.node,
                target=body.target,
                device=body.device,
                resource=body.resource,
                duration_ms=body.duration_ms,
                rehearse=body.rehearse,
            )

        return await self._order(request, body, build)

    async def end_drill(self, request: web.Request) -> web.Response:
        body = await read(request, EndDrillRequest)

        def build(head: Head) -> AnyCommand:
            return commands.EndDrill(**head)

        return await self._order(request, body, build)

    async def record_drill(self, request: web.Request) -> web.Response:
        body = await read(request, DrillRecordRequest)

        def build(head: Head) -> AnyCommand:
            return commands.RecordDrill(
                **head,
                record=body.record,
            )

        return await self._order(request, body, build)

    async def incident(self, request: web.Request) -> web.Response:
        body = await read(request, IncidentRequest)
        if len(body.text) > TEXT_CHARS_MAX or not body.text.isprintable():
            raise errors.bad_request(f"text: one line of at most {TEXT_CHARS_MAX} characters")

        def build(head: Head) -> AnyCommand:
            return commands.ChangeIncident(
                **head,
                what=body.what,
                incident=body.incident,
                text=body.text,
                since=body.since,
            )

        return await self._order(request, body, build)
