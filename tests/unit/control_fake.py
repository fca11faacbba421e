"""A cluster that is not there: the control port over a small scripted state. Shared by control and CLI tests.

`python control_fake.py SOCKET [SCENE]` serves it, to look at hamailctl's output by eye.
"""

import asyncio
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hamail.control.api import Why
from hamail.control.port import NotProposed
from hamail.control.server import ControlServer
from hamail.core import account
from hamail.core.apply import apply
from hamail.core.timing import derive
from hamail.model import commands as c
from hamail.model.leaving import Leaving
from hamail.model.orders import RestartOrder, ScheduledMove
from hamail.model.preflight import Check, PhaseBudget, Preflight, Verdict
from hamail.model.situation import SITUATION_SCHEMA, NodeFacts, Situation
from hamail.model.spec import ClusterSpec, FenceDeviceSpec, GroupSpec, NodeSpec, ResourceSpec
from hamail.model.state import (
    ClusterState,
    ConfigRevision,
    Event,
    FenceOrder,
    GroupState,
    Incarnation,
    Maintenance,
    Move,
    NodeState,
    Phase,
    Trigger,
)
from hamail.model.status import STATUS_SCHEMA, Candidate, GroupView, NodeView, Status
from hamail.monitoring import alerts

T0 = 1_795_000_000_000  # 2026-11-18 11:06:40 UTC

RESOURCES = ("vip", "storage", "postfix", "dovecot")
SPEC = ClusterSpec(
    name="mail-pair",
    nodes={
        "n1": NodeSpec(name="n1", address="192.0.2.11", watchdog_device="/dev/watchdog0"),
        "n2": NodeSpec(name="n2", address="192.0.2.12", watchdog_device="/dev/watchdog0"),
        "n3": NodeSpec(name="n3", address="192.0.2.13", witness=True),
    },
    groups={
        "mail": GroupSpec(
            name="mail",
            nodes=("n1", "n2"),
            resources=tuple(ResourceSpec(name=r, agent=f"hamail:{r}") for r in RESOURCES),
        )
    },
    fencing={"ipmi": FenceDeviceSpec(name="ipmi", agent="fence_ipmilan", targets={"n1": "1", "n2": "2"})},
)
SOURCE = 'cluster = "mail-pair"\n'
ONE_MOVE = Move(
    id=17, group="mail", source="n2", target="n1", trigger=Trigger.NODE_LOST, actor="hamail", reason="",
    started_at_ms=T0 - 1000,
    stamps={
        "detected": T0 - 1000, "decided": T0 - 988, "fenced": T0 - 640, "granted": T0 - 622, "storage": T0 - 501,
        "address": T0 - 492, "services": T0 - 110, "first answer": T0 - 95, "done": T0 - 90,
    },
    result="done",
)  # fmt: skip


def first_state() -> ClusterState:
    incarnation = Incarnation("boot", "executor")
    return ClusterState(
        spec=SPEC,
        config=ConfigRevision(
            revision=3, index=5, applied_at_ms=T0 - 86_400_000, actor="root@pts/0", reason="first set-up", source=SOURCE
        ),
        applied=20,
        groups={
            "mail": GroupState(
                phase=Phase.ACTIVE, owner="n1", epoch=18, trigger=Trigger.NODE_LOST, actor="hamail",
                sentence="n1 has started mail: every resource is up", since_ms=T0 - 90, move=0,
            )
        },
        nodes={n: NodeState(incarnation=incarnation, joined_at=10) for n in ("n1", "n2", "n3")},
        moves=(ONE_MOVE,),
        events=(
            Event(index=16, at_ms=T0 - 988, kind="owner_lost", group="mail", node="n2",
                  sentence="n2 was not heard for 1003 ms by n1 and n3; it is fenced before mail moves"),
            Event(index=18, at_ms=T0 - 640, kind="fence_done", node="n2", sentence="n2 is off: ipmi says so"),
            Event(index=20, at_ms=T0 - 90, kind="started", group="mail", node="n1",
                  sentence="n1 has started mail: every resource is up"),
        ),
    )  # fmt: skip


class FakeBackend:
    """Everything may be set by a test: `refusals`, `quorum`, `fate`, `plan` (stages of a move and their times)."""

    def __init__(self) -> None:
        self.now = T0
        self.st = first_state()
        self.node = "n1"
        self.quorum = True
        self.refusals: dict[str, tuple[str, ...]] = {}
        self.problems: tuple[str, ...] = ()
        self.config_refusals: tuple[str, ...] = ()
        self.told_effects: tuple[str, ...] = ("nothing is stopped, moved or fenced by this",)
        self.changes: tuple[str, ...] = ("detection: 1000 ms -> 300 ms",)
        self.candidates = (
            Candidate(node="n1", eligible=True, reason="owns it"),
            Candidate(node="n2", eligible=True, reason="ready"),
        )
        self.node_changes: dict[str, dict] = {}
        self.group_changes: dict = {}
        self.status_changes: dict = {}
        self.checks: tuple = (
            Check(name="target", verdict=Verdict.GOOD, reason="n2 is heard, has joined and is ready"),
        )
        self.loss = ("open client sessions end, and clients connect again; nothing that was acknowledged is lost",)
        self.restart_end = "n1 has restarted every resource of mail."
        self.fate: list = []  # outcomes for the next submits, instead of carrying out
        self.submitted: list = []
        self.submit_delay_s = 0.0
        self.step_s = 0.02
        self.plan = [
            ("stopped", Phase.STOPPING, 310), ("granted", Phase.STARTING, 12), ("storage", Phase.STARTING, 80),
            ("address", Phase.STARTING, 9), ("services", Phase.STARTING, 390), ("first answer", Phase.ACTIVE, 21),
            ("done", Phase.ACTIVE, 3),
        ]  # fmt: skip
        self.move_result = "done"
        self.move_detail = ""
        self.move_end = "n2 has started mail: every resource is up"
        self.elsewhere = ((), ())
        self.maintenance_acks = ("n1", "n2")
        self.leave = Leaving(sentences=("mail stays active on n1: nothing has to be done.",), acts=False)
        self.still_suspended: tuple[str, ...] = ()
        self.fence_ok = True
        self.noted: list[tuple[str, str, str]] = []  # refusals that the history is to keep
        self.tasks: set[asyncio.Task] = set()
        self.changed: asyncio.Event | None = None

    # --- the port

    def status(self) -> Status:
        nodes = []
        for name, spec in self.st.spec.nodes.items():
            node = self.st.node(name)
            base = NodeView(
                name=name, address=spec.address, witness=spec.witness, alive=True, suspected=False, silent_ms=37,
                joined=node.incarnation is not None and not spec.witness, standby=node.standby, ready=True,
                watchdog="none" if spec.witness else "armed", fence=node.fence, fence_failure=node.fence_failure,
                fence_devices={} if spec.witness else {"ipmi": ""}, version="0.1.0", applied=self.st.applied,
            )  # fmt: skip
            nodes.append(msgspec.structs.replace(base, **self.node_changes.get(name, {})))
        groups = []
        for name, spec in self.st.spec.groups.items():
            g = self.st.group(name)
            up = "up" if g.phase is Phase.ACTIVE else "starting" if g.phase is Phase.STARTING else "down"
            base = GroupView(
                name=name, phase=g.phase, owner=g.owner, epoch=g.epoch, since_ms=g.since_ms, sentence=g.sentence,
                trigger=g.trigger.value, actor=g.actor, reason=g.reason, requires=spec.requires.value,
                protection="a confirmed fence of the former owner, or its verified stop", unsafe_reason=None,
                lease_ms=4210 if g.owner == self.node else None,
                resources=dict.fromkeys((r.name for r in spec.resources), up), candidates=self.candidates,
            )  # fmt: skip
            groups.append(msgspec.structs.replace(base, **self.group_changes))
        status = Status(
            schema=STATUS_SCHEMA, cluster=self.st.spec.name, node=self.node,
            at_ms=self.now + 3_600_000, version="0.1.0",
            quorum=self.quorum, coordinator="n1", term=4, applied=self.st.applied,
            config_revision=self.st.config.revision, maintenance=self.st.maintenance, nodes=tuple(nodes),
            groups=tuple(groups), last_drill=self.st.drills[-1] if self.st.drills else None,
            incidents=tuple(i for i in self.st.incidents if not i.closed_ms),
        )  # fmt: skip
        status = msgspec.structs.replace(status, **self.status_changes)
        since_ms = status.at_ms - 90_000
        found = (msgspec.structs.replace(a, since_ms=since_ms) for a in alerts.pending(status))
        return msgspec.structs.replace(status, alerts=tuple(found))

    def state(self) -> ClusterState:
        return self.st

    def timings(self):
        return derive(self.st.spec.detection_ms, self.st.spec.watchdog_timeout_s)

    def why(self, group):
        return (f"{group} runs on n1 since n2 was lost.", "n2 was fenced through ipmi, which confirmed that it is off.")

    def note_refusal(self, request, actor, reason, what, group, why):
        self.noted.append((actor, what, why))

    def account(self, number):
        move, events = account.move_of(self.st, number), account.events_of_entry(self.st, number)
        if move is None and not events:
            return None
        told = account.events_of_move(self.st, move) if move is not None else events
        return Why(group="", sentences=account.of_entry(self.st, number), events=told, move=move)

    def situation(self):
        status = self.status()
        heard = {
            n.name: NodeFacts(
                alive=n.alive, suspected=n.suspected, silent_ms=n.silent_ms, ready=n.ready or n.witness,
                detail=n.detail,
                watchdog_armed=n.watchdog == "armed", fence_ready=n.fence_devices,
            )
            for n in status.nodes
        }  # fmt: skip
        return Situation(
            schema=SITUATION_SCHEMA, cluster=self.st.spec.name, node=self.node, at_ms=status.at_ms, coordinator="n3",
            state=msgspec.structs.replace(self.st, events=(), requests=()), heard=heard,
        )  # fmt: skip

    def preflight(self, ask, report=None):
        groups = [ask.group] if ask.group else [n for n in self.st.spec.groups if self.st.group(n).owner == ask.node]
        checks, target = list(self.checks), None
        for name in groups:
            owner = self.st.group(name).owner
            target = ask.to or next((n for n in self.st.spec.groups[name].nodes if n != owner), None)
            if ask.order == "restart":
                target = owner
            elif target == owner and ask.order != "ban":
                checks.append(Check(name="target", verdict=Verdict.BAD, reason=f"{name} is on {owner} already"))
            bad = Verdict.WARNING if ask.order == "standby" else Verdict.BAD
            prefix = f"{name}: " if ask.order == "standby" else ""
            reasons = self.refusals.get(target or "", ()) if not self.st.maintenance.on else ()
            checks += [Check(name="target", verdict=bad, reason=f"{prefix}{reason}") for reason in reasons]
        return Preflight(
            order=ask.order, group=ask.group, node=ask.node, resource=ask.resource,
            source=ask.node or self.st.group(ask.group).owner, target=target, checks=tuple(checks), loss=self.loss,
            proof="a confirmed fence of n1 (ipmi)" if ask.order == "failover" else "",
            budget=(PhaseBudget(phase="stop", usual_ms=310), PhaseBudget(phase="start", usual_ms=490, limit_ms=60_000)),
            refusals=tuple(x.reason for x in checks if x.verdict is Verdict.BAD),
            warnings=tuple(x.reason for x in checks if x.verdict is Verdict.WARNING),
        )  # fmt: skip

    async def report_of(self, node):
        return "nobody asks here"

    def leaving(self, group, node):
        return self.leave

    def check_config(self, source):
        if self.problems:
            return None, self.problems, ()
        return self.st.spec, (), self.changes if source != self.st.config.source else ()

    async def check_config_elsewhere(self, source):
        return self.elsewhere

    def config_effects(self, spec):
        return self.config_refusals, self.told_effects

    async def submit(self, command):
        self.submitted.append(command)
        await asyncio.sleep(self.submit_delay_s)
        for known, index, answer in self.st.requests:
            if known == command.request:
                return c.Outcome(index=index, accepted=not answer, reasons=tuple(answer.splitlines()))
        fate = self.fate.pop(0) if self.fate else None
        if isinstance(fate, c.Unknown) and fate.why.startswith("applied:"):
            self.carry_out(command)
            return fate
        if isinstance(fate, NotProposed):
            raise fate
        if isinstance(fate, Exception):
            raise fate
        if isinstance(fate, c.Outcome):
            self.advance(requests=(*self.st.requests, (command.request, fate.index, "\n".join(fate.reasons))))
            return fate
        return fate or self.carry_out(command)

    async def wait_applied(self, after, timeout_ms):
        deadline = time.monotonic() + timeout_ms / 1000
        while self.st.applied <= after and (left := deadline - time.monotonic()) > 0:
            self.changed = self.changed or asyncio.Event()
            try:
                await asyncio.wait_for(self.changed.wait(), left)
            except TimeoutError:
                break
        return self.st.applied

    def now_ms(self):
        return self.now

    # --- the script

    def advance(self, **changes):
        self.st = msgspec.structs.replace(self.st, applied=self.st.applied + 1, **changes)
        if self.changed is not None:
            self.changed.set()
            self.changed = None

    def event(self, kind, sentence, **fields):
        event = Event(index=self.st.applied + 1, at_ms=self.now, kind=kind, sentence=sentence, **fields)
        return (*self.st.events, event)

    def carry_out(self, command):
        index = self.st.applied + 1
        done = {"requests": (*self.st.requests, (command.request, index, ""))}
        who = {"actor": command.actor, "reason": command.reason}
        match command:
            case c.RequestMove():
                self.start_move(command, index, Trigger.SWITCHOVER, done)
            case c.RequestFailover():
                self.start_move(command, index, Trigger.FAILOVER, done)
            case c.RequestRestart() | c.ScheduleMove() | c.Cancel():
                self.carry_out_order(command, index, who, done)
            case c.SetBan() | c.LiftBan() | c.LiftQuarantine() | c.HandsOff() | c.ChangeIncident():
                self.st, outcome = apply(self.st, index, command)
                self.advance()
                return outcome
            case c.SetStandby():
                node = msgspec.structs.replace(self.st.node(command.node), standby=command.standby)
                text = f"{command.node} is {'on standby' if command.standby else 'available again'}"
                self.advance(
                    nodes={**self.st.nodes, command.node: node},
                    events=self.event("standby", text, node=command.node, **who), **done,
                )  # fmt: skip
                if command.standby and self.st.group("mail").owner == command.node:
                    move = c.RequestMove(
                        at_ms=0, group="mail", target="n2" if command.node == "n1" else "n1", expected_epoch=0,
                        actor=command.actor, reason=command.reason, request=command.request,
                    )  # fmt: skip
                    self.start_move(move, self.st.applied + 1, Trigger.STANDBY, {})
            case c.SetMaintenance():
                acks = self.maintenance_acks if command.on else ()
                self.advance(
                    maintenance=Maintenance(
                        on=command.on, acknowledged=acks, suspended=self.still_suspended, since_ms=self.now, **who
                    ),
                    events=self.event("maintenance", f"maintenance is {'on' if command.on else 'off'}", **who), **done,
                )  # fmt: skip
            case c.RequestFence():
                order = FenceOrder(
                    id=index, target=command.target, device="ipmi", by="n1", attempt=1, reason="", ordered_at_ms=0
                )
                node = msgspec.structs.replace(self.st.node(command.target), fence=order)
                self.advance(
                    nodes={**self.st.nodes, command.target: node},
                    events=self.event("order_fence", f"n1 fences {command.target} with ipmi", node=command.target),
                    **done,
                )
                self.later(self.end_fence(command.target))
            case c.FenceConfirmed():
                node = msgspec.structs.replace(self.st.node(command.target), fenced_at=index, incarnation=None)
                text = f"{command.target} counts as off: an operator vouches for it"
                self.advance(
                    nodes={**self.st.nodes, command.target: node},
                    events=self.event("confirmed", text, node=command.target, **who), **done,
                )  # fmt: skip
            case c.ApplyConfig():
                config = ConfigRevision(
                    revision=self.st.config.revision + 1,
                    index=index,
                    applied_at_ms=self.now,
                    source=command.source,
                    **who,
                )
                self.advance(config=config, events=self.event("config", "configuration applied", **who), **done)
            case _:
                self.advance(events=self.event("clear", "failures forgotten", **who), **done)
        return c.Outcome(index=index, accepted=True)

    def carry_out_order(self, command, index, who, done):
        match command:
            case c.RequestRestart():
                order = RestartOrder(id=index, resource=command.resource, epoch=18, actor=command.actor)
                group = msgspec.structs.replace(self.st.group(command.group), restart=order)
                text = f"n1 is to restart {command.resource or 'every resource'} of {command.group}"
                self.advance(
                    groups={command.group: group}, events=self.event("restart ordered", text, group="mail"), **done
                )
                self.later(self.end_restart(command.group))
            case c.ScheduleMove():
                order = ScheduledMove(
                    id=index, group=command.group, target=command.target, due_ms=command.due_ms, force=command.force,
                    actor=command.actor, reason=command.reason, ordered_at_ms=self.now,
                )  # fmt: skip
                self.advance(
                    scheduled=(*self.st.scheduled, order), events=self.event("scheduled", "scheduled", **who), **done
                )
            case c.Cancel():
                left = tuple(s for s in self.st.scheduled if s.id != command.order)
                self.advance(
                    scheduled=left, events=self.event("cancel", f"{command.order} is cancelled", **who), **done
                )

    def start_move(self, command, index, trigger, done):
        source = self.st.group(command.group).owner
        move = Move(
            id=index, group=command.group, source=source, target=command.target, trigger=trigger, actor=command.actor,
            reason=command.reason, started_at_ms=self.now, request=command.request,
            stamps={"detected": self.now, "decided": self.now},
        )  # fmt: skip
        group = msgspec.structs.replace(
            self.st.group(command.group), phase=Phase.STOPPING, move=index, trigger=trigger, actor=command.actor,
            reason=command.reason, sentence=f"{source} was told to stop {command.group}", since_ms=self.now,
        )  # fmt: skip
        self.advance(
            groups={command.group: group}, moves=(*self.st.moves, move),
            events=self.event("request_move", group.sentence, group=command.group, actor=command.actor), **done,
        )  # fmt: skip
        self.later(self.run_move(index))

    async def run_move(self, index):
        for stamp, phase, ms in self.plan:
            await asyncio.sleep(self.step_s)
            self.now += ms
            last = (stamp, phase, ms) == self.plan[-1]
            move = next(m for m in self.st.moves if m.id == index)
            owner = move.source if phase is Phase.STOPPING or self.move_result != "done" else move.target
            new = msgspec.structs.replace(
                move,
                stamps={**move.stamps, stamp: self.now},
                result=self.move_result if last else "running",
                detail=self.move_detail if last else "",
            )
            sentence = self.move_end if phase is Phase.ACTIVE else f"{stamp} on {owner}"
            group = msgspec.structs.replace(
                self.st.group(move.group), phase=phase, owner=owner, sentence=sentence, since_ms=self.now
            )
            self.advance(
                moves=tuple(new if m.id == index else m for m in self.st.moves), groups={move.group: group},
                events=self.event("step", sentence, group=move.group),
            )  # fmt: skip

    async def end_restart(self, name):
        await asyncio.sleep(self.step_s)
        group = msgspec.structs.replace(self.st.group(name), restart=None)
        kind = "restart failed" if "not restarted" in self.restart_end else "restart done"
        self.advance(groups={name: group}, events=self.event(kind, self.restart_end, group=name, node="n1"))

    async def end_fence(self, target):
        await asyncio.sleep(self.step_s)
        failure = "" if self.fence_ok else "ipmi: timed out after 60 s"
        node = msgspec.structs.replace(self.st.node(target), fence=None, fence_failure=failure)
        if self.fence_ok:
            node = msgspec.structs.replace(node, fenced_at=self.st.applied + 1, incarnation=None)
        text = f"{target} is off: ipmi says so" if self.fence_ok else f"fencing {target} failed: {failure}"
        self.advance(nodes={**self.st.nodes, target: node}, events=self.event("fence_done", text, node=target))

    def later(self, work):
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


@contextmanager
def serving(backend: FakeBackend, path: Path, group: str | int = 0):
    """The real server on `path`, in a thread of its own with its own loop."""
    started = threading.Event()
    failure: list[BaseException] = []
    control: dict = {}

    async def run():
        server = ControlServer(backend, path, group)
        stop = asyncio.Event()
        control.update(loop=asyncio.get_running_loop(), stop=stop, server=server)
        try:
            await server.start()
            started.set()
            await stop.wait()
        except BaseException as error:
            failure.append(error)
            started.set()
        finally:
            await server.stop()
            for task in list(backend.tasks):
                task.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert started.wait(10)
    if failure:
        raise failure[0]
    try:
        yield control
    finally:
        control["loop"].call_soon_threadsafe(control["stop"].set)
        thread.join(10)


SCENES = {
    "well": lambda b: None,
    "degraded": lambda b: (
        b.node_changes.update(
            n2={"alive": False, "suspected": True, "silent_ms": 734_000, "ready": False, "joined": False,
                "watchdog": "none", "detail": "not heard for 12 min",
                "fence_devices": {"ipmi": "connection timed out", "pdu-a": ""}}
        ),
        setattr(b, "candidates", (
            Candidate(node="n1", eligible=True, reason="owns it"),
            Candidate(node="n2", eligible=False, reason="not heard for 12 min"))),
    ),
    "down": lambda b: (
        b.group_changes.update(phase=Phase.BLOCKED, lease_ms=None, resources=dict.fromkeys(RESOURCES, "unknown"),
            owner="n2", sentence="n2 did not stop mail and could not be fenced: ipmi: timed out after 60 s"),
        b.node_changes.update(n2={"alive": False, "silent_ms": 61_000, "ready": False,
            "fence_failure": "ipmi: timed out after 60 s"}),
    ),
}  # fmt: skip


if __name__ == "__main__":
    fake = FakeBackend()
    fake.now = int(time.time() * 1000) - 3_600_000
    fake.step_s = 0.3
    SCENES[sys.argv[2] if len(sys.argv) > 2 else "well"](fake)
    with serving(fake, Path(sys.argv[1])):
        while True:
            time.sleep(3600)
