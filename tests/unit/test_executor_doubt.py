"""What the executor does not know for sure counts as running: faults that its chaos has found, with real processes."""

import asyncio
import os
import resource
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from executor_world import root_folder, world, write_agent

from hamail.executor import verify
from hamail.executor.agents import NAME, AgentError, Agents
from hamail.executor.cgroups import detect
from hamail.executor.ledger import Held, Ledger, Page
from hamail.executor.police import Police
from hamail.executor.policy import ANYTHING
from hamail.executor.processes import Job, Processes
from hamail.executor.watchdog import Watchdog
from hamail.model.actions import (
    Cleaned,
    CleanUp,
    Configure,
    GroupDown,
    GroupStartFailed,
    GroupStopFailed,
    GroupUp,
    Maintain,
    Prepare,
    ResourceRestarted,
    RestartResource,
    StopGroup,
    Stray,
)
from hamail.model.spec import GroupSpec, ResourceSpec

pytestmark = pytest.mark.root


@pytest.fixture
def folder():
    with root_folder() as made:
        yield made


async def up(w, *resources):
    group = w.group(*resources)
    assert (await w.clean(group)).ok
    assert w.start(group) == ""
    await w.wait_for(GroupUp)
    return group


def start_by_hand(folder, name):
    """A service as an executor before this one has left it: outside of any set, known to its agent."""
    agent = folder / "agents" / "hamail" / "service"
    if not agent.exists():
        write_agent(folder / "agents", "hamail", "service")
    state = folder / f"{name}.state"
    subprocess.run(
        [agent, "start"], env=os.environ | {"OCF_RESKEY_state": str(state)}, check=True, stdout=subprocess.DEVNULL
    )
    return int(state.read_text().split()[0])


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def full(_page):
    raise OSError(28, "No space left on device")


async def test_a_restart_asked_for_right_after_a_stop_does_not_outlive_it(folder):
    async with world(folder) as w:
        await up(w, w.resource("storage"), w.resource("smtp", after=("storage",), delay="0.1"))
        assert w.ask(StopGroup, group="mail", epoch=1, why="a move") == ""
        assert "is stopping" in w.ask(RestartResource, group="mail", epoch=1, resource="storage")
        await w.wait_for(GroupDown)
        await asyncio.sleep(0.3)
        assert w.log("storage").count("start") == 1
        assert not runs(w.pid("storage")) and not runs(w.pid("smtp"))


async def test_a_restart_under_way_ends_with_the_stop(folder):
    async with world(folder) as w:
        await up(w, w.resource("storage", delay="0.1"))
        assert w.ask(RestartResource, group="mail", epoch=1, resource="storage") == ""
        await asyncio.sleep(0.15)
        assert w.ask(StopGroup, group="mail", epoch=1, why="a move") == ""
        await w.wait_for(GroupDown)
        await asyncio.sleep(0.3)
        assert not runs(w.pid("storage")) and not [n for n in w.notices if isinstance(n, ResourceRestarted)]


async def test_what_was_left_running_in_maintenance_does_not_go_on_after_it(folder):
    pid = start_by_hand(folder, "smtp")
    spec = ResourceSpec(
        name="smtp", agent="hamail:service", parameters={"state": str(folder / "smtp.state"), "delay": "0.2"}
    )
    group = GroupSpec(name="mail", nodes=("n1",), resources=(spec,))
    Ledger(folder / "held", "test-boot").write(
        Page(boot_id="test-boot", cluster="c", groups=(Held(spec=group, epoch=3),), maintenance=True)
    )
    fed = []
    (folder / "dog").touch()

    def ioctl(_fd, number, data):
        fed.append(number)
        return b"\5\0\0\0" if len(data) == 4 else data

    async with world(folder, Watchdog(str(folder / "dog"), 5, ioctl), pulse=False) as w:
        w.executor.feed()
        assert fed.pop() and runs(pid)
        fed.clear()
        assert w.ask(Maintain, on=False) == ""
        w.executor.feed()
        assert not fed, "the watchdog is fed while something runs that has no deadline"
        page = Ledger(folder / "held", "test-boot").page
        assert page.groups and not page.maintenance, "a crash now must not forget what was left"
        async with asyncio.timeout(5):
            while w.executor._left:
                await asyncio.sleep(0.01)
        w.executor.feed()
        assert fed and not runs(pid)
        assert Ledger(folder / "held", "test-boot").page.groups == ()


async def test_what_cannot_be_stopped_after_maintenance_starves_the_watchdog(folder):
    spec = ResourceSpec(name="ghost", agent="other:none")
    group = GroupSpec(name="mail", nodes=("n1",), resources=(spec,))
    page = Page(boot_id="test-boot", groups=(Held(spec=group, epoch=3),), maintenance=True)
    Ledger(folder / "held", "test-boot").write(page)
    async with world(folder) as w:
        assert w.ask(Maintain, on=False) == ""
        async with asyncio.timeout(5):
            while not Ledger(folder / "held", "test-boot").page.doomed:
                await asyncio.sleep(0.01)
        assert "there is no agent other:none" in w.executor.watchdog.status().detail


async def test_without_free_descriptors_nothing_is_called_stopped(folder):
    async with world(folder) as w:
        await up(w, w.resource("smtp"))
        pid = w.pid("smtp")
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            assert w.ask(StopGroup, group="mail", epoch=1, why="test") == ""
            failed = await w.wait_for(GroupStopFailed)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert "Too many open files" in failed.detail and runs(pid)
        assert w.ask(StopGroup, group="mail", epoch=1, why="test") == ""
        await w.wait_for(GroupDown)
        assert not runs(pid)


async def test_without_free_descriptors_nothing_is_called_clean(folder):
    async with world(folder) as w:
        group = w.group(w.resource("smtp"))
        assert (await w.clean(group)).ok
        pid = start_by_hand(folder, "smtp")
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            assert w.ask(CleanUp) == ""
            cleaned = await w.wait_for(Cleaned)
            assert w.ask(StopGroup, group="mail", epoch=7, why="test") == ""
            await w.wait_for(GroupStopFailed)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert not cleaned.ok and cleaned.groups == (), "what was clean before is not clean for ever"
        os.kill(pid, signal.SIGKILL)


def test_a_process_that_cannot_be_seen_is_not_dead(monkeypatch):
    def refuse(*_arguments, **_named):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(verify.Path, "read_text", refuse)
    with pytest.raises(OSError, match="Too many"):
        verify.alive(1, 1)
    with pytest.raises(OSError, match="Too many"):
        verify.pids_below(Path("/sys/fs/cgroup"))


async def test_epochs_that_are_over_stay_over_in_the_next_life(folder):
    async with world(folder) as w:
        group = await up(w, w.resource("smtp"))
        assert w.ask(StopGroup, group="mail", epoch=5, why="test") == ""
        assert (await w.wait_for(GroupDown)).epoch == 5
        assert "already held, or found stopped, under epoch 5" in w.start(group, epoch=5)
    async with world(folder) as w:
        assert (await w.clean(group)).ok
        assert "already held, or found stopped, under epoch 5" in w.start(group, epoch=5)
        assert w.start(group, epoch=6) == ""
        await w.wait_for(GroupUp)


async def test_a_start_whose_agent_cannot_be_used_is_not_clean_unless_the_kernel_agrees(folder):
    agent = write_agent(folder / "agents", "other", "service")
    async with world(folder) as w:
        group = w.group(w.resource("smtp", agent="other:service"))
        assert (await w.clean(group)).ok
        agent.chmod(0o777)
        assert w.start(group, epoch=1) == ""
        assert (await w.wait_for(GroupStartFailed)).clean
        stray = subprocess.Popen(["sleep", "1000"])
        for file in w.executor._tools.sets.get("mail.smtp.service").join_files():
            Path(file).write_text(str(stray.pid))
        try:
            assert w.start(group, epoch=2) == ""
            failed = await w.wait_for(GroupStartFailed)
            assert not failed.clean and f"process {stray.pid}" in failed.detail
        finally:
            agent.chmod(0o755)
            assert w.ask(StopGroup, group="mail", epoch=2, why="test") == ""
            await w.wait_for(GroupDown)
            stray.wait()


async def test_maintenance_that_cannot_be_written_down(folder, monkeypatch):
    """On is refused: a new life would stop everything. Off holds at once, and is written as soon as that works."""
    async with world(folder) as w:
        await up(w, w.resource("smtp"))
        monkeypatch.setattr(w.executor._ledger, "write", full)
        assert "maintenance is not on" in w.ask(Maintain, on=True)
        assert not w.executor.welcome().maintenance
        monkeypatch.undo()
        assert w.ask(Maintain, on=True) == ""
        monkeypatch.setattr(w.executor._ledger, "write", full)
        assert w.ask(Maintain, on=False) == ""
        assert Ledger(folder / "held", "test-boot").page.maintenance
        monkeypatch.undo()
        w.executor.feed()
        assert not Ledger(folder / "held", "test-boot").page.maintenance


async def test_a_bug_in_the_search_leaves_no_order_without_an_answer(folder, monkeypatch):
    async with world(folder) as w:
        group = w.group(w.resource("smtp"))

        async def bug(_self):
            raise ValueError("a bug")

        monkeypatch.setattr("hamail.executor.groups.Group.clean", bug)
        assert w.ask(Configure, cluster="test", groups=(group,)) == ""
        assert w.ask(CleanUp) == ""
        cleaned = await w.wait_for(Cleaned)
        assert not cleaned.ok and "internal error" in cleaned.detail


async def test_an_address_that_hangs_holds_up_only_its_own_group(monkeypatch):
    monkeypatch.setattr(verify, "visible_mounts", lambda _mount: [])
    groups = [
        GroupSpec(
            name=name,
            nodes=("n1",),
            resources=(ResourceSpec(name="ip", agent="hamail:vip", parameters={"address": ip}),),
        )
        for name, ip in (("a", "192.0.2.1"), ("b", "192.0.2.2"))
    ]
    told: list[Stray] = []
    begun: list[str] = []

    async def evict(group, _addresses):
        begun.append(group.name)
        if group.name == "a":
            await asyncio.sleep(1000)
        return []

    police = Police(lambda: groups, evict, told.append)
    looks = [asyncio.create_task(police.look(frozenset({"192.0.2.1", "192.0.2.2"}))) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert {s.group for s in told} == {"b"} and begun.count("a") == 1
    for look in looks:
        look.cancel()


async def test_given_up_runs_leave_no_descriptor_when_the_agent_server_dies(folder):
    program = write_agent(folder / "agents", "other", "hang", "#!/bin/sh\nexec sleep 1000\n")
    processes = Processes.fork((folder / "agents",))
    processes.attach()
    sets = detect(folder)
    try:
        job = Job(path=program, arguments=("start",), environment={}, processes=sets.get("x"), timeout_ms=60_000)
        before = len(os.listdir("/proc/self/fd"))
        run = asyncio.create_task(processes.run(job))
        async with asyncio.timeout(5):
            while not any(r.pidfd >= 0 for r in processes._running.values()):
                await asyncio.sleep(0.01)
        os.kill(processes._server_pid, signal.SIGSTOP)  # it reports no end any more
        run.cancel()
        await asyncio.wait((run,))
        assert any(r.doomed for r in processes._running.values())
        os.kill(processes._server_pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            while processes._running:
                await asyncio.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) <= before
    finally:
        processes.close()
        sets.remove()


async def test_an_epoch_before_the_first_is_refused(folder):
    async with world(folder) as w:
        group = w.group(w.resource("smtp"))
        assert (await w.clean(group)).ok
        assert "under epoch 0" in w.start(group, epoch=0)


async def test_a_run_that_was_never_sent_leaves_nothing(folder, monkeypatch):
    program = write_agent(folder / "agents", "other", "hang", "#!/bin/sh\nexec sleep 1000\n")
    processes = Processes.fork((folder / "agents",))
    processes.attach()

    def busy(*_arguments):
        raise BlockingIOError

    monkeypatch.setattr("hamail.executor.processes.socket.send_fds", busy)
    try:
        sets = detect(folder)
        job = Job(
            path=program, arguments=("start",), environment={}, processes=sets.get("x"), timeout_ms=50, grace_ms=10
        )
        assert (await processes.run(job)).timed_out
        assert not processes._running
    finally:
        processes.close()
        sets.remove()


async def past_its_deadline_and_stuck(w, monkeypatch):
    """A group in an emergency stop that has failed once. Returns what `left_over` calls left: empty it to let go."""
    monkeypatch.setattr("hamail.executor.resource.VERIFY_WAIT_MS", 20)
    monkeypatch.setattr("hamail.executor.groups.EMERGENCY_RETRY_S", 0.05)
    monkeypatch.setattr("hamail.executor.groups.EMERGENCY_TRIES_MAX", 60)
    stuck = ["process 1 (stuck)"]

    async def left_over(_self):
        return list(stuck)

    group = w.group(w.resource("smtp", stop_timeout_ms=30_000, delay="0"))
    assert (await w.clean(group)).ok
    assert w.start(group, soft_s=0.5, hard_s=60) == ""
    await w.wait_for(GroupUp)
    monkeypatch.setattr("hamail.executor.resource.Resource.left_over", left_over)
    await w.wait_for(GroupStopFailed)
    assert w.executor.welcome().groups["mail"].state == "stop_failed"
    return stuck


async def test_a_stop_does_not_replace_an_emergency_stop(folder, monkeypatch):
    async with world(folder) as w:
        stuck = await past_its_deadline_and_stuck(w, monkeypatch)
        assert w.ask(StopGroup, group="mail", epoch=4, why="a move") == ""
        assert (await w.wait_for(GroupStopFailed)).epoch == 4, "who asks is answered"
        tried = w.log("smtp").count("stop")
        async with asyncio.timeout(5):
            while w.log("smtp").count("stop") < tried + 2:
                await asyncio.sleep(0.01)
        assert not [n for n in w.notices if isinstance(n, GroupStopFailed)], "once"
        stuck.clear()
        assert (await w.wait_for(GroupDown)).epoch == 4


async def test_the_end_of_the_executor_does_not_replace_an_emergency_stop(folder, monkeypatch):
    async with world(folder) as w:
        stuck = await past_its_deadline_and_stuck(w, monkeypatch)
        ending = asyncio.create_task(w.executor.shutdown())
        tried = w.log("smtp").count("stop")
        async with asyncio.timeout(5):
            while w.log("smtp").count("stop") < tried + 4:
                await asyncio.sleep(0.01)
        stuck.clear()
        assert await ending, "in the end everything is verified stopped"


async def test_doomed_is_written_down_as_soon_as_that_works(folder, monkeypatch):
    async with world(folder) as w:
        await up(w, w.resource("smtp"))
        monkeypatch.setattr(w.executor._ledger, "write", full)
        w.executor._hard_passed("mail", None)
        monkeypatch.undo()
        w.executor.feed()
        assert "hard deadline" in Ledger(folder / "held", "test-boot").page.doomed
        assert w.ask(StopGroup, group="mail", epoch=1, why="test") == ""
        await w.wait_for(GroupDown)
        page = Ledger(folder / "held", "test-boot").page
        assert page.groups == () and page.doomed, "being stopped in the end takes nothing back"


async def test_names_whose_process_sets_could_be_those_of_others_are_refused(folder):
    async with world(folder) as w:
        good = w.group(w.resource("smtp"))
        assert (await w.clean(good)).ok
        bad = [
            w.group(w.resource("smtp"), name="mail.prepare"),
            w.group(w.resource("prepare.smtp")),
            w.group(w.resource("../smtp")),
            w.group(w.resource("smtp"), w.resource("smtp")),
        ]
        for group in bad:
            for refused in (
                w.start(group),
                w.ask(Prepare, group=group),
                w.ask(Configure, cluster="test", groups=(good, group)),
            ):
                assert "has no usable name" in refused, group
        assert not w.executor.welcome().groups
    sets = detect(folder)
    agents = Agents((folder / "agents",), None, sets, ANYTHING)
    asked = []

    async def run(job):
        asked.append(job.processes.name)
        raise AgentError("not run")

    agents._processes = SimpleNamespace(run=run)
    with pytest.raises(AgentError):
        await agents.metadata("hamail:service")
    assert not NAME.fullmatch(asked[0].partition(".")[0]), "no group can be called so"
    sets.remove()


async def test_agents_that_change_or_go_are_asked_again(folder, monkeypatch):
    """Their meta-data is kept for as long as the file is the same one, and not for ever."""
    monkeypatch.setattr("hamail.executor.agents.CACHED_AGENTS_MAX", 2)
    async with world(folder) as w:
        agents = w.executor._tools.agents
        for name in ("a", "b", "c"):
            write_agent(folder / "agents", "other", name)
            assert (await agents.metadata(f"other:{name}")).parameters.keys() >= {"state", "mode"}
        assert len(agents._cache) == 1, "it was full, and began anew"
        monkeypatch.setattr(agents, "locate", lambda _name: folder / "gone")
        with pytest.raises(AgentError, match="agent other:a is not run"):
            await agents.metadata("other:a")


@pytest.mark.parametrize("name", ["", "a b", "../x", "a\nb"])
async def test_a_resource_without_a_usable_name_is_refused_before_anything_is_run(folder, name):
    async with world(folder) as w:
        with pytest.raises(AgentError, match="is no resource name"):
            await w.executor._tools.agents.check(w.resource(name))
        assert w.log(name) == []
