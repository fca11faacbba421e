"""The unix socket: one hamaild at a time, greeted first, and proven by its peer credentials."""

import asyncio
import grp
import logging
import os
import pwd
import socket
import struct
from collections import deque
from pathlib import Path

from hamail.executor.executor import Executor
from hamail.executor.wire import WireError, encode, read_request
from hamail.model.actions import (
    Accepted,
    AnyNotice,
    Cleaned,
    DeadlinePassed,
    FenceResult,
    GroupDown,
    GroupStartFailed,
    GroupStopFailed,
    Hello,
    Refused,
    ResourceFailed,
    ResourceRestarted,
    Stray,
)

SERVICE_USER = "hamail"
SOCKET_MODE = 0o660
BACKLOG_NOTICES_MAX = 128
UNSENT_BYTES_MAX = 4 << 20
GREETING_TIMEOUT_S = 5.0
FAREWELL_TIMEOUT_S = 1.0
_PEERCRED = struct.Struct("=iII")
# What `Welcome` does not tell by itself, so it must survive while hamaild is away.
_WORTH_KEEPING = (
    Cleaned,
    DeadlinePassed,
    FenceResult,
    GroupDown,
    GroupStartFailed,
    GroupStopFailed,
    ResourceFailed,
    ResourceRestarted,
    Stray,
)

log = logging.getLogger("hamail.executor.server")


class Server:
    def __init__(self, executor: Executor, path: Path) -> None:
        self._executor = executor
        self._path = path
        self._writer: asyncio.StreamWriter | None = None
        self._backlog: deque[AnyNotice] = deque(maxlen=BACKLOG_NOTICES_MAX)
        self._server: asyncio.Server | None = None
        executor.listen(self.tell)

    async def open(self) -> None:
        """Listen. Raises OSError when the socket cannot be made."""
        self._path.unlink(missing_ok=True)
        # made unreachable first, then given its owner and mode: nobody slips in between
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._connected, self._path)
        finally:
            os.umask(before)
        gid = _service_gid()
        if gid is not None:
            if self._path.stat().st_gid != gid:  # the folder's setgid bit has done it where systemd-tmpfiles made it
                os.chown(self._path, 0, gid)
            self._path.chmod(SOCKET_MODE)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._writer is not None:
            self._writer.close()
            try:  # the last notices say what was stopped
                async with asyncio.timeout(FAREWELL_TIMEOUT_S):
                    await self._writer.wait_closed()
            except (TimeoutError, ConnectionError):
                log.warning("hamaild has not read the last notices")
        self._path.unlink(missing_ok=True)

    def tell(self, notice: AnyNotice) -> None:
        """Send a notice to hamaild, or keep it until one is there."""
        writer = self._writer
        if writer is not None and not writer.is_closing():
            if writer.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
                log.error("hamaild does not read its notices: dropping the connection")
                writer.transport.abort()
            else:
                self._write(writer, notice)
                return
        if isinstance(notice, _WORTH_KEEPING):
            self._backlog.append(notice)

    def _write(self, writer: asyncio.StreamWriter, notice: AnyNotice) -> None:
        try:
            writer.write(encode(notice))
        except WireError as error:
            log.critical("a notice cannot be sent: %s", error)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            refused = _unwelcome(writer)
            if refused:
                log.warning("connection refused: %s", refused)
                return
            async with asyncio.timeout(GREETING_TIMEOUT_S):
                hello = await read_request(reader)
            if not isinstance(hello, Hello):
                log.warning("connection refused: it does not begin with a greeting")
                return
            self._adopt(writer, hello)
            await self._serve(reader, writer)
        except TimeoutError:
            log.warning("connection refused: no greeting within %g s", GREETING_TIMEOUT_S)
        except WireError as error:
            log.error("hamaild is disconnected: %s", error)  # noqa: TRY400 - the sentence says it all
        except ConnectionError as error:
            log.info("hamaild has gone: %s", error)
        finally:
            if self._writer is writer:
                self._writer = None
            writer.close()

    def _adopt(self, writer: asyncio.StreamWriter, hello: Hello) -> None:
        """The newest connection is the one that counts."""
        if self._writer is not None:
            log.info("a newer connection replaces the one before")
            self._writer.close()
        self._writer = writer
        log.info("hamaild %s is connected", hello.version)
        self._write(writer, self._executor.welcome())
        while self._backlog:
            self._write(writer, self._backlog.popleft())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            if request is None:
                log.info("hamaild has disconnected")
                return
            if self._writer is not writer:
                return  # replaced while this was on its way: surely not done
            refused = self._executor.handle(request)
            self.tell(Refused(id=request.id, why=refused) if refused else Accepted(id=request.id))


def _unwelcome(writer: asyncio.StreamWriter) -> str:
    """Why this peer may not talk to a root process; "" when it may."""
    peer: socket.socket = writer.get_extra_info("socket")
    _pid, uid, _gid = _PEERCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))
    if uid == 0 or uid == _service_uid():
        return ""
    return f"user {uid} is neither root nor {SERVICE_USER}"


def _service_uid() -> int | None:
    try:
        return pwd.getpwnam(SERVICE_USER).pw_uid
    except KeyError:
        return None


def _service_gid() -> int | None:
    try:
        return grp.getgrnam(SERVICE_USER).gr_gid
    except KeyError:
        return None
