"""Was the storage let go of in order? Seen just before it is mounted, asked by the agents that start after that.

A verified stop proves that nothing runs any more, not that everything was tidied up: a node that stopped because its
storage was gone could not remove its lock files from it. ext4 tells by a journal that was not closed.
"""

from hamail.ocf.detached import forget, note, noted
from hamail.ocf.mounts import mount_of


def mark(directory: str, unclean: bool) -> None:
    """`directory`: the mount point, resolved."""
    (note if unclean else forget)(_name(directory))


def marked(path: str) -> bool:
    """Of the storage that `path` lies on."""
    mount = mount_of(path)
    return mount is not None and bool(noted(_name(mount.point)))


def clear(path: str) -> None:
    mount = mount_of(path)
    if mount is not None:
        forget(_name(mount.point))


def _name(directory: str) -> str:
    return f"unclean{directory}"
