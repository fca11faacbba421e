"""sd_notify: tells systemd that the executor is ready, alive and what it does. Silent where there is no systemd."""

import os
import socket


class Notifier:
    def __init__(self, address: str | None) -> None:
        """`address` is $NOTIFY_SOCKET; None or empty makes every call a no-op."""
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            # a leading @ stands for the abstract namespace
            self._address = "\0" + address[1:] if address.startswith("@") else address

    def send(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            return  # advisory only: systemd's own timeout tells if it misses us


def from_environment() -> Notifier:
    return Notifier(os.environ.get("NOTIFY_SOCKET"))
