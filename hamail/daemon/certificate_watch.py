"""Notices that this node's certificates were renewed, and has the links use the new ones; and knows when they end."""

import asyncio
import ssl
from collections.abc import Mapping

import structlog

from hamail.model.ids import NodeName
from hamail.transport.certificates import CertificateError, Certificates, Identity
from hamail.transport.links import LinkStatus
from hamail.transport.transport import Transport

LOOK_S = 2.0

log = structlog.get_logger("hamail")
Stamp = tuple[tuple[int, int, int], ...]


class CertificateWatch:
    """The files are read in a thread: nobody who holds a lease waits for a disk."""

    def __init__(self, transport: Transport, files: Certificates, look_s: float = LOOK_S) -> None:
        self._transport = transport
        self._files = files
        self._look_s = look_s
        self._task: asyncio.Task[None] | None = None
        self._seen = self._stamp()  # before the transport reads them: what changes in between is noticed
        self.own: Identity | None = None

    def start(self, own: Identity) -> None:
        """`own`: what the transport has begun with."""
        self.own = own
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def expiries(self) -> dict[NodeName, int]:
        """When the certificates of this node and of the peers that it is linked with end: ms since 1970."""
        links: Mapping[NodeName, LinkStatus] = self._transport.links()
        ends = {name: link.certificate_expires for name, link in links.items()}
        if self.own is not None:
            ends[self.own.node] = self.own.expires
        return {node: ssl.cert_time_to_seconds(expires) * 1000 for node, expires in ends.items() if expires}

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            now = await asyncio.to_thread(self._stamp)
            if now == self._seen:
                continue
            self._seen = now
            try:
                fresh = await asyncio.to_thread(self._transport.read_again)
            except (CertificateError, OSError) as error:
                log.warning("the new certificates cannot be used, going on with the old ones", reason=str(error))
                continue
            self._transport.use(fresh)
            self.own = fresh.own
            log.info("certificates renewed", expires=fresh.own.expires)

    def _stamp(self) -> Stamp:
        found = []
        for path in (self._files.authority, self._files.certificate, self._files.key):
            try:
                status = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)
