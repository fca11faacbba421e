"""What the daemons of a node leave beside their sockets: an upgrade then knows whether they understand the new version.

While they do not, to restart only one of them would stop the mail service.
"""

import contextlib
import os
import stat
from pathlib import Path

from hamail.consensus.codec import Envelope, Proposal
from hamail.consensus.records import Snapshot
from hamail.executor.wire import PROTOCOL as EXECUTOR_PROTOCOL
from hamail.model.fingerprint import fingerprint
from hamail.model.messages import AnyMessage
from hamail.model.state import ClusterState

FILE = "protocol"
BYTES_MAX = 4096
GENERATION = 1  # raise it when the same commands lead to another state than before: the nodes would grow apart
PEERS_PROTOCOL = f"{fingerprint(AnyMessage, Envelope, Proposal, Snapshot, ClusterState)}.{GENERATION}"

__all__ = ["EXECUTOR_PROTOCOL", "FILE", "PEERS_PROTOCOL", "leave", "left"]


def leave(run_dir: Path) -> None:
    """Of hamaild, when it starts. Where it cannot be written, an upgrade will restart nothing by itself."""
    with contextlib.suppress(OSError):
        (run_dir / FILE).write_text(f"{PEERS_PROTOCOL}\n")


def left(run_dir: Path) -> str:
    """Of the daemon that has started last; "" where there is none, or it was too old to leave it.

    Root reads this in hamaild's folder: a pipe or a link that hamaild has put there must not hold an upgrade up.
    """
    try:
        descriptor = os.open(run_dir / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, BYTES_MAX).decode().strip() if stat.S_ISREG(os.fstat(descriptor).st_mode) else ""
    except (OSError, UnicodeDecodeError):
        return ""
    finally:
        os.close(descriptor)
