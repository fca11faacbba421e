"""The executor's look at its machine: in a child that may hang, and without a word of hamaild in it."""

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest

from hamail.config.allow import Allow
from hamail.executor import gather
from hamail.executor.gather import Gatherer, allowed_resources
from hamail.executor.policy import ANYTHING, Policy
from hamail.model.actions import FactsGathered, GatherFacts
from hamail.model.machine import FACTS_BYTES_MAX, MachineFacts
from hamail.model.spec import GroupSpec, ResourceSpec

POLICY = Policy(**msgspec.structs.asdict(Allow()))


def python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


def resource(name: str, agent: str, **parameters: str) -> ResourceSpec:
    return ResourceSpec(name=name, agent=agent, parameters=parameters)


def group(*resources: ResourceSpec) -> GroupSpec:
    return GroupSpec(name="mail", nodes=("n1",), resources=resources)


async def told(gatherer: Gatherer, notices: list[FactsGathered], count: int = 1) -> FactsGathered:
    async with asyncio.timeout(10):
        while len(notices) < count:
            await asyncio.sleep(0.01)
    return notices[-1]


async def test_the_real_look() -> None:
    notices: list[FactsGathered] = []
    gatherer = Gatherer(ANYTHING, notices.append)
    assert gatherer.begin([group(resource("fs", "hamail:filesystem", device="/dev/nothing", directory="/srv"))]) == ""
    found = await told(gatherer, notices)
    assert found.facts is not None and not found.problem
    assert found.facts.hostname and "root" not in found.facts.users
    assert not found.facts.storage["mail/fs"].present


def test_the_request_has_no_argument() -> None:
    assert GatherFacts.__struct_fields__ == ("id",)


async def test_asking_again_is_one_look() -> None:
    notices: list[FactsGathered] = []
    script = f"import sys; sys.stdin.read(); sys.stdout.buffer.write({msgspec.msgpack.encode(MachineFacts())!r})"
    gatherer = Gatherer(ANYTHING, notices.append, python(script))
    for _ in range(5):
        assert gatherer.begin([]) == ""
    await told(gatherer, notices)
    await asyncio.sleep(0.05)
    assert len(notices) == 1
    assert gatherer.begin([]) == ""  # within FRESH_S: the same once more, without a child
    gatherer._command = ("/nonexistent",)
    assert (await told(gatherer, notices, 2)).facts == MachineFacts()


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("import time; time.sleep(60)", "took more than"),
        (f"print('x' * {FACTS_BYTES_MAX + 9})", "cannot be looked at"),
        ("import sys; sys.exit(3)", "cannot be looked at"),
        ("print('this is no answer')", "cannot be looked at"),
    ],
)
async def test_a_child_that_misbehaves(script: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "TIMEOUT_S", 0.5)
    notices: list[FactsGathered] = []
    gatherer = Gatherer(ANYTHING, notices.append, python(script))
    gatherer.begin([])
    found = await told(gatherer, notices)
    assert found.facts is None and problem in found.problem


async def test_what_the_node_does_not_allow_is_not_looked_at(tmp_path: Path) -> None:
    """A hostile hamaild names what it likes as a mount point or a device: root looks only where it may act."""
    groups, refused = allowed_resources(
        [
            group(
                resource("good", "hamail:filesystem", device="/dev/lun", directory="/srv/mail"),
                resource("etc", "hamail:filesystem", device="/dev/lun", directory="/etc"),
                resource("file", "hamail:filesystem", device="/etc/shadow", directory="/srv/x"),
                resource("other", "heartbeat:Filesystem", device="/dev/sda1", directory="/root"),
                resource("config", "hamail:postfix", config_dir=str(tmp_path / "mine")),
            )
        ],
        POLICY,
    )
    assert [r.name for r in groups[0].resources] == ["good"]
    assert len(refused) == 4 and all("resource " in why for why in refused)
