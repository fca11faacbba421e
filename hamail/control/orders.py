"""Carry out orders of operators, each at most once.

An order is a command with a request id. The id is kept in the replicated state with its answer, so the same request
sent again, to any node, is answered and not repeated. While the outcome of an order is unknown the very same command
is proposed again, never one decided anew.
"""

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import structlog

from hamail.control import errors
from hamail.control.api import REQUEST_ID, Done
from hamail.control.port import Backend, NotProposed
from hamail.model.commands import AnyCommand, Outcome, Unknown
from hamail.model.ids import LogIndex, RequestId
from hamail.model.state import ClusterState

SUBMIT_TIMEOUT_MS = 20_000  # well above the daemon's own limit for a proposal
REMEMBERED_MAX = 256  # requests whose content and fate this process remembers

log = structlog.get_logger(__name__)

Prepare = Callable[[RequestId], AnyCommand]  # raises ApiError to refuse


Fate = Outcome | Unknown | errors.ApiError


class Orders:
    def __init__(self, backend: Backend, submit_timeout_ms: int = SUBMIT_TIMEOUT_MS) -> None:
        self._backend = backend
        self._submit_timeout_ms = submit_timeout_ms
        self._contents: OrderedDict[RequestId, bytes] = OrderedDict()
        self._running: dict[RequestId, asyncio.Task[Fate]] = {}
        self._uncertain: OrderedDict[RequestId, AnyCommand] = OrderedDict()

    async def carry_out(self, request: RequestId, content: bytes, prepare: Prepare) -> Done:
        """`content` says what was asked, so that an id used for two different things is noticed. Raises ApiError."""
        request = self._checked(request, content)
        task = self._running.get(request)
        if task is None:
            answered = _answered(self._backend.state(), request)
            if answered is not None:
                return self._answer(request, answered, repeated=True)
            task = self._start(request, prepare)
        done, _ = await asyncio.wait({task}, timeout=self._submit_timeout_ms / 1000)
        if not done:  # it keeps running: a retry joins it
            raise errors.unknown_outcome(f"no outcome after {self._submit_timeout_ms / 1000:g} s", request)
        fate = task.result()
        if isinstance(fate, errors.ApiError):
            raise fate
        if isinstance(fate, Unknown):
            raise errors.unknown_outcome(fate.why, request)
        return self._answer(request, fate, repeated=False)

    def _checked(self, request: RequestId, content: bytes) -> RequestId:
        request = request or f"r-{uuid.uuid4().hex}"
        if not REQUEST_ID.fullmatch(request):
            raise errors.bad_request(
                f"request: '{request[:80]}' is not a request id (8 to 64 letters, digits, dots, colons, dashes)"
            )
        known = self._contents.setdefault(request, content)
        if known != content:
            raise errors.bad_request(
                f"request: '{request}' was used for a different order before; take a new id", request
            )
        _trim(self._contents)
        return request

    def _start(self, request: RequestId, prepare: Prepare) -> asyncio.Task[Fate]:
        command = self._uncertain.get(request)
        first = command is None
        if command is None:
            if not self._backend.status().quorum:
                # Proposed now, it could take effect whenever the majority is back, to everybody's surprise.
                raise errors.not_done(
                    "this node does not hear a majority of the cluster, so nothing can be decided", request
                )
            command = prepare(request)
        task = asyncio.get_running_loop().create_task(self._submit(command, first=first), name=f"order {request}")
        self._running[request] = task
        task.add_done_callback(lambda _: self._running.pop(request, None))
        return task

    async def _submit(self, command: AnyCommand, *, first: bool) -> Fate:
        fate: Fate
        try:
            fate = await self._backend.submit(command)
        except NotProposed as error:
            # Only the first try can be surely not done: an earlier one may still be on its way.
            fate = errors.not_done(str(error), command.request) if first else Unknown(why=str(error))
        except Exception as error:
            log.exception("an order failed in an unforeseen way", request=command.request)
            fate = Unknown(why=f"internal error in hamaild: {type(error).__name__}: {error}")
        if isinstance(fate, Unknown):
            self._uncertain[command.request] = command
            _trim(self._uncertain)
        else:
            self._uncertain.pop(command.request, None)
        return fate

    def _answer(self, request: RequestId, outcome: Outcome, *, repeated: bool) -> Done:
        if not outcome.accepted:
            raise errors.refused("refused; nothing was changed", outcome.reasons, request)
        state = self._backend.state()
        return Done(
            request=request,
            index=outcome.index,
            move=_move_of(state, request),
            repeated=repeated,
            revision=state.config.revision,
        )


def _answered(state: ClusterState, request: RequestId) -> Outcome | None:
    """The answer kept in the replicated state: empty text = accepted, else one reason per line."""
    for known, index, answer in reversed(state.requests):
        if known == request:
            reasons = tuple(line for line in answer.splitlines() if line)
            return Outcome(index=index, accepted=not reasons, reasons=reasons)
    return None


def _move_of(state: ClusterState, request: RequestId) -> LogIndex:
    return next((move.id for move in reversed(state.moves) if move.request == request), 0)


def _trim(known: "OrderedDict[RequestId, Any]") -> None:
    while len(known) > REMEMBERED_MAX:
        known.popitem(last=False)
