"""Fence orders and readiness checks: their limits, a bug that must not leave one without an answer, who goes first."""

import asyncio
import logging

import pytest

from hamail.executor.cgroups import ProcessSets
from hamail.executor.fences import AT_ONCE_MAX, Fences
from hamail.executor.policy import Policy
from hamail.model.actions import CheckFence, FenceChecked, FenceResult, Practised, RunFence, SwitchPower

POLICY = Policy(agents=(), mounts=(), units=(), secrets=("/etc/s",), fence_parameters=())


class Slow:
    """Stands for the fence agents: everything takes until it is let go."""

    def __init__(self):
        self.go = asyncio.Event()
        self.begun = []
        self.at_once = 0
        self.at_once_max = 0

    async def _take(self, what):
        self.begun.append(what)
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            await self.go.wait()
        finally:
            self.at_once -= 1

    async def fence(self, device, target, _plug, _timeout_ms):
        await self._take(f"fence {target} by {device.name}")
        return ""

    async def check(self, device, _plugs, _timeout_ms):
        await self._take(f"check {device.name}")
        return ""

    async def no_power(self, _device):
        return ""

    async def switch_on(self, device, target, _plug, _timeout_ms):
        await self._take(f"on {target} by {device.name}")
        return ""


class Bug:
    async def fence(self, *_given):
        raise ValueError("a bug")

    check = fence


@pytest.fixture
async def fences():
    told = []
    made = Fences(None, ProcessSets(None, "", "x"), told.append, POLICY)
    made._agents = Slow()
    return made, made._agents, told


def fence(number=1, device="pdu", **given):
    fields = {"agent": "fence_x", "plug": "1", "parameters": {}, "secret_files": {}, "timeout_ms": 1000} | given
    return RunFence(id=number, order=number, device=device, target="n1", **fields)


def check(number=1, device="pdu", **given):
    fields = {"agent": "fence_x", "plugs": {"n1": "1"}, "parameters": {}, "secret_files": {}, "timeout_ms": 1000}
    return CheckFence(id=number, device=device, **(fields | given))


async def turns():
    for _turn in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("timeout_ms", [0, -1, 600_001])
async def test_a_time_limit_out_of_bounds_is_refused(fences, timeout_ms):
    f, slow, _told = fences
    assert "outside 1..600000" in f.run(fence(timeout_ms=timeout_ms))
    assert "outside 1..600000" in f.check(check(timeout_ms=timeout_ms))
    await turns()
    assert slow.begun == []


async def test_more_at_once_than_the_limit_is_refused(fences):
    f, slow, told = fences
    assert all(f.run(fence(n, f"d{n}")) == "" for n in range(AT_ONCE_MAX))
    assert "running already" in f.run(fence(99))
    assert "running already" in f.check(check(99))
    slow.go.set()
    await turns()
    assert len(told) == AT_ONCE_MAX and all(result.ok for result in told)
    assert f.run(fence(99)) == "", "there is room again"


async def test_checks_leave_room_for_fences(fences):
    f, slow, _told = fences
    assert all(f.check(check(n, f"d{n}")) == "" for n in range(AT_ONCE_MAX))
    assert "running already" in f.check(check(98, "d98"))
    assert f.run(fence(99, "d99")) == ""
    await turns()
    assert "fence n1 by d99" in slow.begun


async def test_a_second_check_of_a_device_is_answered_with_the_first(fences):
    f, slow, told = fences
    for number in (1, 2):
        assert f.check(check(number)) == ""
        await turns()
    slow.go.set()
    await turns()
    assert slow.begun == ["check pdu"] and told == [FenceChecked(device="pdu", ok=True, detail="")]


async def test_two_checks_that_wait_for_a_fence_are_one(fences):
    """Both at once would be two sessions at the device, and a fence that comes next would end one of them only."""
    f, slow, told = fences
    assert f.run(fence()) == ""
    for number in (1, 2):
        assert f.check(check(number)) == ""
        await turns()
    assert slow.begun == ["fence n1 by pdu"], "a fence goes before a check"
    slow.go.set()
    await turns()
    assert slow.begun == ["fence n1 by pdu", "check pdu"] and slow.at_once_max == 1
    assert [type(x) for x in told] == [FenceResult, FenceChecked] and told[1].ok
    assert f.check(check(3)) == ""
    await turns()
    assert slow.begun[-1] == "check pdu" and len(slow.begun) == 3, "the next one is a check of its own"


async def test_a_fence_ends_the_check_under_way_which_comes_again_after_it(fences):
    f, slow, told = fences
    assert f.check(check()) == ""
    await turns()
    assert f.run(fence()) == ""
    await turns()
    slow.go.set()
    await turns()
    assert slow.begun == ["check pdu", "fence n1 by pdu", "check pdu"]
    assert [type(x) for x in told] == [FenceResult, FenceChecked] and told[1].ok


async def test_a_bug_leaves_no_order_without_an_answer(fences, caplog):
    f, _slow, told = fences
    f._agents = Bug()
    with caplog.at_level(logging.CRITICAL):
        assert f.run(fence(7)) == "" and f.check(check(8, "ipmi")) == ""
        await turns()
    done, checked = sorted(told, key=lambda x: isinstance(x, FenceChecked))
    assert (done.order, done.target, done.ok) == (7, "n1", False) and "outcome unknown" in done.detail
    assert (checked.device, checked.ok) == ("ipmi", False) and "a bug" in checked.detail
    assert caplog.text.count("internal error") >= 2


async def test_what_this_node_does_not_allow_is_surely_not_done(fences):
    f, slow, told = fences
    assert f.run(fence(1, agent="/bin/sh")) == ""
    assert f.check(check(2, secret_files={"password": "/etc/s/none"})) == ""
    await turns()
    assert not any(x.ok for x in told) and slow.begun == []
    assert told[0].detail.endswith("surely not done") and "secret file for password" in told[1].detail


async def test_a_fence_that_is_called_off_gives_no_answer(fences):
    f, _slow, told = fences
    assert f.run(fence()) == ""
    await turns()
    for task in list(f._tasks):
        task.cancel()
    await turns()
    assert told == [] and not f._tasks


def switch(device="pdu", target="n1", **given):
    fields = {"agent": "fence_x", "plug": "1", "parameters": {}, "secret_files": {}, "timeout_ms": 1000}
    return SwitchPower(id=7, order=7, device=device, target=target, **({"on": True} | fields | given))


@pytest.mark.parametrize(("device", "target"), [("pdu", "n2"), ("ipmi", "n1")])
async def test_a_fence_ends_the_drill_that_switches_its_target_on_or_uses_its_device(fences, device, target):
    """Power that comes back in the moment in which it was found off would be a fence of nothing."""
    f, slow, told = fences
    assert f.switch(switch(device, target)) == ""
    await turns()
    assert f.run(fence()) == ""
    await turns()
    assert slow.begun == [f"on {target} by {device}", "fence n1 by pdu"] and slow.at_once_max == 1
    assert [(x.order, x.result) for x in told] == [(7, "refused")]
    assert "is being fenced" in f.switch(switch(device, target))
    slow.go.set()
    await turns()
    assert told[1].ok and f.switch(switch(device, target)) == ""


async def test_the_fence_that_follows_the_drill_s_own_cut_does_not_wait_for_it(fences):
    """The node is missed before the drill's agent has verified what it did: that is how a drill goes well."""
    f, slow, told = fences
    assert f.switch(switch(on=False)) == ""
    await turns()
    assert f.run(fence()) == ""
    await turns()
    assert slow.at_once_max == 1 and [(x.order, x.result) for x in told] == [(7, "done")]


async def test_another_drill_does_not_concern_a_fence(fences):
    f, slow, told = fences
    assert f.switch(switch("ipmi", "n2")) == "" and f.run(fence()) == ""
    slow.go.set()
    await turns()
    assert [type(x) for x in told] == [Practised, FenceResult] and told[0].result == "done"
