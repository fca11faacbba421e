"""Unknown agents and parameters are refused before they are in force."""

from pathlib import Path

import msgspec
import pytest

from hamail.config.allow import Allow
from hamail.daemon import agent_check
from hamail.executor.policy import Policy
from hamail.model.spec import ClusterSpec, FenceDeviceSpec, GroupSpec, NodeSpec, ResourceSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "resource.d" / "hamail").mkdir(parents=True)
    for name in ("good", "silent", "slow"):
        agent = tmp_path / "resource.d" / "hamail" / name
        agent.write_text(
            "#!/bin/sh\n"
            + {
                "good": 'echo \'<resource-agent name="good"><parameters><parameter name="device" required="1"/>'
                "</parameters></resource-agent>'",
                "silent": "exit 3",
                "slow": "exec sleep 60",
            }[name]
        )
        agent.chmod(0o755)
    return tmp_path / "resource.d"


def spec(agent: str, **parameters: str) -> ClusterSpec:
    resource = ResourceSpec(name="r", agent=agent, parameters=parameters)
    return ClusterSpec(name="c", nodes={}, groups={"g": GroupSpec(name="g", nodes=("n1",), resources=(resource,))})


def test_known_parameters_pass(folder: Path) -> None:
    assert agent_check.problems(spec("hamail:good", device="/dev/x"), (folder,)) == ()


@pytest.mark.parametrize(
    ("agent", "parameters", "words"),
    [
        ("hamail:good", {"devize": "/dev/x"}, "has no parameter devize"),
        ("hamail:good", {}, "needs the parameter device"),
        ("hamail:goood", {"device": "/dev/x"}, "there is no agent hamail:goood"),
        ("hamail:silent", {}, "no usable meta-data (exit code 3)"),
        ("hamail:slow", {}, "gives no meta-data"),
    ],
)
def test_what_could_not_start_is_refused_with_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch, agent: str, parameters: dict[str, str], words: str
) -> None:
    monkeypatch.setattr(agent_check, "METADATA_TIMEOUT_S", 0.5)
    (problem,) = agent_check.problems(spec(agent, **parameters), (folder,))
    assert problem.startswith("groups.g.resources.r: ")
    assert words in problem


@pytest.mark.parametrize(
    ("agent", "parameters", "words"),
    [
        ("hamail:systemd", {"unit": "backup.service"}, "name it in allow.units of node.toml (of each mail node; then"),
        ("hamail:filesystem", {"device": "/dev/x", "directory": "/opt/mail"}, "allow.mounts of node.toml"),
        ("heartbeat:IPaddr2", {}, "allow.agents of node.toml"),
        ("hamail:postfix", {"unit": "auto"}, ""),
        ("hamail:filesystem", {"device": "/dev/x", "directory": "/srv/mail"}, ""),
    ],
)
def test_what_the_executor_here_would_refuse_is_no_configuration(
    agent: str, parameters: dict[str, str], words: str
) -> None:
    """Once in force it would leave no standby: the node could not even verify that nothing of the group runs."""
    policy = Policy(**msgspec.structs.asdict(Allow()))
    found = agent_check.disallowed(spec(agent, **parameters), "n1", policy)
    assert len(found) == bool(words)
    assert all(f.startswith("groups.g.resources.r: ") and words in f for f in found)
    assert agent_check.disallowed(spec(agent, **parameters), "n2", policy) == (), "it is no node of the group"


def test_a_fence_agent_must_be_where_it_is_to_run(tmp_path: Path) -> None:
    (tmp_path / "fence_x").touch(0o600)  # hamaild needs no right to execute it
    nodes = {n: NodeSpec(name=n, address=f"10.0.0.1{n[1]}", witness=n == "n3") for n in ("n1", "n2", "n3")}
    devices = {
        name: FenceDeviceSpec(name=name, agent=agent, targets={"n1": "1", "n2": "2"}, executors=executors)
        for name, agent, executors in (
            ("there", str(tmp_path / "fence_x"), ()),
            ("typo", "fence_surely_not", ()),
            ("elsewhere", "fence_surely_not", ("n2",)),
        )
    }
    cluster = ClusterSpec(name="c", nodes=nodes, groups={}, fencing=devices)
    words = "fencing.typo: there is no fence agent fence_surely_not on n1, which is to run it"
    assert agent_check.fence_problems(cluster, "n1") == (words,)
    assert agent_check.fence_problems(cluster, "n3") == ()
