"""The first node: from answers to a configuration, an authority, and a node that runs."""

import contextlib
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from hamail.config import ConfigError, parse_cluster, warnings
from hamail.config.local import check_local, whose
from hamail.model.ids import NodeName
from hamail.model.spec import ClusterSpec
from hamail.pki.authority import new_key, private_pem, public_pem
from hamail.pki.files import PkiError
from hamail.pki.keep import Keep
from hamail.setup.answers import Answers
from hamail.setup.draft import cluster_toml
from hamail.setup.machine import Machine
from hamail.setup.mail import Mail, MailPlan
from hamail.setup.node import Layout, Settling, files_of, require_bare
from hamail.setup.problem import SetupError

NODE_DAYS = 730
SECRET_BYTES_MAX = 4096
KEEP = Path("/var/lib/hamail-issuer")


class FirstPlan(Struct, frozen=True, kw_only=True):
    """Everything that will be written, before anything is. `remarks` are what the administrator should know."""

    node: NodeName
    spec: ClusterSpec
    configuration: str
    secrets: dict[str, str]
    watchdog: str | None
    mail: MailPlan
    remarks: tuple[str, ...]

    def __repr__(self) -> str:
        return f"FirstPlan({self.node})"


def plan(answers: Answers, machine: Machine, layout: Layout) -> FirstPlan:
    """Looks, asks, computes; changes nothing. Raises SetupError."""
    require_bare(layout, machine)
    _ = layout.group_id
    source = cluster_toml(answers)
    try:
        spec = parse_cluster(source, "the configuration")
    except ConfigError as error:
        raise SetupError("these answers make no configuration", reasons=tuple(map(str, error.problems))) from error
    node = whose(spec, machine.interfaces)
    if node is None:
        raise SetupError(
            "no address of these nodes is one of this machine, which has " + (", ".join(machine.addresses()) or "none"),
            "Give this machine's own address to one of the mail servers: --node NAME=ADDRESS",
        )
    if spec.nodes[node].witness:
        raise SetupError(
            f"this machine would be {node}, the witness", "Run hamailctl init on one of the mail servers instead"
        )
    if misfits := check_local(spec, machine.interfaces, node):
        raise SetupError("this machine does not fit", reasons=tuple(problem.reason for problem in misfits))
    remarks = [*warnings(spec), *storage_remarks(machine, answers.device, answers.mount, answers.fstype)]
    return FirstPlan(
        node=node,
        spec=spec,
        configuration=source,
        secrets=_secrets(answers),
        watchdog=answers.watchdog or None,
        mail=Mail(machine, answers.mount, answers.vips).plan(),
        remarks=tuple(remarks),
    )


def storage_remarks(machine: Machine, device: str, mount: str, fstype: str) -> list[str]:
    """Raises SetupError for what would destroy mail; returns what the administrator should know."""
    reason, hint = machine.device_trouble(device)
    if reason:
        raise SetupError(reason, hint)
    if line := machine.fstab_line(device, mount):
        raise SetupError(
            f"/etc/fstab line {line} mounts the shared storage at boot, also when the other node has it",
            f"Remove line {line} of /etc/fstab, then: systemctl daemon-reload",
        )
    found = machine.fstype(device)
    if not found:
        raise SetupError(
            f"{device} has no file system that can be recognised",
            f"If nothing on it is needed, once and on one node only: mkfs.{fstype} {device}",
        )
    if found != fstype:
        raise SetupError(f"{device} has a file system of type {found}, not {fstype}", f"Say --fstype {found}")
    at = machine.mounted_at(device)
    if at:
        return [f"{device} is mounted at {at} now; when hamail starts it stops mail here, unmounts it and takes over"]
    return []


def settle(plan: FirstPlan, machine: Machine, layout: Layout, *, keep: Path = KEEP, apply_mail: bool) -> Settling:
    """All of it or nothing. Raises SetupError. What remains is to start it."""
    settling = Settling(layout, machine)
    holder = Keep(keep)
    if holder.exists:
        raise SetupError(
            "an authority is kept on this machine already; nothing was changed",
            f"Is this another cluster? Then remove {keep} first: its nodes could never be renewed again",
        )
    with contextlib.suppress(OSError):
        keep.rmdir()  # empty: what systemd makes for the service
    secrets = plan.secrets
    draft = files_of(
        layout,
        node=plan.node,
        watchdog=plan.watchdog,
        configuration=plan.configuration,
        pair="",
        authorities="",
        secrets=secrets,
        command="init",
    )
    settling.begin(draft, [keep])
    try:
        holder.create(plan.spec.name)
        holder.joined(plan.node)
        key = new_key()
        certificate = holder.certify(plan.node, key.public_key(), days=NODE_DAYS)
        files = files_of(
            layout,
            node=plan.node,
            watchdog=plan.watchdog,
            configuration=plan.configuration,
            pair=(private_pem(key) + public_pem(certificate)).decode(),
            authorities=holder.bundle(),
            secrets=secrets,
            command="init",
        )
        settling.settle(files, plan.mail if apply_mail else None, rejoining=False, now=datetime.now(UTC))
    except (SetupError, PkiError) as error:
        settling.take_back()
        reason = error.reason if isinstance(error, SetupError) else str(error)
        hint = error.hint if isinstance(error, SetupError) else ""
        raise SetupError(f"{reason}; everything was taken back", hint) from error
    except BaseException:
        settling.take_back()
        raise
    settling.finish()
    return settling


def _secrets(answers: Answers) -> dict[str, str]:
    """Where a secret will be kept -> the secret. Raises SetupError, which names files and never what is in them."""
    found = {}
    for fence in answers.fences:
        for parameter, file in fence.secrets.items():
            try:
                with Path(file).open("rb") as stream:
                    content = stream.read(SECRET_BYTES_MAX + 1)
                text = content.decode()
            except OSError as error:
                raise SetupError(f"--fence {fence.name}: {file}: {error.strerror}") from error
            except UnicodeDecodeError as error:
                raise SetupError(f"--fence {fence.name}: {file}: is not text") from error
            if len(content) > SECRET_BYTES_MAX or not text.strip():
                what = "is empty" if not text.strip() else f"is over {SECRET_BYTES_MAX} bytes"
                raise SetupError(f"--fence {fence.name}: {file}: {what}")
            found[fence.secret_file(parameter)] = text.strip() + "\n"
    return found
