"""Who is at the other end of a unix socket, as the kernel tells it, and what that one may do."""

import grp
import os
import pwd
import socket
import struct
from asyncio import trsock
from pathlib import Path

from msgspec import Struct

SO_PEERGROUPS = 59  # Linux 4.13; not in the socket module
PEERGROUPS_BYTES_MAX = 1024  # the most that Python's getsockopt can return
NO_LOGIN = 2**32 - 1  # /proc/PID/loginuid of a process that nobody logged in for

AnySocket = socket.socket | trsock.TransportSocket


class Peer(Struct, frozen=True):
    pid: int
    uid: int
    gids: frozenset[int]

    def may_act(self) -> bool:
        return self.uid == 0

    def may_look(self, group_gid: int) -> bool:
        return self.may_act() or group_gid in self.gids


def peer_of(connection: AnySocket) -> Peer:
    """Credentials that the kernel noted when the peer connected. Raises OSError if the socket cannot tell."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("iII", raw)
    return Peer(pid=pid, uid=uid, gids=frozenset({gid, *_supplementary(connection, uid, gid)}))


def _supplementary(connection: AnySocket, uid: int, gid: int) -> list[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, PEERGROUPS_BYTES_MAX)
        return list(struct.unpack(f"{len(raw) // 4}I", raw))
    except OSError:  # more groups than fit, or an older kernel: ask the name service instead
        try:
            return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
        except KeyError:
            return []


def gid_of(group: str | int) -> int:
    """Raises LookupError with a sentence when there is no such group."""
    if isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise LookupError(
            f"there is no group '{group}' on this machine; create it (systemd-sysusers does) and start again"
        ) from None


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def actor_of(peer: Peer, proc: Path = Path("/proc")) -> str:
    """For the audit trail: "root", "root@pts/3", or "root@pts/3 (login alice)" when alice became root.

    The user is certain (kernel credentials); terminal and login are read from the process and are left out when it is
    gone or hidden.
    """
    name = user_name(peer.uid)
    terminal = _terminal(proc / str(peer.pid) / "stat")
    login = _login(proc / str(peer.pid) / "loginuid")
    actor = f"{name}@{terminal}" if terminal else name
    return f"{actor} (login {user_name(login)})" if login is not None and login != peer.uid else actor


def _terminal(stat: Path) -> str:
    try:
        fields = stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        device = int(fields[4])
    except (OSError, ValueError, IndexError):
        return ""
    major = (device >> 8) & 0xFFF
    minor = (device & 0xFF) | ((device >> 12) & 0xFFF00)
    if 136 <= major <= 143:
        return f"pts/{(major - 136) * 256 + minor}"
    return f"tty{minor}" if major == 4 and minor < 64 else ""


def _login(loginuid: Path) -> int | None:
    try:
        uid = int(loginuid.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return None if uid == NO_LOGIN else uid
