"""All mail nodes take a configuration or none: whole hamailds ask each other over real links."""

import asyncio
import stat

import msgspec
import pytest
from test_daemon_cluster import World, world  # noqa: F401 - a fixture

from hamail.config import rules
from hamail.config.allow import Allow
from hamail.control.client import ControlClient, Refused
from hamail.daemon import config_checks, questions
from hamail.daemon.config_checks import ASKED_MAX, ConfigChecks
from hamail.executor.policy import ANYTHING, Policy
from hamail.model.messages import AnyMessage, ConfigAsk, ConfigTold

AGENT = "#!/bin/sh\necho '<resource-agent name=\"thing\"><parameters/></resource-agent>'\n"


@pytest.fixture
async def pair(world: World, monkeypatch: pytest.MonkeyPatch) -> World:  # noqa: F811
    """Both mail nodes have the agent lab:thing, and may run it."""
    monkeypatch.setattr(rules, "RULES", tuple(r for r in rules.RULES if r.__name__ != "node_addresses"))  # all here
    await world.until_whole()
    for name in ("n1", "n2"):
        agent = world.root / name / "agents" / "lab" / "thing"
        agent.parent.mkdir(parents=True)
        agent.write_text(AGENT)
        agent.chmod(agent.stat().st_mode | stat.S_IXUSR)
        configure(world, name, ANYTHING)
    return world


def configure(world: World, name: str, policy: Policy) -> None:  # noqa: F811
    checks = world.daemons[name].configs
    checks._agent_dirs, checks._policy = (world.root / name / "agents",), policy


def source(world: World) -> str:  # noqa: F811
    nodes = (
        f'[nodes.{n.name}]\naddress = "127.0.0.1"\nport = {n.port}\nwitness = {str(n.witness).lower()}\n'
        for n in world.spec.nodes.values()
    )
    group = '[groups.mail]\nnodes = ["n1", "n2"]\nrequires = "lease"\nshared_storage = false\n'
    group += '[groups.mail.resources.x]\nagent = "lab:thing"\n'
    return '[cluster]\nname = "mail"\n' + "".join(nodes) + group


def client(world: World, name: str) -> ControlClient:  # noqa: F811
    return ControlClient(world.root / name / "control.sock")


async def test_what_another_node_would_refuse_is_refused_before_it_is_applied(pair: World) -> None:
    given = source(pair)
    for asked in ("n1", "n3"):
        found = await asyncio.to_thread(client(pair, asked).check_config, given)
        assert (found.problems, found.unknown) == ((), ()) and found.changes
    configure(pair, "n2", Policy(**msgspec.structs.asdict(Allow())))
    for asked in ("n1", "n3"):
        found = await asyncio.to_thread(client(pair, asked).check_config, given)
        (problem,) = found.problems
        assert problem.startswith("n2: groups.mail.resources.x: agent lab:thing is not allowed on this node")
    with pytest.raises(Refused) as caught:
        await asyncio.to_thread(client(pair, "n1").apply_config, given)
    assert caught.value.reasons[0].startswith("n2: ")
    assert pair.daemons["n1"].engine.state.config.revision == 1, "nothing was applied"
    (pair.root / "n2" / "agents" / "lab" / "thing").unlink()
    configure(pair, "n2", ANYTHING)
    found = await asyncio.to_thread(client(pair, "n1").check_config, given)
    assert "n2: groups.mail.resources.x: there is no agent lab:thing" in found.problems[0]


async def test_who_cannot_be_asked_is_told_and_holds_nothing_up(pair: World, monkeypatch: pytest.MonkeyPatch) -> None:
    given, configs = source(pair), pair.daemons["n1"].configs
    monkeypatch.setattr(config_checks, "ANSWER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(pair.daemons["n2"].configs, "hear", lambda sender, message: None)
    problems, (unknown,) = await configs.elsewhere(given)
    assert not problems and unknown == "whether n2 could use it is unknown: it has not answered within 0.2 s"
    monkeypatch.setattr(questions, "__version__", "9.9")
    _, (unknown,) = await configs.elsewhere(given)
    assert "it runs hamail" in unknown and "this node 9.9" in unknown
    pair.power_off("n1")


async def test_a_change_of_comments_is_a_revision(pair: World) -> None:
    given = source(pair)
    done = await asyncio.to_thread(client(pair, "n1").apply_config, given)
    assert not (await asyncio.to_thread(client(pair, "n1").check_config, given)).changes
    found = await asyncio.to_thread(client(pair, "n1").check_config, f"# why\n{given}")
    assert found.changes == ("only the text itself: comments, order or layout",)
    again = await asyncio.to_thread(client(pair, "n1").apply_config, f"# why\n{given}")
    assert again.revision == done.revision + 1
    assert pair.daemons["n1"].engine.state.config.source.startswith("# why")


async def test_a_flood_of_questions_is_bounded_and_a_false_answer_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[AnyMessage] = []
    checks = ConfigChecks(type("E", (), {"me": "n1"})(), lambda _, m: bool(sent.append(m)) or True)  # type: ignore[arg-type]
    monkeypatch.setattr(checks, "_look", lambda text: (text * 2000,) * 99)
    checks.hear("n2", ConfigTold(nonce=1, problems=()))
    for nonce in range(ASKED_MAX * 3):
        checks.hear("n2", ConfigAsk(nonce=nonce, source="x"))
    while checks._tasks:
        await asyncio.sleep(0.01)
    assert len(sent) == ASKED_MAX
    assert all(isinstance(m, ConfigTold) and len(m.problems) == 50 and len(m.problems[0]) == 1000 for m in sent)
    checks.close()
