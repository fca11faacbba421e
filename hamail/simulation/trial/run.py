"""Carries out one plan: start, chaos, a healed core that must serve, everything healed, and a last audit."""

import time
import traceback
from functools import partial

from hamail.core.timing import derive
from hamail.model.ids import NodeName
from hamail.model.state import Phase
from hamail.simulation.agenda import MS
from hamail.simulation.checkers.mail import audit
from hamail.simulation.checkers.violation import Violation
from hamail.simulation.faults import KINDS, Fault
from hamail.simulation.trial.plan import Plan
from hamail.simulation.trial.repair import Operators, break_for_good, mend_links, repair_devices, repair_machine
from hamail.simulation.trial.settings import recovery_ms, takeover_ms
from hamail.simulation.trial.tally import Moves, Tally

LAST_ORDERS_MS = 9000  # what was proposed late is committed by then
AUDIT_TAKEOVERS = 10
OPERATORS_LOOK_MS = 3000
LOOK_MOVES_EVERY = 20  # faults
AUDIT_EVERY = 200  # faults: each audit reads every mail that there is
LAST_MAIL_MS = 10_000  # what is under way is brought to its end


class NoProgress(Violation):
    """Nothing unsafe has happened, but what must happen in time did not."""


class Run:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.world = plan.settings.world()
        self.tally = Tally(seeds=1)
        self._moves = Moves(self.tally)
        self._struck = 0

    def go(self) -> Tally:
        """Raises Violation. `tally` tells how far it came, also then."""
        began_s = time.process_time()
        try:
            self._phases()
        except Violation:
            self.tally.violations = 1
            raise
        except Exception as error:
            self.tally.violations = 1
            raise Violation(f"at {self.world.now_ns / 1e9:.3f} s: {error!r}\n{traceback.format_exc()}") from error
        finally:
            self._moves.look(self.world.state)
            self.tally.simulated_ms = self.world.now_ns // MS
            self.tally.events = self.world.agenda.happened
            self.tally.cpu_s = time.process_time() - began_s
        return self.tally

    def _phases(self) -> None:
        world = self.world
        world.start_all()
        world.run_until(self._well, recovery_ms(self.plan.settings.requires, self.plan.settings.timings()))
        if every_ms := self.plan.settings.mail_every_ms:
            for name in world.groups:
                world.begin_mail(name, every_ms)
        begins_ns = world.now_ns
        for fault in self.plan.faults:
            world.agenda.at(begins_ns + fault.at_ms * MS, partial(self._strike, fault))
        helpers = Operators(world, self.plan.helped_ms) if self.plan.helped_ms else None
        world.run_ms(self.plan.chaos_ms)
        if helpers is not None:
            helpers.leave()
        world.peace = True
        world.failpoints.clear()
        world.log.late_share = 0.0
        if self.plan.settings.log == "malicious":
            return  # nothing but the storage's own claim is to be expected of it
        operators = Operators(world, OPERATORS_LOOK_MS)
        if self.plan.broken:
            self._heal_core(set(world.machines) - set(self.plan.broken))
        self._heal_all()
        operators.leave()
        self._audit()

    def _strike(self, fault: Fault) -> None:
        if self.world.peace:
            return  # the chaos was cut short
        self._struck += 1
        self.tally.faults[fault.kind] = self.tally.faults.get(fault.kind, 0) + 1
        if self._struck % LOOK_MOVES_EVERY == 0:
            self._moves.look(self.world.state)
        if self._struck % AUDIT_EVERY == 0:
            self._audit_mail()
        KINDS[fault.kind].strike(self.world, **fault.parameters)

    # ---- afterwards ---------------------------------------------------------------------------------------------

    def _heal_core(self, core: set[NodeName]) -> None:
        """A majority of nodes and the devices work again, the rest stays broken: the groups must be served."""
        world = self.world
        world.remark(f"{', '.join(sorted(core))} and the devices are repaired")
        repair_devices(world)
        for name, how in self.plan.broken.items():
            break_for_good(world, name, how)
        for name in sorted(core):
            repair_machine(world.machines[name])
        mend_links(world, core)
        self._expect_service("a healthy core does not serve")

    def _heal_all(self) -> None:
        world = self.world
        world.remark("everything is repaired")
        world.network.heal()
        repair_devices(world)
        for name, machine in world.machines.items():
            machine.returns_ms = self.plan.settings.returns_ms.get(name, 3000)
            repair_machine(machine)
        self._expect_service("all is repaired, but it does not serve")

    def _expect_service(self, complaint: str) -> None:
        world = self.world
        began_ns = world.now_ns
        t = derive(world.state.detection_ms_max or world.spec.detection_ms, world.spec.watchdog_timeout_s)
        limit_ms = LAST_ORDERS_MS + recovery_ms(self.plan.settings.requires, t)
        if not world.run_until(self._well, limit_ms):
            phases = ", ".join(f"{name} is {world.state.group(name).phase}" for name in sorted(world.groups))
            words = f"at {world.now_ns / 1e9:.3f} s: {complaint} after {limit_ms / 1000:g} s: {phases}"
            raise NoProgress(f"{words}\n{world.recent()}")
        self.tally.recovered_ms.append((world.now_ns - began_ns) // MS)
        self._moves.look(world.state)

    def _audit(self) -> None:
        """What was late has come, nobody is missing, and nothing moves any more."""
        world = self.world
        world.run_ms(LAST_ORDERS_MS + takeover_ms(self.plan.settings.requires, self.plan.settings.timings()))
        self._expect_service("it did not stay up after the repair")
        world.checker.configuration.settled()
        world.checker.look()
        places = {name: (world.active_on(name), world.state.group(name).epoch) for name in sorted(world.groups)}
        quiet_ms = AUDIT_TAKEOVERS * takeover_ms(self.plan.settings.requires, self.plan.settings.timings())
        world.run_ms(quiet_ms)
        for name, place in places.items():
            now = (world.active_on(name), world.state.group(name).epoch)
            if now != place:
                raise NoProgress(f"{name} left {place} for {now} although nothing was wrong\n{world.recent()}")
        self._no_order_forgotten()
        for clients in world.clients.values():
            clients.stop()
        world.run_ms(LAST_MAIL_MS)
        self._audit_mail()
        world.checker.look()
        self.tally.mails += sum(clients.acknowledged for clients in world.clients.values())

    def _no_order_forgotten(self) -> None:
        """Every order has been carried out, or it was told why not."""
        groups, scheduled = self.world.state.groups, self.world.state.scheduled
        opened = [f"restart {g.restart.id} of {name}" for name, g in groups.items() if g.restart is not None]
        opened += [f"scheduled move {order.id}" for order in scheduled]  # those that were left are cancelled by now
        if opened:
            raise NoProgress(f"nobody has carried out {', '.join(opened)}\n{self.world.recent()}")

    def _audit_mail(self) -> None:
        """Where a group is served, everything that was acknowledged is there. The next look raises."""
        for name, clients in self.world.clients.items():
            if self.world.active_on(name) is not None:
                audit(self.world, clients)

    def _well(self) -> bool:
        state = self.world.state
        for name in self.world.groups:
            g = state.group(name)
            if g.phase is not Phase.ACTIVE or self.world.active_on(name) != g.owner:
                return False
        return True


def run(plan: Plan) -> Tally:
    """Raises Violation."""
    return Run(plan).go()
