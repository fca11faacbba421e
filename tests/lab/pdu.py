"""The lab's power distribution unit: a small TCP server on the lab's network that really cuts and restores power.

One line a connection: `USER PASSWORD COMMAND [PLUG]`, answered by `ok [VALUE]` or `error REASON`. Its `mode` is read
from a file at each request, so that tests can make it slow, broken, silent or a liar.
Run as `python -m tests.lab --lab NAME serve-pdu`.
"""

import ctypes
import hmac
import json
import socket
import threading
import time
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.lab import Lab

PORT = 7999
USER = "hamail"
RECORD = "pdu.jsonl"  # what was asked and answered, for those who check it against what the kernel saw
LINE_BYTES = 1024
IDLE_TIMEOUT_S = 10.0
TIDY_AFTER_S = 2.0
SLOW_S = 3.0
BACKLOG = 64
CLONE_NEWNET = 0x40000000


class Mode(StrEnum):
    OK = "ok"
    SLOW = "slow"  # does it after SLOW_S
    FAIL = "fail"  # refuses every command
    HANG = "hang"  # accepts and never answers
    LIE = "lie"  # acknowledges `off` and does nothing; its status stays truthful
    LIAR = "liar"  # the same, and its status says off: nobody can stand that, so it serves to try out the checkers


def listen_in(namespace: str, address: tuple[str, int]) -> socket.socket:
    """A listening socket in another network namespace. Only the socket lives there: mounts and children stay here."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as home, open(f"/run/netns/{namespace}") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter network namespace {namespace}")
        try:
            listener = socket.create_server(address, backlog=BACKLOG)
        finally:
            libc.setns(home.fileno(), CLONE_NEWNET)
    return listener


class Pdu:
    def __init__(self, lab: "Lab") -> None:
        self.lab = lab
        self.password = lab.pdu_password_file.read_text().strip()
        self.record = open(lab.folder / RECORD, "a", buffering=1)

    def serve(self) -> None:
        address = (self.lab.addresses.v4("pdu"), PORT)
        with listen_in(self.lab.switch.namespace_of("pdu"), address) as listener:
            print(f"listening on {address[0]}:{PORT}", flush=True)
            while True:
                link, _ = listener.accept()
                threading.Thread(target=self._converse, args=(link,), daemon=True).start()

    def _converse(self, link: socket.socket) -> None:
        with link:
            link.settimeout(IDLE_TIMEOUT_S)
            try:
                line = link.makefile("r").readline(LINE_BYTES)
                started_s = time.monotonic()
                answer = self._answer(line)
                words = line.split()[2:]
                data = {"asks": link.getpeername()[0], "words": words, "answer": answer, "mode": self.lab.pdu_mode}
                record = {"t": time.monotonic_ns(), "src": "fence", "kind": "pdu", "data": data}
                self.record.write(json.dumps(record, separators=(",", ":")) + "\n")
                print(
                    f"{time.time():.3f} {' '.join(words)}: {answer} ({time.monotonic() - started_s:.3f} s)", flush=True
                )
                link.sendall(f"{answer}\n".encode())
            except OSError as error:
                print(f"connection: {error}", flush=True)

    def _answer(self, line: str) -> str:
        user, password, command, plug = (*line.split(), "", "", "", "")[:4]
        if user != USER or not hmac.compare_digest(password.encode(), self.password.encode()):
            return "error login denied"
        mode = self.lab.pdu_mode
        if mode is Mode.FAIL:
            return "error internal failure"
        if mode is Mode.HANG:
            time.sleep(3600)
        if mode is Mode.SLOW:
            time.sleep(SLOW_S)
        if command == "list":
            return f"ok {' '.join(self.lab.plugs)}"
        if plug not in self.lab.plugs:
            return f"error no plug {plug}"
        node = self.lab.nodes[plug]
        try:
            if command == "status":
                return f"ok {'on' if node.powered and mode is not Mode.LIAR else 'off'}"
            if command == "off":
                if mode not in (Mode.LIE, Mode.LIAR):
                    # A real switch has nothing to tidy up, so the lab's tidying is not part of the time it takes.
                    node.cut_power()
                    threading.Timer(TIDY_AFTER_S, node.tidy, [node.generation]).start()
                return "ok"
            if command == "on":
                node.on(wait=False)
                return "ok"
        except Exception as error:
            return f"error {type(error).__name__}: {error}".replace("\n", " ")
        return f"error unknown command {command}"
