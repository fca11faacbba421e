"""Lock files that a dead node left in mailboxes.

Dovecot guards a Maildir's list of message numbers with a file `dovecot-uidlist.lock`. After a power cut the file can be
on the storage, and empty, since nobody synced its content. A new Dovecot cannot tell whose it is and waits two minutes
before it takes it over, for delivery and reading alike. When this node alone has the storage and no Dovecot runs, every
such file is left over.
"""

import os
from collections.abc import Callable
from pathlib import Path

MESSAGE_FOLDERS = frozenset({"cur", "new", "tmp"})  # never hold locks, and may hold a hundred thousand files
LOCK_STARTS = ("dovecot", "subscriptions")


def remove(root: str, in_time: Callable[[], bool]) -> tuple[int, bool]:
    """Remove them below `root`. (how many, whether all places were seen before `in_time` said no)."""
    removed = 0
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f not in MESSAGE_FOLDERS]
        for name in files:
            if name.endswith(".lock") and name.startswith(LOCK_STARTS):
                (Path(folder) / name).unlink()
                removed += 1
        if not in_time():
            return removed, False
    return removed, True
