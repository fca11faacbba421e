"""The folder of whoever keeps the cluster's authority: its keys, which of them counts, and what the nodes have of it.

A change of the authority goes in steps, and no step is taken before every node has followed the one before:

    settled      one authority; all trust it, all are certified by it
    introducing  a second one is to be trusted as well; the first still certifies
    changing     the second certifies; both are trusted, until every node has a certificate of the second
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Struct
from msgspec.structs import replace

from hamail.disk import DiskFile, RealDisk
from hamail.model.ids import NodeName
from hamail.model.serials import number_of
from hamail.pki.authority import (
    AUTHORITY_DAYS,
    CA_CERTIFICATE,
    Authority,
    create_authority,
    load_authority,
    public_pem,
    sign_node,
)
from hamail.pki.files import SECRET_MODE, PkiError, make_folder, read, write
from hamail.pki.line import Line
from hamail.pki.revocations import NODES_MAX, statement

STATE_FILE = "state.json"
LOCK_FILE = "lock"  # the issuer and root's commands change the state, each in its own process
LOCK_TRIES = 50
LOCK_PAUSE_S = 0.1


class Standing(StrEnum):
    """What a genuine certificate of a node is worth to the issuer."""

    GOOD = "good"
    OLD = "old"  # another one has taken its place
    REVOKED = "revoked"


class Phase(StrEnum):
    SETTLED = "settled"
    INTRODUCING = "introducing"
    CHANGING = "changing"


class Holding(Struct, frozen=True, kw_only=True):
    """What a node said it had when it last asked. Fingerprints are those of authorities."""

    trusts: tuple[str, ...] = ()
    certified_by: str = ""
    expires: str = ""  # of its certificate, ISO 8601; for display
    at: str = ""  # wall clock, ISO 8601; for display


class Revocation(Struct, frozen=True, kw_only=True):
    """Certificates of a node with a number below this one count no more; the rest is for display."""

    below: int
    reason: str
    at: str


class State(Struct, frozen=True, kw_only=True):
    """`phase` names the step; folders are numbered 1, 2, ... in the order of their making."""

    cluster: str
    phase: Phase = Phase.SETTLED
    certifies: str = "1"  # the folder of the authority that certifies
    trusted: tuple[str, ...] = ("1",)  # folders of all that are trusted, the oldest first
    made: int = 1  # how many authorities there have been
    joined: tuple[NodeName, ...] = ()  # who has been set up to the end
    holdings: dict[NodeName, Holding] = {}
    lines: dict[NodeName, Line] = {}  # a node that is missing was certified before there were lines
    issued: int = 0  # the highest number that a certificate was issued with: see hamail.model.serials
    revoked: dict[NodeName, Revocation] = {}
    statement: str = ""  # says the same to the nodes, signed by the authority that certifies


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


class Keep:
    """Every method may raise PkiError; what it was to change is then as before."""

    def __init__(self, folder: Path, wall: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.folder = folder
        self._wall = wall

    def create(self, cluster: str, *, days: int = AUTHORITY_DAYS) -> None:
        if self.exists:
            raise PkiError(f"{self.folder}: an authority is kept there already")
        make_folder(self.folder)
        create_authority(self.folder / "1", cluster, days=days)
        self._save(State(cluster=cluster))

    @property
    def exists(self) -> bool:
        return (self.folder / STATE_FILE).exists()

    @property
    def state(self) -> State:
        try:
            return msgspec.json.decode(read(self.folder / STATE_FILE), type=State)
        except msgspec.DecodeError as error:
            raise PkiError(f"{self.folder / STATE_FILE}: is damaged: {error}") from error

    def authority(self) -> Authority:
        """The one that certifies."""
        return load_authority(self.folder / self.state.certifies)

    def trusted(self) -> tuple[x509.Certificate, ...]:
        return tuple(self._certificate(name) for name in self.state.trusted)

    def bundle(self) -> str:
        """Every authority that a node is to trust, PEM; and what it is not to trust any more."""
        return "".join(public_pem(certificate).decode() for certificate in self.trusted()) + self.state.statement

    def joined(self, node: NodeName) -> None:
        with self._changing() as state:
            if node not in state.joined:
                self._save(replace(state, joined=(*state.joined, node)))

    def note(self, node: NodeName, holding: Holding) -> None:
        with self._changing() as state:
            self._save(replace(state, holdings={**state.holdings, node: holding}))

    def certify(self, node: NodeName, key: ec.EllipticCurvePublicKey, *, days: int) -> x509.Certificate:
        """The next of the node's line. When this returns, the line knows it; when nobody hears of it, the one before
        is still good."""
        with self._changing() as state:
            now = self._wall()
            # By the clock as well: an authority that was brought back from a backup must not count anew.
            number = max(state.issued + 1, int(now.timestamp()))
            certificate = sign_node(self.authority(), node, key, days=days, number=number)
            line = state.lines.get(node, Line()).followed(certificate.serial_number, now.isoformat(timespec="seconds"))
            self._save(replace(state, lines={**state.lines, node: line}, issued=number))
            return certificate

    def shown(self, node: NodeName, serial: int, host: str) -> Standing:
        """Somebody at `host` has shown a genuine certificate of the node, and its key."""
        with self._changing() as state:
            if number_of(serial) < (state.revoked[node].below if node in state.revoked else 0):
                return Standing.REVOKED
            line = state.lines.get(node, Line())
            good = line.good(serial)
            next_ = line.shown(serial) if good else line.misused(self._wall().isoformat(timespec="seconds"), host)
            if next_ != line:
                self._save(replace(state, lines={**state.lines, node: next_}))
            return Standing.GOOD if good else Standing.OLD

    def revoke(self, node: NodeName, reason: str) -> Revocation:
        """All that the node was issued up to now. Its next certificate is good again, and begins a new line."""
        with self._changing() as state:
            if node not in state.revoked and len(state.revoked) >= NODES_MAX:
                raise PkiError(f"{NODES_MAX} nodes are revoked already, more than a cluster has")
            now = self._wall()
            # Above this second as well: certificates that were made by hand have its number.
            below = max(state.issued, int(now.timestamp())) + 1
            revocation = Revocation(below=below, reason=reason, at=now.isoformat(timespec="seconds"))
            lines = {name: line for name, line in state.lines.items() if name != node}
            revoked = {**state.revoked, node: revocation}
            self._save(self._signed(replace(state, revoked=revoked, lines=lines, issued=below)))
            return revocation

    def begin_change(self, *, days: int = AUTHORITY_DAYS) -> None:
        """Make the next authority; from now on it is to be trusted as well."""
        with self._changing() as state:
            if state.phase is not Phase.SETTLED:
                raise PkiError(
                    f"a change of the authority is under way already ({state.phase}); see: hamailctl pki status"
                )
            name = str(state.made + 1)
            shutil.rmtree(self.folder / name, ignore_errors=True)  # of a try that was cut off before it was noted
            create_authority(self.folder / name, state.cluster, days=days)
            trusted = (*state.trusted, name)
            self._save(replace(state, phase=Phase.INTRODUCING, trusted=trusted, made=state.made + 1))

    def advance(self, nodes: tuple[NodeName, ...]) -> str:
        """Take the next step of a change if every one of `nodes` has followed; the sentence says what happened."""
        with self._changing() as state:
            if state.phase is Phase.SETTLED or self.waiting_for(nodes):
                return ""
            newest = state.trusted[-1]
            if state.phase is Phase.INTRODUCING:
                self._save(self._signed(replace(state, phase=Phase.CHANGING, certifies=newest)))
                return "every node trusts the new authority: it certifies from now on"
            self._save(self._signed(replace(state, phase=Phase.SETTLED, trusted=(newest,))))
            for old in state.trusted[:-1]:
                shutil.rmtree(self.folder / old, ignore_errors=True)
            return "every node is certified by the new authority: the old one is no longer trusted, and its key is gone"

    def waiting_for(self, nodes: tuple[NodeName, ...]) -> tuple[NodeName, ...]:
        """Who has not yet followed the present step. Whose certificates are all revoked is not waited for."""
        state = self.state
        if state.phase is Phase.SETTLED:
            return ()
        nodes = tuple(node for node in nodes if node not in state.revoked or node in state.lines)
        newest = fingerprint(self._certificate(state.trusted[-1]))
        holdings = {node: state.holdings.get(node, Holding()) for node in nodes}
        if state.phase is Phase.INTRODUCING:
            return tuple(node for node, holding in holdings.items() if newest not in holding.trusts)
        return tuple(node for node, holding in holdings.items() if holding.certified_by != newest)

    def _signed(self, state: State) -> State:
        """Every node trusts the authority that certifies, so that is who says it."""
        if not state.revoked:
            return state
        authority = load_authority(self.folder / state.certifies)
        below = {node: revocation.below for node, revocation in state.revoked.items()}
        return replace(state, statement=statement(authority, below))

    def _certificate(self, name: str) -> x509.Certificate:
        path = self.folder / name / CA_CERTIFICATE
        try:
            return x509.load_pem_x509_certificate(read(path))
        except ValueError as error:
            raise PkiError(f"{path}: is not a PEM certificate") from error

    @contextlib.contextmanager
    def _changing(self) -> Iterator[State]:
        """The state as it is now; nobody else changes it meanwhile."""
        try:
            lock = self._lock()
        except OSError as error:
            raise PkiError(f"{self.folder / LOCK_FILE}: cannot be locked: {error.strerror}") from error
        try:
            yield self.state
        finally:
            lock.close()

    def _lock(self) -> DiskFile:
        for _ in range(LOCK_TRIES):
            with contextlib.suppress(BlockingIOError):
                return RealDisk().lock(self.folder / LOCK_FILE)
            time.sleep(LOCK_PAUSE_S)
        raise OSError(0, "somebody else has held it for too long")

    def _save(self, state: State) -> None:
        write(self.folder / STATE_FILE, msgspec.json.format(msgspec.json.encode(state), indent=2), SECRET_MODE)
