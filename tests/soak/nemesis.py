"""Does the faults of a step to a lab, and takes them back. What it did, and when, goes into the history."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from hamail.control.client import ControlClient, ControlError
from tests.cluster.ask import SOCKET, NoAnswer, ask
from tests.cluster.world import MASTER_PID
from tests.lab.cluster import MAIL_NODES, NODES, WITNESS
from tests.lab.instruments import other
from tests.lab.lab import Lab, LabError
from tests.lab.node import Node, NodeError
from tests.soak.outfit import state_folder
from tests.soak.schedule import Fault, Step

STEP_LIMIT_S = 150.0  # for everything that a step does; more is a fault of the lab
FILL_LIMIT = 6
FILL_LINES = 12_000
UNFILL_TRIES, UNFILL_PAUSE_S = 6, 0.5
APPLY_LIMIT_MS = 4000
FAILURES = (LabError, NodeError, NoAnswer, RuntimeError, OSError, ValueError)  # a node may be gone in the middle
PROCESS = {
    "hamaild": "$(systemctl show -P MainPID hamaild)",
    "executor": "$(systemctl show -P MainPID hamail-executor)",
    "agents": "$(systemctl show -P MainPID hamail-agents)",
    "both": "$(systemctl show -P MainPID hamaild hamail-executor)",
    "dovecot": "$(systemctl show -P MainPID dovecot)",
    "postfix": f"$(cat {MASTER_PID})",
    "qmgr": "$(pgrep -x qmgr)",
    "canary": "$(systemctl show -P MainPID canary)",
}
SERVICES = ("dovecot", "postfix", "qmgr", "canary")
BUSY = "trap '' TERM HUP INT; cd /srv/mail; exec 3>>/srv/mail/held; while :; do sleep 1; done"

Undo = Callable[[], object]
Note = Callable[..., None]


def nothing() -> None:
    pass


class Nemesis:
    """`note(kind, **data)` writes into the history; `stopping` ends the wait of every fault."""

    def __init__(self, lab: Lab, note: Note) -> None:
        self.lab, self.note = lab, note

    def run(self, step: Step, active: str) -> dict[str, tuple[str, ...]]:
        """Returns when all faults of the step are taken back; the nodes that each kind was done to."""
        hit = {fault.kind: self.targets(fault, active) for fault in step.faults}
        threads = [threading.Thread(target=self._one, args=(step, f, hit[f.kind], active)) for f in step.faults]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(STEP_LIMIT_S)
            if thread.is_alive():
                raise LabError(f"step {step.number} ({step.name}) does not end")
        return hit

    @staticmethod
    def targets(fault: Fault, active: str) -> tuple[str, ...]:
        if fault.parameters.get("process") in SERVICES:
            return (active,)  # they run nowhere else
        standby = other(active)
        roles = {"active": (active,), "standby": (standby,), "witness": (WITNESS,), "both": MAIL_NODES, "all": NODES}
        return roles[fault.role]

    def _one(self, step: Step, fault: Fault, nodes: tuple[str, ...], active: str) -> None:
        time.sleep(fault.after_s)
        data = {"step": step.number, "fault": fault.name, "what": fault.kind, "nodes": nodes, **fault.parameters}
        self.note("begin", **data)
        undo: Undo = nothing
        try:
            undo = getattr(self, f"_{fault.kind}")(fault, nodes, active) or nothing
            self.note("done", **data)
        except FAILURES as error:
            self.note("failed", why=str(error)[:500], **data)  # as when two faults hit one node
        time.sleep(fault.for_s)
        try:
            undo()
        except FAILURES as error:
            self.note("failed", why=f"taking back: {str(error)[:500]}", **data)
        self.note("end", **data)

    # Power

    def cut(self, node: str) -> None:
        """Noted, so that nobody looks for who has done it."""
        self.note("cut", nodes=[node])
        self.lab.cut(node)

    def _power_cut(self, fault: Fault, nodes: tuple[str, ...], _active: str) -> None:
        pause_s = fault.parameters["stagger_s"]
        cuts = [threading.Thread(target=self.cut, args=(node,)) for node in nodes]
        for number, cut in enumerate(cuts):
            time.sleep(pause_s if number else 0)
            cut.start()
        for cut in cuts:
            cut.join()

    def _freeze(self, fault: Fault, nodes: tuple[str, ...], _active: str) -> Undo:
        self.lab.freeze(nodes[0], fault.parameters["pause_watchdog"])
        return lambda: self.lab.thaw(nodes[0])

    def _watchdog_gone(self, _fault: Fault, nodes: tuple[str, ...], _active: str) -> Undo:
        """As when its driver dies. Only a power cycle brings it back."""
        self.lab.nodes[nodes[0]].watchdog.kill()
        return lambda: self.cut(nodes[0])

    # Processes

    def _signal(self, node: Node, signal: str, process: str) -> str:
        """Returns the ids of the processes. Raises NodeError when it does not run: systemd calls that 0, which to
        `kill` means the group of the one who asks, and a stopped nsenter keeps the whole node from ending."""
        pids = f"pids=$(echo {PROCESS[process]} | tr ' ' '\\n' | grep -vx 0)"
        return node.run(f'{pids}; test -n "$pids" && kill -{signal} $pids && echo $pids', timeout_s=10).stdout

    def _stop_process(self, fault: Fault, nodes: tuple[str, ...], _active: str) -> Undo:
        node = self.lab.nodes[nodes[0]]
        generation = node.generation
        pids = self._signal(node, "STOP", fault.parameters["process"]).strip()

        def go_on() -> None:
            if node.powered and node.generation == generation:
                node.run(f"kill -CONT {pids}", check=False, timeout_s=10)

        return go_on

    def _kill_process(self, fault: Fault, nodes: tuple[str, ...], _active: str) -> None:
        self._signal(self.lab.nodes[nodes[0]], "KILL", fault.parameters["process"])

    def _kill_witness(self, _fault: Fault, nodes: tuple[str, ...], _active: str) -> None:
        self._signal(self.lab.nodes[nodes[0]], "KILL", "hamaild")

    # Network

    def _isolate(self, _fault: Fault, nodes: tuple[str, ...], _active: str) -> Undo:
        self.lab.isolate(nodes[0])
        return self.lab.heal

    def _cut_off(self, _fault: Fault, nodes: tuple[str, ...], _active: str) -> Undo:
        self.lab.partition(nodes[0], [node for node in NODES if node != nodes[0]])
        return self.lab.heal

    def _all_apart(self, _fault: Fault, _nodes: tuple[str, ...], _active: str) -> Undo:
        self.lab.partition("n1", ["n2", "n3"])
        self.lab.partition("n2", "n3")
        return self.lab.heal

    def _peer(self, fault: Fault, active: str, node: str) -> str:
        peer = {"any": "any", "standby": other(active), "witness": WITNESS}[fault.parameters["peer"]]
        return active if peer == node else peer

    def _one_link(self, fault: Fault, nodes: tuple[str, ...], active: str) -> Undo:
        self.lab.partition(nodes[0], self._peer(fault, active, nodes[0]))
        return self.lab.heal

    def _one_way(self, fault: Fault, nodes: tuple[str, ...], active: str) -> Undo:
        peer = self._peer(fault, active, nodes[0])
        ends = (nodes[0], peer) if fault.parameters["direction"] == "out" else (peer, nodes[0])
        self.lab.drop(*ends)
        return self.lab.heal

    def _flapping(self, fault: Fault, nodes: tuple[str, ...], _active: str) -> Undo:
        half_s = fault.parameters["period_ms"] / 2000
        end_s = time.monotonic() + fault.for_s
        while time.monotonic() < end_s:
            self.lab.isolate(nodes[0])
            time.sleep(half_s)
            self.lab.heal()
            time.sleep(half_s)
        return nothing

    def _loss(self, fault: Fault, nodes: tuple[str, ...], _active: str) -> Undo:
        for ends in ((nodes[0], "any"), ("any", nodes[0])):
            self.lab.drop(*ends, percent=fault.parameters["percent"])
        return self.lab.heal

    def _slow_link(self, fault: Fault, nodes: tuple[str, ...], _active: str) -> Undo:
        self.lab.switch.slow(nodes[0], fault.parameters["rate"])
        return self.lab.heal

    def _unplug(self, _fault: Fault, nodes: tuple[str, ...], _active: str) -> Undo:
        self.lab.switch.unplug(nodes[0])
        return self.lab.heal

    # Storage and state

    def _lun_lost(self, _fault: Fault, nodes: tuple[str, ...], _active: str) -> Undo:
        """A lost path comes back with the next power-on only."""
        node = self.lab.nodes[nodes[0]]
        generation = node.generation
        node.san_off()
        return lambda: self.cut(node.name) if node.generation == generation else None

    def _lun_hung(self, _fault: Fault, nodes: tuple[str, ...], _active: str) -> Undo:
        self.lab.san_hang(nodes[0])
        return lambda: self.lab.san_resume(nodes[0])

    def _busy_umount(self, fault: Fault, nodes: tuple[str, ...], active: str) -> None:
        inside = ["unshare", "-m", "--propagation", "private"] if fault.parameters["holder"] != "open file" else []
        command = "sleep 1000" if inside else BUSY
        words = ["sh", "-c", 'setsid "$@" >/dev/null 2>&1 </dev/null &', "-", *inside, "sh", "-c", command]
        self.lab.nodes[nodes[0]].run(words, timeout_s=10)
        time.sleep(0.2)
        self._switchover(fault, nodes, active)

    def _state_full(self, _fault: Fault, nodes: tuple[str, ...], active: str) -> Undo:
        """No room is left beside the state, and the log grows until what it has reserved is used up."""
        node = self.lab.nodes[nodes[0]]
        fill(state_folder(node) / "fill")
        told = self.lab.nodes[active]
        source = ask(told, "config")["config"]["source"]
        for number in range(FILL_LIMIT):
            if not apply(told, source + f"# {number}\n" + "# x\n" * FILL_LINES):
                break  # as when the full node led the log

        def room() -> None:
            (state_folder(node) / "fill").unlink(missing_ok=True)
            if node.powered:
                node.run("systemctl restart hamaild", check=False, timeout_s=20)
            for _ in range(UNFILL_TRIES):
                if any(apply(self.lab.nodes[name], source) for name in MAIL_NODES):
                    return
                time.sleep(UNFILL_PAUSE_S)

        return room

    # What an operator and a fence device do

    def _switchover(self, _fault: Fault, nodes: tuple[str, ...], _active: str) -> None:
        command = ["hamailctl", "switchover", "mail", "--to", other(nodes[0]), "--reason", "soak", "--yes"]
        self.lab.nodes[nodes[0]].run(command, timeout_s=40)

    def _fence_device(self, fault: Fault, _nodes: tuple[str, ...], _active: str) -> Undo:
        self.lab.pdu_mode = fault.parameters["mode"]

        def mend() -> None:
            self.lab.pdu_mode = "ok"

        return mend


def apply(node: Node, source: str) -> bool:
    """False when it is not in force: the node may be off, or a majority may have no room."""
    if not node.powered:
        return False
    try:
        client = ControlClient(f"/proc/{node.init()}/root/{SOCKET}", timeout_ms=APPLY_LIMIT_MS)
        client.apply_config(source, None, "soak")
    except (ControlError, OSError):
        return False
    return True


def fill(file: Path) -> None:
    """Until nothing more fits on its file system."""
    with open(file, "wb", buffering=0) as target:
        for size in (1 << 16, 1 << 12, 512):
            try:
                while True:
                    target.write(bytes(size))
            except OSError:
                continue
        os.fsync(target.fileno())
