"""Which certificates count no more: learned from `ca.pem` or from another node, told to the others, and kept to.

The authority's signature counts, not who passed it on. So the nodes that are left know within seconds, and whoever was
off hears it from any of them; root's own renewal writes it into `ca.pem` hours later.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from hamail.disk import RealDisk, write_whole
from hamail.model.ids import NodeName
from hamail.model.messages import AnyMessage, Revoked
from hamail.pki.revocations import KEPT, STATEMENT_BYTES_MAX, STATEMENTS_MAX, certificates, merged, statements
from hamail.transport.certificates import FILE_BYTES_MAX, Certificates
from hamail.transport.links import LinkStatus

LOOK_S = 2.0

log = structlog.get_logger("hamail")


class Revocations:
    def __init__(
        self,
        cluster: str,
        files: Certificates,
        state_dir: Path,
        *,
        revoke: Callable[[Mapping[NodeName, int]], None],
        links: Callable[[], Mapping[NodeName, LinkStatus]],
        send: Callable[[NodeName, AnyMessage], bool],
        understands: Callable[[NodeName], bool],
        look_s: float = LOOK_S,
    ) -> None:
        """`understands`: does that node know what a statement is? An older hamaild drops the link at one."""
        self._cluster = cluster
        self._files = files
        self._kept = state_dir / KEPT
        self._revoke = revoke
        self._links = links
        self._send = send
        self._understands = understands
        self._look_s = look_s
        self._authorities = ""
        self._said: dict[str, dict[NodeName, int]] = {}  # statement -> what it says
        self._told: dict[NodeName, tuple[int, tuple[str, ...]]] = {}  # on the link that is up since then
        self._saved = ""
        self._task: asyncio.Task[None] | None = None
        self.below: dict[NodeName, int] = {}

    def begin(self) -> None:
        """Before there is any link."""
        self._authorities = _read(self._files.authority)
        self._saved = _read(self._kept)
        self._learn(self._authorities)
        self._learn(self._saved)

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def hear(self, message: Revoked) -> None:
        """Another node has passed something on. It counts if one of our authorities has said it."""
        if message.statement not in self._said and len(message.statement) <= STATEMENT_BYTES_MAX:
            self._learn(message.statement)

    def _learn(self, text: str) -> None:
        self._said = _needed({**self._said, **statements(text, self._cluster, self._authorities)})
        below = merged((self.below, *self._said.values()))
        if below == self.below:
            return
        for node in sorted(below):
            if below[node] != self.below.get(node):
                log.warning("the certificates of a node are revoked", node=node, below=below[node])
        self.below = below
        self._tell()  # before the links end: also the node that it is about
        self._revoke(below)

    async def _watch(self) -> None:
        while True:
            text = await asyncio.to_thread(_read, self._files.authority)
            if text != self._authorities and certificates(text):  # else it is damaged: what is known goes on to count
                self._authorities = text
                # What only a former authority has said is of no use to the others; for us it goes on to count.
                self._said = {s: below for s, below in self._said.items() if statements(s, self._cluster, text)}
                self._learn(text)
            self._tell()
            await self._save()
            await asyncio.sleep(self._look_s)

    def _tell(self) -> None:
        """Whoever has not been told yet on the link that is up now."""
        known = tuple(self._said)
        for peer, link in self._links().items():
            news = (link.since_ns, known)
            if not known or not link.up or self._told.get(peer) == news or not self._understands(peer):
                continue
            if all([self._send(peer, Revoked(statement=one)) for one in known]):
                self._told[peer] = news

    async def _save(self) -> None:
        text = "".join(self._said)
        if text == self._saved:
            return
        try:
            await asyncio.to_thread(write_whole, RealDisk(), self._kept, text.encode())
            self._saved = text
        except OSError as error:
            log.warning("what is revoked cannot be kept", path=str(self._kept), reason=error.strerror)


def _needed(known: Mapping[str, dict[NodeName, int]]) -> dict[str, dict[NodeName, int]]:
    """The oldest first, without those that say nothing which another one does not say as well."""
    found: dict[str, dict[NodeName, int]] = {}
    for text, below in known.items():
        if not any(_covers(other, below) for other in found.values()):
            found = {t: b for t, b in found.items() if not _covers(below, b)} | {text: below}
    return dict(list(found.items())[-STATEMENTS_MAX:])


def _covers(one: Mapping[NodeName, int], other: Mapping[NodeName, int]) -> bool:
    return all(one.get(node, 0) >= number for node, number in other.items())


def _read(path: Path) -> str:
    """ "" where there is nothing that can be read: what is known goes on to count."""
    try:
        with path.open(errors="replace") as file:
            return file.read(FILE_BYTES_MAX)
    except OSError:
        return ""
