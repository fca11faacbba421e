"""What this executor holds, remembered across its own crash (not across a boot: it lies in the run directory).

A new executor must neither leave the services of a dead one running with nobody to mind their deadlines, nor feed a
watchdog that the dead one had given up. So it reads here first.
"""

import logging
from pathlib import Path

import msgspec
from msgspec import Struct

from hamail.disk import Disk, RealDisk, write_whole
from hamail.model.ids import Epoch, GroupName
from hamail.model.spec import GroupSpec

LEDGER_BYTES_MAX = 4 << 20

log = logging.getLogger("hamail.executor.ledger")


class Held(Struct, frozen=True, kw_only=True):
    spec: GroupSpec
    epoch: Epoch


class Page(Struct, frozen=True, kw_only=True):
    """`doomed`: why the watchdog must not be fed any more in this boot; "" while it may be."""

    boot_id: str
    cluster: str = ""
    groups: tuple[Held, ...] = ()
    epochs: dict[GroupName, Epoch] = {}  # the newest that was held, or said to be stopped: never to be started again
    maintenance: bool = False
    doomed: str = ""


class Ledger:
    def __init__(self, path: Path, boot_id: str, disk: Disk | None = None) -> None:
        self._path = path
        self._disk = disk or RealDisk()
        self._boot_id = boot_id
        self.page = self._read()

    def write(self, page: Page) -> None:
        """Replace the page. Raises OSError: then what is on the disk is the page before."""
        if page == self.page:
            return
        # not durable: a crash of this process loses nothing of it, and a crash of the machine ends its meaning; and the
        # dead-man's switch must never wait for a disk
        write_whole(self._disk, self._path, msgspec.json.encode(page), durable=False)
        self.page = page

    def _read(self) -> Page:
        empty = Page(boot_id=self._boot_id)
        try:
            page = msgspec.json.decode(self._disk.read(self._path)[:LEDGER_BYTES_MAX], type=Page)
        except FileNotFoundError:
            return empty
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # It is replaced as a whole, so this is no crash but damage: what was held is unknown.
            log.critical("%s cannot be read: %s", self._path, error)
            return Page(boot_id=self._boot_id, doomed=f"{self._path} cannot be read, so what was held is unknown")
        return page if page.boot_id == self._boot_id else empty
