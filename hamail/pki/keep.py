"""The folder of whoever keeps the cluster's authority: its keys, which of them counts, and what the nodes have of it.

A change of the authority goes in steps, and no step is taken before every node has followed the one before:

    settled      one authority; all trust it, all are certified by it
    introducing  a second one is to be trusted as well; the first still certifies
    changing     the second certifies; both are trusted, until every node has a certificate of the second
"""

import shutil
from enum import StrEnum
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from msgspec import Struct

from hamail.model.ids import NodeName
from hamail.pki.authority import AUTHORITY_DAYS, CA_CERTIFICATE, Authority, create_authority, load_authority, public_pem
from hamail.pki.files import SECRET_MODE, PkiError, make_folder, read, write

STATE_FILE = "state.json"


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


class State(Struct, frozen=True, kw_only=True):
    """`phase` names the step; folders are numbered 1, 2, ... in the order of their making."""

    cluster: str
    phase: Phase = Phase.SETTLED
    certifies: str = "1"  # the folder of the authority that certifies
    trusted: tuple[str, ...] = ("1",)  # folders of all that are trusted, the oldest first
    made: int = 1  # how many authorities there have been
    joined: tuple[NodeName, ...] = ()  # who has been set up to the end
    holdings: dict[NodeName, Holding] = {}


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


class Keep:
    """Every method may raise PkiError; what it was to change is then as before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
        """Every certificate that a node is to trust, PEM."""
        return "".join(public_pem(certificate).decode() for certificate in self.trusted())

    def joined(self, node: NodeName) -> None:
        state = self.state
        if node not in state.joined:
            self._save(msgspec.structs.replace(state, joined=(*state.joined, node)))

    def note(self, node: NodeName, holding: Holding) -> None:
        state = self.state
        self._save(msgspec.structs.replace(state, holdings={**state.holdings, node: holding}))

    def begin_change(self, *, days: int = AUTHORITY_DAYS) -> None:
        """Make the next authority; from now on it is to be trusted as well."""
        state = self.state
        if state.phase is not Phase.SETTLED:
            raise PkiError(f"a change of the authority is under way already ({state.phase}); see: hamailctl pki status")
        name = str(state.made + 1)
        shutil.rmtree(self.folder / name, ignore_errors=True)  # of a try that was cut off before it was noted
        create_authority(self.folder / name, state.cluster, days=days)
        trusted = (*state.trusted, name)
        self._save(msgspec.structs.replace(state, phase=Phase.INTRODUCING, trusted=trusted, made=state.made + 1))

    def advance(self, nodes: tuple[NodeName, ...]) -> str:
        """Take the next step of a change if every one of `nodes` has followed; the sentence says what happened."""
        state = self.state
        if state.phase is Phase.SETTLED or self.waiting_for(nodes):
            return ""
        newest = state.trusted[-1]
        if state.phase is Phase.INTRODUCING:
            self._save(msgspec.structs.replace(state, phase=Phase.CHANGING, certifies=newest))
            return "every node trusts the new authority: it certifies from now on"
        self._save(msgspec.structs.replace(state, phase=Phase.SETTLED, trusted=(newest,)))
        for old in state.trusted[:-1]:
            shutil.rmtree(self.folder / old, ignore_errors=True)
        return "every node is certified by the new authority: the old one is no longer trusted, and its key is gone"

    def waiting_for(self, nodes: tuple[NodeName, ...]) -> tuple[NodeName, ...]:
        """Who has not yet followed the present step."""
        state = self.state
        if state.phase is Phase.SETTLED:
            return ()
        newest = fingerprint(self._certificate(state.trusted[-1]))
        holdings = {node: state.holdings.get(node, Holding()) for node in nodes}
        if state.phase is Phase.INTRODUCING:
            return tuple(node for node, holding in holdings.items() if newest not in holding.trusts)
        return tuple(node for node, holding in holdings.items() if holding.certified_by != newest)

    def _certificate(self, name: str) -> x509.Certificate:
        path = self.folder / name / CA_CERTIFICATE
        try:
            return x509.load_pem_x509_certificate(read(path))
        except ValueError as error:
            raise PkiError(f"{path}: is not a PEM certificate") from error

    def _save(self, state: State) -> None:
        write(self.folder / STATE_FILE, msgspec.json.format(msgspec.json.encode(state), indent=2), SECRET_MODE)
