"""Answers machines that want to become nodes, and nodes that want new certificates. No sockets here: see `server`.

Two ways to be believed, and no third: the secret of an open token (to become the node that the token is for), or the
certificate of a node (to renew that certificate).
"""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from hamail.config import ConfigError, load_cluster
from hamail.config.rules.cluster import numeric
from hamail.enrol.audit import Audit
from hamail.enrol.messages import (
    Answer,
    Authorities,
    Check,
    Credential,
    Join,
    Joined,
    MayI,
    Noted,
    Offer,
    Orders,
    Refused,
    Renew,
    Renewed,
    Request,
    Welcome,
    WhoAreYou,
)
from hamail.enrol.tokens import OpenToken, TokenRefused, Tokens
from hamail.model.ids import NodeName
from hamail.model.spec import ClusterSpec
from hamail.pki.authority import public_pem
from hamail.pki.files import PkiError
from hamail.pki.keep import Holding, Keep, Phase, Standing, fingerprint
from hamail.pki.request import requested_key

NODE_DAYS = 730  # of a certificate that renews itself
RENEW_DAYS = 240  # left of it when it is renewed: months to notice that it does not work
ADDRESSES_MAX = 64
REFUSALS_PER_MINUTE = 30  # that are taken down
MINUTE_NS = 60 * 1_000_000_000
SECRET_FILE_BYTES_MAX = 4096
SECRETS_FOLDER = Path("/etc/hamail/secrets")


class NotNow(Exception):
    """A refusal: the sentence, and what to do next."""

    def __init__(self, reason: str, hint: str = "", *, slow: bool = False, alarm: str = "") -> None:
        """`alarm`: what the audit calls it, when it is more than a refusal."""
        super().__init__(reason)
        self.reason, self.hint, self.slow, self.alarm = reason, hint, slow, alarm


class Peer:
    """Who asks: from where, and by which certificate, which TLS has verified."""

    def __init__(self, host: str, node: NodeName = "", certificate: x509.Certificate | None = None) -> None:
        self.host, self.node, self.certificate = host, node, certificate


class Issuer:
    def __init__(
        self,
        keep: Keep,
        tokens: Tokens,
        audit: Audit,
        cluster_file: Path,
        now_ns: Callable[[], int],
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`now_ns`: CLOCK_BOOTTIME, which tokens end by. `wall` is for the dates in certificates."""
        self._keep = keep
        self._tokens = tokens
        self._audit = audit
        self._cluster_file = cluster_file
        self._now_ns = now_ns
        self._wall = wall
        self._refusals_minute = -1
        self._refusals: Counter[str] = Counter()

    def answer(self, request: Request, peer: Peer) -> tuple[Answer, bool]:
        """The answer, and whether it is to be given slowly (somebody may be guessing). Raises OSError, PkiError."""
        try:
            return self._answer(request, peer), False
        except TokenRefused as error:
            self._refused("token refused", host=peer.host, token=_token_of(request), reason=error)
            hint = "On the first node: hamailctl token create"
            return Refused(reason=str(error), hint=hint), True
        except NotNow as error:
            next_step = error.hint if error.alarm else ""
            what = error.alarm or "refused"
            self._refused(what, host=peer.host, node=peer.node, reason=error.reason, next_step=next_step)
            return Refused(reason=error.reason, hint=error.hint), error.slow

    def _refused(self, what: str, **details: object) -> None:
        """Anybody can be refused: that must not push what was issued out of the audit's files."""
        minute = self._now_ns() // MINUTE_NS
        if minute != self._refusals_minute:
            self._refusals_minute, self._refusals = minute, Counter()
        self._refusals[what] += 1  # each for itself: whoever is refused as a stranger must not drown an alarm
        if self._refusals[what] <= REFUSALS_PER_MINUTE:
            self._audit.note(what, **details)
        elif self._refusals[what] == REFUSALS_PER_MINUTE + 1:
            self._audit.note(what, reason="so many that the rest of this minute is not taken down")

    def _answer(self, request: Request, peer: Peer) -> Answer:
        match request:
            case WhoAreYou():
                return Authorities(certificates=self._keep.bundle())
            case MayI():
                return self._look(request, peer)
            case Join():
                return self._join(request, peer)
            case Joined():
                node = self._member(peer)
                self._keep.joined(node)
                self._audit.note("joined", node=node, host=peer.host)
                return Noted()
            case Check():
                return self._check(request, peer)
            case Renew():
                return self._renew(request, peer)

    # With a token

    def _look(self, request: MayI, peer: Peer) -> Offer:
        token = self._proved(request.credential)
        spec, source = self._spec()
        node = request.node or token.node or self._by_address(spec, request, token)
        self._require_fit(spec, token, node, request.witness)
        return Offer(
            node=node,
            witness=spec.nodes[node].witness,
            configuration=source,
            rejoining=node in self._keep.state.joined,
        )

    def _join(self, request: Join, peer: Peer) -> Welcome:
        token = self._proved(request.credential)
        spec, source = self._spec()
        self._require_fit(spec, token, request.node, request.witness)
        try:
            key = requested_key(request.request, spec.name, request.node)
        except PkiError as error:
            raise NotNow(str(error), "Nothing was issued. Try again: the token is still good.", slow=True) from error
        secrets = self._secrets(spec, request.node)
        self._tokens.use(token, request.node, request.request)
        certificate = self._keep.certify(request.node, key, days=NODE_DAYS)
        self._audit.note(
            "issued",
            node=request.node,
            host=peer.host,
            token=token.id,
            serial=f"{certificate.serial_number:x}",
            secrets=", ".join(sorted(secrets)),
        )
        return Welcome(
            certificate=public_pem(certificate).decode(),
            authorities=self._keep.bundle(),
            configuration=source,
            rejoining=request.node in self._keep.state.joined,
            secrets=secrets,
        )

    def _proved(self, credential: Credential) -> OpenToken:
        return self._tokens.prove(credential.id, credential.secret, self._now_ns())

    @staticmethod
    def _by_address(spec: ClusterSpec, request: MayI, token: OpenToken) -> NodeName:
        given = {numeric(address) for address in request.addresses[:ADDRESSES_MAX]} - {None}
        found = [name for name, node in sorted(spec.nodes.items()) if numeric(node.address) in given]
        if len(found) == 1:
            return found[0]
        role = [f"{n.name} {n.address}" for n in spec.nodes.values() if n.witness == token.witness]
        had = ", ".join(sorted(str(address) for address in given)) or "none"
        raise NotNow(
            f"none of the addresses of this machine ({had}) is that of a node in the configuration"
            if not found
            else f"the addresses of this machine are those of several nodes: {', '.join(found)}",
            f"The configuration has {', '.join(role)}. Say which: hamailctl join TOKEN --node NAME",
        )

    def _require_fit(self, spec: ClusterSpec, token: OpenToken, node: NodeName, witness: bool) -> None:
        if node not in spec.nodes:
            raise NotNow(f"no node is called {node[:40]!r}", f"Nodes: {', '.join(sorted(spec.nodes))}")
        if token.node and node != token.node:
            raise NotNow(f"this token is for {token.node}, not for {node}", "On the first node: hamailctl token create")
        if not token.node and node in self._keep.state.joined:
            raise NotNow(
                f"{node} is a node already: to set it up again takes a token that names it",
                f"On the first node: hamailctl token create --node {node}",
            )
        if spec.nodes[node].witness != token.witness:
            kind = "the witness" if token.witness else "a mail server"
            flag = " --witness" if spec.nodes[node].witness else ""
            raise NotNow(
                f"this token is for {kind}, and {node} is not", f"On the first node: hamailctl token create{flag}"
            )
        if witness != token.witness:
            word = "is" if token.witness else "is not"
            hint = f"hamailctl join TOKEN{' --witness' if token.witness else ''}"
            raise NotNow(f"{node} {word} a witness", f"Say what this machine shall be: {hint}")

    @staticmethod
    def _secrets(spec: ClusterSpec, node: NodeName) -> dict[str, str]:
        """For the fence devices that this node may run. A witness runs none."""
        files = {
            file
            for device in spec.fencing.values()
            for target in device.targets
            if node in spec.fence_executors(device, target)
            for file in device.secret_files.values()
        }
        found = {}
        for file in sorted(files):
            path = Path(file)
            if path.parent != SECRETS_FOLDER:
                continue  # the operator keeps it elsewhere, and brings it there himself
            try:
                with path.open("rb") as stream:
                    found[file] = stream.read(SECRET_FILE_BYTES_MAX).decode()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "is not text"
                raise NotNow(f"{file}, which {node} needs, cannot be read on the first node: {why}") from error
        return found

    # With a certificate

    def _check(self, request: Check, peer: Peer) -> Orders:
        node = self._member(peer)
        certificate = peer.certificate
        assert certificate is not None
        by = next((fingerprint(ca) for ca in self._keep.trusted() if _signed_by(certificate, ca)), "")
        self._keep.note(
            node,
            Holding(
                trusts=tuple(request.trusts[:8]),
                certified_by=by,
                expires=certificate.not_valid_after_utc.isoformat(),
                at=self._wall().isoformat(timespec="seconds"),
            ),
        )
        spec, _ = self._spec()
        if step := self._keep.advance(tuple(sorted(spec.nodes))):
            self._audit.note("authority", step=step)
        state = self._keep.state
        outdated = state.phase is Phase.CHANGING and by != fingerprint(self._keep.authority().certificate)
        ends = certificate.not_valid_after_utc - self._wall() < timedelta(days=RENEW_DAYS)
        return Orders(authorities=self._keep.bundle(), renew=outdated or ends, phase=state.phase)

    def _renew(self, request: Renew, peer: Peer) -> Renewed:
        node = self._member(peer)
        state = self._keep.state
        try:
            key = requested_key(request.request, state.cluster, node)
        except PkiError as error:
            raise NotNow(str(error), slow=True) from error
        certificate = self._keep.certify(node, key, days=NODE_DAYS)
        self._audit.note("renewed", node=node, host=peer.host, serial=f"{certificate.serial_number:x}")
        return Renewed(certificate=public_pem(certificate).decode(), authorities=self._keep.bundle())

    def _member(self, peer: Peer) -> NodeName:
        if not peer.node:
            raise NotNow("this is answered to nodes only, by their certificate", slow=True)
        # TLS has looked as well, with what was trusted when the connection began.
        if not any(_signed_by(peer.certificate, ca) for ca in self._keep.trusted()):
            raise NotNow(f"the authority that has certified {peer.node} is no longer trusted", slow=True)
        spec, _ = self._spec()
        if peer.node not in spec.nodes:
            raise NotNow(f"{peer.node} is not a node of cluster {spec.name} any more")
        self._require_newest(peer)
        return peer.node

    def _require_newest(self, peer: Peer) -> None:
        """A key that was copied is of use until the node's next certificate; or the node notices that it was copied."""
        assert peer.certificate is not None
        node, serial = peer.node, peer.certificate.serial_number
        standing = self._keep.shown(node, serial, peer.host)
        if standing is Standing.REVOKED:
            raise NotNow(
                f"this certificate of {node} ({serial:x}) was revoked",
                f"A new one, where the authority is kept: hamailctl token create --node {node}",
                slow=True,
                alarm=f"someone uses a revoked certificate of {node}",
            )
        if standing is Standing.OLD:
            raise NotNow(
                f"this is an old certificate of {node} ({serial:x}): another one has taken its place",
                f"Was {node} brought back from a backup? Then give it a new one, where the authority is kept:"
                f" hamailctl token create --node {node}. If not, its key was copied: hamailctl pki revoke {node}",
                slow=True,
                alarm=f"someone uses an old certificate of {node}",
            )

    def _spec(self) -> tuple[ClusterSpec, str]:
        try:
            return load_cluster(self._cluster_file)
        except ConfigError as error:
            raise NotNow(
                f"the first node's {self._cluster_file} cannot be used: {error.problems[0]}",
                f"There: hamailctl config check {self._cluster_file}",
            ) from error


def _signed_by(certificate: x509.Certificate | None, authority: x509.Certificate) -> bool:
    if certificate is None:
        return False
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _token_of(request: Request) -> str:
    return request.credential.id if isinstance(request, MayI | Join) else ""
