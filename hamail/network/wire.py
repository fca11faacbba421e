"""Raw frames on one interface. Opened once per action: the kernel takes some 10 ms to close a packet socket."""

import select
import socket
from types import TracebackType
from typing import Self

from hamail.network.addresses import Link, NetworkError
from hamail.network.frames import ETH_ARP, ETH_IPV6

FRAME_BYTES = 2048


class Wire:
    """Sends on `link`; hears ARP and IPv6 where asked to. Raises NetworkError when it cannot be opened."""

    def __init__(self, link: Link, hear_arp: bool = False, hear_ipv6: bool = False) -> None:
        self.link = link
        self._ears: list[socket.socket] = []
        protocols = [p for p, wanted in ((ETH_ARP, hear_arp), (ETH_IPV6, hear_ipv6)) if wanted] or [0]
        try:
            for protocol in protocols:
                # protocol 0 first: a socket that once heard all interfaces is slow to bind to one
                ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                self._ears.append(ear)
                ear.bind((link.name, protocol))
                ear.setblocking(False)
        except OSError as error:
            self.close()
            raise NetworkError(f"cannot open interface {link.name} for raw frames: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for ear in self._ears:
            ear.close()
        self._ears.clear()

    def filenos(self) -> tuple[int, ...]:
        return tuple(ear.fileno() for ear in self._ears)

    def send(self, frame: bytes) -> None:
        try:
            self._ears[0].send(frame)
        except OSError as error:
            raise NetworkError(f"cannot send on {self.link.name}: {error}") from error

    def hear(self, seconds: float) -> list[bytes]:
        """One frame per ear that has one, waiting at most `seconds`."""
        ready, _, _ = select.select(self._ears, [], [], max(0.0, seconds))
        try:
            return [ear.recv(FRAME_BYTES) for ear in ready]
        except OSError as error:
            raise NetworkError(f"cannot listen on {self.link.name}: {error}") from error
