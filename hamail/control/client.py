"""A small synchronous client of the control API. Every error says whether the thing was surely not done."""

import contextlib
import errno
import http.client
import re
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

from hamail.control import api
from hamail.control.api import BODY_BYTES_MAX, PREFIX, Done, Problem, ReportsAnswer
from hamail.model.ids import GroupName, LogIndex, NodeName, RequestId
from hamail.model.situation import Situation
from hamail.model.state import ClusterState
from hamail.model.status import Status

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_MS = 30_000  # above the server's limit for an order
WAIT_SLACK_MS = 5_000  # what an answer may take beyond the wait that was asked for
ANSWER_BYTES_MAX = 32 * 1024 * 1024

# An escaped backslash (kept), or a control character, escaped as JSON has it or as it is; \\n, \\t and line feeds stay.
_BACKSLASH = b"\\\\"
_CONTROL = re.compile(
    rb"\\\\|\\u00(?:0[0-8bcef]|1[0-9a-f]|7f|[89][0-9a-f])|[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]", re.I
)

T = TypeVar("T")


class ControlError(Exception):
    """`reasons` are sentences; `request` is the id of the order that failed, if it was one."""

    def __init__(self, error: str, reasons: tuple[str, ...] = (), request: RequestId = "") -> None:
        super().__init__(error)
        self.error = error
        self.reasons = reasons
        self.request = request


class Failed(ControlError):
    """hamaild, or what answers in its place, did not do what it should. Nothing was ordered."""


class Invalid(ControlError):
    """The request makes no sense; it was not carried out."""


class Refused(ControlError):
    """Understood, and refused with reasons. Nothing was changed."""


class SurelyNotDone(ControlError):
    """Not carried out, and it never will be; trying later may help."""


class DaemonDown(SurelyNotDone):
    """Nothing listens on the control socket."""


class OutcomeUnknown(ControlError):
    """The order may or may not take effect. Sending the same request id again is safe."""


class StateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    schema: int
    state: ClusterState


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(min(CONNECT_TIMEOUT_S, self._timeout_s))
            self.sock.connect(str(self._path))
            self.sock.settimeout(self._timeout_s)
        except OSError:
            self.close()
            raise


def new_request() -> RequestId:
    return f"ctl-{uuid.uuid4().hex[:16]}"


class ControlClient:
    """One connection per call: a call is rare, and a restarted hamaild is then nothing special."""

    def __init__(self, path: Path | str = api.DEFAULT_SOCKET, timeout_ms: int = ANSWER_TIMEOUT_MS) -> None:
        self._path = Path(path)
        self._timeout_ms = timeout_ms

    # --- looking -------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        return self._get("status", Status)

    def state(self) -> ClusterState:
        return self._get("state", StateAnswer).state

    def events(self, after: LogIndex = 0, wait_ms: int = 0) -> api.Events:
        """Waits up to `wait_ms` for something after index `after`."""
        return self._get(f"events?after={after}&wait_ms={wait_ms}", api.Events, wait_ms)

    def history(self) -> api.History:
        return self._get("history", api.History)

    def move(self, move: LogIndex) -> api.MoveAnswer:
        return self._get(f"history/{move}", api.MoveAnswer)

    def why(self, target: str) -> api.Why:
        """Of a group, or of the event or move with this number."""
        return self._get(f"why/{part(target)}", api.Why)

    def situation(self) -> Situation:
        return self._get("situation", Situation)

    def config(self) -> api.ConfigAnswer:
        return self._get("config", api.ConfigAnswer)

    def revisions(self) -> api.Revisions:
        return self._get("config/revisions", api.Revisions)

    def timings(self) -> api.TimingsAnswer:
        return self._get("timings", api.TimingsAnswer)

    def reports(self) -> ReportsAnswer:
        """What every node sees of its machine and its links; takes some seconds."""
        return self._get("reports", ReportsAnswer)

    def metrics(self) -> str:
        return self._call("GET", "metrics", None, "", self._timeout_ms, _text)

    def check_move(self, group: GroupName, to: NodeName | None = None) -> api.MoveCheck:
        """What `request_move` would do, without doing it."""
        return self._check("moves/check", api.MoveCheckRequest(group=group, to=to), api.MoveCheck)

    def check_config(self, source: str) -> api.ConfigCheck:
        return self._check("config/check", api.ConfigCheckRequest(source=source), api.ConfigCheck)

    # --- acting --------------------------------------------------------------------------------------------------

    def order(self, path: str, body: api.Request) -> Done:
        """POST to `path` (below the version). An empty request id is filled in; errors carry it."""
        if not body.request:
            body = msgspec.structs.replace(body, request=new_request())
        return self._call("POST", path, body, body.request, self._timeout_ms, _typed(Done))

    def request_move(
        self,
        group: GroupName,
        to: NodeName | None = None,
        reason: str = "",
        request: RequestId = "",
        force: bool = False,
    ) -> Done:
        return self.order("moves", api.MoveRequest(group=group, to=to, reason=reason, request=request, force=force))

    def set_standby(
        self,
        node: NodeName,
        standby: bool,
        reason: str = "",
        force: bool = False,
        request: RequestId = "",
        for_ms: int = 0,
    ) -> Done:
        body = api.StandbyRequest(
            node=node, standby=standby, for_ms=for_ms, force=force, reason=reason, request=request
        )
        return self.order("standby", body)

    def clear(self, group: GroupName, reason: str = "", request: RequestId = "") -> Done:
        return self.order("clear", api.ClearRequest(group=group, reason=reason, request=request))

    def fence(self, node: NodeName, reason: str = "", request: RequestId = "") -> Done:
        return self.order("fence", api.FenceRequest(node=node, reason=reason, request=request))

    def confirm_fence(self, node: NodeName, typed: NodeName, reason: str = "", request: RequestId = "") -> Done:
        """`typed`: the node's name as the operator typed it again."""
        body = api.FenceConfirmRequest(node=node, typed=typed, reason=reason, request=request)
        return self.order("fence/confirm", body)

    def apply_config(
        self, source: str, expected_revision: int | None = None, reason: str = "", request: RequestId = ""
    ) -> Done:
        body = api.ConfigRequest(source=source, expected_revision=expected_revision, reason=reason, request=request)
        return self.order("config", body)

    def get(self, path: str, answer: type[T]) -> T:
        """GET `path` (below the version): for the clients of single topics beside this one."""
        return self._get(path, answer)

    # --- the wire ------------------------------------------------------------------------------------------------

    def _get(self, path: str, answer: type[T], wait_ms: int = 0) -> T:
        timeout_ms = wait_ms + WAIT_SLACK_MS if wait_ms else self._timeout_ms
        return self._call("GET", path, None, "", timeout_ms, _typed(answer))

    def _check(self, path: str, body: msgspec.Struct, answer: type[T]) -> T:
        return self._call("POST", path, body, "", self._timeout_ms, _typed(answer))

    def _call(
        self,
        method: str,
        path: str,
        body: msgspec.Struct | None,
        request: RequestId,
        timeout_ms: int,
        decode: Callable[[bytes], T],
    ) -> T:
        try:
            raw = b"" if body is None else msgspec.json.encode(body)
        except UnicodeEncodeError as error:  # words of a command line may be any bytes
            raise Invalid(f"{path}: the order is not UTF-8 text; it was not sent") from error
        if len(raw) > BODY_BYTES_MAX:
            raise Invalid(f"{path}: {len(raw)} bytes are more than the {BODY_BYTES_MAX} that hamaild takes")
        connection = _UnixConnection(self._path, timeout_ms / 1000)
        try:
            self._connect(connection)
            self._send(connection, method, f"{PREFIX}/{path}", raw, request)
            status, answer = self._receive(connection, request)
        finally:
            connection.close()
        if status != 200:
            raise _error(status, answer, request)
        try:
            return decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            text = f"the answer of hamaild makes no sense to this hamailctl ({error}); are the versions the same?"
            raise (OutcomeUnknown if request else Failed)(text, request=request) from error

    def _connect(self, connection: http.client.HTTPConnection) -> None:
        try:
            connection.connect()
        except PermissionError as error:
            raise Refused(
                f"no permission to talk to hamaild through {self._path}",
                ("members of the group hamail may look, root may act: use sudo, or join the group",),
            ) from error
        except OSError as error:
            raise DaemonDown(_down(self._path, error)) from error

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, raw: bytes, request: RequestId
    ) -> None:
        try:
            connection.request(method, path, body=raw or None, headers={"Content-Type": "application/json"})
        except OSError as error:  # hamaild acts on whole requests only; it may have said why it takes none
            with contextlib.suppress(OSError, http.client.HTTPException):
                said = connection.getresponse()
                raise _error(said.status, _tame(said.read(ANSWER_BYTES_MAX)), request) from error
            raise SurelyNotDone(
                f"hamaild hung up before it had the whole request ({error})", request=request
            ) from error

    def _receive(self, connection: http.client.HTTPConnection, request: RequestId) -> tuple[int, bytes]:
        try:
            response = connection.getresponse()
            return response.status, _tame(response.read(ANSWER_BYTES_MAX))
        except TimeoutError as error:
            text = f"hamaild did not answer within {connection.timeout:g} s"
            raise (OutcomeUnknown if request else Failed)(text, request=request) from error
        except (OSError, http.client.HTTPException) as error:
            text = f"hamaild hung up before it answered ({error or type(error).__name__})"
            raise (OutcomeUnknown if request else Failed)(text, request=request) from error


def _tame(answer: bytes) -> bytes:
    """Without control characters: what a peer or an agent has said must not steer the terminal of who reads it."""
    return _CONTROL.sub(lambda found: found[0] if found[0] == _BACKSLASH else b"?", answer)


def _down(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"hamaild is not running: there is no {path}. Try: systemctl status hamaild"
    if error.errno == errno.ECONNREFUSED:
        return f"hamaild is not running: nobody listens on {path}. Try: systemctl status hamaild"
    if isinstance(error, TimeoutError) or error.errno == errno.EAGAIN:
        return f"hamaild does not take connections on {path}: it hangs or is flooded. Try: systemctl status hamaild"
    return f"hamaild cannot be reached through {path}: {error.strerror or error}. Try: systemctl status hamaild"


def _error(status: int, answer: bytes, request: RequestId) -> ControlError:
    try:
        problem = msgspec.json.decode(answer, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = f"hamaild answered {status} without a word"
        return (OutcomeUnknown if request else Failed)(text, request=request)
    kinds: dict[str, type[ControlError]] = {
        "bad_request": Invalid,
        "forbidden": Refused,
        "not_found": Refused,
        "refused": Refused,
        "not_done": SurelyNotDone,
        "busy": SurelyNotDone,
        "unknown_outcome": OutcomeUnknown,
    }
    kind = kinds.get(problem.code, OutcomeUnknown if request else Failed)
    return kind(problem.error, problem.reasons, problem.request or request)


def _typed(answer: type[T]) -> Callable[[bytes], T]:
    return lambda raw: msgspec.json.decode(raw, type=answer)


def _text(raw: bytes) -> str:
    return raw.decode()


def part(name: str) -> str:
    return quote(name, safe="", errors="replace")  # words of a command line may be any bytes
