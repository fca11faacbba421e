"""The node's own state is damaged: it takes no part, says so in a sentence, and the rest goes on."""

import time

from tests.cluster.world import World
from tests.lab.cluster import WITNESS
from tests.lab.instruments import other

STATE = "/var/lib/hamail"
JOURNAL = f"{STATE}/log/journal"
FLIP = f"""python3 - <<'END'
import os
with open('{JOURNAL}', 'r+b') as file:
    data = file.read().rstrip(bytes(1))
    file.seek(len(data) // 2)
    file.write(bytes([data[len(data) // 2] ^ 1]))
END"""
LARGE_LINES = 10_000
LARGE_MAX = 20
INITIALISE = "runuser -u hamail -- hamaild --initialise"


def problems(world: World, node: str) -> str:
    """Why it is passive, in its own words."""
    status = world.status(node)
    here = next((n for n in status["nodes"] if n["name"] == node and not n["ready"]), None) if status else None
    return here["detail"] if here else ""


def replace_disk(world: World, name: str) -> None:
    """As the messages say. It votes again once a leader was elected without it, which it asks for by itself."""
    world.nodes[name].run(f"systemctl stop hamaild; {INITIALISE} --replaced-disk; systemctl start hamaild")
    world.wait_healthy(20)


def test_damaged_then_wiped_journal_of_the_active_node(world: World) -> None:
    active = world.active
    standby, node = other(active), world.nodes[active]
    node.run("systemctl stop hamaild")
    node.run(FLIP)
    node.run("systemctl start hamaild", check=False)  # it may be fenced in the middle of it
    world.until_active(standby, 15)
    world.lab.on(active)
    world.until(lambda: "is damaged" in problems(world, active), 15, "the sentence of the damaged node")
    assert JOURNAL in problems(world, active), problems(world, active)
    world.until(lambda: world.view(active, standby)["alive"] is False, 3, "it takes no part")
    shown = world.ctl(active, "status", code=None)
    assert "journal" in shown.stdout

    node.run(f"systemctl stop hamaild; rm {JOURNAL}; systemctl start hamaild")
    world.until(lambda: "--initialise --replaced-disk" in problems(world, active), 15, "says what to do")
    refused = node.run(INITIALISE, check=False)
    assert refused.returncode != 0
    assert "replaced disk" in refused.stderr + refused.stdout
    replace_disk(world, active)
    assert world.active == standby


def test_emptied_state_directory_does_not_vote(world: World) -> None:
    """The witness: nothing of an earlier membership is left, so it must not guess that it is new."""
    node = world.nodes[WITNESS]
    node.run(f"systemctl stop hamaild; cp -a {STATE} /root/state; rm -rf {STATE}/*; systemctl start hamaild")
    world.until(lambda: "--initialise" in problems(world, WITNESS), 15, "says what to do")
    world.until(lambda: not world.view(WITNESS, world.active)["alive"], 3, "it takes no part")
    replace_disk(world, WITNESS)


def test_full_state_disk(world: World) -> None:
    """A small disk below the state directory of the standby fills up."""
    active = world.active
    name = other(active)
    node, epoch = world.nodes[name], world.epoch()
    source = world.source()
    node.run(
        f"systemctl stop hamaild; cp -a {STATE} /root/kept; size=$(du -sk {STATE} | cut -f1);"
        f"mount -t tmpfs -o size=$((size + 64))k,mode=700 small {STATE}; chown hamail:hamail {STATE};"
        f"cp -a /root/kept/. {STATE}/; systemctl start hamaild"
    )
    try:
        world.wait_healthy(15)
        node.run(f"dd if=/dev/zero of={STATE}/fill bs=4k 2>/dev/null; true")
        # A log entry that needs more room than there is.
        # Again and again, until the room that the log has reserved for itself is used up.
        for _ in range(LARGE_MAX):
            if not problems(world, name):
                large = source + f"# {time.time_ns()}\n" + "# x\n" * LARGE_LINES
                world.client(active).apply_config(large, None, "larger than the room that is left")
        world.until(lambda: "No space left on device" in problems(world, name), 5, "the sentence of the full node")
        world.until(lambda: not world.view(name, active)["alive"], 5, "it takes no part any more")
        assert (world.active, world.epoch()) == (active, epoch)
    finally:
        # What it had written is still true: a journal from before would forget votes and promises.
        node.run(
            f"systemctl stop hamaild; rm -f {STATE}/fill; cp -a {STATE} /root/now; umount {STATE};"
            f"rm -rf {STATE}/*; cp -a /root/now/. {STATE}/; systemctl start hamaild"
        )
    world.wait_healthy(20)
    world.apply(source, active)


def test_missing_key(world: World) -> None:
    node = world.nodes[WITNESS]
    node.run("mv /etc/hamail/pki/node.key /root/; systemctl restart hamaild", check=False)
    world.until(lambda: "/etc/hamail/pki/node.key: cannot be read" in world.journal(WITNESS, "hamaild"), 10)
    assert node.run("systemctl show -P ExecMainStatus hamaild").stdout.strip() == "78"
    assert world.active
    node.run("mv /root/node.key /etc/hamail/pki/; systemctl restart hamaild")


def test_certificates_of_another_cluster_and_of_another_node(world: World, tmp_path) -> None:
    from hamail.pki.authority import create_authority, issue

    node, peer = world.nodes[WITNESS], world.active
    keep = "cp -a /etc/hamail/pki /root/pki"
    node.run(keep)
    create_authority(tmp_path / "ca", "lab")
    issue(tmp_path / "ca", "lab", WITNESS, tmp_path / "stranger")
    mine = world.lab.folder / "pki"
    try:
        wrong_name = f"/etc/hamail/pki/node.pem: is for node {other(peer)} of cluster lab, but this is node {WITNESS}"
        for folder, says in ((tmp_path / "stranger", "unknown ca"), (mine / other(peer), wrong_name)):
            for file in folder.iterdir():
                node.run(["sh", "-c", f"cat >/etc/hamail/pki/{file.name}"], input=file.read_text())
            node.run("systemctl restart hamaild", check=False)
            world.until(
                lambda s=says: s in world.journal(WITNESS, "hamaild").rpartition("Starting")[2], 10, f"says {says}"
            )
            world.until(lambda: not world.view(WITNESS, peer)["alive"], 5, "it is let in by nobody")
    finally:
        node.run("rm -rf /etc/hamail/pki; mv /root/pki /etc/hamail/pki; systemctl restart hamaild")
