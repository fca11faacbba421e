"""Compares what the executor does and says with the truth of the kernel in memory. It believes nothing."""

from collections import Counter
from dataclasses import dataclass

from hamail.core.ordering import standing_on
from hamail.executor.kinds import Kind, addresses_of, kind_of, mount_of
from hamail.model import actions as a
from hamail.simulation.checkers.violation import Violation
from tests.simulation.executor.agents import PARAMETERS

GRANULARITY_S = 0.3  # of the watchdog, the executor's pulse and the kernel together
TRUST_RACE_S = 0.3  # between the look at a file and its start
CALM_GROUP_S = 4.0  # in which a group without faults starts and stops, whatever others do
STRAY_S = 3.0


@dataclass
class Hold:
    """A group that the executor has taken, until it says that nothing of it is left."""

    epoch: int
    hard_ns: int
    life: int
    credit_s: float = 0.0  # time that passed while the machine was suspended does not count as running
    emergency: bool = False
    begun_s: float = 0.0


class Judge:
    def __init__(self, world):
        self.w = world
        self.specs = {}
        self.counts = Counter()
        self.violation = None
        self.new_boot()

    def new_boot(self):
        self.holds = {}
        self.used = Counter()  # group -> newest epoch that was accepted or said to be stopped
        self.maintenance = False
        self.strays = {}  # group -> when something was put there from outside
        self.new_life()

    def new_life(self):
        self.maintenance_quiet = set()
        self.started = {}  # (group, resource) -> status of its last start, None while it runs
        self.stopped = set()  # a stop has ended since the last start
        self.empty = set()  # its last start said that it worked and had done nothing
        self.doubtful = set()
        self.restarting = {}  # group -> resources
        self.waiting = {}  # (what, key) -> since when an answer is due
        self.fences = {}  # order -> accepted at
        self.clean_from_s = 0.0

    # -- truth -----------------------------------------------------------------------------------------------------

    def fail(self, words):
        """Also remembered: the executor takes what is raised within its own tasks for a bug of its own."""
        self.violation = self.violation or Violation(f"{words}\n{self.w.story()}")
        raise self.violation

    def alive(self, group):
        """What of a group is here, in words."""
        kernel = self.w.kernel
        found = [
            f"{p.role} {p.pid} of {p.owner[1]}"
            for p in kernel.procs.values()
            if p.owner[0] == group and p.role != "prepare"
        ]
        spec = self.specs.get(group)
        for resource in spec.resources if spec else ():
            found += [f"address {ip}" for ip in sorted(addresses_of(resource) & kernel.addresses)]
            mount = mount_of(resource)
            if mount and mount.device in kernel.mounts:
                found.append(f"mount of {mount.device}")
        return found

    def resource_alive(self, group, resource):
        kernel = self.w.kernel
        if any(p.owner == (group, resource.name) and p.role == "service" for p in kernel.procs.values()):
            return True
        mount = mount_of(resource)
        return bool(addresses_of(resource) & kernel.addresses) or (mount is not None and mount.device in kernel.mounts)

    # -- time ------------------------------------------------------------------------------------------------------

    def _late_s(self, hold):
        return (self.w.boottime_ns() - hold.hard_ns) / 1e9 / self.w.rate - hold.credit_s

    def step(self):
        """Nothing runs past its hard deadline for longer than the watchdog takes."""
        if self.violation is not None:
            raise self.violation
        if self.maintenance:
            return
        for group, hold in list(self.holds.items()):
            late_s = self._late_s(hold)
            if late_s <= 0:
                continue
            if hold.life != self.w.life_number and not self.alive(group):
                del self.holds[group]
            elif self.w.dog.armed and late_s > self.w.dog.timeout_s + GRANULARITY_S:
                left = self.alive(group)
                if left:
                    self.fail(f"{group} runs {late_s:.3f} s past its hard deadline: {left}")

    def suspended(self, for_s):
        for hold in self.holds.values():
            late_s = self._late_s(hold)
            if late_s > 0:
                hold.credit_s += min(late_s, for_s / self.w.rate)

    def fed(self):
        self.counts["feeds"] += 1
        if self.maintenance:
            return
        for group, hold in self.holds.items():
            late_s = self._late_s(hold)
            if late_s > 0.0005 and (hold.life == self.w.life_number or self.alive(group)):
                self.fail(f"the watchdog is fed while {group} is {late_s:.3f} s past its hard deadline")

    def disarmed(self):
        for group in self.specs:
            left = [w for w in self.alive(group) if not w.startswith("action")]
            if left and not self.maintenance and group not in self.strays:
                self.fail(f"the watchdog is disarmed while there is {left} of {group}")

    def recovered(self, doomed):
        """A new executor is ready to serve: what the dead one has left is gone, or the watchdog is left to bite."""
        if self.maintenance or doomed:
            return
        for group in list(self.holds):
            if self.alive(group) and group not in self.strays:
                self.fail(f"a new executor arms the watchdog while there is {self.alive(group)} of {group}")
            del self.holds[group]

    # -- actions ---------------------------------------------------------------------------------------------------

    def action_begins(self, x):
        self.w.note(f"{x.group}.{x.resource} {x.name} begins (epoch {x.epoch}){' FAULT ' + x.fault if x.fault else ''}")
        self.counts[x.name] += 1
        since_s = self.w.untrusted.get(x.agent)
        if since_s is not None and self.w.agenda.now_s > since_s + TRUST_RACE_S:
            self.fail(f"{x.agent} is run although others than root can write it")
        given = {k.removeprefix("OCF_RESKEY_") for k in x.env if k.startswith("OCF_RESKEY_")}
        wrong = {k for k in given if not k.lower().startswith("crm_")} - set(PARAMETERS.get(x.kind, ()))
        if wrong:
            self.fail(f"{x.agent} is given {sorted(wrong)}, which its meta-data does not have")
        if x.name in ("start", "stop"):
            if self.maintenance and x.group in self.maintenance_quiet:
                self.fail(f"{x.name} of {x.group}.{x.resource} although maintenance is on")
            {"start": self._start_begins, "stop": self._stop_begins}[x.name](x)

    def action_ended(self, x, status):
        self.w.note(f"{x.group}.{x.resource} {x.did or x.name} ended with {status}")
        if x.proc.role == "prepare":
            return
        if x.name == "start":
            self.started[x.owner] = status
            if status in (0, 190) and not x.is_up() and not self._works_on(x.owner):
                # Of a service of others without a process its monitor alone knows, and only when it says no.
                (self.doubtful if x.agent == "heartbeat/daemon" else self.empty).add(x.owner)
        elif x.name == "monitor" and status in (5, 7) and x.owner in self.doubtful:
            self.empty.add(x.owner)
        elif x.name == "monitor" and status in (0, 190) and x.agent == "heartbeat/Filesystem":
            self.empty.discard(x.owner)  # it lies; but the kernel need not show every mount of others
        elif x.name == "stop":
            self.stopped.add(x.owner)

    def _start_begins(self, x):
        hold = self.holds.get(x.group)
        if hold is None or hold.epoch != x.epoch or hold.life != self.w.life_number:
            self.fail(f"start of {x.group}.{x.resource} under epoch {x.epoch}, held is {hold}")
        spec = self.specs[x.group]
        for name in next(r.after for r in spec.resources if r.name == x.resource):
            below = next(r for r in spec.resources if r.name == name)
            if self.started.get((x.group, name)) not in (0, 190) and below.critical and x.group not in self.restarting:
                self.fail(f"{x.resource} of {x.group} starts before {name} is up")
        self.started[x.owner] = None
        self.empty.discard(x.owner)
        self.doubtful.discard(x.owner)
        self.stopped.discard(x.owner)

    def _works_on(self, owner):
        """A process of it that is no service yet: whoever sees it cannot know what it will do."""
        return any(p.owner == owner and p.role == "child" for p in self.w.kernel.procs.values())

    def _stop_begins(self, x):
        spec = self.specs[x.group]
        me = next(r for r in spec.resources if r.name == x.resource)
        hold = self.holds.get(x.group)
        for above in standing_on(spec.resources, x.resource):
            if not self.resource_alive(x.group, above) or x.group in self.strays:
                continue
            if hold is not None and hold.emergency:
                if kind_of(me) is not Kind.STORAGE or (x.group, above.name) in self.stopped:
                    continue
            elif x.group in self.restarting and kind_of(me) is not Kind.STORAGE:
                continue
            self.fail(f"{x.resource} of {x.group} is stopped while {above.name} stands on it")

    # -- what is asked and answered --------------------------------------------------------------------------------

    def asked(self, request, refused):
        kind = type(request).__name__
        self.counts["refused" if refused else "accepted"] += 1
        self.w.note(f"{kind} {_short(request)} -> {refused or 'accepted'}")
        if refused:
            return
        now_s = self.w.agenda.now_s
        match request:
            case a.StartGroup():
                self._start_accepted(request)
            case a.Extend():
                hold = self.holds.get(request.group)
                if hold is None or hold.epoch != request.epoch:
                    self.fail(f"extend of {request.group} under epoch {request.epoch} accepted, held is {hold}")
                if not self.maintenance and self._late_s(hold) > 0:
                    self.fail(f"extend of {request.group} accepted past its hard deadline")
                hold.hard_ns, hold.credit_s = request.hard_ns, 0.0
            case a.StopGroup():
                hold = self.holds.get(request.group)
                if hold is not None and hold.life == self.w.life_number and hold.epoch > request.epoch:
                    self.fail(f"stop of {request.group} under the older epoch {request.epoch} accepted")
                self.used[request.group] = max(self.used[request.group], request.epoch)
                self.restarting.pop(request.group, None)
                self.waiting.pop(("start", request.group), None)
                self.waiting.setdefault(("stop", request.group), now_s)
            case a.RestartResource():
                self.restarting.setdefault(request.group, set()).add(request.resource)
                self.waiting[("restart", request.group)] = now_s
            case a.RunFence():
                self.fences.setdefault(request.order, []).append((now_s, request.plug))
                self.waiting[("fence", request.order)] = now_s
            case a.CheckFence():
                self.waiting.setdefault(("check", request.device), now_s)
            case a.CleanUp():
                if ("clean", "") not in self.waiting:
                    self.clean_from_s = now_s
                self.waiting.setdefault(("clean", ""), now_s)
            case a.Configure():
                for group in request.groups:
                    self.specs.setdefault(group.name, group)
            case a.Maintain():
                self._maintain(request.on)

    def _start_accepted(self, request):
        name, epoch = request.group.name, request.epoch
        hold = self.holds.get(name)
        if hold is not None and hold.epoch == epoch and hold.life == self.w.life_number:
            return
        if hold is not None and (hold.life == self.w.life_number or self.alive(name)):
            self.fail(f"start of {name} under epoch {epoch} accepted while it is held: {hold}")
        if epoch <= self.used[name]:
            self.fail(f"start of {name} under epoch {epoch} accepted after epoch {self.used[name]}")
        if self.maintenance:
            self.fail(f"start of {name} accepted in maintenance")
        self.specs[name] = request.group
        self.used[name] = epoch
        self.holds[name] = Hold(epoch, request.hard_ns, self.w.life_number, begun_s=self.w.agenda.now_s)
        self.waiting[("start", name)] = self.w.agenda.now_s
        if self.w.ledger_epochs().get(name) != epoch:
            self.fail(f"start of {name} under epoch {epoch} accepted, but it is not written down")

    def _maintain(self, on):
        if on == self.maintenance:
            return
        self.maintenance = on
        self.maintenance_quiet = self.w.quiet_groups() if on else set()
        if not on:
            for hold in self.holds.values():
                hold.hard_ns = max(hold.hard_ns, self.w.boottime_ns())
                hold.credit_s = 0.0

    def told(self, notice):
        self.w.note(f"tells {type(notice).__name__} {_short(notice)}")
        self.counts[type(notice).__name__] += 1
        match notice:
            case a.ResourceUp():
                if (notice.group, notice.resource) in self.empty:
                    self.fail(f"{notice.resource} of {notice.group} is said to be up; its start had done nothing")
            case a.GroupUp():
                self._answer("start", notice.group)
                for r in self.specs[notice.group].resources:
                    if r.critical and self.started.get((notice.group, r.name)) not in (0, 190):
                        self.fail(f"{notice.group} is said to be up, but the start of {r.name} has not succeeded")
            case a.GroupDown():
                self._over(notice.group, notice.epoch)
            case a.GroupStartFailed():
                self._answer("start", notice.group)
                if notice.clean:
                    self._over(notice.group, notice.epoch)
                self._answer("stop", notice.group)
            case a.GroupStopFailed():
                self._answer("stop", notice.group)
                self._answer("start", notice.group)
                self._answer("restart", notice.group)
            case a.DeadlinePassed():
                self.holds[notice.group].emergency = True
                self.restarting.pop(notice.group, None)
                self._answer("restart", notice.group)
            case a.ResourceRestarted():
                self.restarting.get(notice.group, set()).discard(notice.resource)
                if not self.restarting.get(notice.group):
                    self.restarting.pop(notice.group, None)
                self._answer("restart", notice.group)
            case a.FenceResult():
                self._fenced(notice)
            case a.FenceChecked():
                self._answer("check", notice.device)
            case a.Cleaned():
                self._cleaned(notice)

    def _answer(self, what, key):
        return self.waiting.pop((what, key), None)

    def _over(self, group, epoch):
        hold = self.holds.get(group)
        if hold is not None and hold.epoch > epoch:  # an older epoch: it was over before this one began
            self._answer("stop", group)
            return
        left = self.alive(group)
        if left and group not in self.strays:
            self.fail(f"{group} is said to be down, but there is {left}")
        self.holds.pop(group, None)
        self.used[group] = max(self.used[group], epoch)
        self.restarting.pop(group, None)
        for what in ("stop", "start", "restart"):
            self._answer(what, group)

    def _cleaned(self, notice):
        if notice.config == 0 and not notice.groups:
            if not notice.ok:
                return  # it is being stopped
        self._answer("clean", "")
        groups = [g for g in self.specs if g not in self.holds] if notice.ok else notice.groups
        for group in groups:
            left = [words for words in self.alive(group) if not words.startswith("action")]  # another look begins
            if left and group not in self.strays and group not in self.holds:
                self.fail(f"{group} is said to be clean, but there is {left}")

    def _fenced(self, notice):
        begun = self.fences.get(notice.order)
        if not begun:
            self.fail(f"an answer too many to fence order {notice.order}")
        began_s, plug = begun.pop(0)
        if not begun:
            self._answer("fence", notice.order)
        if not notice.ok:
            return
        runs = [(what, code) for at_s, what, p, code in self.w.fence_box.runs if at_s >= began_s and p == plug]
        if ("off", 0) not in runs or ("status", 2) not in runs[runs.index(("off", 0)) :]:
            self.fail(f"fence of {plug} is said to have worked; its agent said {runs}")

    # -- the end ---------------------------------------------------------------------------------------------------

    def calm_group(self, group):
        """What others do holds up nothing of a group that has no fault."""
        now_s = self.w.agenda.now_s
        for what in ("start", "stop"):
            since_s = self.waiting.get((what, group))
            if since_s is not None and now_s - since_s > CALM_GROUP_S:
                self.fail(f"the {what} of {group}, which has no fault, takes more than {CALM_GROUP_S} s")
        since_s = self.strays.get(group, -1)
        if since_s >= 0 and group not in self.holds:
            if not self.alive(group):
                self.strays.pop(group)
            elif now_s - since_s > STRAY_S:
                self.fail(f"a stray address of {group} is still there after {STRAY_S} s")

    def all_answered(self):
        if self.waiting:
            self.fail(f"never answered: {self.waiting}")


def _short(message):
    parts = []
    for name in (
        "id",
        "group",
        "groups",
        "epoch",
        "resource",
        "order",
        "device",
        "on",
        "ok",
        "clean",
        "what",
        "detail",
        "why",
    ):
        value = getattr(message, name, None)
        if value in (None, ""):
            continue
        if name == "groups":
            value = [getattr(g, "name", g) for g in value]
        parts.append(f"{name}={getattr(value, 'name', value)}")
    return " ".join(parts)
