"""One TLS connection on a non-blocking socket in the event loop.

Reads and writes go straight to the TLS socket: asyncio's own TLS layer copies through memory buffers in Python and
costs several times as much for the small messages that make up nearly all of the traffic.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable

from hamail.transport.certificates import explain

RECORD_BYTES = 16_384  # a TLS record holds no more, so one read leaves nothing behind in OpenSSL
QUEUE_FRAMES_MAX = 1024
QUEUE_BYTES_MAX = 8 << 20


class Channel:
    """Handshakes by itself, then calls `on_ready` once, `on_data` for each read and `on_closed` once at the end.

    The callbacks may be replaced when the channel passes on to another owner. None of them is called after `close`
    has returned.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        context: ssl.SSLContext,
        *,
        server: bool,
        on_ready: Callable[["Channel"], None],
        on_closed: Callable[["Channel", str], None],
    ) -> None:
        """Takes `connection` over. Raises OSError (ssl.SSLError is one) when it is already gone."""
        self._loop = loop
        self.tls = context.wrap_socket(connection, server_side=server, do_handshake_on_connect=False)
        self._fd = self.tls.fileno()
        self._queue: deque[memoryview] = deque()
        self._writing = False
        self._shaken = False
        self.queued_bytes = 0
        self.closed = False
        self.on_ready = on_ready
        self.on_data: Callable[[Channel, bytes], None] | None = None
        self.on_closed: Callable[[Channel, str], None] | None = on_closed

    @property
    def ready(self) -> bool:
        """The handshake is done, and the connection not closed."""
        return self._shaken and not self.closed

    def start(self) -> None:
        self._loop.add_reader(self._fd, self._readable)
        self._shake()

    def write(self, frame: bytes) -> bool:
        """Write now, or queue what the kernel does not take. False: the channel is closed, surely not delivered."""
        if self.closed or not self._shaken:
            return False
        full = len(self._queue) >= QUEUE_FRAMES_MAX or self.queued_bytes + len(frame) > QUEUE_BYTES_MAX
        if self._queue and full:
            # Dropping single messages would tear holes into a FIFO link; a closed link is an honest answer.
            self.close(f"the other side does not read: {self.queued_bytes} bytes are waiting")
            return False
        self._queue.append(memoryview(frame))
        self.queued_bytes += len(frame)
        if len(self._queue) == 1:
            self._flush()
        return not self.closed

    def close(self, why: str, *, abort: bool = False) -> None:
        """`abort`: do not leave the rest to the kernel's retransmissions, reset the connection."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._fd)
        self._want_write(False)
        self._queue.clear()
        self.queued_bytes = 0
        if abort:
            self.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.tls.close()
        on_closed, self.on_closed, self.on_data = self.on_closed, None, None
        if on_closed is not None:
            on_closed(self, why)

    def _shake(self) -> None:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._want_write(False)
        except ssl.SSLWantWriteError:
            return self._want_write(True)
        except (OSError, ValueError) as error:
            return self.close(explain(error))
        self._shaken = True
        self._want_write(False)
        return self.on_ready(self)

    def _readable(self) -> None:
        if self.closed:
            return
        if not self._shaken:
            self._shake()
            return
        try:
            data = self.tls.recv(RECORD_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            self.close(explain(error))
            return
        if not data:
            self.close("closed by the other side")
        elif self.on_data is not None:
            self.on_data(self, data)

    def _writable(self) -> None:
        if self._shaken:
            self._flush()
        else:
            self._shake()

    def _flush(self) -> None:
        while self._queue:
            head = self._queue[0]
            try:
                sent = self.tls.send(head)
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self._want_write(True)
                return
            except OSError as error:
                self.close(explain(error))
                return
            self.queued_bytes -= sent
            if sent == len(head):
                self._queue.popleft()
            else:
                self._queue[0] = head[sent:]
        self._want_write(False)

    def _want_write(self, wanted: bool) -> None:
        if wanted and not self._writing:
            self._loop.add_writer(self._fd, self._writable)
        elif self._writing and not wanted:
            self._loop.remove_writer(self._fd)
        self._writing = wanted
