"""Alerts on real nodes: they come, name the next step, set the exit code, reach the file for Prometheus, and go."""

from tests.cluster.world import World
from tests.lab.cluster import WITNESS
from tests.lab.instruments import other
from tests.lab.pdu import Mode

FOLDER = "/var/lib/prometheus/node-exporter"


def told(world: World, node: str) -> list[str]:
    """The samples that the node's timer would leave for Prometheus now."""
    world.nodes[node].run("systemctl start hamail-metrics.service")
    assert world.nodes[node].run("systemctl is-failed hamail-metrics.service", check=False).stdout.strip() == "inactive"
    text: str = world.nodes[node].run(f"cat {FOLDER}/hamail.prom").stdout
    return [line for line in text.splitlines() if not line.startswith("#")]


def alerts_told(world: World, node: str) -> set[str]:
    return {line for line in told(world, node) if line.startswith("hamail_alert")}


def test_a_lost_node_that_no_device_can_fence(world: World) -> None:
    active = world.active
    standby = other(active)
    world.nodes[WITNESS].run(f"mkdir -p {FOLDER}")
    assert not world.alerts(WITNESS) and not alerts_told(world, WITNESS)
    world.ctl(WITNESS, "status", code=0)

    world.lab.pdu_mode = Mode.FAIL
    world.lab.cut(active)
    wanted = {f"fence-failed {active}", "group-not-active mail"}
    world.until(lambda: wanted <= world.alerts(WITNESS), 15, "nobody can fence it")
    shown = world.ctl(WITNESS, "status", code=1).stdout
    assert "CRITICAL" in shown
    assert f"next: make sure that {active} is off, then: hamailctl fence confirm {active}" in " ".join(shown.split())
    critical = {line for line in alerts_told(world, WITNESS) if 'severity="critical"' in line}
    assert any(f'name="fence-failed",severity="critical",subject="{active}"' in line for line in critical)

    world.ctl(standby, f"fence confirm {active} --i-know-it-is-off {active}")
    world.until_active(standby)
    world.until(lambda: f"node-not-heard {active}" in world.alerts(WITNESS), 5, "it is still gone")
    assert "no-standby mail" in world.alerts(WITNESS)
    world.ctl(WITNESS, "status", code=0)  # mail is served

    world.lab.pdu_mode = Mode.OK
    world.lab.on(active)
    world.until(lambda: not world.alerts(WITNESS), 30, "all is over")
    assert not alerts_told(world, WITNESS)
    journal = world.journal(WITNESS, "hamaild")
    for name in ("fence-failed", "no-standby"):
        assert f"event=alert alert={name}" in journal and f'event="alert is over" alert={name}' in journal


def test_a_hamaild_that_does_not_answer_is_told_as_that(world: World) -> None:
    node = world.nodes[WITNESS]
    node.run(f"mkdir -p {FOLDER}")
    assert "hamail_up 1" in told(world, WITNESS)
    node.run("systemctl stop hamaild")
    try:
        assert told(world, WITNESS) == ["hamail_up 0"], "nothing old looks like the present"
    finally:
        node.run("systemctl start hamaild")
    world.wait_healthy(20)
    assert "hamail_up 1" in told(world, WITNESS)
