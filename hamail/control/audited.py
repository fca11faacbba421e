"""Every request that acts goes into the audit trail, with who, what, why and how it ended, also when it was refused."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from hamail.control.peer import actor_of, peer_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Keep = Callable[[str, str, str, str], None]
"""(actor, what, reason, result)"""

LOOKING = frozenset({"GET", "HEAD"})
WORDS_CHARS_MAX = 600
VALUE_CHARS_MAX = 120
FORBIDDEN_MAX = 30  # a minute: whoever may not act must not be able to push the trail out of its files
WINDOW_S = 60.0
BODY_WAIT_S = 1.0  # who was refused before the body was there may never send it, and must not keep the connection


class Audited:
    def __init__(self, keep: Keep, checks: frozenset[str]) -> None:
        """`checks`: paths that only look, although they are posted to."""
        self._keep = keep
        self._checks = checks
        self._window_s = 0.0
        self._forbidden = 0

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method in LOOKING or request.path in self._checks:
            return await handler(request)
        result = "broken off: outcome unknown"
        try:
            response = await handler(request)
            result = _result(response)
            return response
        finally:
            if not self._too_many(result):
                what, reason = await _words(request)
                self._keep(_actor(request), what, reason, result)

    def _too_many(self, result: str) -> bool:
        if not result.startswith("403"):
            return False
        now_s = time.monotonic()
        if now_s - self._window_s > WINDOW_S:
            self._window_s, self._forbidden = now_s, 0
        self._forbidden += 1
        return self._forbidden > FORBIDDEN_MAX


def _actor(request: web.Request) -> str:
    connection = request.get_extra_info("socket")
    try:
        return actor_of(peer_of(connection)) if connection is not None else "somebody who has left"
    except OSError:
        return "somebody who cannot be told"


def _result(response: web.StreamResponse) -> str:
    if response.status == 200:
        return "done"
    body: Any = None
    try:
        raw = response.body if isinstance(response, web.Response) else b""
        body = msgspec.json.decode(raw if isinstance(raw, bytes) else b"{}")
    except msgspec.DecodeError:
        pass  # the status says enough
    words = [body.get("error", ""), *body.get("reasons", ())] if isinstance(body, dict) else []
    return ": ".join((str(response.status), "; ".join(w for w in words if isinstance(w, str))))[:WORDS_CHARS_MAX]


async def _words(request: web.Request) -> tuple[str, str]:
    """What was asked for and why. Long texts, as a configuration, are told by their digest."""
    try:
        async with asyncio.timeout(BODY_WAIT_S):
            body = msgspec.json.decode(await request.read())
    except Exception:  # noqa: BLE001 - whatever its body does: that it was asked is taken down
        return f"{request.method} {request.path[:VALUE_CHARS_MAX]}", ""
    if not isinstance(body, dict):
        return f"{request.method} {request.path[:VALUE_CHARS_MAX]}", ""
    reason = body.pop("reason", "")
    given = " ".join(f"{key}={_short(value)}" for key, value in body.items() if value not in ("", None))
    path = request.path.rpartition("/v1/")[2][:VALUE_CHARS_MAX]
    return f"{path} {given}".strip()[:WORDS_CHARS_MAX], reason if isinstance(reason, str) else ""


def _short(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if len(text) <= VALUE_CHARS_MAX and text.isprintable():
        return text
    return f"(sha256 {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]})"
