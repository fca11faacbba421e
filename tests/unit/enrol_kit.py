"""An issuer on a loopback port, with a clock that the test moves."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hamail.enrol import issuer
from hamail.enrol.audit import Audit
from hamail.enrol.client import Ask, Pair, by_token
from hamail.enrol.issuer import Issuer
from hamail.enrol.messages import Credential, Join, MayI, Offer, Welcome
from hamail.enrol.names import node_of
from hamail.enrol.server import Server
from hamail.enrol.token import Token
from hamail.enrol.tokens import Tokens
from hamail.pki.keep import Keep, fingerprint
from hamail.pki.request import new_request

CLUSTER = """\
[cluster]
name = "mail"

[nodes.n1]
address = "10.0.0.11"
[nodes.n2]
address = "10.0.0.12"
[nodes.n3]
address = "10.0.0.13"
witness = true

[fencing.pdu]
agent = "fence_apc_snmp"
targets = { n1 = "1", n2 = "2" }
secret_files = { password = "%s/pdu" }

[groups.mail]
nodes = ["n1", "n2"]
[groups.mail.resources.storage]
agent = "hamail:filesystem"
parameters = { device = "/dev/disk/by-id/x", directory = "/srv/mail", fstype = "ext4" }
"""
MINUTE_NS = 60 * 1_000_000_000


class Room:
    """The first node's side: authority, tokens, issuer, server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        (self.secrets / "pdu").write_text("canary-of-the-pdu\n")
        self.cluster_file = folder / "cluster.toml"
        self.cluster_file.write_text(CLUSTER % self.secrets)
        self.keep = Keep(folder / "keep")
        self.keep.create("mail")
        self.keep.joined("n1")
        self.tokens = Tokens(folder / "tokens")
        self.audit = Audit(folder)
        self.now_ns = MINUTE_NS
        self.issuer = Issuer(self.keep, self.tokens, self.audit, self.cluster_file, lambda: self.now_ns)
        self.port = 0

    def token(self, node: str = "", witness: bool = False, minutes: int = 30) -> Token:
        name, secret = self.tokens.open(
            node=node, witness=witness, expires_ns=self.now_ns + minutes * MINUTE_NS, now_ns=self.now_ns
        )
        print_ = bytes.fromhex(fingerprint(self.keep.authority().certificate))
        return Token(cluster="mail", host="127.0.0.1", port=self.port, fingerprint=print_, id=name, secret=secret)

    def told(self) -> str:
        return self.audit.path.read_text() if self.audit.path.exists() else ""

    def serve(self) -> None:
        """In a thread of its own, since those who ask block."""
        started = threading.Event()
        self._loop = asyncio.new_event_loop()

        async def run() -> None:
            self.server = Server(self.keep, self.issuer, partial(node_of, cluster="mail"), guess_pause_s=0.0)
            self.socket = socket.create_server(("127.0.0.1", 0))
            self.socket.setblocking(False)
            self.port = self.socket.getsockname()[1]
            self._serving = asyncio.create_task(self.server.serve(self.socket))
            started.set()

        def loop() -> None:
            # One run of the loop only: a stop that comes while a first run ends would be lost to the second.
            asyncio.set_event_loop(self._loop)
            starting = self._loop.create_task(run())
            self._loop.run_forever()
            assert starting.done()

        self._thread = threading.Thread(target=loop, daemon=True)
        self._thread.start()
        assert started.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self.socket.close()
        self._loop.close()


def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """What a fixture yields from."""
    room = Room(folder)
    monkeypatch.setattr(issuer, "SECRETS_FOLDER", room.secrets)
    room.serve()
    yield room
    room.close()


def credential(token: Token) -> Credential:
    return Credential(id=token.id.hex(), secret=token.secret.hex())


def join(token: Token, node: str, witness: bool = False, request: str = "") -> tuple[Welcome, str]:
    """All that `hamailctl join` says on the wire, and the new key."""
    ask = by_token(token)
    ask(MayI(credential=credential(token), addresses=(), node=node, witness=witness), Offer)
    key, made = new_request("mail", node)
    return ask(Join(credential=credential(token), node=node, request=request or made, witness=witness), Welcome), key


def member(room: Room, welcome: Welcome, key: str) -> Ask:
    pair = Pair(pem=key + welcome.certificate)
    return Ask(("127.0.0.1", room.port), "mail", welcome.authorities, pair)
