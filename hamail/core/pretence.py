"""What nodes do by themselves in the sandbox: start, stop, repair, fence, let promises run out. It ends as supposed."""

from typing import TYPE_CHECKING

from hamail.core import estimates, hands_off, node
from hamail.core.hypotheses import EVERYWHERE, Hypothesis, Suppose
from hamail.core.placement import candidates
from hamail.core.proof import HELD, expires
from hamail.core.timing import watchdog_extra_ms
from hamail.model import commands as c
from hamail.model.ids import Epoch, GroupName, LogIndex, NodeName
from hamail.model.situation import NodeFacts
from hamail.model.state import Phase

if TYPE_CHECKING:
    from hamail.core.sandbox import Sandbox

SUPPOSED = "it is supposed to fail"


class Pretence:
    def __init__(self, sandbox: "Sandbox") -> None:
        self.s = sandbox
        self._begun: set[tuple[object, ...]] = set()

    def step(self) -> bool:
        """Begin what is due in the present state. Was there anything?"""
        begun = len(self._begun)
        for name in sorted(self.s.state.spec.groups):
            self._owner(name)
            self._voters(name)
        for target in sorted(self.s.state.spec.nodes):
            self._fence(target)
        return len(self._begun) > begun

    def _once(self, *key: object) -> bool:
        known = key in self._begun
        self._begun.add(key)
        return not known

    # ---- owners --------------------------------------------------------------------------------------------------

    def _owner(self, name: GroupName) -> None:
        s, g = self.s, self.s.state.group(name)
        owner, maintenance = g.owner, self.s.state.maintenance.on
        if owner is None or owner in s.off:
            return
        if g.phase in HELD and not s.majority(owner) and not maintenance:
            if self._once("lease", name, g.epoch):
                s.after(s.t.lease_ms - s.t.stop_budget_ms, lambda: self._out_of_lease(name, owner))
            return
        if not s.reports(owner) or (maintenance and g.phase is not Phase.STOPPING):
            return
        took, epoch = s.estimates[name], g.epoch
        if g.phase is Phase.STARTING and self._once("start", name, epoch, g.since_ms):
            assumed = estimates.START in took.assumed
            s.after(took.start_ms, lambda: self._started(name, owner, epoch), assumed=assumed)
        elif g.phase is Phase.STOPPING and self._once("stop", name, epoch, g.since_ms):
            assumed = estimates.STOP in took.assumed
            s.after(took.stop_ms, lambda: self._stopped(name, owner, epoch), assumed=assumed)
        elif g.phase is not Phase.ACTIVE or hands_off.from_group(s.state, name):
            return
        elif (h := self.broken(name, owner)) and self._once("broken", name, epoch):
            self._repair(name, owner, epoch, h, 0)

    def _out_of_lease(self, name: GroupName, owner: NodeName) -> None:
        if self.s.state.group(name).owner == owner and not self.s.majority(owner) and owner not in self.s.off:
            self.s.tell(f"{owner} has no lease any more: its dead-man's switch stops {name}.", name, owner)

    def broken(self, name: GroupName, owner: NodeName) -> Hypothesis | None:
        """What is supposed to fail on this node, if something is."""
        return next((h for h in self._about(Suppose.RESOURCE_FAILED, name, owner)), None)

    def hurt(self, name: GroupName, owner: NodeName) -> bool:
        """Is service gone with it?"""
        h = self.broken(name, owner)
        return h is not None and self._critical(name, h)

    def _about(self, suppose: Suppose, name: GroupName, owner: NodeName) -> list[Hypothesis]:
        at_first = self.s.situation.state.group(name).owner
        mine = [h for h in self.s.supposed if h.suppose is suppose and h.group == name]
        return [h for h in mine if h.node == EVERYWHERE or owner == (h.node or at_first)]

    def _critical(self, name: GroupName, h: Hypothesis) -> bool:
        return any(r.name == h.resource and r.critical for r in self.s.state.spec.groups[name].resources)

    def _repair(self, name: GroupName, owner: NodeName, epoch: Epoch, h: Hypothesis, done: int) -> None:
        """Restarts in place, until the group moves or nothing is left but to go on like this."""
        s, g = self.s, self.s.state.group(name)
        if (g.owner, g.epoch, g.phase) != (owner, epoch, Phase.ACTIVE):
            return
        ranked = candidates(s.state, s.facts(), name)
        elsewhere = self._critical(name, h) and any(x.eligible and x.node != owner for x in ranked)
        what = node.repair(s.state.spec.groups[name], done, False, elsewhere)
        if what.move:
            detail = f"{SUPPOSED}; {what.why}"
            s.put(
                c.Failed(at_ms=s.at_ms, group=name, node=owner, epoch=epoch, resource=h.resource, detail=detail),
            )
        elif done > s.state.spec.groups[name].restarts:
            s.tell(f"{h.resource} keeps failing on {owner}: {what.why}.", name, owner)
        else:
            s.tell(f"{owner} restarts {h.resource} of {name} in place ({what.why}).", name, owner)
            restart_ms = s.estimates[name].restart_ms
            s.after(restart_ms, lambda: self._repair(name, owner, epoch, h, done + 1), assumed=True)

    def _holds(self, name: GroupName, owner: NodeName, epoch: Epoch) -> bool:
        g = self.s.state.group(name)
        return (g.owner, g.epoch) == (owner, epoch) and self.s.reports(owner)

    def _started(self, name: GroupName, owner: NodeName, epoch: Epoch) -> None:
        if not self._holds(name, owner, epoch):
            return
        h = self.broken(name, owner)
        if h is None or not self._critical(name, h):
            self.s.put(c.Started(at_ms=self.s.at_ms, group=name, node=owner, epoch=epoch))
            return
        clean = not self._about(Suppose.STOP_FAILS, name, owner)
        failed = c.StartFailed(
            at_ms=self.s.at_ms, group=name, node=owner, epoch=epoch, resource=h.resource, clean=clean, detail=SUPPOSED
        )
        self.s.put(failed)

    def _stopped(self, name: GroupName, owner: NodeName, epoch: Epoch) -> None:
        if not self._holds(name, owner, epoch):
            return
        at_ms = self.s.at_ms
        if self._about(Suppose.STOP_FAILS, name, owner):
            detail = "it is supposed that it cannot be stopped"
            self.s.put(c.StopFailed(at_ms=at_ms, group=name, node=owner, epoch=epoch, resource="", detail=detail))
        else:
            self.s.put(c.Released(at_ms=at_ms, group=name, node=owner, epoch=epoch))

    # ---- fences and promises -------------------------------------------------------------------------------------

    def _fence(self, target: NodeName) -> None:
        order = self.s.state.node(target).fence
        if order is None or not self._once("fence", order.id):
            return
        took_ms = max((e.fence_ms for e in self.s.estimates.values()), default=estimates.FENCE_MS)
        assumed = any(estimates.FENCE in e.assumed for e in self.s.estimates.values())
        self.s.after(took_ms, lambda: self._fenced(target, order.id), assumed=assumed)

    def _fenced(self, target: NodeName, order_id: LogIndex) -> None:
        order = self.s.state.node(target).fence
        if order is None or order.id != order_id or not self.s.reports(order.by):
            return
        problem = self.s.situation.heard.get(order.by, NodeFacts()).fence_ready.get(order.device, "")
        if any(h.suppose is Suppose.FENCE_FAILS and h.device == order.device for h in self.s.supposed):
            problem = "it is supposed to cut nothing"
        if not problem:
            self.s.switch_off(target)
        detail = problem or "it reports the node off"
        done = c.FenceDone(at_ms=self.s.at_ms, target=target, order=order_id, ok=not problem, detail=detail)
        self.s.put(done)

    def _voters(self, name: GroupName) -> None:
        """Promises to an owner in doubt run out W after its last renewal; its watchdog gets its time on top."""
        s, g = self.s, self.s.state.group(name)
        if g.owner is None or not expires(s.state, name) or not self._once("release", name, g.epoch):
            return
        owner, epoch = g.owner, g.epoch

        def release() -> None:
            if expires(s.state, name):
                s.release(name, epoch)
                dog_s = max(s.state.watchdog_timeout_s_max, s.t.watchdog_ms // 1000)
                s.after(watchdog_extra_ms(dog_s) + 1, lambda: None)

        silent_ms = s.silent_ms(owner)
        s.after(max(0, s.t.wait_ms - silent_ms), release)
