"""Long-lived connections of clients that are there before a move: how many of them break?

Each is a connection that has heard its greeting and then waits, as an idle mail client does. In the end it is asked
whether it still lives: a server that has lost its power says good-bye to nobody.
"""

import asyncio
import contextlib

from hamail.probe.services import GREETING_BYTES_MAX, Service

PER_SERVICE = 5
ANSWER_S = 1.0
CONNECT_S = 2.0
NOOP = {"imap": b"a NOOP\r\n"}


class Sessions:
    """Opened by `open`, watched until `close`; `dropped` counts those that broke, per service."""

    def __init__(self, services: tuple[Service, ...]) -> None:
        self._services = [s for s in services if not s.kind.tls]
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = asyncio.Event()
        self.held: dict[str, int] = {s.name: 0 for s in self._services}
        self.dropped: dict[str, int] = {s.name: 0 for s in self._services}

    async def open(self) -> None:
        links = await asyncio.gather(*(self._connect(s) for s in self._services for _ in range(PER_SERVICE)))
        for service, link in zip((s for s in self._services for _ in range(PER_SERVICE)), links, strict=True):
            if link is not None:
                self.held[service.name] += 1
                self._tasks.append(asyncio.get_running_loop().create_task(self._watch(service, *link)))

    async def close(self) -> None:
        """Ask those that seem to live, and hang up. Call it when the service is back."""
        self._closing.set()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()

    async def _connect(self, service: Service) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        try:
            async with asyncio.timeout(CONNECT_S):
                if service.is_path:
                    link = await asyncio.open_unix_connection(service.host, limit=GREETING_BYTES_MAX)
                else:
                    link = await asyncio.open_connection(service.host, service.port, limit=GREETING_BYTES_MAX)
                await link[0].readline()
        except (OSError, TimeoutError, ValueError):
            return None
        return link

    async def _watch(self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Anything that is said unasked is a good-bye."""
        loop = asyncio.get_running_loop()
        said, closing = loop.create_task(reader.read(1)), loop.create_task(self._closing.wait())
        await asyncio.wait((said, closing), return_when=asyncio.FIRST_COMPLETED)
        lives = not said.done()
        closing.cancel()
        if lives:
            with contextlib.suppress(OSError):
                writer.write(NOOP.get(service.name, b"NOOP\r\n"))
            await asyncio.wait((said,), timeout=ANSWER_S)
            lives = said.done() and said.exception() is None and bool(said.result())
        said.cancel()
        self.dropped[service.name] += not lives
        writer.close()
