"""Faults for practice in the executor: only where root allows them, once per order, undone by a timer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from hamail.executor.policy import ANYTHING, DRILL_AGENT, Policy
from hamail.executor.practice import FORBIDDEN
from hamail.model.actions import EndPractice, GroupUp, Maintain, Practise, Practised, ResourceFailed, SwitchPower
from hamail.model.practice import Fault
from hamail.model.spec import ResourceSpec
from tests.unit.executor_world import META, World, root_folder, world, write_agent

DRILL = '''#!/usr/bin/env python3
import os, sys

META = """{meta}"""


def main(argv, environ):
    if argv[1] == "meta-data":
        print(META)
        return 0
    with open("{mark}", "a") as mark:
        fault, seconds = environ.get("OCF_RESKEY_fault"), environ.get("OCF_RESKEY_seconds")
        mark.write(f"{{argv[1]}} {{fault}} {{seconds}}\\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv, os.environ))
'''


@pytest.fixture
async def w() -> AsyncIterator[World]:
    with root_folder() as folder:
        text = DRILL.format(meta=META.format(name="drill"), mark=folder / "mark")
        write_agent(folder / "agents", "hamail", "drill", text)
        async with world(folder) as w:
            group = w.group(w.resource("a"), w.resource("b"))
            await w.clean(group)
            w.start(group, epoch=3)
            await w.wait_for(GroupUp)
            yield w


def ask(w: World, fault: Fault = Fault.SERVICE_KILL, number: int = 7, **given: object) -> str:
    fields = {"order": number, "fault": fault, "group": "mail", "epoch": 3, "duration_ms": 1000, **given}
    return w.ask(Practise, **fields)


def marks(w: World) -> list[str]:
    file = w.folder / "mark"
    return file.read_text().splitlines() if file.exists() else []


async def test_a_service_is_killed_and_what_follows_is_what_follows_a_crash(w: World) -> None:
    assert ask(w, resource="a") == ""
    assert (await w.wait_for(Practised)).result == "done"
    assert (await w.wait_for(ResourceFailed)).resource == "a"


async def test_a_rehearsal_kills_nothing(w: World) -> None:
    assert ask(w, rehearse=True) == ""
    assert (await w.wait_for(Practised)).result == "done"
    await asyncio.sleep(0.1)
    assert not [n for n in w.notices if isinstance(n, ResourceFailed)]
    assert ask(w) == "", "a rehearsal does not use the order up"


async def test_each_order_is_carried_out_once(w: World) -> None:
    assert ask(w, resource="a") == ""
    assert "already" in ask(w, resource="b")
    assert "already" in ask(w, resource="b", number=6)
    assert w.pid("b")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"epoch": 2}, "not up here under epoch 2"),
        ({"group": "other"}, "not up here"),
        ({"duration_ms": 10}, "a fault lasts"),
        ({"duration_ms": 10**9}, "a fault lasts"),
        ({"resource": "nosuch"}, "no service nosuch"),
        ({"fault": Fault.STORAGE_LOSS}, "0 storages"),
        ({"fault": Fault.POWER_OFF}, "nothing that a node does to itself"),
    ],
)
async def test_what_is_refused(w: World, given: dict[str, object], says: str) -> None:
    assert says in ask(w, **given)
    assert marks(w) == []


async def test_nothing_in_maintenance(w: World) -> None:
    w.ask(Maintain, on=True)
    assert "maintenance" in ask(w)
    w.ask(Maintain, on=False)


async def test_the_network_comes_back_by_the_timer(w: World) -> None:
    assert ask(w, Fault.NETWORK_LOSS) == ""
    await w.wait_for(Practised, lambda n: n.result == "done")
    assert "under way" in ask(w, number=8)
    await w.wait_for(Practised, lambda n: n.result == "undone")
    assert marks(w) == ["start network-loss 1", "stop network-loss 1"]


async def test_the_network_comes_back_at_once_when_told(w: World) -> None:
    assert ask(w, Fault.NETWORK_LOSS, duration_ms=100_000) == ""
    await w.wait_for(Practised, lambda n: n.result == "done")
    assert w.ask(EndPractice) == ""
    await w.wait_for(Practised, lambda n: n.result == "undone")
    assert w.ask(EndPractice) == "", "nothing is left to be undone"


async def test_without_root_s_word_nothing_is_done(w: World) -> None:
    """The default: a hostile hamaild cannot have this node break its own services."""
    w.executor._practice._policy = Policy(agents=("hamail:*",), mounts=(), units=(), secrets=(), fence_parameters=())
    for fault in Fault:
        assert ask(w, fault, number=20) == FORBIDDEN
        assert ask(w, fault, number=20, rehearse=True) == FORBIDDEN
    fields = {"device": "pdu", "agent": "fence_x", "target": "n2", "plug": "2", "parameters": {}, "secret_files": {}}
    for on in (True, False):
        assert w.ask(SwitchPower, order=21, on=on, timeout_ms=1000, **fields) == FORBIDDEN
    assert marks(w) == []
    assert not [n for n in w.notices if isinstance(n, Practised)]


def test_the_fault_is_no_resource(tmp_path: Path) -> None:
    spec = ResourceSpec(name="x", agent=DRILL_AGENT)
    assert "no resource" in ANYTHING.refuse_resource(spec)
    assert "no resource" in ANYTHING.refuse_resource(replace(spec, agent=f"ocf:{DRILL_AGENT}"))
    bound = Policy(agents=("hamail:*",), mounts=(), units=(), secrets=(), fence_parameters=())
    assert "drills = true" in bound.refuse_agent(DRILL_AGENT)
    assert ANYTHING.refuse_agent(DRILL_AGENT) == ""
