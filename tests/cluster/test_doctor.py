"""hamailctl doctor on real nodes: a healthy cluster has no failure, and what is broken is named with its remedy."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hamail.executor.gather import FRESH_S
from tests.cluster.world import World
from tests.lab.pdu import Mode

SEEN_S = 15.0  # a fence device that was asked a moment ago is not asked again at once


def doctor(world: World, node: str, words: str = "", code: int | None = None) -> list[dict[str, Any]]:
    result = world.ctl(node, f"doctor --json {words}", code)
    return json.loads(result.stdout)["lines"]


def failures(lines: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(line["check"], line["subject"]): line for line in lines if line["verdict"] == "fail"}


def standby(world: World) -> str:
    return "n2" if world.active == "n1" else "n1"


@contextmanager
def broken(world: World, node: str, how: str, back: str) -> Iterator[None]:
    world.nodes[node].run(how)
    time.sleep(FRESH_S + 0.2)  # a node that is asked again at once tells the same again
    try:
        yield
    finally:
        world.nodes[node].run(back)


def test_a_healthy_cluster_has_no_failure_whoever_is_asked(world: World) -> None:
    world.until(lambda: not failures(doctor(world, "n3")), SEEN_S, "no failure on a healthy cluster")
    for node in ("n1", "n2", "n3"):
        lines = doctor(world, node, code=0)
        checks = {line["check"] for line in lines if line["verdict"] == "ok"}
        assert {"fence-ready", "storage-same", "storage-mount-point", "watchdog-armed", "same-users"} <= checks
        assert {"nodes-clocks", "nodes-round-trip", "postfix-queue", "dovecot-mailboxes", "boot-services"} <= checks
        assert "dns-resolver" in {line["check"] for line in lines if line["verdict"] == "unknown"}


# what is done to the standby, how it is taken back, and which check must name it with which words of the remedy
BREAKS = {
    "postfix listens on the floating address": (
        "postconf -e 'inet_interfaces = {vip}'",
        "postconf -e 'inet_interfaces = all'",
        "postfix-interfaces",
        "postconf -e 'inet_interfaces = all'",
    ),
    "another id of a user": (
        "cp -a /etc/passwd /tmp/passwd && sed -i 's/^dovenull:x:[0-9]*:/dovenull:x:4711:/' /etc/passwd",
        "cp -a /tmp/passwd /etc/passwd",
        "same-users",
        "usermod -u",
    ),
    "an open mount point": (
        "chattr -i /srv/mail; chmod 755 /srv/mail",
        "chmod 000 /srv/mail; chattr +i /srv/mail",
        "storage-mount-point",
        "chattr +i /srv/mail",
    ),
    "a service that the boot starts": (
        "systemctl enable dovecot.service",
        "systemctl disable dovecot.service",
        "boot-services",
        "systemctl disable dovecot.service",
    ),
    "the disk in fstab": (
        "cp -a /etc/fstab /tmp/fstab 2>/dev/null || :; echo '/dev/lun /srv/mail ext4 defaults 0 0' >>/etc/fstab",
        "cp -a /tmp/fstab /etc/fstab 2>/dev/null || rm -f /etc/fstab",
        "storage-fstab",
        "remove that line",
    ),
}


@pytest.mark.parametrize("name", BREAKS, ids=[name.replace(" ", "-") for name in BREAKS])
def test_what_is_broken_is_named_with_its_remedy(world: World, name: str) -> None:
    how, back, check, remedy = BREAKS[name]
    node = standby(world)
    with broken(world, node, how.format(vip=world.lab.addresses.vip), back):
        found = failures(doctor(world, "n3", code=1))
    mine = [line for (of, _), line in found.items() if of == check]
    assert mine and remedy in mine[0]["remedy"], found
    assert {of for of, _ in found} == {check}, f"more than what was broken: {found}"
    assert node in mine[0]["subject"] + mine[0]["reason"]


def test_a_fence_device_that_does_not_answer(world: World) -> None:
    failing = lambda: failures(doctor(world, "n3", "--only fence"))  # noqa: E731
    world.lab.pdu_mode = Mode.FAIL
    world.until(failing, SEEN_S, "the failing fence device named")
    line = next(iter(failures(doctor(world, "n3", "--only fence", code=1)).values()))
    assert line["check"] == "fence-ready" and "pdu for" in line["subject"]
    assert "check address, user and plug" in line["remedy"]
    world.lab.pdu_mode = Mode.OK
    world.until(lambda: not failing(), SEEN_S, "the fence device back")


def test_a_node_that_is_off_is_unknown(world: World) -> None:
    node = standby(world)
    world.lab.cut(node)
    try:
        world.until(lambda: not world.view(node).get("alive", True), 10, f"{node} missed")
        lines = doctor(world, "n3", "--only storage --only same", code=0)
        assert any(line["verdict"] == "unknown" and node in line["subject"] for line in lines)
    finally:
        world.lab.on(node)
