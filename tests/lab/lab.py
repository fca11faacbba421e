"""The whole lab: nodes, client, switch, LUN, PDU. `Lab("name").up()`; see `python -m tests.lab --help` for the CLI.

Everything that outlives a process is found again by the lab's name (namespaces, cgroups, mounts, files), so another
process can use a running lab, and `down` removes every trace of one whatever became of the processes that made it.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.lab import cgroup, cluster, features, lun, mailhost, pdu
from tests.lab.cgroup import HIERARCHIES, Cgroup
from tests.lab.fuse import unmount
from tests.lab.image import SOURCE, Images
from tests.lab.node import ENVIRONMENT, RUN_TIMEOUT_S, Node
from tests.lab.switch import Addresses, Switch

NAME_PATTERN = re.compile(r"[a-z0-9]{1,8}")  # no dash: a name may not be the beginning of another's prefix
LAB_NUMBERS = 256
PDU_TIMEOUT_S = 10.0
HEALTHY_TIMEOUT_S = 60.0
POLL_S = 0.05


class LabError(Exception):
    """The lab could not do what it was told."""


class Missing(LabError):
    """This machine cannot host a lab; the sentence says what it lacks."""


def top_folder() -> Path:
    return Path(os.environ.get("HAMAIL_LAB_DIR", "/var/tmp/hamail-lab"))  # outside the work tree: images are large


def silent(_line: str) -> None:
    pass


class Lab:
    """`say` gets a line of text before each thing that takes time."""

    def __init__(self, name: str = "lab", say: Callable[[str], None] = silent) -> None:
        if not NAME_PATTERN.fullmatch(name):
            raise LabError(f"lab name {name!r}: one to eight of a-z and 0-9")
        self.name = name
        self.say = say
        self.prefix = f"hamail-{name}"
        self.folder = top_folder() / "labs" / name
        self.image = self.folder / "lun.img"
        self.pdu_password_file = self.folder / "pdu.password"
        self.struck: dict[str, int] = {}  # node -> when it was last taken from its clients (CLOCK_MONOTONIC); "pdu"
        self._bind(self._state().get("number", 0))

    def _bind(self, number: int) -> None:
        self.addresses = Addresses(number)
        self.switch = Switch(self.prefix, self.addresses)
        self.nodes = {name: self._node(name) for name in cluster.NODES}
        self.plugs = cluster.MAIL_NODES

    def _node(self, name: str) -> Node:
        image = self.image if name in cluster.MAIL_NODES else None
        return Node(self.name, self.prefix, name, self.folder / name, self.switch, image)

    # Life

    @property
    def exists(self) -> bool:
        return (self.folder / "lab.json").exists()

    def require(self) -> None:
        """Raises LabError when there is no such lab."""
        if not self.exists:
            raise LabError(f"there is no lab {self.name}; `make lab` boots one (another name: LAB=name)")

    def up(
        self,
        detection: str = "1s",
        mmp: bool = False,
        watchdog_resets: bool = False,
        hamail: bool = True,
        furnish: Callable[[Node], None] | None = None,
    ) -> None:
        """Build what is not cached and boot everything, in place of an older lab of this name.

        `hamail`: its services start at boot (else it is only installed). `watchdog_resets`: an expired watchdog does
        not leave its node off but boots it again. `furnish` may change a node's disk before the first boot. Raises
        Missing where the machine cannot host a lab.
        """
        layers = self.build()
        self.down()
        started_s = time.monotonic()
        self._bind(self._claim_number())
        self._save(detection=detection, mmp=mmp, watchdog_resets=watchdog_resets)
        cluster.make_password(self.pdu_password_file)
        self.switch.up()
        for host in ("client", "pdu"):
            self.switch.attach(host)
        with ThreadPoolExecutor() as pool:
            made = pool.submit(lun.create, self.image, layers[0] / mailhost.LUN_CONTENT, mmp)
            cluster.make_certificates(self.folder / "pki")
            list(pool.map(lambda node: self._furnish(node, layers, detection, hamail, furnish), self.nodes.values()))
            made.result()
            self._start_pdu()
            list(pool.map(Node.on, self.nodes.values()))
        self.say(f"three nodes booted in {time.monotonic() - started_s:.1f} s")

    def build(self) -> list[Path]:
        """The layers of the nodes' root, built where they are not cached."""
        lacks = features.missing(top_folder())
        if lacks:
            raise Missing(features.sentence(lacks))
        return Images(top_folder() / "images", self.say).layers()

    def down(self) -> None:
        """Remove every trace, also of a lab that was left half-made or whose processes were killed."""
        for node in self.nodes.values():
            if node.folder.exists():
                node.remove()
        for group in cgroup.named(f"{self.prefix}-"):
            group.kill()
            group.remove()
        for mount in reversed(self._mounts()):
            lun.detach(mount)
            unmount(mount)
        self.switch.down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _mounts(self) -> list[Path]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        points = (line.split()[4].encode().decode("unicode_escape") for line in lines)
        return [Path(point) for point in points if point.startswith(f"{self.folder}/")]

    def _furnish(
        self, node: Node, layers: list[Path], detection: str, hamail: bool, furnish: Callable[[Node], None] | None
    ) -> None:
        node.folder.mkdir(parents=True, exist_ok=True)
        (node.folder / "layers").write_text("\n".join(map(str, layers)))
        node.mount_root()
        certificates = self.folder / "pki"
        cluster.configure(node.root, node.name, self.addresses, detection, certificates, self.pdu_password_file)
        if furnish:
            furnish(node)
        if hamail:
            cluster.initialise(node.root)
            cluster.enable(node.root, node.name)

    def _start_pdu(self) -> None:
        group = Cgroup(f"{self.prefix}-pdu")
        group.create()
        enter = "".join(f"echo $$ >{root}/{group.name}/cgroup.procs; " for root in HIERARCHIES)
        serve = ["-m", "tests.lab", "--lab", self.name, "serve-pdu"]
        log = self.folder / "pdu.log"
        with log.open("ab") as output:
            server = subprocess.Popen(
                ["sh", "-e", "-c", f'{enter}exec "$@"', "-", sys.executable, *serve],
                cwd=SOURCE,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline_s = time.monotonic() + PDU_TIMEOUT_S
        while "listening" not in log.read_text():
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise LabError(f"the PDU did not start:\n{log.read_text()}")
            time.sleep(0.01)

    # What is remembered

    def _state(self) -> dict[str, Any]:
        try:
            return json.loads((self.folder / "lab.json").read_text())
        except FileNotFoundError:
            return {}

    def _save(self, **changes: object) -> None:
        new = self.folder / f"lab.json.{os.getpid()}"
        new.write_text(json.dumps(self._state() | changes))
        new.replace(self.folder / "lab.json")

    def _claim_number(self) -> int:
        """A number, thus addresses, that no other lab on this machine has."""
        labs = self.folder.parent
        self.folder.mkdir(parents=True, exist_ok=True)
        with (labs / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            taken = {json.loads(file.read_text()).get("number") for file in labs.glob("*/lab.json")}
            free = next((number for number in range(LAB_NUMBERS) if number not in taken), None)
            if free is None:
                raise LabError(f"{LAB_NUMBERS} labs are running on this machine")
            self._save(number=free)
        return free

    @property
    def detection(self) -> str:
        return self._state()["detection"]

    @property
    def watchdog_resets(self) -> bool:
        return bool(self._state().get("watchdog_resets"))

    @watchdog_resets.setter
    def watchdog_resets(self, resets: bool) -> None:
        self._save(watchdog_resets=resets)

    @property
    def pdu_mode(self) -> pdu.Mode:
        return pdu.Mode(self._state().get("pdu_mode", "ok"))

    @pdu_mode.setter
    def pdu_mode(self, mode: pdu.Mode | str) -> None:
        if pdu.Mode(mode) is not pdu.Mode.OK:
            self._strikes("pdu")
        self._save(pdu_mode=pdu.Mode(mode))

    # Power and stalls

    def _strikes(self, what: str) -> None:
        self.struck[what] = time.monotonic_ns()

    def cut(self, node: str) -> None:
        self._strikes(node)
        self.nodes[node].cut()

    def on(self, node: str) -> None:
        self.nodes[node].on()

    def all_on(self) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Node.on, self.nodes.values()))

    def freeze(self, node: str, pause_watchdog: bool = False) -> None:
        self._strikes(node)
        self.nodes[node].freeze(pause_watchdog)

    def thaw(self, node: str) -> None:
        self.nodes[node].thaw()

    # Network

    def drop(self, source: str, destination: str = "any", percent: int = 100) -> None:
        """One way."""
        self.switch.drop(source, destination, percent)

    def partition(self, left: str | Iterable[str], right: str | Iterable[str]) -> None:
        """Both ways, without carrier loss."""
        self.switch.partition(_names(left), _names(right))

    def isolate(self, node: str) -> None:
        """From everyone, client and PDU included, without carrier loss."""
        self._strikes(node)
        self.switch.isolate(node)

    def heal(self) -> None:
        """All drops, partitions, rates and unplugged ports away."""
        self.switch.heal()

    # Storage

    def san_off(self, node: str) -> None:
        self.nodes[node].san_off()

    def san_hang(self, node: str) -> None:
        self.nodes[node].san_hang()

    def san_resume(self, node: str) -> None:
        self.nodes[node].san_resume()

    # Use

    def enter(self, where: str, command: list[str]) -> list[str]:
        """The command line that runs `command` in a node or on the client."""
        self.require()
        if where == "client":
            return ["nsenter", f"--net=/run/netns/{self.switch.namespace_of('client')}", *command]
        if where not in self.nodes:
            raise LabError(f"there is no node {where}: {', '.join([*self.nodes, 'client'])}")
        return self.nodes[where].enter(command)

    def run(
        self, where: str, command: str | list[str], check: bool = True, timeout_s: float = RUN_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run in a node or on the client; a string goes through the shell."""
        if where != "client":
            return self.nodes[where].run(command, check, timeout_s)
        words = ["sh", "-c", command] if isinstance(command, str) else command
        result = subprocess.run(
            self.enter(where, words),
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, **ENVIRONMENT},
        )
        if check and result.returncode:
            raise LabError(f"client: {command}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def status(self, node: str) -> dict[str, Any] | None:
        """`hamailctl status --json` of a node; None where it gives none. 1: a critical alert is pending."""
        try:
            result = self.nodes[node].run(["hamailctl", "status", "--json"], check=False, timeout_s=10)
            return json.loads(result.stdout) if result.returncode in (0, 1) else None
        except Exception as error:
            self.say(f"{node}: no status: {error}")
            return None

    def unhealthy(self) -> str:
        """Why the cluster is not in its best state, in words; empty when it is."""
        owners = set()
        for name in self.nodes:
            status = self.status(name)
            if status is None:
                return f"{name} gives no status"
            passive = [view["detail"] for view in status["nodes"] if view["name"] == name and not view["ready"]]
            if not status["quorum"] or passive:
                return f"{name}: quorum {status['quorum']}, {'; '.join(passive)}"
            for group in status["groups"]:
                if group["phase"] != "active":
                    return f"{name} sees group {group['name']} {group['phase']}: {group['sentence']}"
                owners.add(group["owner"])
            for view in status["nodes"]:
                ready = view["witness"] or (view["joined"] and view["ready"] and not view["standby"])
                if not view["alive"] or not ready:
                    return f"{name} sees {view['name']} not ready: {view['detail'] or 'silent or not joined'}"
        return "" if len(owners) == 1 else f"nodes disagree about the owner: {sorted(map(str, owners))}"

    def wait_healthy(self, timeout_s: float = HEALTHY_TIMEOUT_S) -> str:
        """Until every node sees all nodes ready and the group active; returns the active node's name."""
        deadline_s = time.monotonic() + timeout_s
        while why := self.unhealthy():
            if time.monotonic() > deadline_s:
                raise LabError(f"the cluster is not healthy after {timeout_s:.0f} s: {why}")
            time.sleep(POLL_S)
        return self.active()

    def active(self) -> str:
        """The owner of the mail group as some node sees it; empty if nobody says."""
        statuses = filter(None, map(self.status, self.nodes))
        return next((group["owner"] or "" for status in statuses for group in status["groups"]), "")

    def restore(self) -> None:
        """Faults away and all nodes on: the state in which a test may begin."""
        self.heal()
        self.pdu_mode = pdu.Mode.OK
        for node in self.nodes.values():
            node.thaw()
            node.san_resume()
            if node.powered and node.image is not None and not (node.path.populated() and node.machine.populated()):
                node.cut()  # it has lost its LUN path for good, or is half off
        self.all_on()


def _names(given: str | Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def labs() -> list[str]:
    """Names of the labs on this machine."""
    return sorted(file.parent.name for file in (top_folder() / "labs").glob("*/lab.json"))
