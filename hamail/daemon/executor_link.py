"""The connection from hamaild to the executor on this node. Comes back by itself; tells when it is lost."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import structlog

from hamail import __version__
from hamail.executor import wire
from hamail.model.actions import AnyNotice, AnyRequest, Hello

RETRY_S = 0.1
RETRY_LOG_EVERY = 100
BUFFER_BYTES_MAX = 4 << 20  # more than this unread means that the executor hangs: drop the connection

log = structlog.get_logger("hamail.executor-link")


class ExecutorLink:
    def __init__(self, path: Path, on_notice: Callable[[AnyNotice], None], on_lost: Callable[[], None]) -> None:
        self._path = path
        self._on_notice = on_notice
        self._on_lost = on_lost
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(_ended)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def send(self, request: AnyRequest) -> bool:
        """False: surely not sent."""
        writer = self._writer
        if writer is None or writer.is_closing():
            return False
        if writer.transport.get_write_buffer_size() > BUFFER_BYTES_MAX:
            log.warning("the executor does not read what it is sent; connecting anew")
            writer.close()
            return False
        writer.write(wire.encode(request))
        return True

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path))
            except OSError as e:
                if failures % RETRY_LOG_EVERY == 0:
                    log.warning("the executor cannot be reached", socket=str(self._path), why=e.strerror)
                failures += 1
                await asyncio.sleep(RETRY_S)
                continue
            failures = 0
            await self._talk(reader, writer)
            await asyncio.sleep(RETRY_S)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.send(Hello(id=0, version=__version__))
        try:
            while (notice := await wire.read_notice(reader)) is not None:
                self._on_notice(notice)
        except (wire.WireError, OSError) as e:
            log.warning("the connection to the executor broke", why=str(e))
        finally:
            self._writer = None
            writer.close()
            self._on_lost()


def _ended(task: "asyncio.Task[None]") -> None:
    """It ends only when it is told to. A bug must not leave hamaild without its executor: start afresh."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a bug in what the executor's notices lead to", exc_info=error)
        raise SystemExit(1) from error
