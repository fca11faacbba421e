"""The acting half of the control API: POST handlers. Each turns a request into one command, or refuses with reasons."""

import asyncio
from collections.abc import Callable
from typing import TypedDict, TypeVar

import msgspec
from aiohttp import web

from hamail.control import api, errors
from hamail.control.api import PREFIX, REQUEST_HEADER, ConfigCheck, MoveCheck, Request
from hamail.control.orders import Orders
from hamail.control.peer import Peer, actor_of, peer_of
from hamail.control.port import Backend
from hamail.control.views import answer, known_group, known_node, parameters
from hamail.model import commands
from hamail.model.asked import asked_for
from hamail.model.commands import AnyCommand
from hamail.model.ids import NodeName, RequestId
from hamail.model.preflight import Preflight, PreflightAsk
from hamail.model.spec import ClusterSpec
from hamail.model.status import NodeView

BODY_TIMEOUT_S = 10.0
FORCE = "--force goes on in spite of these warnings"

Body = TypeVar("Body", bound=msgspec.Struct)


class Head(TypedDict):
    """What every order carries: when, under which id, by whom, and why."""

    at_ms: int
    request: RequestId
    actor: str
    reason: str


Build = Callable[[Head], AnyCommand]  # raises ApiError to refuse


class Actions:
    def __init__(self, backend: Backend, orders: Orders) -> None:
        self._backend = backend
        self._orders = orders

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(f"{PREFIX}/moves", self.move),
            web.post(f"{PREFIX}/moves/check", self.check_move),
            web.post(f"{PREFIX}/standby", self.standby),
            web.post(f"{PREFIX}/maintenance", self.maintenance),
            web.post(f"{PREFIX}/clear", self.clear),
            web.post(f"{PREFIX}/fence", self.fence),
            web.post(f"{PREFIX}/fence/confirm", self.confirm_fence),
            web.post(f"{PREFIX}/config", self.apply_config),
            web.post(f"{PREFIX}/config/check", self.check_config),
        ]

    async def check_move(self, request: web.Request) -> web.Response:
        body = await read(request, api.MoveCheckRequest)
        state = self._backend.state()
        group = known_group(state, body.group)
        found = self._look(PreflightAsk(order="switchover", group=group, to=body.to))
        reasons = (*found.refusals, *found.warnings)
        return answer(MoveCheck(group=group, source=found.source, target=found.target, reasons=reasons))

    async def move(self, request: web.Request) -> web.Response:
        body = await read(request, api.MoveRequest)

        def build(head: Head) -> AnyCommand:
            state = self._backend.state()
            group = known_group(state, body.group)
            found = self._look(PreflightAsk(order="switchover", group=group, to=body.to))
            target = found.target
            refuse(found, body.force, f"{group} cannot be moved now", head)
            assert target is not None, "a preflight without a target refuses"
            return commands.RequestMove(
                **head,
                group=group,
                target=target,
                expected_epoch=state.group(group).epoch,
            )

        return await self._order(request, body, build)

    def _look(self, ask: PreflightAsk) -> Preflight:
        if ask.to is not None:
            known_node(self._backend.state(), ask.to)
        return self._backend.preflight(ask)

    async def standby(self, request: web.Request) -> web.Response:
        body = await read(request, api.StandbyRequest)

        def build(head: Head) -> AnyCommand:
            state = self._backend.state()
            node = known_node(state, body.node)
            if state.spec.nodes[node].witness:
                raise errors.refused(
                    f"{node} is a witness: it never owns a group",
                    ("nothing has to leave it before work on it",),
                    head["request"],
                )
            if body.standby and not state.maintenance.on:  # in maintenance nothing moves at once
                found = self._look(PreflightAsk(order="standby", node=node))
                refuse(found, body.force, f"{node} owns what no other node can take over", head)
            return commands.SetStandby(
                **head,
                node=node,
                standby=body.standby,
                until_ms=end_ms(head["at_ms"], body.for_ms) if body.standby else 0,
            )

        return await self._order(request, body, build)

    async def maintenance(self, request: web.Request) -> web.Response:
        body = await read(request, api.MaintenanceRequest)

        def build(head: Head) -> AnyCommand:
            return commands.SetMaintenance(
                **head,
                on=body.on,
                since=-1 if body.on else self._backend.state().maintenance.since,
                until_ms=end_ms(head["at_ms"], body.for_ms) if body.on else 0,
            )

        return await self._order(request, body, build)

    async def clear(self, request: web.Request) -> web.Response:
        body = await read(request, api.ClearRequest)

        def build(head: Head) -> AnyCommand:
            state = self._backend.state()
            group = known_group(state, body.group)
            return commands.Clear(
                **head,
                group=group,
                epoch=state.group(group).epoch,
            )

        return await self._order(request, body, build)

    async def fence(self, request: web.Request) -> web.Response:
        body = await read(request, api.FenceRequest)

        def build(head: Head) -> AnyCommand:
            state = self._backend.state()
            node = known_node(state, body.node)
            if not state.spec.devices_for(node):
                reason = f"no fence device is configured for {node}"
                raise errors.refused(f"{node} cannot be fenced", (reason,), head["request"])
            return commands.RequestFence(**head, target=node)

        return await self._order(request, body, build)

    async def confirm_fence(self, request: web.Request) -> web.Response:
        body = await read(request, api.FenceConfirmRequest)
        if body.typed != body.node:
            raise errors.bad_request(f"typed: '{body.typed[:80]}' is not '{body.node[:80]}'; nothing was confirmed")

        def build(head: Head) -> AnyCommand:
            state = self._backend.state()
            node = known_node(state, body.node)
            view = self._view(node)
            if view is not None and view.alive:
                # A wrong word here is the one way to two active nodes that no mechanism can catch later.
                reason = f"{node} was heard {view.silent_ms} ms ago, so it is running"
                raise errors.refused(f"{node} is not off", (reason,), head["request"])
            return commands.FenceConfirmed(
                **head,
                target=node,
                life=state.node(node).life,
            )

        return await self._order(request, body, build)

    def _view(self, node: NodeName) -> NodeView | None:
        return next((view for view in self._backend.status().nodes if view.name == node), None)

    async def check_config(self, request: web.Request) -> web.Response:
        body = await read(request, api.ConfigCheckRequest)
        spec, problems, changes, unknown = await self._check(body.source)
        revision = self._backend.state().config.revision
        refusals, effects = self._backend.config_effects(spec) if spec is not None and changes else ((), ())
        found = ConfigCheck(
            problems=problems, changes=changes, revision=revision, refusals=refusals, effects=effects, unknown=unknown
        )
        return answer(found)

    async def _check(self, source: str) -> tuple[ClusterSpec | None, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """By this node, and then by the others: all take it, or none. Last: who could not be asked."""
        spec, problems, changes = await asyncio.to_thread(self._backend.check_config, source)
        if spec is None or problems or not changes:
            return spec, problems, changes, ()
        problems, unknown = await self._backend.check_config_elsewhere(source)
        return (None, problems, (), unknown) if problems else (spec, (), changes, unknown)

    async def apply_config(self, request: web.Request) -> web.Response:
        body = await read(request, api.ConfigRequest)
        spec, problems, _, _ = await self._check(body.source)

        def build(head: Head) -> AnyCommand:
            revision = self._backend.state().config.revision
            if body.expected_revision is not None and body.expected_revision != revision:
                reason = f"the configuration is at revision {revision} by now, not {body.expected_revision}"
                raise errors.refused("somebody else changed the configuration", (reason,), head["request"])
            if spec is None or problems:
                raise errors.refused("the configuration has problems", problems, head["request"])
            return commands.ApplyConfig(
                **head,
                spec=spec,
                source=body.source,
                expected_revision=revision,
            )

        return await self._order(request, body, build)

    async def _order(self, request: web.Request, body: Request, build: Build) -> web.Response:
        header = request.headers.get(REQUEST_HEADER, "").encode("utf-8", "replace").decode()  # it may be any bytes
        if header and body.request and header != body.request:
            raise errors.bad_request(f"request: '{body.request[:80]}' differs from the header {REQUEST_HEADER}")
        check_reason(body.reason)
        order = body.request or header

        def prepare(order: RequestId) -> AnyCommand:
            now_ms = self._backend.now_ms()
            return build({"at_ms": now_ms, "request": order, "actor": actor(request), "reason": body.reason})

        try:
            return answer(await self._orders.carry_out(order, content_of(body), prepare))
        except errors.ApiError as error:
            if error.problem.code == "refused":  # what the log itself refused it has kept already
                what, group = asked_for(body), getattr(body, "group", "")
                why = "; ".join((error.problem.error, *error.problem.reasons))
                self._backend.note_refusal(error.problem.request, actor(request), body.reason, what, group, why)
            raise


def refuse(found: Preflight, force: bool, error: str, head: Head) -> None:
    """Raises ApiError when the preflight forbids it. Only warnings can be overruled."""
    if found.refusals:
        raise errors.refused(error, found.refusals, head["request"])
    if found.warnings and not force:
        raise errors.refused(f"{error}; {FORCE}", found.warnings, head["request"])


def end_ms(now_ms: int, for_ms: int, *, needed: bool = False) -> int:
    """Wall clock; 0: it has no end. Raises ApiError."""
    if for_ms < 0 or for_ms > api.FOR_MS_MAX or (needed and not for_ms):
        raise errors.bad_request(f"for_ms: {for_ms} is not between 1 and {api.FOR_MS_MAX} (30 days)")
    return now_ms + for_ms if for_ms else 0


def content_of(body: Request) -> bytes:
    """What was asked for, without what a retry may leave out."""
    if isinstance(body, api.ConfigRequest):
        body = msgspec.structs.replace(body, expected_revision=None)
    return type(body).__name__.encode() + msgspec.json.encode(msgspec.structs.replace(body, request=""))


async def read(request: web.Request, body_type: type[Body]) -> Body:
    """Decode a body strictly; what is wrong is named with its place."""
    parameters(request, ())
    async with asyncio.timeout(BODY_TIMEOUT_S):
        raw = await request.read()
    try:
        return msgspec.json.decode(raw, type=body_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.bad_request(f"body of {request.path}: {error}") from error


def check_reason(reason: str) -> None:
    if len(reason) > api.REASON_CHARS_MAX:
        raise errors.bad_request(f"reason: {len(reason)} characters are more than {api.REASON_CHARS_MAX}")
    if not reason.isprintable():
        raise errors.bad_request("reason: has a line break or a control character; use one line of text")


def actor(request: web.Request) -> str:
    return actor_of(peer_behind(request))


def peer_behind(request: web.Request) -> Peer:
    connection = request.get_extra_info("socket")
    if connection is None:
        raise errors.forbidden("the connection is gone")
    return peer_of(connection)
