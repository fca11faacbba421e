"""Fence agents: what they are told, what their answers mean, and that nothing counts as off but a verified off."""

import asyncio

import pytest
from executor_world import root_folder, world

from hamail.fencing.agent import Device, Ended, FenceAgents, FenceError, compose, explain, locate, parse_metadata
from hamail.model.actions import CheckFence, FenceChecked, FenceResult, RunFence

METADATA = """<?xml version="1.0" ?><resource-agent name="fence_x" shortdesc="x"><parameters>
<parameter name="action"/><parameter name="plug"/><parameter name="ip"/><parameter name="slow"/></parameters>
<actions><action name="on"/><action name="off"/><action name="status"/><action name="metadata"/></actions>
</resource-agent>"""
DEVICE = Device(name="pdu", agent="fence_x", parameters={"ip": "10.0.0.9"}, secrets={"password": "hunter2"})


def test_action_is_always_the_first_line():
    text = compose("off", DEVICE, "n1", "plug", "7").decode()
    assert text == "action=off\nip=10.0.0.9\npassword=hunter2\nnodename=n1\nplug=7\n"


def test_host_argument_given_by_the_user_is_kept_unless_dynamic():
    fixed = Device(name="d", agent="fence_x", parameters={"plug": "3", "pcmk_host_map": "n1:3"}, secrets={})
    assert compose("status", fixed, "n1", "plug", "7") == b"action=status\nplug=3\nnodename=n1\n"
    dynamic = Device(name="d", agent="fence_x", parameters={"plug": "dynamic"}, secrets={})
    assert compose("status", dynamic, "n1", "plug", "7") == b"action=status\nplug=7\nnodename=n1\n"
    assert compose("status", fixed, "n1", "", "7") == b"action=status\nplug=3\nnodename=n1\n"


@pytest.mark.parametrize(
    ("action", "parameters", "said"),
    [
        ("reboot", {}, "is not one of"),
        ("", {}, "is not one of"),
        ("off", {"action": "on"}, "cannot be configured"),
        ("off", {"ip": "a\naction=on"}, "line break"),
        ("off", {"ip": "a\0"}, "zero byte"),
        ("off", {"a=b": "c"}, "no parameter name"),
        ("off", {"a b": "c"}, "no parameter name"),
    ],
)
def test_what_cannot_be_passed_is_refused(action, parameters, said):
    with pytest.raises(FenceError, match=said):
        compose(action, Device(name="d", agent="fence_x", parameters=parameters, secrets={}), "n1", "plug", "1")


def test_host_argument_by_metadata():
    assert parse_metadata("fence_x", METADATA).host_argument == "plug"
    assert parse_metadata("fence_x", METADATA.replace('name="ip"', 'name="port"')).host_argument == "port"
    assert parse_metadata("fence_x", "<resource-agent/>").host_argument == ""
    with pytest.raises(FenceError, match="not XML"):
        parse_metadata("fence_x", "usage: fence_x")
    with pytest.raises(FenceError, match="entities"):
        parse_metadata("fence_x", '<!DOCTYPE a [<!ENTITY e "e">]><a/>')


@pytest.mark.parametrize("name", ["", "ipmilan", "fence_../../bin/sh", "../fence_x", "fence_x y"])
def test_agent_names(name):
    with pytest.raises(FenceError, match="no fence agent"):
        locate(name)


def test_missing_agent():
    with pytest.raises(FenceError, match="install its package"):
        locate("fence_that_is_not_there")


def test_secrets_are_never_repeated():
    ended = Ended(exit_code=3, why="", stdout="", stderr="login with hunter2 denied\n")
    assert explain(DEVICE, ended) == "of fence_x ended with 3 (login denied): login with *** denied"


class Script:
    """Answers by action; records what it was asked."""

    def __init__(self, tmp_path, **answers):
        self.path = tmp_path / "fence_x"
        self.path.touch()
        self.answers, self.asked = answers, []
        self.device = Device(name="pdu", agent=str(self.path), parameters={}, secrets={})
        self.agents = FenceAgents(self.run)

    async def run(self, _path, stdin, _timeout_ms):
        action = stdin.decode().splitlines()[0].removeprefix("action=")
        self.asked.append(action)
        if action == "metadata":
            return Ended(exit_code=0, why="", stdout=METADATA, stderr="")
        answer = self.answers[action]
        if answer == "hang":
            return Ended(exit_code=None, why="timed out after 5 ms", stdout="", stderr="")
        return Ended(exit_code=answer, why="", stdout="", stderr="")


async def test_verified_off(tmp_path):
    script = Script(tmp_path, off=0, status=2)
    assert await script.agents.fence(script.device, "n1", "1", 1000) == ""
    assert await script.agents.fence(script.device, "n1", "1", 1000) == ""
    assert script.asked == ["metadata", "off", "status", "off", "status"]


@pytest.mark.parametrize(
    ("off", "status", "said", "asked"),
    [
        (0, 0, "still on", 2),
        (0, 1, "off was reported, but the status of", 2),
        (0, "hang", "timed out", 2),
        (1, 2, "off of .* ended with 1", 1),
        (2, 2, "off of .* ended with 2", 1),
        ("hang", 2, "timed out", 1),
    ],
)
async def test_everything_else_is_a_failure(tmp_path, off, status, said, asked):
    import re

    script = Script(tmp_path, off=off, status=status)
    why = await script.agents.fence(script.device, "n1", "1", 1000)
    assert re.search(said, why)
    assert len(script.asked) == 1 + asked


async def test_check(tmp_path):
    assert await Script(tmp_path, status=0).agents.check(Script(tmp_path).device, {"n1": "1", "n2": "2"}, 1000) == ""
    script = Script(tmp_path, status=4)
    assert "status of n1 of" in await script.agents.check(script.device, {"n1": "1"}, 1000)
    script = Script(tmp_path, monitor=0)
    assert await script.agents.check(script.device, {}, 1000) == ""
    assert script.asked == ["metadata", "monitor"]


FENCE = """\
#!/usr/bin/env python3
import os, sys, time
folder = {folder!r}
given = dict(line.strip().split("=", 1) for line in sys.stdin if "=" in line)
if not given:
    open(folder + "/REBOOTED", "w")
    sys.exit(0)
action, plug = given["action"], given.get("plug")
if action == "metadata":
    print({metadata!r})
    sys.exit(0)
with open(folder + "/fence.log", "a") as log:
    log.write(action + " " + " ".join(sys.argv[1:]) + "\\n")
mode = given.get("mode", "")
if mode == "hang":
    time.sleep(1000)
if mode == "flood":
    for _ in range(2000):
        os.write(2, b"x" * (1 << 16))
if given.get("password") != "hunter2":
    sys.exit(3)
state = folder + "/off-" + plug
if action == "off" and mode != "lies":
    open(state, "w")
    time.sleep(float(given.get("slow", "0")))
if action == "status":
    time.sleep(float(given.get("slow", "0")))
    sys.exit(2 if os.path.exists(state) else 0)
"""


@pytest.fixture
def fence():
    with root_folder() as folder:
        path = folder / "fence_x"
        path.write_text(
            FENCE.format(folder=str(folder), metadata=METADATA).replace('"plug"/>', '"plug"/><parameter name="mode"/>')
        )
        path.chmod(0o755)
        (folder / "secret").write_text("hunter2\n")
        (folder / "secret").chmod(0o600)
        yield folder


def order(fence, **parameters):
    return {
        "order": 9,
        "device": "pdu",
        "agent": str(fence / "fence_x"),
        "target": "n1",
        "plug": "1",
        "parameters": parameters,
        "secret_files": {"password": str(fence / "secret")},
        "timeout_ms": parameters.pop("timeout_ms", 5000),
    }


@pytest.mark.root
async def test_fence_through_the_executor(fence):
    async with world(fence) as w:
        request = order(fence)
        assert w.ask(RunFence, **request) == ""
        result = await w.wait_for(FenceResult)
        assert (result.order, result.target, result.ok) == (9, "n1", True)
        assert (fence / "off-1").exists() and not (fence / "REBOOTED").exists()
        assert (fence / "fence.log").read_text() == "off \nstatus \n"  # nothing on the command line


@pytest.mark.root
@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"mode": "lies"}, "still on"),
        ({"mode": "hang", "timeout_ms": 600}, "timed out"),
        ({"mode": "flood", "password": "x"}, None),
    ],
)
async def test_failures_through_the_executor(fence, parameters, said):
    async with world(fence) as w:
        assert w.ask(RunFence, **order(fence, **parameters)) == ""
        result = await w.wait_for(FenceResult)
        if said is None:
            assert result.ok
        else:
            assert not result.ok and said in result.detail


@pytest.mark.root
async def test_secret_open_to_all_is_not_used(fence):
    (fence / "secret").chmod(0o644)
    async with world(fence) as w:
        assert w.ask(RunFence, **order(fence)) == ""
        result = await w.wait_for(FenceResult)
        assert not result.ok and "can be read by everybody" in result.detail and "surely not done" in result.detail
        assert not (fence / "fence.log").exists()


@pytest.mark.root
async def test_agent_that_others_can_write_is_not_run(fence):
    (fence / "fence_x").chmod(0o777)
    async with world(fence) as w:
        assert w.ask(RunFence, **order(fence)) == ""
        result = await w.wait_for(FenceResult)
        assert not result.ok and "not run" in result.detail
        assert not (fence / "fence.log").exists()


def check_request(fence, **parameters):
    request = order(fence, **parameters)
    return {k: v for k, v in request.items() if k not in ("order", "target", "plug")} | {
        "plugs": {"n1": "1", "n2": "2"}
    }


@pytest.mark.root
async def test_check_through_the_executor(fence):
    async with world(fence) as w:
        assert w.ask(CheckFence, **check_request(fence)) == ""
        assert await w.wait_for(FenceChecked) == FenceChecked(device="pdu", ok=True, detail="")
        (fence / "secret").write_text("wrong")
        assert w.ask(CheckFence, **check_request(fence)) == ""
        checked = await w.wait_for(FenceChecked)
        assert not checked.ok and "login denied" in checked.detail and "wrong" not in checked.detail


@pytest.mark.root
async def test_fence_goes_before_a_running_check(fence):
    async with world(fence) as w:
        assert w.ask(CheckFence, **check_request(fence, slow="0.7")) == ""
        await asyncio.sleep(0.3)
        assert w.ask(RunFence, **order(fence)) == ""
        result = await w.wait_for(FenceResult)
        assert result.ok and result.took_ms < 600
        assert not [n for n in w.notices if isinstance(n, FenceChecked)]
        assert (await w.wait_for(FenceChecked)).ok


async def test_what_cuts_off_storage_only_is_never_switched_on_for_practice(tmp_path):
    """Its target still runs: `on` would let it write what it has in memory beside the new owner."""
    script = Script(tmp_path)
    assert "switches no power" in await script.agents.no_power(script.device)
    missing = Device(name="pdu", agent="fence_that_is_not_here", parameters={}, secrets={})
    assert "no fence_that_is_not_here" in await script.agents.no_power(missing)
    power = FenceAgents(_with_reboot)
    assert await power.no_power(script.device) == ""


async def _with_reboot(_path, _stdin, _timeout_ms):
    actions = METADATA.replace('<action name="on"/>', '<action name="on"/><action name="reboot"/>')
    return Ended(exit_code=0, why="", stdout=actions, stderr="")
