"""One seeded run: a machine in memory, the real executor on it through its lives, and everything that goes wrong."""

import asyncio
import hashlib
import random
from collections import Counter, deque
from pathlib import Path

from hamail.executor import verify
from hamail.executor.executor import Executor, Settings
from hamail.executor.kinds import addresses_of, mount_of
from hamail.executor.ledger import Ledger
from hamail.executor.processes import Processes
from hamail.executor.server import Server
from hamail.executor.watchdog import Watchdog
from hamail.model.spec import GroupSpec, ResourceSpec
from tests.simulation.executor.agents import AGENTS, FAULTS, AgentServer, FenceBox
from tests.simulation.executor.borders import Dog, RunDisk, WorldSets, borders
from tests.simulation.executor.hamaild import Hamaild
from tests.simulation.executor.judge import Judge
from tests.simulation.executor.kernel import Kernel, Sock, Wire
from tests.simulation.executor.loop import Agenda, Stopped, VirtualLoop

CHAOS_S = 60.0
HEAL_S = 40.0
AUDIT_S = 15.0
LIVES_MAX = 60
NOTES_KEPT = 150
WALL_S = 1_800_000_000.0
EVENTS = (
    *("daemon", "freeze", "suspend", "kill", "terminate", "blind"),
    *("hung_storage", "disk_full", "untrusted", "stray", "service"),
)


class Faults:
    """Which faults this seed knows, and how often they come."""

    def __init__(self, world, rng):
        self._w = world
        self._rng = rng
        some = rng.sample(FAULTS, rng.randrange(0, len(FAULTS) + 1))
        self.actions = [f for f in FAULTS if f in some]
        self.share = rng.choice((0.01, 0.03, 0.08, 0.2))
        self.others = {"busy_server": 0.02, "deaf_service": 0.2, "stuck_service": 0.05, "service_dies": 0.1}
        self.others = {k: v for k, v in self.others.items() if rng.random() < 0.6}
        self.calm_groups = set()
        self.injected = Counter()

    def of_action(self, action):
        if self._w.healed or action.group in self.calm_groups or not self.actions:
            return ""
        if self.calm_groups and not action.group:
            return ""  # reading meta-data and fences: not of one group
        if self._rng.random() >= self.share:
            return ""
        fault = self._rng.choice(self.actions)
        if fault == "server_dies" and (self.calm_groups or self._rng.random() < 0.8):
            return ""
        self.injected[fault] += 1
        return fault

    def chance(self, name):
        if self._w.healed or self.calm_groups or name not in self.others:
            return False
        hit = self._rng.random() < self.others[name]
        self.injected[name] += hit
        return hit


class Truth:
    def __init__(self, kernel):
        self._kernel = kernel

    def services(self, owner):
        return [p for p in list(self._kernel.procs.values()) if p.owner == owner and p.role == "service"]

    def busy(self, group):
        return any(p.owner[0] == group and p.role == "service" for p in self._kernel.procs.values())

    def resource_is_up(self, owner, kind, parameter):
        if kind.lower() in ("vip", "ipaddr2"):
            return (parameter("address") or parameter("ip")) in self._kernel.addresses
        if kind.lower() == "filesystem":
            return parameter("device") in self._kernel.mounts
        return bool(self.services(owner))


class World:
    def __init__(self, seed, folder: Path, *, isolation=None, **focus):
        self.seed = seed
        self.folder = folder  # of the agents
        self.rng = random.Random(seed)
        self.agenda = Agenda()
        self.rate = self.rng.uniform(0.95, 1.05)
        self._offset_s = self.rng.uniform(10.0, 1e5)
        self._suspended_s = 0.0
        self.kernel = Kernel(self)
        self.dog = Dog(self)
        self.truth = Truth(self.kernel)
        self.fence_box = FenceBox(self)
        self.judge = Judge(self)
        self.faults = Faults(self, self.rng)
        self.loop = self.server = self.executor = None
        self.buried = True
        self.life_number = 0
        self.boot = 0
        self.frozen_until_s = self.disk_full_until_s = 0.0
        self.healed = self.auditing = self.restart_after_stop = False
        self.untrusted = {}
        self.trusted = {}
        self.deaths = Counter()
        self._notes = deque(maxlen=NOTES_KEPT)
        self._digest = hashlib.sha256()
        self._ids = 0
        self._downtime_s = 0.0
        self._complaints = []
        self.disk = RunDisk(self)
        self._draw(isolation)
        for name, value in focus.items():  # what a hunt wants to see more of
            assert hasattr(self, name)
            setattr(self, name, value)
        self.hamaild = Hamaild(self)

    def _draw(self, isolation):
        rng = self.rng
        self.dog.present = rng.random() < 0.8
        self.watchdog_timeout_s = rng.choice((2, 5, 5, 10))
        self.soft_ns = int(rng.choice((2.0, 4.0, 6.0)) * 1e9)
        self.hard_ns = self.soft_ns + int(rng.choice((1.0, 3.0, 5.0)) * 1e9)
        self.stop_share = rng.choice((0.01, 0.04, 0.1))
        self.isolation = rng.random() < 0.2 if isolation is None else isolation
        self.groups = {name: self._group(name, i) for i, name in enumerate(("mail", "web")[: rng.randrange(1, 3)])}
        if self.isolation:
            self.groups["calm"] = self._group("calm", 7)
            self.faults.calm_groups.add("calm")
        self.maintenance_share = 0.02 if rng.random() < 0.3 and not self.isolation else 0.0
        self.events = [] if self.isolation else rng.sample(EVENTS, rng.randrange(0, len(EVENTS) + 1))
        self.pace_s = rng.choice((2.0, 5.0, 12.0))

    def _group(self, name, number):
        rng = self.rng
        own = rng.random() < 0.6 or name == "calm"
        times = {"start_timeout_ms": 2000, "stop_timeout_ms": rng.choice((1000, 2000)), "monitor_timeout_ms": 1000}
        times["monitor_interval_ms"] = rng.choice((3000, 10_000, 30_000))
        device = f"/dev/sd{chr(97 + number)}"
        self.kernel.devices[device] = number
        fs = {"device": device, "directory": f"/srv/{name}"}
        resources = [
            ResourceSpec(
                name="fs", agent="hamail:filesystem" if own else "heartbeat:Filesystem", parameters=fs, **times
            )
        ]
        for i in range(rng.randrange(1, 4)):
            kind = rng.choice(("hamail:service", "hamail:unit") if own else ("heartbeat:daemon", "hamail:service"))
            given = {"unit": f"{name}{i}.service"} if kind == "hamail:unit" else {"label": f"s{i}"}
            after = ("fs",) if i == 0 or rng.random() < 0.6 else (f"s{i - 1}",)
            critical = i == 0 or rng.random() < 0.8
            resources.append(
                ResourceSpec(name=f"s{i}", agent=kind, parameters=given, after=after, critical=critical, **times)
            )
        ip = {"address": f"192.0.2.{10 + number}"} if own else {"ip": f"192.0.2.{10 + number}"}
        agent = "hamail:vip" if own else "heartbeat:IPaddr2"
        resources.append(ResourceSpec(name="vip", agent=agent, parameters=ip, after=("s0",), **times))
        return GroupSpec(name=name, nodes=("n1", "n2"), resources=tuple(resources))

    # -- clocks ----------------------------------------------------------------------------------------------------

    def monotonic_s(self):
        return self._offset_s + self.agenda.now_s * self.rate

    def boottime_ns(self):
        return int((self.monotonic_s() + self._suspended_s) * 1e9)

    def wall_s(self):
        return WALL_S + self.agenda.now_s

    # -- notes -----------------------------------------------------------------------------------------------------

    def note(self, words):
        line = f"{self.agenda.now_s:10.4f} {words}".replace(str(self.folder), "AGENTS")
        self._notes.append(line)
        self._digest.update(line.encode())

    def story(self):
        head = f"seed {self.seed}, boot {self.boot}, life {self.life_number}, clock rate {self.rate:.3f}"
        return "\n".join([head, *self._notes])

    def trace(self):
        return self._digest.hexdigest()

    def new_id(self):
        self._ids += 1
        return f"id{self._ids}"

    def complaint(self, what):
        self._complaints.append(what)

    # -- what the judge asks ---------------------------------------------------------------------------------------

    def step(self):
        if self._complaints:
            what = self._complaints.pop()
            if isinstance(what, BaseException):
                raise what
            self.judge.fail(f"the event loop complains: {what}")
        self.judge.step()
        for group in list(self.judge.strays):
            if not self.judge.alive(group):
                self.judge.strays.pop(group)
        for group in self.faults.calm_groups if not self.healed else ():
            self.judge.calm_group(group)

    def ledger_epochs(self):
        return {held.spec.name: held.epoch for held in self.executor._ledger.page.groups}

    def quiet_groups(self):
        e = self.executor
        quiet = {n for n, g in e._held.items() if g.state == "up" and not g._restarts}
        free = {n for n in self.groups if n not in e._held and not e._look_lock(n).locked()}
        busy = {g for what, g in self.judge.waiting if what in ("stop", "start")}
        return (quiet | free) - busy if ("clean", "") not in self.judge.waiting else quiet - busy

    # -- faults ----------------------------------------------------------------------------------------------------

    def service_may_die(self, proc):
        if self.faults.chance("service_dies"):
            self.agenda.after(self.rng.uniform(0.05, 20.0), lambda: self.kernel.end(proc, -11))

    def _chaos(self):
        if self.healed:
            return
        self.agenda.after(self.rng.expovariate(1 / self.pace_s), self._chaos)
        if self.events:
            event = self.rng.choice(self.events)
            self.faults.injected[event] += 1
            getattr(self, f"_{event}")()

    def _daemon(self):
        mode = self.rng.choice(("honest", "honest", "silent", "deaf", "gone", "hostile", "hostile"))
        self.note(f"WORLD: hamaild is {mode}")
        self.hamaild.mode = mode
        self.hamaild.reads = mode != "deaf"
        if mode == "honest":
            self.hamaild.hang_up()  # restarted

    def _freeze(self):
        for_s = self.rng.choice((0.2, 1.0, 3.0, 8.0, 15.0))
        self.note(f"WORLD: the executor is frozen for {for_s} s")
        self.frozen_until_s = self.agenda.now_s + for_s

    def _suspend(self):
        for_s = self.rng.choice((0.5, 3.0, 60.0, 3000.0))
        self.note(f"WORLD: the machine was suspended for {for_s} s")
        self._suspended_s += for_s
        self.judge.suspended(for_s)
        self.kernel.clock_jumped()

    def _kill(self):
        self._downtime_s = self.rng.choice((0.1, 0.1, 0.1, 1.0, 4.0, 12.0))
        if self.loop is not None:
            raise Stopped("killed")

    def _terminate(self):
        if self.executor is not None and self.stop_asked is not None:
            self.note("WORLD: SIGTERM")
            self.stop_asked.set()

    def _blind(self):
        for_s = self.rng.choice((0.05, 0.5, 3.0, 10.0))
        self.note(f"WORLD: no more open files for {for_s} s")
        self.kernel.blind_until_s = self.agenda.now_s + for_s

    def _hung_storage(self):
        for_s = self.rng.choice((0.3, 2.0, 8.0, 20.0))
        self.note(f"WORLD: storage hangs for {for_s} s")
        self.kernel.hung_until_s = self.agenda.now_s + for_s

    def _disk_full(self):
        self.disk_full_until_s = self.agenda.now_s + self.rng.choice((0.5, 5.0, 20.0))
        self.note("WORLD: the run directory is full")

    def _untrusted(self):
        name = self.rng.choice(AGENTS)
        self.trusted.clear()
        if name in self.untrusted:
            del self.untrusted[name]
            (self.folder / name).chmod(0o755)
        else:
            self.untrusted[name] = self.agenda.now_s
            (self.folder / name).chmod(0o777)
            self.note(f"WORLD: {name} can be written by everybody")

    def _stray(self):
        group = self.rng.choice(list(self.groups.values()))
        if group.name in self.judge.holds:
            return
        self.judge.strays[group.name] = self.agenda.now_s
        for resource in group.resources:
            for ip in addresses_of(resource):
                self.note(f"WORLD: somebody adds {ip}")
                self.kernel.add_address(ip)
            mount = mount_of(resource)
            if mount and self.rng.random() < 0.3:
                self.note(f"WORLD: somebody mounts {mount.device}")
                self.kernel.mount(mount.device, mount.directory, hidden=self.rng.random() < 0.5)

    def _service(self):
        services = [p for p in self.kernel.procs.values() if p.role == "service"]
        if services:
            self.kernel.end(self.rng.choice(services), -9)

    def _calm_stray(self):
        """In a run about isolation: somebody adds the address of the group that has no faults."""
        if self.healed:
            return
        self.agenda.after(self.rng.uniform(5.0, 15.0), self._calm_stray)
        for name in ("mail", "web", "calm"):
            if name in self.groups and name not in self.judge.holds and self.executor is not None:
                ip = next(iter(addresses_of(self.groups[name].resources[-1])))
                self.judge.strays[name] = self.agenda.now_s
                self.note(f"WORLD: somebody adds {ip} of {name}")
                self.kernel.add_address(ip)

    def heal(self):
        self.note("WORLD: all is well from here on")
        self.healed = True
        self.kernel.blind_until_s = self.kernel.hung_until_s = self.disk_full_until_s = 0.0
        for name in self.untrusted:
            (self.folder / name).chmod(0o755)
        self.untrusted.clear()
        self.trusted.clear()
        for proc in list(self.kernel.procs.values()):
            if proc.stuck_until_s > self.agenda.now_s:
                proc.stuck_until_s = 0.0
        self.hamaild.mode, self.hamaild.reads, self.hamaild.wanted = "honest", True, True
        self.hamaild.hang_up()

    # -- lives -----------------------------------------------------------------------------------------------------

    def reset(self, why):
        self.note(f"WORLD: {why}")
        raise Stopped("reset")

    def run(self):
        try:
            with borders(self):
                self._schedule()
                for _life in range(LIVES_MAX):
                    if self._live() == "end":
                        return self
                self.judge.fail("the executor lives and dies for ever")
        finally:
            for name in self.untrusted:
                (self.folder / name).chmod(0o755)

    def _schedule(self):
        if self.isolation:
            self.agenda.after(5.0, self._calm_stray)
        self.agenda.after(self.pace_s, self._chaos)
        self.agenda.at(CHAOS_S, self.heal)
        self.agenda.at(CHAOS_S + HEAL_S / 2, self._power_cycle_if_doomed)
        self.agenda.at(CHAOS_S + HEAL_S, self._healed_look)
        self.agenda.at(CHAOS_S + HEAL_S + AUDIT_S, self._audit)

    def _power_cycle_if_doomed(self):
        if self.executor is None or self.executor._doomed or not self._is_well():
            self.reset("the operator resets a machine without a watchdog")

    def _is_well(self):
        return bool(self.hamaild.groups) and all(s == "up" for s, _e in self.hamaild.groups.values())

    def _healed_look(self):
        """All groups must be up again."""
        if set(self.hamaild.groups) != set(self.groups) or not self._is_well():
            self.judge.fail(f"all was healed, but the groups are {self.hamaild.groups}, clean {self.hamaild.clean}")
        self.hamaild.all_requests_answered()
        self.hamaild.wanted = False
        self.auditing = True

    def _audit(self):
        for group in self.groups:
            if self.judge.alive(group):
                self.judge.fail(f"{group} was told to stop, but there is {self.judge.alive(group)}")
        self.judge.all_answered()
        self.hamaild.mode = "gone"
        self.hamaild.hang_up()
        self.stop_asked.set()

    def attach_server(self):
        """An agent server at the other end of the executor's newest socket pair."""
        wires = [t for t in self.kernel.fds.values() if isinstance(t, Wire) and t not in self.kernel.netlinks]
        AgentServer(self, wires[-1])

    def _live(self):
        self.life_number += 1
        self.judge.new_life()
        verify._asking.clear()  # a thread that hangs dies with its process
        self.buried = False
        self.loop = VirtualLoop(self)
        asyncio.set_event_loop(None)
        self.note(f"life {self.life_number} begins")
        why = "end"
        main = self.loop.create_task(self._main())
        main.add_done_callback(lambda _t: self.loop.stop())
        try:
            self.loop.run_forever()
            why = main.result()
        except Stopped as stopped:
            why = stopped.why
        finally:
            self._bury()
        self.deaths[why] += 1
        self.note(f"life {self.life_number} is over: {why}")
        if why != "end":
            self._without_executor(why)
        return why

    def _bury(self):
        self.kernel.forget_descriptors()
        self.buried = True
        self.server = self.executor = self.stop_asked = None
        self.hamaild.executor_gone()
        left = self.loop.bury()
        self.loop = None
        assert not left, f"{left} tasks do not end when cancelled"

    def _without_executor(self, why):
        try:
            if why == "reset":
                self._machine_reset()
                self.agenda.run_until(self.agenda.now_s + 2.0)
                return
            delay_s = self._downtime_s or 0.2
            self._downtime_s = 0.0
            until_s = self.agenda.now_s + delay_s
            while self.agenda.now_s < until_s:
                self.agenda.run_until(min(until_s, self.agenda.now_s + 0.25))
                self.judge.step()
        except Stopped as stopped:
            self._without_executor("reset" if stopped.why == "reset" else "killed")

    def _machine_reset(self):
        self.boot += 1
        self.kernel.power_off()
        self.dog.boot()
        self.frozen_until_s = 0.0
        self.judge.new_boot()

    async def _main(self):
        self.stop_asked = asyncio.Event()
        device = self.dog.path
        settings = Settings("n1", (self.folder,), device, self.watchdog_timeout_s)
        sock = Sock(self.kernel, Wire())
        AgentServer(self, sock.wire)
        processes = Processes(sock, 1, (self.folder,))
        processes.attach()
        watchdog = Watchdog(device, self.watchdog_timeout_s, ioctl=self.dog.ioctl)
        ledger = Ledger(Path("/run/held"), f"boot-{self.boot}", self.disk)
        executor = self.executor = Executor(settings, processes, WorldSets(self), watchdog, ledger)
        handle = executor.handle

        def judged(request):
            refused = handle(request)
            self.judge.asked(request, refused)
            return refused

        executor.handle = judged
        executor.listen(self.judge.told)
        await executor.recover()
        self.judge.recovered(executor._ledger.page.doomed or watchdog._starved)
        self.server = Server(executor, Path("/run/unused"))

        def tell(notice, told=self.server.tell):
            self.judge.told(notice)
            told(notice)

        executor.listen(tell)
        pulse = asyncio.create_task(executor.run())
        stopped = asyncio.create_task(self.stop_asked.wait())
        await asyncio.wait((stopped, pulse), return_when=asyncio.FIRST_COMPLETED)
        if pulse.done():
            pulse.result()
        clean = await executor.shutdown() and not pulse.done()
        pulse.cancel()
        if clean:
            watchdog.disarm()
        self.server = None
        self.hamaild.hang_up()
        await asyncio.sleep(0.01)
        executor.close()
        await asyncio.sleep(0.05)
        if not self.auditing:
            return "terminated"
        self._no_leaks(executor, processes, clean)
        processes.close()
        return "end"

    def _no_leaks(self, executor, processes, clean):
        self.hamaild.hang_up()
        left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task() and not t.cancelling()]
        names = [str(t.get_coro()) for t in left if "_connected" not in str(t.get_coro())]
        fds = [type(t).__name__ for t in self.kernel.fds.values()]
        if not clean or names or fds != ["Wire"] or processes._running or executor._tasks:
            self.judge.fail(f"left at the end: clean={clean} {names} {fds} {processes._running} {executor._tasks}")

    def figures(self):
        counts = self.judge.counts
        return {
            "seconds": self.agenda.now_s,
            "starts": counts["start"],
            "stops": counts["stop"],
            "requests": counts["accepted"] + counts["refused"],
            "refused": counts["refused"],
            "faults": sum(self.faults.injected.values()),
            "resets": self.deaths["reset"],
            "lives": self.life_number,
            "up": counts["GroupUp"],
            "passed": counts["DeadlinePassed"],
        }
