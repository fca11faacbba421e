"""Planted bugs in the core: each breaks one rule that keeps a second node from being active."""

from msgspec.structs import replace

import hamail.core.engine as engine_module
from hamail.core import apply as apply_module
from hamail.core import changes_nodes, coordinator, lease, timing
from hamail.core.effects import SaveBarred
from hamail.core.lead import Lead
from hamail.core.local import Local
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.messages import LeaseAnswer
from hamail.model.spec import Requirement
from hamail.simulation.chaos import Chaos
from hamail.simulation.checkers.violation import Violation
from hamail.simulation.daemon import Daemon
from hamail.simulation.executor import Executor
from tests.simulation.mutants.mutant import Mutant

LONG_AGO = -(10**18)


def no_wait(monkeypatch):
    """Voters say that their promise has run out although it has not."""
    right = lease.release

    def release(voter, state, request, now_ns, hold_ms):
        after, answer = right(replace(voter, promises={}, started_ns=LONG_AGO), state, request, now_ns, hold_ms)
        return replace(voter, barred=after.barred), answer

    monkeypatch.setattr(lease, "release", release)


def lease_from_receipt(monkeypatch):
    """The owner counts its lease from the answer, not from before the request."""
    right = Local.lease_answer

    def lease_answer(self, voter, answer):
        received = lease.receive

        def receive(o, v, x, majority, t):
            new = received(o, v, x, majority, t)
            late = self.e.now_ns + t.lease_ms * lease.MS
            return replace(new, until_ns=late) if new.until_ns > o.until_ns else new

        lease.receive = receive
        try:
            right(self, voter, answer)
        finally:
            lease.receive = received

    monkeypatch.setattr(Local, "lease_answer", lease_answer)


def no_margin(monkeypatch):
    """A promise lasts exactly as long as a lease: clocks that run wrong break it."""
    right = timing.derive

    def derive(detection_ms, watchdog_timeout_s):
        t = right(detection_ms, watchdog_timeout_s)
        return replace(t, wait_ms=t.lease_ms)

    monkeypatch.setattr(engine_module, "derive", derive)


def restarted_voter_does_not_hold(monkeypatch):
    """A voter that has forgotten its promises says yes at once."""
    right = lease.release

    def release(voter, state, request, now_ns, hold_ms):
        after, answer = right(replace(voter, started_ns=LONG_AGO), state, request, now_ns, hold_ms)
        return replace(voter, barred=after.barred), answer

    monkeypatch.setattr(lease, "release", release)


def fence_assumed_on_failure(monkeypatch):
    """A fence that failed or timed out is taken for one that worked."""
    right = changes_nodes.fence_done

    def fence_done(d, command):
        right(d, replace(command, ok=True))

    monkeypatch.setitem(apply_module.HANDLERS, c.FenceDone, fence_done)


def failed_stop_taken_for_stopped(monkeypatch):
    """The owner reports a stop although the stop has failed."""

    def stop_failed(self, n):
        self._down(a.GroupDown(group=n.group, epoch=n.epoch, took_ms=0))

    monkeypatch.setattr(Local, "_stop_failed", stop_failed)


def leader_forgets(monkeypatch):
    """A new leader does not know who has promised what, and takes that for nobody."""
    right = Lead.facts

    def facts(self):
        found = right(self)
        for name in self.e.state.spec.groups:
            key = (name, self.e.state.group(name).epoch)
            if key not in found["released_by"]:
                found["released_by"][key] = self.e.state.spec.voters()
        return found

    monkeypatch.setattr(Lead, "facts", facts)


def late_join_counts(monkeypatch):
    """A join of an earlier life that arrives late voids what the present life was granted."""
    right = changes_nodes.join

    def join(d, command):
        right(d, replace(command, after=d.node(command.node).life))

    monkeypatch.setitem(apply_module.HANDLERS, c.Join, join)


def no_fence_at_all(monkeypatch):
    """Silence is taken for death."""
    right = coordinator._lost

    def lost(state, facts, name, node):
        found = right(state, facts, name, node)
        gone = c.Released(at_ms=facts.at_ms, group=name, node=node, epoch=state.group(name).epoch)
        return [*found[:1], gone]

    monkeypatch.setattr(coordinator, "_lost", lost)


def _promise(voter, request, now_ns, t):
    promises = {**voter.promises, request.group: (request.epoch, now_ns + t.wait_ms * lease.MS)}
    answer = LeaseAnswer(group=request.group, epoch=request.epoch, nonce=request.nonce, promised=True)
    return replace(voter, promises=promises), answer


def yes_bars_nothing(monkeypatch):
    """A voter that has said that its promise has run out promises the same epoch again, whatever it knows."""

    def consider(voter, state, sender, request, now_ns, t):
        return _promise(voter, request, now_ns, t)

    monkeypatch.setattr(lease, "consider", consider)


def yes_not_durable(monkeypatch):
    """A yes is forgotten by a restart. (The phase is not looked at here: it would refuse the promise as well.)"""
    right = Daemon._carry_out

    def carry_out(self, effect):
        if not isinstance(effect, SaveBarred):
            right(self, effect)

    monkeypatch.setattr(Daemon, "_carry_out", carry_out)
    durable_yes_and_no_phases(monkeypatch)


def durable_yes_and_no_phases(monkeypatch):
    """No bug: what is left of `yes_not_durable` when the yes is durable. Nothing may be found here."""

    def consider(voter, state, sender, request, now_ns, t):
        if voter.barred.get(request.group, 0) >= request.epoch:
            return voter, LeaseAnswer(group=request.group, epoch=request.epoch, nonce=request.nonce, promised=False)
        return _promise(voter, request, now_ns, t)

    monkeypatch.setattr(lease, "consider", consider)


def epoch_started_twice(monkeypatch):
    """The owner starts an epoch again after it has reported its end."""
    right = Local._start

    def start(self, step):
        self._begun.discard((step.group, step.epoch))
        self.reports._open = {}
        right(self, step)

    monkeypatch.setattr(Local, "_start", start)
    monkeypatch.setattr(Executor, "_why_not_start", lambda self, r: "held" if r.group.name in self.groups else "")


L, F = Requirement.LEASE, Requirement.FENCING
WORST = {"n1": -49_000, "n2": 49_000, "n3": 49_000}  # the first owner's clock is slow, the others' are fast
SPLIT = ("active for", "still has a lease")


def hunted(requires, **how):
    """Chaos of the kinds that concern the rule."""

    def hunt(seed):
        try:
            Chaos(seed, requires, **how).run()
        except Violation as e:
            assert any(words in str(e) for words in SPLIT), e
            raise

    return hunt


def _mutant(plant, hunt):
    return Mutant(name=plant.__name__, breaks=plant.__doc__.strip(), plant=plant, hunt=hunt, quick=tuple(range(8)))


ISOLATED = {"only": ("isolate_owner",), "late_share": 0.0}
DYING = {"only": ("isolate_owner", "die_after_yes"), "late_share": 0.0}
MUTANTS = [
    _mutant(no_wait, hunted(L)),
    _mutant(lease_from_receipt, hunted(L, only=("isolate_owner", "slow_answers"), late_share=0.0, rates_ppm=WORST)),
    _mutant(no_margin, hunted(L, **ISOLATED, rates_ppm=WORST)),
    _mutant(restarted_voter_does_not_hold, hunted(L, only=("isolate_owner", "kill_daemon"), late_share=0.0)),
    _mutant(yes_bars_nothing, hunted(L, **DYING)),
    _mutant(yes_not_durable, hunted(L, **DYING)),
    _mutant(leader_forgets, hunted(L)),
    _mutant(fence_assumed_on_failure, hunted(F, only=("isolate_owner", "device"), late_share=0.0)),
    _mutant(failed_stop_taken_for_stopped, hunted(F, only=("failing_stop", "switchover"), late_share=0.0)),
    _mutant(no_fence_at_all, hunted(F)),
    _mutant(late_join_counts, hunted(F, only=("cut_power",), late_share=0.5)),
    _mutant(epoch_started_twice, hunted(L, only=("isolate_owner", "kill_daemon"), late_share=0.3)),
]
