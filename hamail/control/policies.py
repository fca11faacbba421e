"""Orders that keep a group and a node apart for a while, over the control API."""

from aiohttp import web

from hamail.control import errors
from hamail.control.actions import Actions, Head, end_ms, read, refuse
from hamail.control.api import PREFIX
from hamail.control.policies_api import (
    BanRequest,
    HandsOffRequest,
    LeavingAnswer,
    QuarantineRequest,
    UnbanRequest,
)
from hamail.control.views import answer, known_group, known_node, parameters
from hamail.model import commands
from hamail.model.commands import AnyCommand
from hamail.model.preflight import PreflightAsk


class PolicyOrders(Actions):
    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{PREFIX}/maintenance/leaving", self.leaving),
            web.post(f"{PREFIX}/ban", self.ban),
            web.post(f"{PREFIX}/unban", self.unban),
            web.post(f"{PREFIX}/quarantine", self.lift_quarantine),
            web.post(f"{PREFIX}/hands-off", self.hands_off),
        ]

    async def leaving(self, request: web.Request) -> web.Response:
        """What would follow at once if a maintenance ended now."""
        query = parameters(request, ("group", "node"))
        state = self._backend.state()
        group = known_group(state, query["group"]) if "group" in query else ""
        node = known_node(state, query["node"]) if "node" in query else ""
        return answer(LeavingAnswer(leaving=self._backend.leaving(group, node)))

    async def ban(self, request: web.Request) -> web.Response:
        body = await read(request, BanRequest)
        end_ms(0, body.for_ms, needed=True)

        def build(head: Head) -> AnyCommand:
            state = self._backend.state()
            group, node = known_group(state, body.group), known_node(state, body.node)
            found = self._look(PreflightAsk(order="ban", group=group, to=node))
            refuse(found, body.force, f"{group} cannot be banned from {node} now", head)
            return commands.SetBan(
                **head,
                group=group,
                node=node,
                until_ms=end_ms(head["at_ms"], body.for_ms),
            )

        return await self._order(request, body, build)

    async def unban(self, request: web.Request) -> web.Response:
        body = await read(request, UnbanRequest)

        def build(head: Head) -> AnyCommand:
            state = self._backend.state()
            return commands.LiftBan(
                **head,
                group=known_group(state, body.group),
                node=known_node(state, body.node),
            )

        return await self._order(request, body, build)

    async def lift_quarantine(self, request: web.Request) -> web.Response:
        body = await read(request, QuarantineRequest)

        def build(head: Head) -> AnyCommand:
            return commands.LiftQuarantine(
                **head,
                node=known_node(self._backend.state(), body.node),
            )

        return await self._order(request, body, build)

    async def hands_off(self, request: web.Request) -> web.Response:
        body = await read(request, HandsOffRequest)
        if bool(body.group) == bool(body.node):
            raise errors.bad_request("name either a group or a node")
        end_ms(0, body.for_ms)

        def build(head: Head) -> AnyCommand:
            state = self._backend.state()
            return commands.HandsOff(
                **head,
                on=body.on,
                group=known_group(state, body.group) if body.group else "",
                node=known_node(state, body.node) if body.node else "",
                until_ms=end_ms(head["at_ms"], body.for_ms) if body.on else 0,
            )

        return await self._order(request, body, build)
