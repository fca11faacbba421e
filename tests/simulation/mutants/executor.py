"""Planted in the executor, hunted by its chaos in virtual time (tests/simulation/executor)."""

import asyncio
import logging

from hamail.executor import agents, clock, deadman, executor, groups, metadata, processes, resource
from hamail.fencing.agent import Ended, FenceAgents
from tests.simulation.executor.__main__ import agent_folder
from tests.simulation.executor.world import World
from tests.simulation.mutants.mutant import Mutant


def hunt(seed):
    _run(seed)


def hunt_isolated(seed):
    _run(seed, isolation=True)


def hunt_attacked(seed):
    _run(seed, isolation=False, events=["daemon"], pace_s=2.0)


def hunt_maintained(seed):
    _run(seed, isolation=False, maintenance_share=0.2, events=["kill", "terminate", "daemon"], pace_s=3.0)


def hunt_blinded(seed):
    _run(seed, isolation=False, events=["blind", "daemon"], pace_s=2.0, stop_share=0.1)


def hunt_stopped(seed):
    _run(seed, isolation=False, events=[], stop_share=0.1, restart_after_stop=True)


def hunt_overdue(seed):
    _run(seed, isolation=False, events=["daemon", "hung_storage", "blind"], pace_s=3.0)


def _run(seed, **how):
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with agent_folder() as folder:
            World(seed, folder, **how).run()
    except AssertionError:
        raise
    except Exception as error:  # a plant can make the executor itself fail: that is found as well
        raise AssertionError(f"the executor fails: {error!r}") from error
    finally:
        logging.disable(before)


def wrong_clock(m):
    m.setattr(executor, "boottime_ns", lambda: clock.time.monotonic_ns())  # noqa: PLW0108 - looked up in the world


def any_epoch_extends(m):
    right = deadman.Deadman.extend

    def extend(self, group, _epoch, *rest):
        held = self.get(group)
        return right(self, group, held.epoch if held else 0, *rest)

    m.setattr(deadman.Deadman, "extend", extend)


def no_verification(m):
    async def left_over(_self):
        return []

    m.setattr(resource.Resource, "left_over", left_over)


def start_is_believed(m):
    async def missing(_self, _start):
        return ""

    m.setattr(resource.Resource, "_missing", missing)


def failed_stop_is_stopped(m):
    right = resource.Resource.stop

    async def stop(self, budget_ms=None):
        await right(self, budget_ms)
        self.state = resource.State.DOWN
        return []

    async def verify(_self):
        return []

    m.setattr(resource.Resource, "stop", stop)
    m.setattr(groups.Group, "_verify", verify)


def nothing_written_down(m):
    m.setattr(executor.Executor, "_note", lambda _self: "")


def only_the_main_process_is_killed(m):
    async def sweep(_self, _job, *, keep):
        return (), ()

    async def kill_left_over(_self, _grace_ms):
        return

    m.setattr(processes.Processes, "_sweep", sweep)
    m.setattr(resource.Resource, "_kill_left_over", kill_left_over)


def fed_while_overdue(m):
    m.setattr(executor.Executor, "_doom", lambda _self, _why: None)


def stopped_in_start_order(m):
    m.setattr(groups, "ready_to_stop", lambda all_, _stopped, begun: tuple(r for r in all_ if r.name not in begun))


def started_all_at_once(m):
    m.setattr(groups, "ready_to_start", lambda all_, _up, begun: tuple(r for r in all_ if r.name not in begun))


def any_parameter(m):
    m.setattr(metadata.Metadata, "refuse", lambda _self, _given: "")


def any_agent(m):
    for module in (agents, processes):
        m.setattr(module, "trusted_executable", lambda path: path.stat())


def fenced_without_a_look(m):
    right = FenceAgents.fence

    async def fence(self, *arguments):
        run = self._run

        async def pretend(path, stdin, timeout_ms):
            if stdin.startswith(b"action=status"):
                return Ended(exit_code=2, why="", stdout="", stderr="")
            return await run(path, stdin, timeout_ms)

        self._run = pretend
        try:
            return await right(self, *arguments)
        finally:
            self._run = run

    m.setattr(FenceAgents, "fence", fence)


def epochs_come_again(m):
    right = executor.Executor._may_not_start

    def may_not_start(self, request):
        self._last_epoch = {}
        return right(self, request)

    m.setattr(executor.Executor, "_may_not_start", may_not_start)


def restart_outlives_stop(m):
    def stop(self, why, epoch):
        self._replace(lambda: self._stop(why, epoch))

    m.setattr(groups.Group, "stop", stop)


def unseen_is_gone(m):
    right = resource.Resource.left_over

    async def left_over(self):
        return [words for words in await right(self) if "cannot be seen" not in words]

    m.setattr(resource.Resource, "left_over", left_over)


def left_over_of_maintenance_goes_on(m):
    right = executor.Executor.recover

    async def recover(self):
        await right(self)
        self._left = ()

    m.setattr(executor.Executor, "recover", recover)


def one_at_a_time(m):
    right = resource.Resource.start

    async def start(self):
        loop = asyncio.get_running_loop()
        loop.one = getattr(loop, "one", None) or asyncio.Lock()
        async with loop.one:
            return await right(self)

    m.setattr(resource.Resource, "start", start)


def maintenance_is_only_a_word(m):
    m.setattr(groups.Group, "hands_off", lambda _self, on: None)
    right = executor.Executor._stop_group

    def stop_group(self, request):
        before, self._maintenance = self._maintenance, False
        try:
            return right(self, request)
        finally:
            self._maintenance = before

    m.setattr(executor.Executor, "_stop_group", stop_group)


def new_life_leaves_what_ran(m):
    async def clean_one(_self, _spec):
        return ""

    m.setattr(executor.Executor, "_clean_one", clean_one)


MUTANTS = [
    Mutant("dead_man_on_the_wrong_clock", "Deadlines count time in suspend.", wrong_clock, hunt, quick=(10,)),
    Mutant("extend_under_any_epoch", "Only the held epoch is extended.", any_epoch_extends, hunt_attacked),
    Mutant(
        "stop_not_verified", "A stop is verified whatever the agent's exit code.", no_verification, hunt, quick=(5,)
    ),
    Mutant("start_is_believed", "A start is verified whatever it says.", start_is_believed, hunt, quick=(5,)),
    Mutant(
        "failed_stop_is_stopped", "A failed or timed-out stop is not stopped.", failed_stop_is_stopped, hunt, quick=(1,)
    ),
    Mutant("start_not_written_down", "What is held is written down before it starts.", nothing_written_down, hunt),
    Mutant(
        "kill_only_the_main_process",
        "Whatever an agent leaves is killed.",
        only_the_main_process_is_killed,
        hunt,
        quick=(13,),
    ),
    Mutant("fed_while_overdue", "The watchdog starves once a group is overdue.", fed_while_overdue, hunt_overdue),
    Mutant("stop_order_forward", "Nothing is stopped under what stands on it.", stopped_in_start_order, hunt),
    Mutant("start_order_ignored", "Nothing starts before what it needs.", started_all_at_once, hunt),
    Mutant(
        "any_parameter_passed_on",
        "Only parameters of the meta-data are passed on.",
        any_parameter,
        hunt_attacked,
        quick=(3,),
    ),
    Mutant("writable_agent_run", "Only what root alone can write is run.", any_agent, hunt),
    Mutant("fence_ok_without_status", "A fence is confirmed by its status.", fenced_without_a_look, hunt),
    Mutant("epoch_started_twice", "No epoch is started twice or after its end.", epochs_come_again, hunt_attacked),
    Mutant(
        "restart_outlives_stop", "Nothing of a group starts after its stop.", restart_outlives_stop, hunt_stopped, 200
    ),
    Mutant(
        "what_is_not_seen_is_gone",
        "What cannot be seen counts as there.",
        unseen_is_gone,
        hunt_blinded,
        200,
        quick=(18,),
    ),
    Mutant(
        "left_in_maintenance",
        "Nothing runs without a deadline.",
        left_over_of_maintenance_goes_on,
        hunt_maintained,
        200,
        quick=(5,),
    ),
    Mutant(
        "hung_agent_holds_up_all",
        "A hung agent holds up only its own group.",
        one_at_a_time,
        hunt_isolated,
        seeds_max=150,
        quick=(99,),
    ),
    Mutant(
        "maintenance_not_hands_off",
        "Nothing is stopped in maintenance.",
        maintenance_is_only_a_word,
        hunt_maintained,
        quick=(2,),
    ),
    Mutant(
        "new_life_leaves_what_ran",
        "A new executor stops what a dead one left.",
        new_life_leaves_what_ran,
        hunt,
        quick=(4,),
    ),
]
