"""The Debian package on real nodes: upgraded, removed and installed again while mail flows."""

import time

from tests.cluster.package import LATER, installed, make_later
from tests.cluster.world import World
from tests.lab.image import PACKAGE_PLACE
from tests.lab.instruments import other
from tests.lab.lab import Lab

WATCHED_S = 7.0  # longer than a lease of the default settings, and than the watchdog
PAUSE_S = 15.0  # one stop and one start, on a machine that is busy with much else
DPKG_S = 120.0
QUICK = "dpkg --force-unsafe-io"  # the lab's disk is the machine's: syncs of all nodes meet there


def test_upgrade_of_the_active_node(world: World) -> None:
    """hamaild is the new one, the executor still the old one, and clients have noticed nothing."""
    active, epoch = world.active, world.epoch()
    node = world.nodes[active]
    package = make_later(node)
    hamaild, executor = (world.main_pid(active, unit) for unit in ("hamaild", "hamail-executor"))
    with world.probing("package-upgrade") as probe:
        done = node.run(f"{QUICK} -i {package}", timeout_s=DPKG_S)
        time.sleep(WATCHED_S)
        attempts = probe.stop()
    failed = [a for a in attempts if not a.ok]
    assert attempts and not failed, f"clients have seen {len(failed)} failures, the first: {failed[0]}"
    assert world.main_pid(active, "hamaild") != hamaild
    assert world.main_pid(active, "hamail-executor") == executor
    assert (world.active, world.epoch()) == (active, epoch) and not world.moves()
    assert f"hamailctl standby {active}" in done.stderr and "systemctl restart hamail-executor" in done.stderr
    assert LATER in world.ctl(active, "version").stdout
    # The old executor stops what it holds, with agents that are new.
    world.ctl(active, f"switchover mail --to {other(active)} --yes --reason upgrade")
    world.wait_healthy(30)
    done = node.run(f"{QUICK} -i {package}", timeout_s=DPKG_S)
    assert not done.stderr.strip(), "nothing is left to do where nothing is held"
    assert world.main_pid(active, "hamail-executor") != executor
    world.wait_healthy(30)
    assert world.active == other(active)


def test_removal_leaves_the_services_alone(world: World) -> None:
    active, epoch = world.active, world.epoch()
    node, generation = world.nodes[active], world.nodes[active].generation
    refused = node.run("dpkg -r hamail", check=False)
    assert refused.returncode and "hamailctl maintenance on" in refused.stderr
    assert world.holds(active) and world.status(active)["quorum"]
    world.ctl(active, "maintenance on --reason removal")
    with world.probing("package-removal") as probe:
        done = node.run(f"{QUICK} -r hamail", timeout_s=DPKG_S)
        time.sleep(WATCHED_S)
        attempts = probe.stop()
    failed = [a for a in attempts if not a.ok]
    assert attempts and not failed, f"clients have seen {len(failed)} failures, the first: {failed[0]}"
    assert "mail goes on running here" in done.stderr
    assert world.holds(active) and not world.holds(other(active)) and node.generation == generation
    assert node.run("pgrep -f ^/usr/lib/[h]amail", check=False).stdout == "", "something of hamail still runs"
    kept = "ls /etc/hamail/node.toml /etc/hamail/pki/node.key /var/lib/hamail/log"
    assert node.run(f"{kept}; test ! -e /usr/lib/hamail && test ! -e /usr/bin/hamaild").returncode == 0

    node.run(f"{QUICK} -i {PACKAGE_PLACE}/{installed(node).name}", timeout_s=DPKG_S)
    assert node.run("systemctl is-active hamaild hamail-executor", check=False).stdout.split() == ["inactive"] * 2
    node.run("systemctl start hamail-executor hamaild")
    world.until(lambda: (world.status(active) or {}).get("quorum"), 15, "hamail runs again")
    assert world.holds(active), "under maintenance what was found stays as it is"
    world.ctl(other(active), "maintenance off --yes", code=None)
    world.until(lambda: world.active and world.epoch() > epoch, PAUSE_S, "stopped once, started once")
    world.wait_healthy(30)


def test_purge_keeps_the_state_unless_told(bare: Lab) -> None:
    node = bare.nodes["n3"]
    package = f"{PACKAGE_PLACE}/{installed(node).name}"
    state = "ls /etc/hamail/node.toml /etc/hamail/pki/node.key"
    done = node.run(f"{QUICK} -P hamail", timeout_s=DPKG_S)
    assert "/etc/hamail stays" in done.stdout and node.run(state).returncode == 0
    node.run(f"{QUICK} -i {package}", timeout_s=DPKG_S)
    units = "hamaild hamail-executor hamail-agents.socket"
    assert set(node.run(f"systemctl is-active {units}", check=False).stdout.split()) == {"inactive"}
    assert set(node.run("systemctl is-enabled hamaild hamail-executor", check=False).stdout.split()) == {"disabled"}
    node.run("touch /etc/hamail/forget-on-purge")
    node.run(f"{QUICK} -P hamail", timeout_s=DPKG_S)
    assert node.run("ls -d /etc/hamail /var/lib/hamail /usr/lib/hamail", check=False).stdout == ""
    node.run(f"{QUICK} -i {package}", timeout_s=DPKG_S)
    places = "/etc/hamail /etc/hamail/pki /etc/hamail/secrets /var/lib/hamail"
    modes = node.run(f"stat -c '%U:%G %a' {places}").stdout.split("\n")[:-1]
    assert modes == ["root:root 755", "root:hamail 750", "root:root 700", "hamail:hamail 700"]


def test_agents_work_for_other_managers(bare: Lab) -> None:
    """As Pacemaker calls them: by their file, with OCF's environment and none of hamail's."""
    node = bare.nodes["n1"]
    agents = node.run("ls /usr/lib/ocf/resource.d/hamail").stdout.split()
    assert {"dovecot", "filesystem", "postfix", "systemd", "vip"} <= set(agents)
    for agent in agents:
        call = f"env -i OCF_ROOT=/usr/lib/ocf PATH=/usr/bin:/bin /usr/lib/ocf/resource.d/hamail/{agent} meta-data"
        node.run(f"cd / && {call} | xmllint --noout -")
