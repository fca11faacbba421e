"""Agents that misbehave: each hurts its own group only, and says so in a sentence."""

import re
from collections.abc import Iterator

import pytest

from tests.cluster.world import World
from tests.lab.cluster import MAIL_NODES

AGENT = "/usr/lib/ocf/resource.d/lab/odd"
MODE = "/run/odd"
SCRIPT = r"""#!/bin/sh
# Does what /run/odd says at its start; else what an agent should.
case "$1" in
meta-data)
    cat <<END
<?xml version="1.0"?>
<resource-agent name="odd" version="1.0"><version>1.1</version>
<longdesc lang="en">misbehaves</longdesc><shortdesc lang="en">odd</shortdesc><parameters/>
<actions><action name="start" timeout="2s"/><action name="stop" timeout="5s"/>
<action name="monitor" timeout="5s" interval="10s" depth="0"/><action name="meta-data" timeout="5s"/></actions>
</resource-agent>
END
    ;;
start)
    case "$(cat /run/odd)" in
    hang) exec sleep 1000 ;;
    deaf) trap '' TERM; while :; do sleep 1; done ;;
    flood) head -c 1000000000 /dev/zero | tr '\0' x; echo; head -c 1000000000 /dev/zero | tr '\0' y >&2 ;;
    77) exit 77 ;;
    garbage) printf '\377\376\033[31m\000%s\n' nonsense >&2; exit 1 ;;
    children) touch /run/odd.up; setsid sh -c "trap '' TERM; sleep 4711 & while :; do sleep 4711; done" & exit 0 ;;
    esac
    touch /run/odd.up ;;
stop) rm -f /run/odd.up ;;
monitor) [ -e /run/odd.up ] || exit 7 ;;
*) exit 3 ;;
esac
"""
GROUP = """
[groups.odd]
nodes = ["n1", "n2"]
shared_storage = false
requires = "lease"

[groups.odd.resources.odd]
agent = "lab:odd"
"""


@pytest.fixture
def odd(world: World) -> Iterator[World]:
    """With the agent on both nodes; takes its group away afterwards."""
    for name in MAIL_NODES:
        install = f"mkdir -p $(dirname {AGENT}); cat >{AGENT}; chmod 755 {AGENT}; echo well >{MODE}"
        world.nodes[name].run(["sh", "-c", install], input=SCRIPT)
    source = world.source()
    yield world
    for name in MAIL_NODES:
        world.nodes[name].run(f"echo well >{MODE}")
    if "[groups.odd]" in world.source():
        without_nodes(world, source)


def without_nodes(world: World, source: str) -> None:
    """A group goes only when nobody owns it: it is stopped by sending it away from both nodes."""
    for name in MAIL_NODES:
        world.nodes[name].run(f"echo 77 >{MODE}")
    owner = world.group(name="odd").get("owner")
    if owner:
        world.nodes[owner].run("rm -f /run/odd.up")  # its monitor sees that, no node can start it: it stays idle
        world.ctl(owner, f"switchover odd --to {'n2' if owner == 'n1' else 'n1'} --yes", code=None)
    world.until(lambda: world.group(name="odd").get("phase") == "idle", 20, "the odd group is idle")
    world.apply(source)


def set_mode(world: World, mode: str) -> None:
    for name in MAIL_NODES:
        world.nodes[name].run(f"echo {mode} >{MODE}; rm -f /run/odd.up")


def memory_kb(world: World, node: str) -> int:
    pid = world.main_pid(node, "hamail-executor")
    return int(world.nodes[node].run(f"grep VmRSS /proc/{pid}/status").stdout.split()[1])


def test_agents_that_cannot_start(odd: World) -> None:
    """Each way of failing is tried on both nodes, then the group stays down with the reason; mail is not disturbed."""
    world = odd
    epoch, active, source = world.epoch(), world.active, world.source()
    before_kb = memory_kb(world, active)
    sentences = {
        "77": "77",
        "hang": "(did not end|no end|timed out|time)",
        "deaf": "(did not end|no end|timed out|time)",
        "garbage": "nonsense",
    }
    set_mode(world, "77")
    world.apply(source + GROUP)
    for mode, sentence in sentences.items():
        mark = max(e["index"] for e in world.ask("events?after=0")["events"])
        if mode != "77":
            set_mode(world, mode)
            world.ctl(active, "clear odd")

        def told(mark: int = mark) -> str:
            return "\n".join(e["sentence"] for e in world.ask(f"events?after={mark}")["events"])

        world.until(lambda: "stays down" in told(), 15, f"{mode}: tried on both nodes: {told()}")
        said = [line for line in told().splitlines() if "could not start odd" in line]
        assert len(said) == 2, told()
        assert all(re.search(sentence, line) for line in said), said
        assert all(line.isprintable() for line in said), said
        print(mode, "->", said[0])
    assert (world.active, world.epoch()) == (active, epoch)
    for name in MAIL_NODES:
        assert not world.nodes[name].run("pgrep -af '[s]leep 1000|/lab/[o]dd'", check=False).stdout, "nothing is left"
    assert memory_kb(world, active) < before_kb + 20_000
    world.apply(source)


def test_group_that_somebody_has_already_started_by_hand(odd: World) -> None:
    """It is stopped there before the preferred node gets it: both would run it otherwise."""
    world = odd
    epoch = world.epoch()
    world.nodes["n2"].run("touch /run/odd.up")
    world.apply(world.source() + GROUP)
    world.until_told("n1 runs odd")
    told = world.told()
    assert told.index("n2 holds nothing of odd") < told.index("odd goes to n1"), told
    assert world.nodes["n2"].run("test -e /run/odd.up", check=False).returncode == 1
    assert world.nodes["n1"].run("test -e /run/odd.up", check=False).returncode == 0
    assert world.epoch() == epoch, "mail is not disturbed"


def test_agent_that_prints_gigabytes_and_one_that_leaves_children(odd: World) -> None:
    world = odd
    active, epoch, source = world.active, world.epoch(), world.source()
    before_kb = memory_kb(world, active)
    set_mode(world, "flood")
    longer = GROUP + 'start_timeout = "30s"\n'
    world.apply(source + longer)
    world.until(lambda: re.search(r"runs odd|odd .* stays down", world.told()), 40, "the flood is over")
    owner = world.group(name="odd")["owner"] or active
    assert memory_kb(world, owner) < before_kb + 20_000, "output is bounded"
    # Now with children that ignore TERM.
    set_mode(world, "children")
    world.ctl(active, "clear odd", code=None)
    if world.group(name="odd")["phase"] == "active":
        target = "n2" if owner == "n1" else "n1"
        world.ctl(active, f"switchover odd --to {target} --yes")
    world.until(lambda: world.group(name="odd").get("phase") == "active", 20, "its start says success")
    owner = world.group(name="odd")["owner"]
    assert world.nodes[owner].run("pgrep -f '[s]leep 4711'").stdout
    target = "n2" if owner == "n1" else "n1"
    world.ctl(active, f"switchover odd --to {target} --yes")
    left = world.nodes[owner].run("pgrep -af '[s]leep 4711'", check=False).stdout
    assert not left, f"the stop said done and left: {left}"
    assert (world.active, world.epoch()) == (active, epoch)
