"""Orders that cross each other on their way: granted while it is searched, asked twice, too many at once."""

import asyncio
import os
import subprocess

import pytest
from executor_world import META, root_folder, world, write_agent

from hamail.executor import executor as executor_module
from hamail.executor import resource as resource_module
from hamail.executor.executor import GROUPS_MAX
from hamail.executor.groups import Group
from hamail.executor.ledger import Held, Ledger, Page
from hamail.executor.resource import State
from hamail.model.actions import (
    Cleaned,
    CleanUp,
    Configure,
    GroupDown,
    GroupStartFailed,
    GroupUp,
    Maintain,
    Prepare,
    ResourceFailed,
    ResourceRestarted,
    RestartResource,
    StopGroup,
)
from hamail.model.spec import GroupSpec, ResourceSpec

pytestmark = pytest.mark.root


@pytest.fixture
def folder():
    with root_folder() as made:
        yield made


async def up(w, *resources, epoch=1):
    group = w.group(*resources)
    assert (await w.clean(group)).ok
    assert w.start(group, epoch=epoch) == ""
    await w.wait_for(GroupUp)
    return group


async def test_a_group_that_is_granted_while_it_is_searched_is_left_to_its_start(folder):
    async with world(folder) as w:
        group = w.group(w.resource("smtp"))
        assert (await w.clean(group)).ok
        async with w.executor._look_lock("mail"):
            assert w.ask(CleanUp) == ""
            evicted = asyncio.create_task(w.executor._evict(group, frozenset({"192.0.2.1"})))
            await asyncio.sleep(0.02)
            assert w.start(group) == ""
        said = await w.wait_for(Cleaned)
        await w.wait_for(GroupUp)
        assert said.ok and await evicted == []
        assert "stop" not in w.log("smtp")
        assert w.executor.welcome().groups["mail"].state == "up"


async def test_a_start_that_is_asked_for_twice_is_done_once(folder):
    async with world(folder) as w:
        group = w.group(w.resource("smtp", delay=0.3))
        assert (await w.clean(group)).ok
        assert w.start(group) == "" and w.start(group) == ""
        await w.wait_for(GroupUp)
        await asyncio.sleep(0.05)
        assert w.log("smtp").count("start") == 1 and not [n for n in w.notices if isinstance(n, GroupUp)]


async def test_a_late_end_of_an_earlier_grant_does_not_end_the_present_one(folder):
    async with world(folder) as w:
        group = await up(w, w.resource("smtp"))
        earlier = w.executor._held["mail"]
        assert w.ask(StopGroup, group="mail", epoch=1, why="test") == ""
        await w.wait_for(GroupDown)
        assert w.start(group, epoch=2) == ""
        await w.wait_for(GroupUp)
        deadline = w.executor._deadman.get("mail")
        w.executor._ended(earlier)
        assert w.executor.welcome().groups["mail"].epoch == 2
        assert w.executor._deadman.get("mail") == deadline is not None


async def test_more_than_it_can_do_at_once_is_refused(folder, monkeypatch):
    async with world(folder) as w:
        group = w.group(w.resource("smtp"))
        assert (await w.clean(group)).ok
        many = tuple(w.group(name=f"g{n}") for n in range(GROUPS_MAX + 1))
        assert f"more than {GROUPS_MAX}" in w.ask(Configure, cluster="test", groups=many)
        assert set(w.executor._configured) == {"mail"}
        monkeypatch.setattr(executor_module, "TASKS_MAX", 0)
        assert "more is under way" in w.ask(Prepare, group=group)
        assert "more is under way" in w.ask(Configure, cluster="test", groups=())
        assert "more is under way" in w.ask(StopGroup, group="mail", epoch=1, why="test")


async def test_a_restart_of_what_is_not_there_is_refused(folder):
    async with world(folder) as w:
        await up(w, w.resource("smtp"))
        assert w.ask(RestartResource, group="mail", epoch=1, resource="imap") == "group mail has no resource imap"


async def test_a_bug_in_the_background_is_told(folder, caplog):
    async with world(folder) as w:

        async def bug():
            raise ValueError("a bug")

        await asyncio.wait((w.executor._spawn(bug()),))
        await asyncio.sleep(0)
        assert "failed: ValueError('a bug')" in caplog.text and not w.executor._doomed


async def test_maintenance_again_before_what_was_left_is_stopped_leaves_it_alone(folder):
    async with world(folder) as w:
        spec = w.group(w.resource("smtp"))
    Ledger(folder / "held", "test-boot").write(
        Page(boot_id="test-boot", cluster="test", groups=(Held(spec=spec, epoch=3),), maintenance=True)
    )
    async with world(folder) as w:
        async with w.executor._look_lock("mail"):
            assert w.ask(Maintain, on=False) == ""
            await asyncio.sleep(0.02)
            assert w.ask(Maintain, on=True) == ""
        await asyncio.sleep(0.5)
        assert [held.spec.name for held in w.executor._left] == ["mail"]
        assert [held.epoch for held in Ledger(folder / "held", "test-boot").page.groups] == [3]
        assert w.ask(Maintain, on=False) == ""
        async with asyncio.timeout(5):
            while w.executor._left:
                await asyncio.sleep(0.01)
        assert Ledger(folder / "held", "test-boot").page.groups == () and not w.executor._doomed


STICKY = """\
#!/bin/sh
case $1 in
meta-data) cat <<'END'
{meta}END
;;
monitor) test -e {mark} || exit 7;;
stop) exit 1;;
esac
"""


async def test_a_leftover_that_cannot_be_stopped_lets_nothing_start(folder):
    mark = folder / "mark"
    meta = META.format(name="sticky")
    write_agent(folder / "agents", "other", "sticky", STICKY.format(meta=meta, mark=mark))
    async with world(folder) as w:
        assert (await w.clean(w.group(w.resource("smtp")))).ok
        mark.touch()
        group = w.group(w.resource("smtp"), w.resource("glue", agent="other:sticky", after=("smtp",)))
        assert w.start(group) == ""
        failed = await w.wait_for(GroupStartFailed)
        assert (failed.resource, failed.clean) == ("glue", False)
        assert "leftover could not be stopped" in failed.detail
        assert "start" not in w.log("smtp")
        mark.unlink()
        lets_go = STICKY.replace("stop) exit 1", "stop) exit 0")
        write_agent(folder / "agents", "other", "sticky", lets_go.format(meta=meta, mark=mark))
        assert w.ask(StopGroup, group="mail", epoch=1, why="test") == ""
        await w.wait_for(GroupDown)


async def test_a_service_that_ends_right_after_its_start_is_not_up(folder, monkeypatch):
    class Gone:
        def __init__(self, *_given):
            raise ProcessLookupError

    async with world(folder) as w:
        group = w.group(w.resource("smtp"))
        assert (await w.clean(group)).ok
        monkeypatch.setattr(resource_module, "PidWatch", Gone)
        assert w.start(group) == ""
        failed = await w.wait_for(GroupStartFailed)
        assert failed.clean and failed.detail == "it ended right after its start"


async def test_a_service_that_cannot_be_watched_is_up_all_the_same_and_monitored(folder, monkeypatch, caplog):
    class Blind:
        def __init__(self, *_given):
            raise OSError(24, "Too many open files")

    async with world(folder) as w:
        with monkeypatch.context() as m:
            m.setattr(resource_module, "PidWatch", Blind)
            await up(w, w.resource("smtp"))
        assert "cannot be watched" in caplog.text
        os.kill(w.pid("smtp"), 9)
        assert (await w.executor._held["mail"]._resources["smtp"].monitor_once()).exit_code == 7
        assert (await w.wait_for(ResourceFailed)).resource == "smtp"


async def test_the_process_that_the_agent_names_last_is_the_one_that_is_watched(folder):
    async with world(folder) as w:
        await up(w, w.resource("smtp"))
        first = w.pid("smtp")
        second = subprocess.Popen(["sleep", "1000"])
        ticks = open(f"/proc/{second.pid}/stat").read().rpartition(")")[2].split()[19]
        (folder / "smtp.state").write_text(f"{second.pid} {ticks}")
        smtp = w.executor._held["mail"]._resources["smtp"]
        await smtp.monitor_once()
        assert [pid for pid, _ticks in smtp._watches] == [second.pid]
        os.kill(first, 9)
        await asyncio.sleep(0.1)
        assert smtp.state is State.UP
        second.kill()
        second.wait()
        assert f"process {second.pid}" in (await w.wait_for(ResourceFailed)).detail


async def test_what_is_being_started_is_not_monitored(folder):
    async with world(folder) as w:
        await up(w, w.resource("smtp", monitor_interval_ms=1000))
        smtp = w.executor._held["mail"]._resources["smtp"]
        smtp.state = State.STARTING
        before = w.log("smtp").count("monitor")
        smtp.begin_monitoring(0)
        await asyncio.sleep(0.3)
        assert w.log("smtp").count("monitor") == before
        smtp.state = State.UP
        smtp.begin_monitoring(0)
        await asyncio.sleep(0.3)
        assert w.log("smtp").count("monitor") == before + 1


async def test_a_restart_brings_up_everything_that_went_down_below_it(folder):
    """The storage was restarted and did not come back, so what stands on it is down; the topmost is asked for next."""
    write_agent(folder / "agents", "hamail", "lvm")
    async with world(folder) as w:
        await up(
            w,
            w.resource("store", agent="hamail:lvm"),
            w.resource("smtp", after=("store",)),
            w.resource("top", after=("smtp",)),
        )
        state = folder / "store.state"
        os.kill(w.pid("store"), 9)
        await w.wait_for(ResourceFailed)
        state.unlink()
        state.mkdir()  # its start fails from now on
        assert w.ask(RestartResource, group="mail", epoch=1, resource="store") == ""
        assert not (await w.wait_for(ResourceRestarted)).ok
        state.rmdir()
        assert w.ask(RestartResource, group="mail", epoch=1, resource="top") == ""
        assert (await w.wait_for(ResourceRestarted)).ok
        resources = w.executor.welcome().groups["mail"].resources
        assert resources == {"store": "up", "smtp": "up", "top": "up"}
        assert sorted(resources, key=w.last_start_s) == ["store", "smtp", "top"]


def test_resources_that_wait_for_each_other_have_no_order():
    """The configuration refuses them; whoever has taken hamaild over may send them all the same."""
    ring = tuple(ResourceSpec(name=n, agent="hamail:x", after=(m,)) for n, m in (("a", "b"), ("b", "a")))
    group = Group.__new__(Group)
    group.spec = GroupSpec(name="mail", nodes=("n1",), resources=ring)
    assert group._above("a") == [] and group._below("a") == []
