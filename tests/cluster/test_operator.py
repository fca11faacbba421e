"""What an operator does and is told, on the live cluster."""

import json
import re

from tests.cluster.world import World
from tests.lab.cluster import WITNESS
from tests.lab.image import POSTFIX_UNIT
from tests.lab.instruments import other


def test_standby_and_unstandby(world: World) -> None:
    active = world.active
    standby = other(active)
    done = world.ctl(active, f"standby {active} --reason 'disk swap' --yes")
    assert f"mail is active on {standby}" in done.stdout
    assert world.view(active)["standby"]
    assert "standby" in world.why() and f"hamailctl unstandby {active}" in world.why()
    refused = world.ctl(standby, f"switchover mail --to {active} --yes", code=3)
    assert "standby" in refused.stderr
    world.ctl(standby, f"unstandby {active}")
    assert world.active == standby, "nothing moves back by itself"
    assert world.moves()[-1]["trigger"] == "standby"


def test_standby_of_the_only_node_that_can_is_refused(world: World) -> None:
    active = world.active
    world.ctl(active, f"standby {other(active)} --yes")
    refused = world.ctl(active, f"standby {active} --yes", code=3)
    assert "nowhere" in refused.stderr or other(active) in refused.stderr
    assert world.active == active
    world.ctl(active, f"unstandby {other(active)}")


def test_maintenance_means_hands_off(world: World) -> None:
    active, epoch = world.active, world.epoch()
    standby = other(active)
    done = world.ctl(standby, "maintenance on --reason 'switch firmware'")
    assert "NOBODY takes over" in done.stdout
    world.lab.cut(active)
    world.never(lambda: world.holds(standby), 3.0, "taken over in spite of maintenance")
    assert world.epoch() == epoch
    assert world.nodes[standby].powered
    world.ctl(standby, "maintenance off --yes", code=None)
    world.until_active(standby)


def test_maintenance_survives_the_loss_of_quorum(world: World) -> None:
    """The dead-man's switch is suspended: the services go on although no lease can be renewed."""
    active = world.active
    world.ctl(active, "maintenance on")
    world.lab.isolate(active)
    world.never(lambda: not world.holds(active), 6.0, "stopped in spite of maintenance")
    world.lab.heal()
    world.until(lambda: (world.status(active) or {}).get("quorum"), 10, "quorum again")
    world.ctl(WITNESS, "maintenance off --yes")
    world.wait_healthy(20)
    assert world.active == active


EXIT_CODES = [
    ("status", 0, "mail is active on"),
    ("why mail", 0, "runs on"),
    ("timing", 0, "lease"),
    ("switchover", 2, "Missing argument"),
    ("switchover nosuch --yes", 3, "nosuch"),
    ("switchover mail --to n3 --yes", 3, "witness"),
    ("switchover mail --to n9 --yes", 3, "n9"),
    ("standby n3 --yes", 3, "witness"),
    ("unstandby n1", 3, "already"),
    ("maintenance off", 3, "already off"),
    ("fence n3 --yes", 3, "n3"),
    ("fence confirm n2 --i-know-it-is-off n1", 2, "nothing was confirmed"),
    ("clear nosuch", 3, "nosuch"),
    ("history 999999", 3, "999999"),
    ("config apply /nosuch.toml --yes", 2, "No such file"),
    ("--socket /run/nosuch.sock status", 4, "not running"),
    ("--socket /run/nosuch.sock switchover mail --yes", 4, "not running"),
]


def test_exit_codes(world: World) -> None:
    wrong = []
    for words, code, says in EXIT_CODES:
        result = world.ctl("n1", words, None)
        said = result.stdout + result.stderr
        if result.returncode != code or says not in said:
            wrong.append(f"hamailctl {words}: {result.returncode} instead of {code}: {said}")
    assert not wrong, "\n".join(wrong)


def test_who_may_look_and_who_may_act(world: World) -> None:
    node = world.nodes["n1"]
    outsider = node.run("runuser -u mail -- hamailctl status", check=False)
    assert (outsider.returncode, "members of the group hamail may look" in outsider.stderr) == (3, True)
    member = "setpriv --reuid mail --regid mail --groups $(getent group hamail | cut -d: -f3) --"
    assert node.run(f"{member} hamailctl status").returncode == 0
    act = node.run(f"{member} hamailctl standby n2 --yes", check=False)
    assert act.returncode == 3
    assert "root may act" in act.stderr or "as root" in act.stderr


BAD = [
    ('detection = "1s"', 'detektion = "1s"', "detektion"),
    ('detection = "1s"', "detection = 300", "detection"),
    ('detection = "1s"', 'detection = "50ms"', "detection"),
    ('nodes = ["n1", "n2"]', 'nodes = ["n1", "n3"]', "witness"),
    ('nodes = ["n1", "n2"]', 'nodes = ["n1", "n9"]', "n9"),
    ('after = ["dovecot"]', 'after = ["dovcot"]', "dovcot"),
    ("/24 ", "/33 ", "33"),
    ("[fencing.pdu]", "[fensing.pdu]", "fensing"),
]


def test_bad_configuration_changes_nothing(world: World) -> None:
    source, before = world.source(), (world.ask("config")["config"]["revision"], world.epoch())
    wrong = []
    for good, bad, names in BAD:
        assert good in source
        world.nodes["n1"].run(["sh", "-c", "cat >/tmp/bad.toml"], input=source.replace(good, bad, 1))
        refused = world.ctl("n1", "config apply /tmp/bad.toml --yes", None)
        if refused.returncode != 3 or names not in refused.stderr or "nothing was changed" not in refused.stderr:
            wrong.append(f"{bad}: {refused.returncode}: {refused.stdout}{refused.stderr}")
        if not re.search(r":\d+: ", refused.stderr):
            wrong.append(f"{bad}: no line is named: {refused.stderr}")
    assert not wrong, "\n".join(wrong)
    assert (world.ask("config")["config"]["revision"], world.epoch()) == before


def test_configuration_is_kept_and_compared(world: World) -> None:
    source = world.source()
    revision = world.ask("config")["config"]["revision"]
    world.nodes["n2"].run(["sh", "-c", "cat >/tmp/new.toml"], input=source + "\n# a comment\n")
    shown = world.ctl("n2", "config show").stdout
    assert shown.strip() == source.strip()
    wider = source.replace("[groups.mail]\n", '[groups.mail]\nrestarts = "5 in 10m"\n')
    world.apply(wider, "n2")
    world.until(lambda: world.ask("config")["config"]["revision"] == revision + 1, 5, "applied")
    world.until_told(f"revision {revision + 1}")
    world.apply(source, "n2")


def test_json_of_every_looking_command(world: World) -> None:
    for words in ("status", "history", "why mail", "timing", "config show"):
        assert json.loads(world.ctl("n1", f"{words} --json").stdout)["schema"].startswith("hamail/"), words
    for line in world.ctl("n1", "events --json").stdout.splitlines():
        assert json.loads(line)


def test_the_distribution_s_tools_tell_the_truth(world: World) -> None:
    active = world.active
    for node, state in ((active, "active"), (other(active), "inactive")):
        for unit in (POSTFIX_UNIT, "dovecot.service"):
            assert world.nodes[node].run(f"systemctl is-active {unit}", check=False).stdout.strip() == state
    shown = world.nodes[active].run(f"systemctl status {POSTFIX_UNIT} dovecot.service").stdout
    assert shown.count("active (running)") == 2
