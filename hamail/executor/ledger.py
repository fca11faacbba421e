"""What this executor holds, remembered across its own crash (not across a boot: it lies in the run directory).

A new executor must neither leave the services of a dead one running with nobody to mind their deadlines, nor feed a
watchdog that the dead one had given up. So it reads here first.
"""

import errno
import logging
import os
from pathlib import Path

import msgspec
from msgspec import Struct

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
    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self.page = self._read()

    def write(self, page: Page) -> None:
        """Replace the page. Raises OSError: then what is on the disk is the page before."""
        if page == self.page:
            return
        new = self._path.with_name(self._path.name + ".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # no fsync: a crash of this process loses nothing of it, and a crash of the machine ends its meaning
            data = msgspec.json.encode(page)
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
        new.replace(self._path)
        self.page = page

    def _read(self) -> Page:
        empty = Page(boot_id=self._boot_id)
        try:
            with self._path.open("rb") as file:
                page = msgspec.json.decode(file.read(LEDGER_BYTES_MAX), type=Page)
        except FileNotFoundError:
            return empty
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # It is replaced as a whole, so this is no crash but damage: what was held is unknown.
            log.critical("%s cannot be read: %s", self._path, error)
            return Page(boot_id=self._boot_id, doomed=f"{self._path} cannot be read, so what was held is unknown")
        return page if page.boot_id == self._boot_id else empty
