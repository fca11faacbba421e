"""The life of a group on a node: start, stop, failures; with real processes."""

import os
import signal
import time

import pytest
from executor_world import root_folder, world, write_agent

from hamail.executor.clock import boottime_ns
from hamail.model.actions import (
    Extend,
    GroupDown,
    GroupStartFailed,
    GroupStopFailed,
    GroupUp,
    ResourceFailed,
    ResourceRestarted,
    ResourceUp,
    RestartResource,
    StopGroup,
)

pytestmark = pytest.mark.root


@pytest.fixture
def folder():
    with root_folder() as made:
        yield made


def gone(pid: int) -> bool:
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


async def test_clean_start_extend_stop(folder):
    async with world(folder) as w:
        a = w.resource("storage")
        b = w.resource("imap", after=("storage",))
        group = w.group(a, b)
        assert "cleaned" in w.start(group)
        assert (await w.clean(group)).ok
        assert w.start(group, epoch=7) == ""
        up = await w.wait_for(GroupUp)
        assert up.epoch == 7
        assert [n.resource for n in w.notices if isinstance(n, ResourceUp)] == ["storage", "imap"]
        now = boottime_ns()
        assert w.ask(Extend, group="mail", epoch=7, soft_ns=now + 70 * 10**9, hard_ns=now + 80 * 10**9) == ""
        assert "epoch 7" in w.ask(Extend, group="mail", epoch=6, soft_ns=now + 90 * 10**9, hard_ns=now + 99 * 10**9)
        assert "forward" in w.ask(Extend, group="mail", epoch=7, soft_ns=now + 10**9, hard_ns=now + 2 * 10**9)
        pids = [w.pid("storage"), w.pid("imap")]
        assert w.ask(StopGroup, group="mail", epoch=7, why="test") == ""
        down = await w.wait_for(GroupDown)
        assert down.epoch == 7 and down.stamps["stopped"] > 0
        assert all(gone(p) for p in pids)
        assert w.executor.welcome().groups == {}
        assert "already held" in w.start(group, epoch=7)
        print("took", up.took_ms, down.took_ms)


async def started(w, *resources, epoch=1, **deadlines):
    group = w.group(*resources)
    assert (await w.clean(group)).ok
    assert w.start(group, epoch=epoch, **deadlines) == ""
    return await w.wait_for(GroupUp)


async def test_resources_start_in_parallel_waves(folder):
    async with world(folder) as w:
        first = w.resource("a", delay=0.4)
        up = await started(w, first, w.resource("b", delay=0.4), w.resource("c", after=("a", "b"), delay=0.4))
        assert 800 <= up.took_ms < 1150  # one after the other would be 1200
        assert w.log("c")[-1] == "start"


@pytest.mark.parametrize(
    ("mode", "said", "fatal"),
    [
        ("start-77", "a strange end", False),
        ("start-6", "ended with 6 (parameters are wrong everywhere)", True),
        ("start-hang", "timed out after 300 ms", False),
        ("start-killed", "killed by signal 11 (SIGSEGV)", False),
        ("start-raise", "RuntimeError: a bug in the agent", False),
        ("start-garbage", r"\xff\xfe bad ?[2J", False),
        ("start-flood", None, False),
    ],
)
@pytest.mark.parametrize("provider", ["hamail", "other"])
async def test_start_failures_stop_what_was_started(folder, mode, said, fatal, provider):
    write_agent(folder / "agents", provider, "service")
    async with world(folder) as w:
        good = w.resource("good")
        bad = w.resource("bad", agent=f"{provider}:service", after=("good",), mode=mode, start_timeout_ms=300)
        if mode == "start-flood":
            bad = w.resource("bad", agent=f"{provider}:service", after=("good",), mode=mode, start_timeout_ms=30_000)
        group = w.group(good, bad)
        assert (await w.clean(group)).ok
        assert w.start(group) == ""
        if said is None:  # a gigabyte is drained and does no harm
            await w.wait_for(GroupUp, wait_s=30)
            return
        failed = await w.wait_for(GroupStartFailed)
        assert failed.clean and failed.resource == "bad"
        assert said in failed.detail
        assert gone(w.pid("good"))
        assert w.executor.welcome().groups == {}


async def test_unknown_parameter_and_agent_are_refused_before_anything_runs(folder):
    async with world(folder) as w:
        good = w.resource("good")
        for bad, said in (
            (w.resource("bad", colour="blue"), "service has no parameter colour; it has delay, mode"),
            (w.resource("bad", agent="hamail:nothing"), "there is no agent hamail:nothing"),
            (w.resource("bad", agent="hamail:../service"), "no agent name"),
        ):
            group = w.group(good, bad)
            cleaned = await w.clean(group)
            assert not cleaned.ok and said in cleaned.detail
            assert "not been cleaned" in w.start(group)
        assert (await w.clean(w.group(good))).ok
        assert w.start(w.group(good, w.resource("bad", colour="blue"))) == ""
        failed = await w.wait_for(GroupStartFailed)
        assert failed.clean and "no parameter colour" in failed.detail
        assert "start" not in w.log("good")


async def test_writable_agent_is_not_run(folder):
    path = write_agent(folder / "agents", "hamail", "open")
    path.chmod(0o777)
    async with world(folder) as w:
        cleaned = await w.clean(w.group(w.resource("x", agent="hamail:open")))
        assert not cleaned.ok and "can be written by others than root" in cleaned.detail


async def test_killed_service_is_noticed_at_once_and_restarted_fast(folder):
    async with world(folder) as w:
        await started(w, w.resource("storage"), w.resource("smtp", after=("storage",)))
        pid = w.pid("smtp")
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        failed = await w.wait_for(ResourceFailed)
        noticed_ms = (time.monotonic() - killed) * 1000
        assert failed.resource == "smtp" and f"process {pid}" in failed.detail and not failed.fatal
        assert noticed_ms < 100
        assert w.executor.welcome().groups["mail"].resources == {"storage": "up", "smtp": "failed"}
        assert w.ask(RestartResource, group="mail", epoch=1, resource="smtp") == ""
        restarted = await w.wait_for(ResourceRestarted)
        assert restarted.ok and (time.monotonic() - killed) < 0.6
        assert w.pid("smtp") != pid
        assert w.log("storage").count("start") == 1
        print(f"noticed after {noticed_ms:.1f} ms")


async def test_restart_takes_along_only_what_went_down(folder):
    async with world(folder) as w:
        await started(w, w.resource("base"), w.resource("one", after=("base",)), w.resource("two", after=("base",)))
        kept = w.pid("two")
        os.kill(w.pid("base"), signal.SIGKILL)
        os.kill(w.pid("one"), signal.SIGKILL)
        await w.wait_for(ResourceFailed, lambda n: n.resource == "base")
        assert w.ask(RestartResource, group="mail", epoch=1, resource="base") == ""
        assert (await w.wait_for(ResourceRestarted)).ok
        assert w.executor.welcome().groups["mail"].resources == {"base": "up", "one": "up", "two": "up"}
        assert w.pid("two") == kept


async def test_restart_that_fails_says_so(folder):
    async with world(folder) as w:
        await started(w, w.resource("smtp", mode="monitor-77"))
        state = folder / "smtp.state"
        os.kill(w.pid("smtp"), signal.SIGKILL)
        await w.wait_for(ResourceFailed)
        state.unlink()
        state.mkdir()  # the agent cannot write its state any more
        assert w.ask(RestartResource, group="mail", epoch=1, resource="smtp") == ""
        restarted = await w.wait_for(ResourceRestarted)
        assert not restarted.ok and "IsADirectoryError" in restarted.detail
        state.rmdir()
        assert w.ask(RestartResource, group="mail", epoch=1, resource="smtp") == "", (
            "whoever is told may ask again at once"
        )
        assert (await w.wait_for(ResourceRestarted)).ok


async def test_nothing_is_started_again_without_the_storage_on_which_it_stands(folder):
    """The restart of the storage has failed, no move is possible: a service that fails next brings it up first."""
    async with world(folder) as w:
        await started(w, w.resource("storage"), w.resource("smtp", after=("storage",)))
        state = folder / "storage.state"
        os.kill(w.pid("storage"), signal.SIGKILL)
        await w.wait_for(ResourceFailed)
        state.unlink()
        state.mkdir()  # its start fails from now on
        for name in ("storage", "smtp"):
            assert w.ask(RestartResource, group="mail", epoch=1, resource=name) == ""
            restarted = await w.wait_for(ResourceRestarted)
            assert restarted.resource == name and not restarted.ok and "storage: " in restarted.detail
        assert w.log("smtp").count("start") == 1
        state.rmdir()
        assert w.ask(RestartResource, group="mail", epoch=1, resource="smtp") == ""
        assert (await w.wait_for(ResourceRestarted)).ok


async def test_a_restart_waits_for_the_one_of_its_storage(folder):
    """Else the service is started while its storage is being taken away."""
    async with world(folder) as w:
        await started(w, w.resource("storage", delay="0.2"), w.resource("smtp", after=("storage",)))
        for name in ("storage", "smtp"):
            assert w.ask(RestartResource, group="mail", epoch=1, resource=name) == ""
        told = [await w.wait_for(ResourceRestarted) for _ in range(2)]
        assert [(n.resource, n.ok) for n in told] == [("storage", True), ("smtp", True)]


async def test_failing_monitor_is_told_once_and_recovery_too(folder):
    async with world(folder) as w:
        await started(w, w.resource("sick", mode="sick", monitor_interval_ms=500))
        (folder / "sick.state.sick").touch()
        failed = await w.wait_for(ResourceFailed)
        assert failed.detail == "monitor ended with 1 (failed): it is sick"
        w.notices.clear()
        (folder / "sick.state.sick").unlink()
        assert (await w.wait_for(ResourceUp)).resource == "sick"
        assert not [n for n in w.notices if isinstance(n, ResourceFailed)]


async def test_hanging_monitor_fails_and_does_not_delay_a_stop(folder):
    async with world(folder) as w:
        slow = w.resource("slow", mode="monitor-hang", monitor_interval_ms=500, monitor_timeout_ms=60_000)
        group = w.group(slow)
        assert w.ask  # the probe of a clean-up would hang as well: start without one
        w.executor._clean = True
        w.executor._cleaned["mail"] = group
        assert w.start(group) == ""
        await w.wait_for(GroupUp)
        while w.log("slow")[-1] != "monitor":
            await __import__("asyncio").sleep(0.01)
        began = time.monotonic()
        assert w.ask(StopGroup, group="mail", epoch=1, why="test") == ""
        await w.wait_for(GroupDown)
        assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("mode", ["lies", "stubborn"])
async def test_what_a_stop_leaves_is_killed_and_verified(folder, mode):
    async with world(folder) as w:
        await started(w, w.resource("x", mode=mode))
        pid = w.pid("x")
        assert w.ask(StopGroup, group="mail", epoch=1, why="test") == ""
        await w.wait_for(GroupDown)
        assert gone(pid)


async def test_lying_stop_of_an_agent_that_tells_nothing_is_seen_in_the_cgroup(folder):
    write_agent(folder / "agents", "other", "service")
    async with world(folder) as w:
        await started(w, w.resource("x", agent="other:service", mode="lies"))
        pid = w.pid("x")
        assert w.ask(StopGroup, group="mail", epoch=1, why="test") == ""
        await w.wait_for(GroupDown)
        assert gone(pid)


async def test_stop_that_cannot_be_verified_keeps_the_group_held(folder):
    text = """\
        #!/bin/sh
        case $1 in
        meta-data) echo '<resource-agent name="ghost"><parameters/><actions/></resource-agent>';;
        monitor) test -e STATE || exit 7;;
        start) touch STATE;;
        stop) echo "ocf-exit-reason:the ghost stays" >&2; exit 1;;
        esac
        exit 0
        """.replace("STATE", str(folder / "ghost"))
    write_agent(folder / "agents", "other", "ghost", text)
    async with world(folder) as w:
        ghost = w.resource("ghost", agent="other:ghost", parameters={})
        await started(w, ghost, w.resource("under"))
        assert w.ask(StopGroup, group="mail", epoch=1, why="test") == ""
        failed = await w.wait_for(GroupStopFailed)
        assert (
            failed.resource == "ghost" and "the ghost stays" in failed.detail and "cannot be verified" in failed.detail
        )
        assert w.executor.welcome().groups["mail"].state == "stop_failed"
        (folder / "ghost").unlink()  # an operator has helped: but the kernel shows nothing of it, so rc 1 still counts
        assert w.ask(StopGroup, group="mail", epoch=1, why="again") == ""
        assert "the ghost stays" in (await w.wait_for(GroupStopFailed)).detail


async def test_clean_up_finds_and_stops_leftovers(folder):
    async with world(folder) as w:
        await started(w, w.resource("a"), w.resource("b", after=("a",)))
        pids = [w.pid("a"), w.pid("b")]
        for group in w.executor._held.values():
            group.hands_off(on=True)
        w.executor._held.clear()  # as after a crash of the executor: the services run on
        cleaned = await w.clean(w.group(w.resource("a"), w.resource("b", after=("a",))))
        assert cleaned.ok
        assert all(gone(p) for p in pids)


async def test_stop_of_a_group_not_held_verifies(folder):
    async with world(folder) as w:
        group = w.group(w.resource("a"))
        assert "not configured" in w.ask(StopGroup, group="mail", epoch=3, why="test")
        assert (await w.clean(group)).ok
        assert w.ask(StopGroup, group="mail", epoch=3, why="test") == ""
        assert (await w.wait_for(GroupDown)).epoch == 3


async def test_an_epoch_that_was_said_to_be_stopped_is_never_started(folder):
    """Whoever hears of that stop may start the group elsewhere, however late."""
    async with world(folder) as w:
        group = w.group(w.resource("a"))
        assert (await w.clean(group)).ok
        assert w.ask(StopGroup, group="mail", epoch=3, why="test") == ""
        assert "found stopped" in w.start(group, epoch=3)  # also while that is still being verified
        await w.wait_for(GroupDown)
        assert "found stopped" in w.start(group, epoch=3)
        assert w.log("a").count("start") == 0
        assert w.start(group, epoch=4) == ""
        await w.wait_for(GroupUp)


async def test_stop_during_start(folder):
    async with world(folder) as w:
        group = w.group(w.resource("a"), w.resource("b", after=("a",), mode="start-hang"))
        assert (await w.clean(group)).ok
        assert w.start(group, epoch=5) == ""
        await w.wait_for(ResourceUp)
        pid = w.pid("a")
        assert "newer" in w.ask(StopGroup, group="mail", epoch=4, why="test")
        assert w.ask(StopGroup, group="mail", epoch=5, why="test") == ""
        assert (await w.wait_for(GroupDown)).epoch == 5
        assert gone(pid)


async def test_children_left_by_a_monitor_are_killed(folder):
    async with world(folder) as w:
        await started(w, w.resource("x"))
        result = await w.executor._held["mail"]._resources["x"].monitor_once()
        assert result.exit_code == 0 and not result.left_behind
    async with world(folder) as w:
        group = w.group(w.resource("y", mode="monitor-children"))
        w.executor._clean = True
        w.executor._cleaned["mail"] = group
        assert w.start(group, epoch=2) == ""
        await w.wait_for(GroupUp)
        result = await w.executor._held["mail"]._resources["y"].monitor_once()
        assert len(result.left_behind) == 1 and "sleep" in result.left_behind[0]
        pid = int(result.left_behind[0].split()[0])
        assert gone(pid)


async def test_a_resource_that_is_not_critical_does_not_fail_the_group(folder):
    async with world(folder) as w:
        await started(w, w.resource("a"), w.resource("extra", mode="start-77", critical=False))
        assert (await w.wait_for(ResourceFailed)).resource == "extra"
        assert w.executor.welcome().groups["mail"].resources["extra"] == "failed"


async def test_death_of_the_agent_server_is_survived(folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    async with world(folder) as w:
        await started(w, w.resource("a"))
        os.kill(w.executor._tools.processes._server_pid, signal.SIGKILL)
        while w.executor._tools.processes._replacement is None:
            await __import__("asyncio").sleep(0.01)
        assert w.ask(StopGroup, group="mail", epoch=1, why="test") == ""
        await w.wait_for(GroupDown)
