"""The control API of hamaild: HTTP/JSON on a unix socket, for hamailctl and other local programs.

Who may do what is decided by the kernel's word on who connected: root may act, members of the group may look.
"""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

import structlog
from aiohttp import web

from hamail.control import errors
from hamail.control.actions import Actions, peer_behind
from hamail.control.api import BODY_BYTES_MAX, PREFIX, WAIT_MS_MAX
from hamail.control.audited import Audited, Keep
from hamail.control.errors import ApiError
from hamail.control.insight import Insight
from hamail.control.moves import MoveOrders
from hamail.control.orders import SUBMIT_TIMEOUT_MS, Orders
from hamail.control.peer import gid_of, user_name
from hamail.control.policies import PolicyOrders
from hamail.control.port import Backend
from hamail.control.practice import Practice
from hamail.control.reports import ReportViews
from hamail.control.views import Views, answer

SOCKET_MODE = 0o660
SOCKET_PATH_BYTES_MAX = 107  # sun_path with its closing zero
BACKLOG = 64
CONNECTIONS_MAX = 64
IDLE_S = 30.0  # a kept-alive connection without a request
REQUEST_TIMEOUT_S = max(WAIT_MS_MAX, SUBMIT_TIMEOUT_MS) / 1000 + 15.0  # above every limit inside a handler
SHUTDOWN_S = 1.0
BUSY_WAIT_S = 1.0
BUSY_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    b'{"code":"busy","error":"too many clients are connected to hamaild; try again in a moment","reasons":[],'
    b'"request":"","schema":1}'
)
MAY_LOOK_ONLY = ("GET", "HEAD")
CHECKS = (f"{PREFIX}/moves/check", f"{PREFIX}/config/check")  # POST, but they change nothing

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ControlServer:
    """`await start()`, later `await stop()`. Everything runs on the loop that started it."""

    def __init__(self, backend: Backend, path: Path, group: str | int = "hamail", keep: Keep | None = None) -> None:
        """`group`: name or number of the group whose members may look. `keep`: the audit trail takes it down."""
        audit = [] if keep is None else [Audited(keep, frozenset(CHECKS)).middleware]
        self._path = path
        self._group = group
        self._gid = -1
        orders = Orders(backend)
        self._app = web.Application(
            client_max_size=BODY_BYTES_MAX, middlewares=[*audit, _problems_as_json, self._authorised, _timely]
        )
        self._app.add_routes(
            [
                *Views(backend).routes(),
                *Actions(backend, orders).routes(),
                *Practice(backend, orders).routes(),
                *MoveOrders(backend, orders).routes(),
                *PolicyOrders(backend, orders).routes(),
                *ReportViews(backend).routes(),
                *Insight(backend).routes(),
            ]
        )
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._inode: int | None = None

    async def start(self) -> None:
        """Raises OSError or LookupError with a sentence; then nothing is left behind."""
        self._gid = gid_of(self._group)
        listener = listen(self._path, self._gid)
        try:
            self._inode = self._path.stat().st_ino
            self._runner = web.AppRunner(
                self._app,
                access_log=None,
                keepalive_timeout=IDLE_S,
                shutdown_timeout=SHUTDOWN_S,
                handler_cancellation=True,  # a client that left no longer waits; its order runs on by itself
            )
            await self._runner.setup()
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(self._protocol, sock=listener, backlog=BACKLOG)
        except BaseException:
            listener.close()
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening, end open requests, remove the socket. Safe to call twice."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        inode, self._inode = self._inode, None
        with contextlib.suppress(FileNotFoundError):
            if inode is not None and self._path.stat().st_ino == inode:  # not a successor's socket
                self._path.unlink()

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server if self._runner is not None else None
        if server is None or len(server.connections) >= CONNECTIONS_MAX:
            return _Busy()
        return server()

    @web.middleware
    async def _authorised(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        peer = peer_behind(request)
        if not peer.may_look(self._gid):
            raise errors.forbidden(
                f"{user_name(peer.uid)} may not talk to hamaild: members of the group hamail may look, root may act"
            )
        looks = request.method in MAY_LOOK_ONLY or request.path in CHECKS
        if not looks and not peer.may_act():
            raise errors.forbidden(f"{user_name(peer.uid)} may look but not act; do this as root, e.g. with sudo")
        return await handler(request)


@web.middleware
async def _problems_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        return answer(error.problem, error.status)
    except web.HTTPException as error:
        return _from_http(request, error)
    except (TimeoutError, ConnectionError) as error:
        log.info("control request broken off", path=request.path, error=str(error))
        problem = errors.ApiError(
            HTTPStatus.REQUEST_TIMEOUT, "bad_request", f"{request.path}: the request did not arrive whole in time"
        )
        return answer(problem.problem, problem.status)
    except Exception as error:
        log.exception("control request failed in an unforeseen way", path=request.path)
        failure = errors.internal(f"internal error in hamaild ({type(error).__name__}); its log has the details")
        return answer(failure.problem, failure.status)


@web.middleware
async def _timely(request: web.Request, handler: Handler) -> web.StreamResponse:
    async with asyncio.timeout(REQUEST_TIMEOUT_S):
        return await handler(request)


def _from_http(request: web.Request, error: web.HTTPException) -> web.Response:
    place = f"{request.method} {request.path[:200]}"
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        text = f"{place}: the body is larger than {BODY_BYTES_MAX} bytes"
        code = "bad_request"
    elif isinstance(error, web.HTTPNotFound):
        text, code = f"{place}: there is no such path; this hamaild speaks {PREFIX}", "not_found"
    elif isinstance(error, web.HTTPMethodNotAllowed):
        text, code = f"{place}: use {' or '.join(sorted(error.allowed_methods))}", "bad_request"
    else:
        text, code = f"{place}: {error.reason}", "bad_request"
    problem = ApiError(HTTPStatus(error.status), code, text).problem
    return answer(problem, HTTPStatus(error.status))


class _Busy(asyncio.Protocol):
    """Tells a surplus client so, and hangs up. It waits for the request first: closing on unread bytes resets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(BUSY_WAIT_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._transport.write(BUSY_ANSWER)
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()


def listen(path: Path, gid: int) -> socket.socket:
    """A listening unix socket that only its owner and `gid` can open. A dead one at `path` is replaced."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise OSError(f"control socket {path}: the path is longer than {SOCKET_PATH_BYTES_MAX} bytes")
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    previous = os.umask(0o177)  # nobody else may connect before owner and mode are right
    try:
        listener.bind(os.fspath(path))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"control socket {path}: {error.strerror}") from error
    finally:
        os.umask(previous)
    try:
        if path.stat().st_gid != gid:  # it is already right in the service, which may call chown for nothing
            os.chown(path, -1, gid)
        path.chmod(SOCKET_MODE)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        path.unlink(missing_ok=True)
        raise OSError(error.errno, f"control socket {path}: cannot give it to group {gid}: {error.strerror}") from error
    return listener


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"control socket {path}: something that is not a socket is in the way")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise FileExistsError(f"control socket {path}: another hamaild is listening on it")
