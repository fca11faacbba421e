"""The hardware watchdog: resets the machine when it is no longer fed.

Armed from the start of the executor when a device is configured, fed from the event loop, disarmed ("magic close")
only after every group is verified stopped. It need not be a character device: some platforms serve it otherwise.
"""

import fcntl
import logging
import os
import struct
import time
from collections.abc import Callable

from hamail.model.actions import WatchdogStatus

WDIOC_GETSUPPORT = 0x80285700
WDIOC_KEEPALIVE = 0x80045705
WDIOC_SETTIMEOUT = 0xC0045706
WDIOC_GETTIMEOUT = 0x80045707
_SUPPORT = struct.Struct("=II32s")
_INT = struct.Struct("=i")
_MAGIC_CLOSE = b"V"
FEED_INTERVAL_MAX_S = 1.0
LATE_SHARE = 0.6  # of the timeout: a feed this late deserves a warning

log = logging.getLogger("hamail.executor.watchdog")
Ioctl = Callable[[int, int, bytes], bytes]


class Watchdog:
    """One watchdog device, opened once."""

    def __init__(self, device: str | None, timeout_s: int, ioctl: Ioctl = fcntl.ioctl) -> None:
        self._device = device
        self._ioctl = ioctl
        self._fd = -1
        self._timeout_s = timeout_s
        self._identity = ""
        self._detail = "no watchdog device is configured" if not device else "not opened yet"
        self._starved = ""
        self._fed_at_s = 0.0

    def arm(self) -> None:
        """Open the device, which starts it, and set the timeout. On failure `status().detail` says why."""
        if not self._device:
            return
        try:
            self._fd = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            self._detail = f"watchdog {self._device} cannot be opened: {error.strerror}"
            if isinstance(error, FileNotFoundError):
                self._detail += " (load its driver, e.g. softdog, or correct watchdog_device)"
            log.error("%s", self._detail)  # noqa: TRY400 - the sentence says it all
            return
        self._fed_at_s = time.monotonic()
        try:
            self._configure()
        except OSError as error:
            self._detail = f"watchdog {self._device} does not take the watchdog ioctls: {error.strerror}"
            log.error("%s; it is fed, but does not count as armed", self._detail)  # noqa: TRY400
            return
        self._detail = ""
        log.info("watchdog %s (%s) armed with %d s", self._device, self._identity, self._timeout_s)

    def _configure(self) -> None:
        _options, _version, identity = _SUPPORT.unpack(self._ioctl(self._fd, WDIOC_GETSUPPORT, bytes(_SUPPORT.size)))
        self._identity = identity.split(b"\0")[0].decode(errors="replace")
        wanted = self._timeout_s
        self._ioctl(self._fd, WDIOC_SETTIMEOUT, _INT.pack(wanted))
        # drivers round to what they can; only what is read back is true
        (self._timeout_s,) = _INT.unpack(self._ioctl(self._fd, WDIOC_GETTIMEOUT, _INT.pack(0)))
        if self._timeout_s != wanted:
            log.warning("watchdog %s took %d s instead of %d s", self._device, self._timeout_s, wanted)

    @property
    def feed_interval_s(self) -> float:
        return min(FEED_INTERVAL_MAX_S, self._timeout_s / 4)

    def feed(self) -> None:
        """Keep the machine alive for one more timeout; does nothing once starved."""
        if self._fd < 0 or self._starved:
            return
        now_s = time.monotonic()
        late_s = now_s - self._fed_at_s
        if late_s > LATE_SHARE * self._timeout_s:
            log.warning("watchdog fed late: after %.2f s of %d s", late_s, self._timeout_s)
        try:
            self._ioctl(self._fd, WDIOC_KEEPALIVE, _INT.pack(0))
        except OSError:
            try:
                os.write(self._fd, b"\0")  # every driver takes a write as food
            except OSError as error:
                self._detail = f"watchdog {self._device} cannot be fed: {error.strerror}"
                log.critical("%s", self._detail)
                return
        self._fed_at_s = now_s

    def starve(self, why: str) -> None:
        """Never feed again: the machine resets within the timeout. There is no way back."""
        if self._starved:
            return
        self._starved = why
        self._detail = f"not fed any more: {why}"
        if self._fd < 0:
            log.critical("%s; there is no armed watchdog to reset this machine", why)
        else:
            log.critical("%s; the watchdog is not fed any more and resets this machine in %d s", why, self._timeout_s)
            _to_console(f"hamail: {why}; this machine is reset in {self._timeout_s} s\n")

    @property
    def bites(self) -> bool:
        """Within its timeout it resets this machine, whatever happens."""
        return self._fd >= 0 and bool(self._starved)

    def disarm(self) -> None:
        """Magic close. Refused (by doing nothing) once starved."""
        if self._fd < 0 or self._starved:
            return
        try:
            os.write(self._fd, _MAGIC_CLOSE)
        except OSError as error:
            log.error("watchdog %s cannot be disarmed: %s", self._device, error.strerror)  # noqa: TRY400
        os.close(self._fd)
        self._fd = -1
        self._detail = "disarmed"

    def status(self) -> WatchdogStatus:
        return WatchdogStatus(
            device=self._device or "",
            armed=self._fd >= 0 and not self._detail,
            timeout_s=self._timeout_s if self._fd >= 0 else 0,
            identity=self._identity,
            detail=self._detail,
        )


def _to_console(line: str) -> None:
    """The journal may not reach the disk before the reset; the console might be seen."""
    try:
        descriptor = os.open("/dev/console", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(descriptor, line.encode())
    except OSError:
        return
    finally:
        os.close(descriptor)
