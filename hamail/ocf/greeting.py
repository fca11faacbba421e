"""Short conversations with mail services, each under one deadline."""

import contextlib
import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from hamail.ocf.process import boottime_s

LINE_BYTES = 4096
LINES_MAX = 200
RETRY_S = 0.005
POLITE_S = 0.2


class NoAnswer(Exception):
    """The service did not say what it should have said; the text says what happened instead."""


class Dialogue:
    """Line by line. `endpoint` is "host:port", "[v6]:port" or the path of a unix socket. Raises NoAnswer."""

    def __init__(
        self, endpoint: str, seconds: float, wrap: Callable[[socket.socket], socket.socket] | None = None
    ) -> None:
        self.endpoint = endpoint
        self._deadline_s = boottime_s() + seconds
        self._seconds = seconds
        self._rest = b""
        self._socket = self._connect()
        if wrap is not None:
            try:
                self._socket = wrap(self._socket)
            except OSError as error:
                self._socket.close()
                raise NoAnswer(f"{endpoint} does not speak TLS: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _left_s(self) -> float:
        left_s = self._deadline_s - boottime_s()
        if left_s <= 0:
            raise NoAnswer(f"no answer from {self.endpoint} within {self._seconds:g} s")
        return left_s

    def _connect(self) -> socket.socket:
        try:
            if self.endpoint.startswith("/"):
                wire = socket.socket(socket.AF_UNIX)
                wire.settimeout(self._left_s())
                wire.connect(self.endpoint)
                return wire
            return socket.create_connection(split_endpoint(self.endpoint), self._left_s())
        except OSError as error:
            raise NoAnswer(f"cannot connect to {self.endpoint}: {error.strerror or error}") from None

    def line(self) -> str:
        while b"\n" not in self._rest:
            try:
                self._socket.settimeout(self._left_s())
                chunk = self._socket.recv(LINE_BYTES)
            except TimeoutError:
                raise NoAnswer(f"no answer from {self.endpoint} within {self._seconds:g} s") from None
            except OSError as error:
                raise NoAnswer(f"{self.endpoint} broke the connection: {error.strerror or error}") from None
            if not chunk:
                raise NoAnswer(f"{self.endpoint} closed the connection")
            self._rest += chunk
            if len(self._rest) > LINE_BYTES * 4:
                raise NoAnswer(f"{self.endpoint} sent an endless line")
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")

    def say(self, text: str) -> None:
        try:
            self._socket.settimeout(self._left_s())
            self._socket.sendall(text.encode() + b"\r\n")
        except OSError as error:
            raise NoAnswer(f"{self.endpoint} broke the connection: {error.strerror or error}") from None

    def smtp(self, command: str = "") -> tuple[int, str]:
        """Send a command (or nothing) and read one whole SMTP or LMTP reply: code and last line."""
        if command:
            self.say(command)
        for _ in range(LINES_MAX):
            line = self.line()
            if not line[:3].isdigit():
                raise NoAnswer(f"{self.endpoint} does not speak SMTP: {line[:80]!r}")
            if line[3:4] != "-":
                return int(line[:3]), line
        raise NoAnswer(f"{self.endpoint} sent an endless reply")

    def imap(self, tag: str, command: str) -> None:
        """Send a tagged IMAP command; raises NoAnswer unless it ends with OK."""
        self.say(f"{tag} {command}")
        for _ in range(LINES_MAX):
            line = self.line()
            if line.startswith(f"{tag} "):
                if not line.startswith(f"{tag} OK"):
                    raise NoAnswer(f"{self.endpoint} refused {command.split(maxsplit=1)[0]}: {line[:120]}")
                return
        raise NoAnswer(f"{self.endpoint} sent an endless reply to {command.split(maxsplit=1)[0]}")

    def bye(self, word: str) -> None:
        """Say goodbye so that the log shows no lost connection; whoever does not answer is left."""
        self._deadline_s = min(self._deadline_s, boottime_s() + POLITE_S)
        with contextlib.suppress(NoAnswer):
            self.say(word)
            self.line()


def split_endpoint(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def wrong_endpoint(text: str) -> str:
    """A parameter check."""
    if text.startswith("/"):
        return ""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        return "must be host:port or the absolute path of a socket"
    return ""


def smtp_banner(endpoint: str, seconds: float) -> None:
    """220 and goodbye. Raises NoAnswer."""
    with Dialogue(endpoint, seconds) as talk:
        expect_220(talk)
        talk.bye("QUIT")


def expect_220(talk: Dialogue) -> None:
    code, line = talk.smtp()
    if code != 220:
        raise NoAnswer(f"{talk.endpoint} greets with {line[:120]!r} instead of 220")


def imap_greeting(endpoint: str, seconds: float) -> None:
    """* OK and goodbye. Raises NoAnswer."""
    with Dialogue(endpoint, seconds) as talk:
        expect_imap_ok(talk)
        talk.bye("a LOGOUT")


def expect_imap_ok(talk: Dialogue) -> None:
    line = talk.line()
    if not line.startswith(("* OK", "* PREAUTH")):
        raise NoAnswer(f"{talk.endpoint} greets with {line[:120]!r} instead of * OK")


def wait_for(check: Callable[[], None], seconds: float) -> None:
    """Repeat `check()` until it raises NoAnswer no more. Raises the last NoAnswer when the time is over."""
    end_s = boottime_s() + seconds
    while True:
        try:
            check()
            return
        except NoAnswer:
            if boottime_s() > end_s:
                raise
        time.sleep(RETRY_S)
