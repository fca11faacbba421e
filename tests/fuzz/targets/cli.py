"""hamailctl with any words, against a daemon that answers well or sends anything: it ends with one of its exit codes
and says something; no traceback, no endless loop, and nothing from the daemon that would steer the terminal.
"""

import itertools
import socket
import sys
import time
from pathlib import Path

import msgspec
from click.testing import CliRunner

from hamail.cli import act, config, follow, glance, history, look, moves_view, plan_view, status, status_view
from hamail.cli.app import Exit
from hamail.cli.main import cli
from hamail.control import client as module

sys.path.append(str(Path(__file__).parents[2] / "unit"))
from control_fake import SCENES, FakeBackend

INSTRUMENT = ("hamail.cli", "hamail.control.client")
LENGTH_MAX = 2000
REQUESTS_MAX = 12  # then the user loses patience and presses Ctrl-C
INTERRUPTED = 130
_clock_ms = itertools.count(0, 400)
_ends: list[socket.socket] = []


def _backend(scene: str) -> FakeBackend:
    found = FakeBackend()
    SCENES[scene](found)
    return found


_backends = [_backend(scene) for scene in SCENES]
# What is loaded on first use is not charged to the first input.
_warm = [glance.look(b.situation()) for b in _backends]
assert all((moves_view, plan_view, status_view))


class _Connection(module._UnixConnection):
    backend = _backends[0]
    hostile: bytes | None = None
    requests = 0

    def connect(self) -> None:
        if _Connection.requests >= REQUESTS_MAX:
            raise KeyboardInterrupt
        _Connection.requests += 1
        self.sock, self.far = socket.socketpair()
        _ends.append(self.far)
        for end in (self.sock, self.far):
            end.settimeout(1.0)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def putrequest(self, method, url, *rest, **more) -> None:
        super().putrequest(method, url, *rest, **more)
        if self.sock is None:
            self.connect()
        body = self.hostile if self.hostile is not None else _answer(self.backend, url.partition("?")[0])
        head = b"" if body.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.far.send(head + body)
        self.far.shutdown(socket.SHUT_WR)


module._UnixConnection = _Connection


def _answer(b: FakeBackend, url: str) -> bytes:
    """What the real server would say, as far as a client looks at it."""
    st = b.state()
    known = {
        "/v1/status": b.status,
        "/v1/state": lambda: {"schema": 1, "state": st},
        "/v1/events": lambda: {"schema": 1, "events": st.events, "next": st.applied, "complete": True},
        "/v1/history": lambda: {"schema": 1, "moves": st.moves},
        "/v1/history/17": lambda: {"schema": 1, "move": st.moves[0]},
        "/v1/why/17": lambda: {"schema": 1, "group": "", "sentences": ["because"], "events": st.events[:1]},
        "/v1/situation": b.situation,
        "/v1/why/mail": lambda: {"schema": 1, "group": "mail", "sentences": ["because"]},
        "/v1/config": lambda: {"schema": 1, "config": st.config},
        "/v1/timings": lambda: {"schema": 1, "timings": b.timings()},
        "/v1/moves/check": lambda: {"schema": 1, "group": "mail", "source": "n1", "target": "n2", "reasons": []},
        "/v1/config/check": lambda: {"schema": 1, "problems": [], "changes": ["a -> b"], "revision": 3},
    }
    if url in known:
        return msgspec.json.encode(known[url]())
    return b'{"schema":1,"request":"ctl-12345678","index":21,"move":17,"repeated":false,"revision":3}'


def _boottime(_clock) -> int:
    return _fake_ms() * 1_000_000


def _fake_ms() -> int:
    return next(_clock_ms)


def _sleep(_seconds: float) -> None:
    _Connection.requests += 1
    if _Connection.requests >= REQUESTS_MAX:
        raise KeyboardInterrupt


class _Time:
    """Time flies for hamailctl, not for the harness."""

    def __getattr__(self, name: str):
        return {"sleep": _sleep, "clock_gettime_ns": _boottime}.get(name) or getattr(time, name)


for _module in (act, config, follow, history, look, status):
    if hasattr(_module, "time"):
        _module.time = _Time()

COMMANDS = [
    "status", "status --json", "status -w", "switchover mail --to n2 --yes", "switchover mail", "standby n1 --yes",
    "unstandby n1", "maintenance on --reason why", "maintenance off", "clear mail", "fence n1 --yes",
    "fence confirm n1 --i-know-it-is-off n1", "events", "events -f", "history", "history 17", "why mail", "timing",
    "timing --detection 300ms --watchdog 7s", "config show", "config check /dev/null", "config apply /dev/null --yes",
    "version", "-h", "switchover -h", "status --json --watch", "--socket /x status", "history 9999999999999999999",
    "config check /etc/hostname",
    "why 17", "plan", "plan --if node-down=n1 --if fence-fails=ipmi", "plan --if link-down=n1-n2 --json",
    "plan --state /dev/null", "plan --state /etc/hostname --if x", "events --since 2h --group mail --severity warning",
    "standby n1 --force --no-wait", "timing --detection 9999999h", "config check /",
]  # fmt: skip


def seeds() -> list[bytes]:
    found = []
    for i, command in enumerate(COMMANDS):
        found.append(bytes([i % 4]) + command.replace(" ", "\0").encode())
    hostile = [
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b'{"schema":1}',
        b"\xff",
        b"HTTP/1.1 409 C\r\n\r\n" + b'{"code":"refused","error":"\\u001b[2J","reasons":["\\n"],"request":""}',
    ]
    found += [b"\x80" + c.replace(" ", "\0").encode() + b"\0\0" + h for c in COMMANDS[:16] for h in hostile]
    return found


def one(data: bytes) -> None:
    flag = data[0] if data else 0
    words, _, answer = data[1:].partition(b"\0\0") if flag & 0x80 else (data[1:], b"", b"")
    _Connection.hostile = answer if flag & 0x80 else None
    _Connection.backend = _backends[flag % len(_backends)]
    _Connection.requests = 0
    arguments = [word.decode("utf-8", "surrogateescape") for word in words.split(b"\0")][:20]
    env = {"COLUMNS": str(20 + flag % 120), "HAMAIL_SOCKET": "/nowhere"}
    try:
        result = CliRunner().invoke(cli, arguments, input="y\nn1\n", env=env)
    finally:
        while _ends:
            _ends.pop().close()
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    said_by_user = b"\x1b" in words or b"\x9b" in words
    assert said_by_user or "\x1b" not in result.output, "the terminal would obey what was answered"
    assert result.exit_code in {int(code) for code in Exit} | {INTERRUPTED}, result.exit_code
    if result.exit_code not in (0, INTERRUPTED):
        assert result.output.strip(), "it failed without a word"


for _data in seeds():  # hamailctl imports what it needs when it needs it: not at the expense of an input
    one(_data)
