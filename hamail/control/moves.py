"""Orders about single groups over the control API: preflight, failover, restart, scheduled moves, cancelling."""

import asyncio

from aiohttp import web

from hamail.control import errors
from hamail.control.actions import Actions, Head, read, refuse
from hamail.control.api import PREFIX
from hamail.control.moves_api import (
    CancelRequest,
    FailoverRequest,
    PreflightAnswer,
    RestartRequest,
    Scheduled,
    ScheduleRequest,
)
from hamail.control.views import answer, known_group, known_node, parameters
from hamail.model import commands
from hamail.model.commands import AnyCommand
from hamail.model.ids import NodeName
from hamail.model.preflight import PreflightAsk
from hamail.model.report import NodeReport

REPORT_TIMEOUT_S = 4.0  # the target is asked about its machine; who does not answer is not waited for
NUMBER_MAX = 2**53  # what every JSON reader takes for a whole number
ORDERS = ("switchover", "failover", "standby", "restart", "ban")


class MoveOrders(Actions):
    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{PREFIX}/preflight/{{order}}/{{subject}}", self.preflight),
            web.get(f"{PREFIX}/scheduled", self.scheduled),
            web.post(f"{PREFIX}/failover", self.failover),
            web.post(f"{PREFIX}/restart", self.restart),
            web.post(f"{PREFIX}/scheduled", self.schedule),
            web.post(f"{PREFIX}/cancel", self.cancel),
        ]

    async def preflight(self, request: web.Request) -> web.Response:
        query = parameters(request, ("to", "resource"))
        order, subject = request.match_info["order"], request.match_info["subject"]
        if order not in ORDERS:
            raise errors.not_found(f"no preflight of '{order[:40]}'; there is one of {', '.join(ORDERS)}")
        state = self._backend.state()
        if order == "standby":
            ask = PreflightAsk(order=order, node=known_node(state, subject))
        else:
            group, to = known_group(state, subject), query.get("to")
            if order == "ban" and to is None:
                raise errors.bad_request("to: a ban names a node")
            ask = PreflightAsk(order=order, group=group, to=to, resource=query.get("resource", ""))
        found = self._look(ask)
        if found.target is not None and order in ("switchover", "failover") and not found.refusals:
            report = await self._report(found.target)
            if report is not None:
                found = self._backend.preflight(ask, report)
        return answer(PreflightAnswer(preflight=found))

    async def _report(self, node: NodeName) -> NodeReport | None:
        try:
            async with asyncio.timeout(REPORT_TIMEOUT_S):
                told = await self._backend.report_of(node)
        except TimeoutError:
            return None
        return told if isinstance(told, NodeReport) else NodeReport(at_ms=0, machine_problem=told)

    async def failover(self, request: web.Request) -> web.Response:
        body = await read(request, FailoverRequest)

        def build(head: Head) -> AnyCommand:
            state = self._backend.state()
            group = known_group(state, body.group)
            found = self._look(PreflightAsk(order="failover", group=group, to=body.to))
            refuse(found, body.force, f"{group} cannot be taken from {found.source or 'nobody'} now", head)
            assert found.target is not None, "a preflight without a target refuses"
            return commands.RequestFailover(
                **head,
                group=group,
                target=found.target,
                expected_epoch=state.group(group).epoch,
            )

        return await self._order(request, body, build)

    async def restart(self, request: web.Request) -> web.Response:
        body = await read(request, RestartRequest)

        def build(head: Head) -> AnyCommand:
            state = self._backend.state()
            group = known_group(state, body.group)
            found = self._look(PreflightAsk(order="restart", group=group, resource=body.resource))
            refuse(found, body.force, f"{body.resource or group} cannot be restarted now", head)
            return commands.RequestRestart(
                **head,
                group=group,
                resource=body.resource,
                expected_epoch=state.group(group).epoch,
            )

        return await self._order(request, body, build)

    async def scheduled(self, request: web.Request) -> web.Response:
        parameters(request, ())
        return answer(Scheduled(scheduled=self._backend.state().scheduled, at_ms=self._backend.now_ms()))

    async def schedule(self, request: web.Request) -> web.Response:
        body = await read(request, ScheduleRequest)
        if (body.at_ms > 0) == (body.in_ms > 0) or min(body.at_ms, body.in_ms) < 0:
            raise errors.bad_request("give either at_ms or in_ms, above 0")
        if max(body.at_ms, body.in_ms) > NUMBER_MAX:
            raise errors.bad_request(f"at_ms and in_ms: {NUMBER_MAX} at most")

        def build(head: Head) -> AnyCommand:
            state = self._backend.state()
            group = known_group(state, body.group)
            if body.to is not None:
                known_node(state, body.to)
            return commands.ScheduleMove(
                **head,
                group=group,
                target=body.to,
                due_ms=body.at_ms or head["at_ms"] + body.in_ms,
                force=body.force,
            )

        return await self._order(request, body, build)

    async def cancel(self, request: web.Request) -> web.Response:
        body = await read(request, CancelRequest)
        if not 0 < body.order <= NUMBER_MAX:
            raise errors.bad_request(f"order: a number from 1 to {NUMBER_MAX}")

        def build(head: Head) -> AnyCommand:
            return commands.Cancel(
                **head,
                order=body.order,
            )

        return await self._order(request, body, build)
