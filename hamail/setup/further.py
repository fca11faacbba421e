"""Every further node: from a token to a node that runs. Nothing is copied by hand."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from msgspec import Struct

from hamail.config import ConfigError, parse_cluster
from hamail.config.local import check_local
from hamail.config.rules.addresses import floating_addresses
from hamail.enrol.client import Ask, AskError, Pair, by_token
from hamail.enrol.messages import Credential, Join, Joined, MayI, Noted, Offer, Welcome
from hamail.enrol.names import node_of
from hamail.enrol.token import Token
from hamail.model.ids import NodeName
from hamail.model.spec import ClusterSpec
from hamail.pki.files import PkiError
from hamail.pki.request import new_request
from hamail.setup.first import storage_remarks
from hamail.setup.machine import Machine
from hamail.setup.mail import Mail, MailPlan
from hamail.setup.node import Layout, Settling, files_of, require_bare
from hamail.setup.problem import SetupError

FILESYSTEM = "hamail:filesystem"
TRIES = 3  # when the answer is lost; the same request is answered again
SECRETS_FOLDER = "/etc/hamail/secrets"


class FurtherPlan(Struct, frozen=True, kw_only=True):
    """What this machine would become. Nothing was changed here, and nothing used up there."""

    node: NodeName
    witness: bool
    spec: ClusterSpec
    rejoining: bool
    watchdog: str | None
    mail: MailPlan
    remarks: tuple[str, ...]


class Joining:
    """One conversation with the issuer, and what is made of it here. Methods raise SetupError."""

    def __init__(self, token: Token, machine: Machine, layout: Layout) -> None:
        self._token = token
        self._machine = machine
        self._layout = layout
        self._credential = Credential(id=token.id.hex(), secret=token.secret.hex())
        self._ask: Ask | None = None

    def plan(self, *, node: NodeName, addresses: tuple[str, ...], witness: bool) -> FurtherPlan:
        """Ask who this machine would be, and see whether it can be that."""
        require_bare(self._layout, self._machine)
        _ = self._layout.group_id
        try:
            self._ask = by_token(self._token)
            given = addresses or self._machine.addresses()
            wish = MayI(credential=self._credential, addresses=given, node=node, witness=witness)
            offer = self._ask(wish, Offer)
        except AskError as error:
            raise SetupError(error.reason, error.hint) from error
        spec = self._read(offer.configuration)
        remarks: list[str] = []
        mail = MailPlan()
        watchdog = spec.nodes[offer.node].watchdog_device
        if not offer.witness:
            remarks, mail = self._look(spec, offer.node)
            if watchdog and not self._machine.path(watchdog).exists():
                remarks.append(f"{watchdog} is missing: without it a stop that hangs is not ended. modprobe softdog")
        return FurtherPlan(
            node=offer.node,
            witness=offer.witness,
            spec=spec,
            rejoining=offer.rejoining,
            watchdog=watchdog,
            mail=mail,
            remarks=tuple(remarks),
        )

    def settle(self, plan: FurtherPlan, *, apply_mail: bool) -> Settling:
        """Uses the token up. All of it or nothing."""
        assert self._ask is not None
        key, request = new_request(self._token.cluster, plan.node)
        join = Join(credential=self._credential, node=plan.node, request=request, witness=plan.witness)
        welcome = self._again(join)
        self._check(welcome, key, plan.node)
        files = files_of(
            self._layout,
            node=plan.node,
            watchdog=plan.watchdog,
            configuration=welcome.configuration,
            pair=key + welcome.certificate,
            authorities=welcome.authorities,
            secrets=welcome.secrets,
            command="join",
        )
        settling = Settling(self._layout, self._machine)
        settling.begin(files, [])
        try:
            mail = plan.mail if apply_mail else None
            settling.settle(files, mail, rejoining=welcome.rejoining, now=datetime.now(UTC))
            self._tell(welcome, key)
        except (SetupError, PkiError, AskError) as error:
            settling.take_back()
            reason = str(error) if isinstance(error, PkiError) else error.reason
            raise SetupError(
                f"{reason}; everything was taken back", "On the first node: hamailctl token create"
            ) from error
        except BaseException:
            settling.take_back()
            raise
        settling.finish()
        return settling

    def _again(self, join: Join) -> Welcome:
        assert self._ask is not None
        for left in reversed(range(TRIES)):
            try:
                return self._ask(join, Welcome)
            except AskError as error:
                if error.refused or not left:
                    raise SetupError(error.reason, error.hint) from error
        raise AssertionError

    def _tell(self, welcome: Welcome, key: str) -> None:
        """Before hamaild runs for the first time: from then on an empty journal of this node means a lost one."""
        ask = Ask(
            (self._token.host, self._token.port),
            self._token.cluster,
            welcome.authorities,
            Pair(pem=key + welcome.certificate),
        )
        for left in reversed(range(TRIES)):
            try:
                ask(Joined(), Noted)
                return
            except AskError as error:
                if error.refused or not left:
                    raise

    def _read(self, configuration: str) -> ClusterSpec:
        try:
            return parse_cluster(configuration, "the configuration of the first node")
        except ConfigError as error:
            problems = tuple(map(str, error.problems))
            raise SetupError("the first node's configuration cannot be used here", reasons=problems) from error

    def _look(self, spec: ClusterSpec, node: NodeName) -> tuple[list[str], MailPlan]:
        if misfits := check_local(spec, self._machine.interfaces, node):
            raise SetupError("this machine does not fit", reasons=tuple(problem.reason for problem in misfits))
        remarks: list[str] = []
        mount = ""
        for group in spec.groups.values():
            for resource in group.resources:
                if resource.agent == FILESYSTEM and node in group.nodes:
                    given = resource.parameters
                    mount = mount or given.get("directory", "")
                    fstype = given.get("fstype", "ext4")
                    remarks += storage_remarks(self._machine, given["device"], given["directory"], fstype)
        vips = tuple(word for _, r, _ in floating_addresses(spec) for word in r.parameters.get("address", "").split())
        return remarks, Mail(self._machine, mount, vips).plan() if mount else MailPlan()

    def _check(self, welcome: Welcome, key: str, node: NodeName) -> None:
        """The issuer is trusted, and yet: what is wrong is noticed here, not when hamaild will not start."""
        try:
            certificate = x509.load_pem_x509_certificate(welcome.certificate.encode())
            public = serialization.load_pem_private_key(key.encode(), None).public_key()
        except ValueError as error:
            raise SetupError("the issuer sent no certificate") from error
        if node_of(certificate, self._token.cluster) != node or certificate.public_key() != public:
            raise SetupError(f"the issuer sent a certificate that is not for {node}")
        for path in welcome.secrets:
            if str(Path(path).parent) != SECRETS_FOLDER or Path(path).name in ("", ".", ".."):
                raise SetupError(f"the issuer sent a secret for {path}, which is outside of {SECRETS_FOLDER}")
