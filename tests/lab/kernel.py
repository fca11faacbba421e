"""The few kernel interfaces that the recorder reads, each as thin as its cost asks for.

Raw rtnetlink and not a library: a 20 ms sample of two nodes must cost microseconds on a machine whose two cores also
run the cluster that is being measured.
"""

import ctypes
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
NLMSG_DONE = 3
NLM_F_REQUEST_DUMP = 0x301
RTMGRP_ADDRESSES = 0x10 | 0x100  # IPv4 and IPv6 interface addresses
IFA_ADDRESS, IFA_LOCAL = 1, 2
ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD
ETH_P_ALL = 3
PACKET_OUTGOING = 4
SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33
NETLINK_BUFFER = 1 << 21
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """This process gets SIGTERM when the one that started it dies."""
    if _LIBC.prctl(PR_SET_PDEATHSIG, 15):
        raise OSError(ctypes.get_errno(), "prctl")


def hurry() -> None:
    """Run before everything else on a busy machine, as far as it allows: a late look is missing evidence."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        with suppress(OSError):
            os.nice(-15)


def enter_netns(path: str) -> None:
    """Move this thread into a network namespace for good."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {path}")
    finally:
        os.close(fd)


@contextmanager
def in_netns(path: str) -> Iterator[None]:
    """Open sockets in another network namespace; they stay there when this thread has come back."""
    home = f"/proc/self/fd/{os.open('/proc/thread-self/ns/net', os.O_RDONLY | os.O_CLOEXEC)}"
    try:
        enter_netns(path)
        try:
            yield
        finally:
            enter_netns(home)
    finally:
        os.close(int(home.rsplit("/", 1)[1]))


def address_attribute(address: str) -> bytes:
    """The netlink attribute under which the kernel lists this address, as bytes to look for."""
    ip = ipaddress.ip_address(address)
    kind = IFA_LOCAL if ip.version == 4 else IFA_ADDRESS
    return struct.pack("=HH", 4 + len(ip.packed), kind) + ip.packed


class AddressWatch:
    """Presence of some addresses in one network namespace: events as they come, and dumps to check them."""

    def __init__(self, netns: str, addresses: tuple[str, ...]) -> None:
        self._wanted = {a: address_attribute(a) for a in addresses}
        with in_netns(netns):
            self.events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
            self._dumps = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.events.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, NETLINK_BUFFER)
        self.events.bind((0, RTMGRP_ADDRESSES))
        self._dumps.bind((0, 0))
        self._request = struct.pack("=IHHIIBxxxI", 24, RTM_GETADDR, NLM_F_REQUEST_DUMP, 1, 0, socket.AF_UNSPEC, 0)

    def close(self) -> None:
        self.events.close()
        self._dumps.close()

    def present(self) -> frozenset[str]:
        """Addresses that the kernel lists now."""
        self._dumps.send(self._request)
        seen, done = set(), False
        while not done:
            data = self._dumps.recv(1 << 16)
            seen |= {a for a, attribute in self._wanted.items() if attribute in data}
            done = any(kind == NLMSG_DONE for kind, _ in _messages(data))
        return frozenset(seen)

    def changes(self) -> list[tuple[str, bool]]:
        """Queued (address, added) events. Raises OSError ENOBUFS when the kernel had to drop some."""
        found = []
        while True:
            try:
                data = self.events.recv(1 << 16)
            except BlockingIOError:
                return found
            for kind, body in _messages(data):
                if kind in (RTM_NEWADDR, RTM_DELADDR):
                    found += [(a, kind == RTM_NEWADDR) for a, attribute in self._wanted.items() if attribute in body]


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if length < 16:
            return
        yield kind, data[at + 16 : at + length]
        at += (length + 3) & ~3


class AnnounceWatch:
    """ARP and NA frames on a switch that claim one of some addresses, with the port they came in by."""

    def __init__(self, netns: str, addresses: tuple[str, ...]) -> None:
        self._wanted = {ipaddress.ip_address(a).packed: a for a in addresses}
        # All protocols: a socket for one protocol would see the frames behind the bridge, when their port is forgotten.
        with in_netns(netns):
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            self.frames = socket.socket(socket.AF_PACKET, kind, socket.htons(ETH_P_ALL))
        _attach_filter(self.frames, ANNOUNCEMENTS)
        self.read()  # what came before the filter was there

    def close(self) -> None:
        self.frames.close()

    def read(self) -> list[tuple[str, str, str, str]]:
        """Queued frames as (port, source MAC, address, "arp" | "na")."""
        found = []
        while True:
            try:
                frame, (port, *_) = self.frames.recvfrom(256)
            except BlockingIOError:
                return found
            arp = frame[12:14] == ETH_P_ARP.to_bytes(2)
            claimed = frame[28:32] if arp else frame[62:78]
            if claimed in self._wanted and port.startswith("p-"):
                found.append((port, frame[6:12].hex(":"), self._wanted[claimed], "arp" if arp else "na"))


# Classic BPF (operation, jump if true, jump if false, operand): ARP frames and ICMPv6 of type 136 that come in by a
# port; no other frame wakes us.
LOAD_WORD, LOAD_HALF, LOAD_BYTE, JUMP_EQUAL, GIVE = 0x20, 0x28, 0x30, 0x15, 0x06
PACKET_TYPE = 0x100000000 - 0x1000 + 4  # a word that the kernel offers beside the frame's bytes
ANNOUNCEMENTS = (
    (LOAD_WORD, 0, 0, PACKET_TYPE),
    (JUMP_EQUAL, 8, 0, PACKET_OUTGOING),
    (LOAD_HALF, 0, 0, 12),
    (JUMP_EQUAL, 5, 0, ETH_P_ARP),
    (JUMP_EQUAL, 0, 5, ETH_P_IPV6),
    (LOAD_BYTE, 0, 0, 20),
    (JUMP_EQUAL, 0, 3, socket.IPPROTO_ICMPV6),
    (LOAD_BYTE, 0, 0, 54),
    (JUMP_EQUAL, 0, 1, 136),
    (GIVE, 0, 0, 256),
    (GIVE, 0, 0, 0),
)


def _attach_filter(sock: socket.socket, program: tuple[tuple[int, int, int, int], ...]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))


def find_init(netns: str) -> int:
    """Host pid of the node's init: the PID-namespace init that lives in this network namespace; 0 if there is none."""
    try:
        wanted = os.stat(netns).st_ino
    except FileNotFoundError:
        return 0
    depth = len(_namespace_pids("self"))
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}/ns/net").st_ino != wanted:
                continue
            pids = _namespace_pids(pid)
        except OSError:
            continue  # gone meanwhile
        if len(pids) == depth + 1 and pids[-1] == "1":
            return int(pid)
    return 0


def _namespace_pids(pid: str) -> list[str]:
    with open(f"/proc/{pid}/status") as status:
        return next(line.split()[1:] for line in status if line.startswith("NSpid:"))


def children(pid: int) -> list[str]:
    """Direct children; empty when the process is gone."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return file.read().split()
    except OSError:
        return []


def service_of(pid: str, places: tuple[tuple[str, str], ...], asking: frozenset[bytes]) -> str:
    """The service whose place the process's executable is in; "" for none, for a zombie, or for a mere question."""
    try:
        executable = os.readlink(f"/proc/{pid}/exe")
        service = next((name for place, name in places if executable.startswith(place)), "")
        if service and executable.endswith(("/master", "/dovecot")):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                return "" if asking.intersection(file.read().split(b"\0")[1:]) else service
        return service
    except OSError:
        return ""
