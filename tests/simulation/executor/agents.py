"""Scripted agents: what an agent is meant to do to the machine, and each way in which it may fail to."""

import signal
from pathlib import Path

from hamail.executor import spawn
from hamail.ocf.claim import Claim
from tests.simulation.executor.kernel import PipeEnd, Wire

TEMPLATE = """<?xml version="1.0"?>
<resource-agent name="{name}" version="1.0"><version>1.1</version><parameters>{parameters}</parameters>
<actions><action name="start" timeout="4s"/><action name="stop" timeout="3s"/>
<action name="monitor" timeout="2s" interval="10s" depth="0"/>{deep}<action name="validate-all" timeout="2s"/>
</actions></resource-agent>
"""
PARAMETERS = {
    "vip": ("address",),
    "IPaddr2": ("ip",),
    "filesystem": ("device", "directory", "claim"),
    "Filesystem": ("device", "directory"),
    "service": ("label",),
    "daemon": ("label",),
    "unit": ("unit",),
}
AGENTS = (
    "hamail/vip",
    "hamail/filesystem",
    "hamail/service",
    "hamail/unit",
    "heartbeat/IPaddr2",
    "heartbeat/Filesystem",
    "heartbeat/daemon",
)
FENCE_META = """<?xml version="1.0"?>
<resource-agent name="fence_box"><parameters><parameter name="plug"/><parameter name="ipaddr"/></parameters>
<actions><action name="off"/><action name="status"/><action name="monitor"/></actions></resource-agent>
"""
FAULTS = (
    "slow",
    "hang",
    "deaf",  # hangs and ignores SIGTERM
    "stuck",  # hangs in the kernel for a while
    "code",  # does nothing, or all, and ends with any exit code
    "nothing",  # says done and has done nothing
    "late",  # says done; a child does it afterwards
    "fork",  # leaves a child behind
    "flood",
    "killed",  # by a signal, before or after its work
    "wrong",  # a monitor that says the opposite
    "not_spawned",
    "server_dies",
)
_FLOOD = b"x" * (70 << 10)
_LOOK_S = 0.02


def write_agents(folder: Path) -> None:
    """Files of agents: only their names, owners and modes count; what they do is in this module."""
    for name in (*AGENTS, "fence_box"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/false\n")
        path.chmod(0o755)


class AgentServer:
    """The far end of the executor's socket pair: starts actions as processes and reports their ends."""

    def __init__(self, world, wire: Wire) -> None:
        self.world = world
        self.wire = wire
        self.dead = False
        self._running: set = set()
        wire.server = self

    def take(self, body: bytes, fds: list[int]) -> None:
        if self.dead:
            raise BrokenPipeError
        if self.world.faults.chance("busy_server"):
            raise BlockingIOError
        order = spawn.decode_spawn(body)
        kernel = self.world.kernel
        first = kernel.fds[fds[0]]
        stdin = bytes(first.pipe.data) if isinstance(first, PipeEnd) else b""
        pipes = [kernel.fds[fd].pipe for fd in fds[1:]]
        for pipe in pipes:  # as in flight: dup'ed into the message
            pipe.writers.add(("sent", order.id))
        self.world.agenda.after(0.001, lambda: self._fork(order, stdin, pipes))

    def _fork(self, order, stdin, pipes) -> None:
        kernel = self.world.kernel
        for pipe in pipes:
            pipe.writers.discard(("sent", order.id))
        if self.dead:
            for pipe in pipes:
                kernel.poke_pipe(pipe)
            return
        action = Action(self, order, stdin, pipes)
        if action.fault == "not_spawned":
            for pipe in pipes:
                kernel.poke_pipe(pipe)
            self._reply(spawn.SpawnFailed(id=order.id, why="Resource temporarily unavailable"))
            return
        proc = action.begin()
        self._running.add(proc)

        def ended(status):
            self._running.discard(proc)
            action.ended(status)
            self._reply(spawn.Exited(id=order.id, exit_code=status))

        proc.ended = ended
        self._reply(spawn.Spawned(id=order.id, pid=proc.pid), proc)
        action.run()
        if action.fault == "server_dies":
            self.world.agenda.after(self.world.rng.uniform(0.0, 0.3), self.die)

    def _reply(self, message, proc=None) -> None:
        if self.dead or self.wire.closed:
            return
        self.wire.inbox.append((spawn.encode(message), proc))
        self._poke()

    def _poke(self) -> None:
        for fd, thing in self.world.kernel.fds.items():
            if thing is self.wire:
                self.world.kernel.poke(fd)

    def die(self) -> None:
        """Its children are killed with it: they asked the kernel for that."""
        if self.dead:
            return
        self.dead = True
        self._kill_all()
        self.wire.closed = True
        self._poke()

    def hung_up(self) -> None:
        """The executor's end is closed."""
        if not self.dead:
            self.dead = True
            self._kill_all()

    def _kill_all(self) -> None:
        for proc in sorted(self._running, key=lambda p: p.pid):
            self.world.kernel.kill(proc.pid, signal.SIGKILL)


class Action:
    """One run of an agent."""

    def __init__(self, server: AgentServer, order: spawn.Spawn, stdin: bytes, pipes: list) -> None:
        self.server = server
        self.world = server.world
        self.kernel = server.world.kernel
        self.order = order
        self.stdin = stdin.decode()
        self.out, self.err = pipes
        self.pipes = pipes
        self.env = order.environment
        self.agent = "/".join(Path(order.path).parts[-2:])
        self.kind = Path(order.path).name
        self.name = order.arguments[0] if order.arguments else "fence"
        self.group = self.env.get("OCF_RESKEY_CRM_meta_hamail_group", "").removesuffix(".prepare")
        self.resource = self.env.get("OCF_RESOURCE_INSTANCE", "")
        self.epoch = int(self.env.get("OCF_RESKEY_CRM_meta_hamail_epoch", "0"))
        self.owner = (self.group, self.resource)
        self.timeout_s = int(self.env.get("OCF_RESKEY_CRM_meta_timeout", "2000")) / 1000
        self.fault = self.world.faults.of_action(self)
        self.did = ""

    def begin(self):
        sets = [name.removeprefix("set:") for name in self.order.join_files]
        set_ = sets[0] if sets else ""
        role = "prepare" if ".prepare." in set_ or set_.startswith(("meta-data:", "fence.")) else "action"
        self.proc = self.kernel.fork(set_, self.owner, role)
        self.proc.deaf = self.fault == "deaf"
        for pipe in self.pipes:
            pipe.writers.add(self.proc.pid)
            self.proc.held.append(pipe)
        self.world.judge.action_begins(self)
        return self.proc

    def ended(self, status: int) -> None:
        if self.name == "fence":
            self.world.fence_box.ended(self, status)
        self.world.judge.action_ended(self, status)

    # -- the script ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        rng = self.world.rng
        work_s = rng.uniform(0.01, 0.2) if self.name in ("start", "stop") else rng.uniform(0.005, 0.05)
        match self.fault:
            case "slow":
                work_s = rng.uniform(0.5, 1.3) * self.timeout_s
            case "hang" | "deaf" | "stuck":
                if self.fault == "stuck":
                    self.proc.stuck_until_s = self.world.agenda.now_s + rng.uniform(0.5, 12.0)
                if rng.random() < 0.5:  # it hangs after its work
                    self.later(work_s, lambda: self.act(lambda _code: None))
                return
            case "flood":
                for _chunk in range(4):
                    self.kernel.put(self.out if rng.random() < 0.5 else self.err, _FLOOD)
            case "fork":
                self.child()
            case "killed":
                number = rng.choice((signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM))
                die = lambda _code=0: self.kernel.end(self.proc, -number)  # noqa: E731
                self.later(work_s, (lambda: self.act(die)) if rng.random() < 0.5 else die)
                return
            case "nothing" if self.name in ("start", "stop", "fence"):
                self.later(work_s, lambda: self.exit(0))
                return
            case "late" if self.name == "start":
                child = self.child()
                self.later(work_s, lambda: self.exit(0))
                delay_s = work_s + rng.uniform(0.0, 0.5)
                self.world.agenda.after(delay_s, lambda: None if child.gone else self.act(lambda _code: None))
                return
            case "code":
                code = rng.choice((1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 77, 126, 190, 255))
                if rng.random() < 0.5:
                    self.later(work_s, lambda: self.act(lambda _code: self.exit(code)))
                else:
                    self.later(work_s, lambda: self.exit(code))
                return
        self.later(work_s, lambda: self.act(self.exit))

    def later(self, delay_s: float, act) -> None:
        self.world.agenda.after(delay_s, lambda: None if self.proc.gone else act())

    def say(self, text: str) -> None:
        self.kernel.put(self.out, text.encode())

    def exit(self, code: int) -> None:
        if not self.proc.gone:
            if code:
                self.kernel.put(self.err, b"ocf-exit-reason:it did not work\n")
            self.kernel.end(self.proc, code)

    def child(self):
        role = "prepare" if self.proc.role == "prepare" else "child"
        child = self.kernel.fork(self.proc.set, self.owner, role, deaf=self.world.rng.random() < 0.5)
        for pipe in self.pipes:
            pipe.writers.add(child.pid)
            child.held.append(pipe)
        return child

    def act(self, done) -> None:
        """Do what the action is for, then `done(exit code)`."""
        if self.name == "fence":
            self.world.fence_box.act(self, done)
        elif self.name == "meta-data":
            self.say(metadata(self.kind))
            done(0)
        elif self.name == "validate-all":
            done(0)
        else:
            {"start": self._start, "stop": self._stop, "monitor": self._monitor}[self.name](done)

    def parameter(self, name: str) -> str:
        return self.env.get(f"OCF_RESKEY_{name}", "")

    def is_up(self) -> bool:
        return self.world.truth.resource_is_up(self.owner, self.kind, self.parameter)

    def _announce(self) -> None:
        """Our own agents say what belongs to the service."""
        if self.kind == "unit":
            self.say(f"hamail-cgroup: {self.parameter('unit')}\n")
        elif self.kind == "service":
            for proc in self.world.truth.services(self.owner):
                self.say(f"hamail-watch: pid={proc.pid} start={proc.ticks}\n")

    def _start(self, done) -> None:
        kind = self.kind.lower()
        if kind == "filesystem":
            if self.world.agenda.now_s < self.kernel.hung_until_s:
                self._wait_for_storage(lambda: self._start(done))
                return
            if not self._claim():
                done(1)
                return
            if not self.is_up():
                self.kernel.mount(self.parameter("device"), self.parameter("directory"))
        elif self.is_up():
            pass
        elif kind in ("vip", "ipaddr2"):
            self.kernel.add_address(self.parameter("address") or self.parameter("ip"))
        else:
            cgroup = self.parameter("unit") if self.kind == "unit" else ""
            set_ = "" if cgroup else self.proc.set
            deaf = self.world.faults.chance("deaf_service")
            proc = self.kernel.fork(set_, self.owner, "service", cgroup=cgroup, deaf=deaf)
            if self.world.faults.chance("stuck_service"):
                proc.stuck_until_s = self.world.agenda.now_s + self.world.rng.uniform(1.0, 25.0)
            self.world.service_may_die(proc)
        self._announce()
        done(0)

    def _claim(self):
        """Only our own agent does, and heeds it."""
        device = self.parameter("device")
        found = self.kernel.claims.get(device)
        if self.kind != "filesystem":
            return True
        if found is not None and found.epoch > self.epoch:
            return False
        names = {name: self.env.get(f"OCF_RESKEY_CRM_meta_hamail_{name}", "") for name in ("cluster", "group", "node")}
        self.kernel.claims[device] = Claim(epoch=self.epoch, **names)
        return True

    def _wait_for_storage(self, then) -> None:
        self.proc.stuck_until_s = max(self.proc.stuck_until_s, self.kernel.hung_until_s)
        self.world.agenda.at(self.kernel.hung_until_s, lambda: None if self.proc.gone else then())

    def _stop(self, done) -> None:
        self._announce()
        kind = self.kind.lower()
        if kind in ("vip", "ipaddr2"):
            self.kernel.drop_address(self.parameter("address") or self.parameter("ip"))
            done(0)
        elif kind == "filesystem":
            if self.world.agenda.now_s < self.kernel.hung_until_s:
                self._wait_for_storage(lambda: self._stop(done))
            elif self.parameter("device") in self.kernel.mounts and self.world.truth.busy(self.group):
                done(1)
            else:
                self.kernel.umount(self.parameter("device"))
                done(0)
        else:
            for proc in self.world.truth.services(self.owner):
                self.kernel.kill(proc.pid, signal.SIGTERM)
            self.later(0.3, lambda: self._kill_services(done))
            self.later(_LOOK_S, lambda: self._await_services(done))

    def _kill_services(self, _done) -> None:
        for proc in self.world.truth.services(self.owner):
            self.kernel.kill(proc.pid, signal.SIGKILL)

    def _await_services(self, done) -> None:
        if self.world.truth.services(self.owner):
            self.later(_LOOK_S, lambda: self._await_services(done))
        else:
            done(0)

    def _monitor(self, done) -> None:
        self._announce()
        up = self.is_up() != (self.fault == "wrong")
        done(0 if up else 7)


class FenceBox:
    """A power switch with its own opinion; `off` is what is true of each plug."""

    def __init__(self, world) -> None:
        self._world = world
        self.off: set[str] = set()
        self.runs: list = []  # (when it ended, action, plug, exit code)

    def act(self, action, done) -> None:
        given = dict(line.split("=", 1) for line in action.stdin.splitlines())
        what, plug = given.get("action", "reboot"), given.get("plug", "")
        action.did = what
        code = 0
        if what == "metadata":
            action.say(FENCE_META)
        elif what == "off":
            self.off.add(plug)
        elif what == "status":
            code = 2 if plug in self.off else 0
        done(code)

    def ended(self, action, status: int) -> None:
        given = dict(line.split("=", 1) for line in action.stdin.splitlines())
        self.runs.append((self._world.agenda.now_s, given.get("action"), given.get("plug"), status))


def metadata(kind: str) -> str:
    parameters = "".join(f'<parameter name="{p}"><content type="string"/></parameter>' for p in PARAMETERS[kind])
    deep = '<action name="monitor" timeout="2s" interval="15s" depth="10"/>' if kind == "service" else ""
    return TEMPLATE.format(name=kind, parameters=parameters, deep=deep)
