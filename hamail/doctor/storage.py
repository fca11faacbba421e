"""The disk that moves: seen by both, the same one, under a name that stays, and nothing beneath its mount point."""

import re

from hamail.doctor.findings import Findings, told
from hamail.doctor.line import Opinion, Opinions, fail, ok, unknown, warn
from hamail.model.machine import StorageFacts

UNSTABLE = re.compile(r"/dev/((sd|hd|vd|xvd)[a-z]+\d*|nvme\d+n\d+(p\d+)?|dm-\d+|loop\d+|mmcblk\d+(p\d+)?)$")
LOCK = "chmod 000 {0} && chattr +i {0}   (on {1}, while nothing is mounted there)"


def _seen(f: Findings, name: str, nodes: tuple[str, ...]) -> dict[str, StorageFacts]:
    found = {}
    for node in nodes:
        machine = f.machine(node)
        if machine is not None and name in machine.storage:
            found[node] = machine.storage[name]
    return found


def _names(f: Findings) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """(group/resource, device, nodes) of each file system."""
    return tuple(
        (f"{group}/{r.name}", r.parameters.get("device", ""), f.spec.groups[group].nodes)
        for group, r in f.resources("hamail:filesystem", "heartbeat:Filesystem")
    )


def device(f: Findings) -> Opinions:
    for name, path, nodes in _names(f):
        if UNSTABLE.fullmatch(path):
            yield warn(
                name,
                f"{path} may be another disk after the next boot",
                "use a name from /dev/disk/by-id or /dev/disk/by-uuid, or UUID=...",
            )
        for node in nodes:
            facts = _seen(f, name, (node,)).get(node)
            if facts is None:
                why = f.why_unknown(node) if f.machine(node) is None else "it was not looked at"
                yield unknown(f"{name} on {node}", why)
            elif not facts.present:
                yield fail(
                    f"{name} on {node}",
                    f"{node} does not see the device: {facts.problem or path}",
                    f"connect it there (zoning, iSCSI login, DRBD), then: ls -l {path}",
                )
            else:
                yield ok(f"{name} on {node}", f"{path} is there")


def same(f: Findings) -> Opinions:
    for name, path, nodes in _names(f):
        seen = {node: facts for node, facts in _seen(f, name, nodes).items() if facts.present}
        known = {node: facts.uuid for node, facts in seen.items() if facts.uuid}
        sizes = {node: facts.size_bytes for node, facts in seen.items() if facts.size_bytes}
        if len(seen) < 2 or len(known) < len(seen):
            why = next((s.problem for s in seen.values() if s.problem), "not both nodes could read its UUID")
            yield unknown(name, f"whether both see the same disk is not known: {why}")
        elif len(set(known.values())) > 1:
            yield fail(
                name,
                f"{path} is not the same file system everywhere ({told(known)}): mail would stay behind at a move",
                "name the disk by its UUID, or mend the path to it on the node that sees the wrong one",
            )
        elif len(set(sizes.values())) > 1:
            sentence = f"{path} has another size on each node ({told(sizes)} bytes)"
            yield warn(name, sentence, "let the node with the old size look again: blockdev --rereadpt, iscsiadm -R")
        else:
            yield ok(name, f"the same file system on {' and '.join(sorted(known))} (UUID {next(iter(known.values()))})")


def mount_point(f: Findings) -> Opinions:
    for name, _, nodes in _names(f):
        for node in nodes:
            facts = _seen(f, name, (node,)).get(node)
            if facts is None:
                why = f.why_unknown(node) if f.machine(node) is None else "it was not looked at"
                yield unknown(f"{name} on {node}", why)
            else:
                yield _protected(f"{name} on {node}", node, facts)


def _protected(subject: str, node: str, facts: StorageFacts) -> Opinion:
    where = facts.directory
    lock = LOCK.format(where, node)
    match facts.bare:
        case "hidden":
            return ok(subject, f"{where} is mounted there now")
        case "immutable":
            return ok(subject, f"{where} is empty and locked while it is not mounted")
        case "unwritable":
            return ok(subject, f"{where} cannot be written to by services while it is not mounted")
        case "missing":
            return ok(subject, f"{where} does not exist yet; hamail makes and locks it before the first mount")
        case "filled":
            text = f"there are files under the mount point {where}: something has written there without the storage"
            return fail(subject, text, f"look at them, move them away, then: {lock}")
        case _:
            text = f"{where} can be written to while nothing is mounted: Postfix would build a queue on the root disk"
            return fail(subject, text, lock)


def fstab(f: Findings) -> Opinions:
    def one(node: str, _: object) -> Opinions:
        facts = f.machine(node)
        assert facts is not None
        for line in facts.fstab:
            text = f"/etc/fstab has '{line}': the boot, or `mount -a`, would mount it on both nodes"
            yield fail(node, text, f"remove that line on {node}; only hamail mounts it")
        if not facts.fstab:
            yield ok(node, "/etc/fstab names nothing of a group")

    yield from f.each_machine(one)
