"""The last steps that the first node and every further one have in common: files, journal, services."""

import grp
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from hamail.model.ids import NodeName
from hamail.setup.draft import node_toml
from hamail.setup.machine import Machine
from hamail.setup.mail import Applied, MailPlan
from hamail.setup.place import File, Placement, remove
from hamail.setup.problem import SetupError

ETC = Path("/etc/hamail")
STATE = Path("/var/lib/hamail")
PUBLIC, GROUP_READS, SECRET = 0o644, 0o640, 0o600
JOURNAL_TIMEOUT_S = 60
START_TIMEOUT_S = 90
RENEWAL = "hamail-renew.timer"


class Layout:
    """Where things lie; other folders in tests."""

    def __init__(self, etc: Path = ETC, state: Path = STATE, group: str = "hamail") -> None:
        self.etc, self.state, self.group = etc, state, group

    @property
    def group_id(self) -> int:
        try:
            return grp.getgrnam(self.group).gr_gid
        except KeyError:
            raise SetupError(
                f"there is no group {self.group}: hamail is not installed on this machine", "See docs/install.md"
            ) from None

    @property
    def certificate(self) -> Path:
        return self.etc / "pki" / "node.pem"


def files_of(
    layout: Layout,
    *,
    node: NodeName,
    watchdog: str | None,
    configuration: str,
    pair: str,
    authorities: str,
    secrets: dict[str, str],
    command: str,
) -> list[File]:
    """`pair`: certificate and key, in one text. `secrets`: path -> content."""
    group = layout.group_id
    return [
        File(path=layout.etc / "pki" / "ca.pem", content=authorities.encode(), mode=GROUP_READS, group=group),
        File(path=layout.certificate, content=pair.encode(), mode=GROUP_READS, group=group),
        *(File(path=Path(path), content=text.encode(), mode=SECRET) for path, text in sorted(secrets.items())),
        File(path=layout.etc / "cluster.toml", content=configuration.encode(), mode=PUBLIC),
        File(path=layout.etc / "node.toml", content=node_toml(node, watchdog, command).encode(), mode=PUBLIC),
    ]


def require_bare(layout: Layout, machine: Machine) -> None:
    """Raises SetupError when this machine is a node already, with what says so."""
    there = [p for p in (layout.etc / "cluster.toml", layout.etc / "node.toml", layout.certificate) if p.exists()]
    if (layout.state / "log" / "journal").exists():
        there.append(layout.state / "log" / "journal")
    if there:
        raise SetupError(
            "this machine is set up already; nothing was changed",
            "What it is part of: hamailctl status. To begin again, remove these files first",
            tuple(f"{path} exists" for path in there),
        )
    if machine.has_systemd() and machine.active("hamaild"):
        raise SetupError("hamaild is running here; nothing was changed", "systemctl stop hamaild")


def initialise_journal(layout: Layout, rejoining: bool) -> None:
    """Raises SetupError. `rejoining`: this node was a member before, and what it knew is lost."""
    words = [str(Path(sys.executable).with_name("hamaild")), "--config", str(layout.etc / "node.toml"), "--initialise"]
    words += ["--replaced-disk"] if rejoining else []
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=JOURNAL_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"the journal could not be made: {error}") from error
    if done.returncode:
        raise SetupError(f"the journal could not be made: {done.stderr.strip()[-500:]}")


class Settling:
    """Everything between "nothing is here" and "this is a node"; `take_back` undoes it as long as nothing runs."""

    def __init__(self, layout: Layout, machine: Machine) -> None:
        self._layout = layout
        self._placement = Placement(layout.etc)
        self.mail = Applied(machine)
        self._journal: Path | None = None  # made by us; whoever takes it back knows that hamaild has never run on it

    def recover(self) -> tuple[str, ...]:
        return self._placement.recover()

    def begin(self, files: list[File], trees: list[Path]) -> None:
        self._placement.begin(files, trees)

    def settle(self, files: list[File], plan: MailPlan | None, rejoining: bool, now: datetime) -> None:
        """Raises SetupError."""
        self._placement.place(files)
        if plan is not None:
            self.mail.apply(plan, now)
        folder = self._layout.state / "log"
        journal = folder / "journal" if folder.exists() else folder
        initialise_journal(self._layout, rejoining)
        self._journal = journal

    def take_back(self) -> None:
        if self._journal is not None:
            remove(self._journal)
        self.mail.take_back()
        self._placement.take_back()

    def finish(self) -> None:
        self._placement.finish()


def start(machine: Machine, units: tuple[str, ...]) -> str:
    """Now and at every boot. Why it did not work; empty when it did."""
    if not machine.has_systemd():
        return "systemd does not run here"
    words = ["systemctl", "enable", "--now", *units]
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=START_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip()[-300:]


def services(witness: bool) -> tuple[str, ...]:
    return ("hamaild.service",) if witness else ("hamail-executor.service", "hamaild.service")
