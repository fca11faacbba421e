"""The life of a group on a node: start, stop, failures; with real processes."""

import os
import signal
import time

import pytest

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
from executor_world import root_folder, world, write_agent

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
