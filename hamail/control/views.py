"""The looking half of the control API: GET handlers. They change nothing."""

import asyncio
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from hamail.control import errors
from hamail.control.api import (
    PREFIX,
    WAIT_MS_MAX,
    ActiveAnswer,
    ConfigAnswer,
    Events,
    History,
    MoveAnswer,
    Revisions,
    TimingsAnswer,
)
from hamail.control.port import Backend
from hamail.model.ids import GroupName, LogIndex
from hamail.model.state import EVENTS_KEPT, ClusterState, Phase
from hamail.model.status import Status
from hamail.monitoring import metrics

PAUSE_MS = 50
DIGITS_MAX = 18  # of a number in a request: Python refuses to read thousands of them
WAITERS_MAX = 32  # long polls at a time


class Views:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._waiters = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{PREFIX}/status", self.status),
            web.get(f"{PREFIX}/state", self.state),
            web.get(f"{PREFIX}/events", self.events),
            web.get(f"{PREFIX}/history", self.history),
            web.get(f"{PREFIX}/history/{{id}}", self.move),
            web.get(f"{PREFIX}/config", self.config),
            web.get(f"{PREFIX}/config/revisions", self.revisions),
            web.get(f"{PREFIX}/timings", self.timings),
            web.get(f"{PREFIX}/metrics", self.metrics),
            web.get(f"{PREFIX}/active/{{group}}", self.active),
        ]

    async def status(self, request: web.Request) -> web.Response:
        parameters(request, ())
        return answer(self._backend.status())

    async def state(self, request: web.Request) -> web.Response:
        parameters(request, ())
        return answer({"schema": 1, "state": self._backend.state()})

    async def events(self, request: web.Request) -> web.Response:
        query = parameters(request, ("after", "wait_ms"))
        after = natural(query, "after", 0)
        wait_ms = natural(query, "wait_ms", 0)
        if wait_ms > WAIT_MS_MAX:
            raise errors.bad_request(f"wait_ms: {wait_ms} is more than {WAIT_MS_MAX}")
        state = self._backend.state()
        if wait_ms and not _newer(state, after):
            state = await self._wait(after, wait_ms)
        oldest = state.events[0].index if state.events else 0
        complete = len(state.events) < EVENTS_KEPT or oldest <= after
        return answer(Events(events=_newer(state, after), next=max(after, state.applied), complete=complete))

    async def _wait(self, after: LogIndex, wait_ms: int) -> ClusterState:
        """Until there is an event after `after`, or for `wait_ms`."""
        if self._waiters >= WAITERS_MAX:
            raise errors.busy(f"{WAITERS_MAX} clients wait for events already; ask without wait_ms, or later")
        self._waiters += 1
        try:
            deadline_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + wait_ms * 1_000_000
            state = self._backend.state()
            while not _newer(state, after):
                left_ms = (deadline_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) // 1_000_000
                if left_ms <= 0:
                    break
                applied = await self._backend.wait_applied(state.applied, left_ms)
                if applied <= state.applied:  # time is up, or the daemon ends: never spin on it
                    await asyncio.sleep(min(left_ms, PAUSE_MS) / 1000)
                state = self._backend.state()
            return state
        finally:
            self._waiters -= 1

    async def history(self, request: web.Request) -> web.Response:
        parameters(request, ())
        return answer(History(moves=self._backend.state().moves))

    async def move(self, request: web.Request) -> web.Response:
        parameters(request, ())
        wanted = request.match_info["id"]
        if not (wanted.isascii() and wanted.isdigit() and len(wanted) <= DIGITS_MAX):
            raise errors.bad_request(f"history/{wanted[:40]}: the id of a move is a number")
        for move in reversed(self._backend.state().moves):
            if move.id == int(wanted):
                return answer(MoveAnswer(move=move))
        raise errors.not_found(f"no move {wanted} in the history; 'hamailctl history' lists them")

    async def config(self, request: web.Request) -> web.Response:
        parameters(request, ())
        return answer(ConfigAnswer(config=self._backend.state().config))

    async def revisions(self, request: web.Request) -> web.Response:
        parameters(request, ())
        state = self._backend.state()
        return answer(Revisions(revisions=(*state.revisions, state.config)))

    async def timings(self, request: web.Request) -> web.Response:
        parameters(request, ())
        return answer(TimingsAnswer(timings=self._backend.timings()))

    async def metrics(self, request: web.Request) -> web.Response:
        text = metrics.render(self._backend.status())
        return web.Response(body=text.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def active(self, request: web.Request) -> web.Response:
        """For load balancers: 200 where the group is served, 503 everywhere else."""
        group = known_group(self._backend.state(), request.match_info["group"])
        status = self._backend.status()
        owner = next((view.owner for view in status.groups if view.name == group), None)
        active = serves(status, group)
        body = ActiveAnswer(group=group, node=status.node, active=active, owner=owner)
        return answer(body, HTTPStatus.OK if active else HTTPStatus.SERVICE_UNAVAILABLE)


def serves(status: Status, group: GroupName) -> bool:
    """The answering node owns the group, it is up, and the lease runs (maintenance suspends leases)."""
    for view in status.groups:
        if view.name == group and view.owner == status.node and view.phase is Phase.ACTIVE:
            return status.maintenance.on or bool(view.lease_ms and view.lease_ms > 0)
    return False


def answer(body: Any, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def known_group(state: ClusterState, group: GroupName) -> GroupName:
    if group not in state.spec.groups:
        raise errors.not_found(f"no group '{group[:80]}' in this cluster; {_list('groups', state.spec.groups)}")
    return group


def known_node(state: ClusterState, node: str) -> str:
    if node not in state.spec.nodes:
        raise errors.not_found(f"no node '{node[:80]}' in this cluster; {_list('nodes', state.spec.nodes)}")
    return node


def parameters(request: web.Request, allowed: tuple[str, ...]) -> dict[str, str]:
    for name in request.query:
        if name not in allowed:
            known = f"; it takes {', '.join(allowed)}" if allowed else ""
            raise errors.bad_request(f"{request.path}: unknown parameter '{name[:80]}'{known}")
    return dict(request.query)


def natural(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        raise errors.bad_request(f"{name}: '{text[:80]}' is not a whole number from 0 up")
    return int(text)


def _newer(state: ClusterState, after: LogIndex) -> tuple[Any, ...]:
    return tuple(event for event in state.events if event.index > after)


def _list(what: str, names: Iterable[str]) -> str:
    return f"{what}: {', '.join(sorted(names)) or 'none'}"
