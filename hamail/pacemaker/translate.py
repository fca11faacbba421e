"""From a Pacemaker configuration to a draft of hamail's. Pure."""

from itertools import pairwise

from hamail.config.duration import format_duration
from hamail.pacemaker import agents, devices
from hamail.pacemaker.cib import INFINITY, Cib
from hamail.pacemaker.draft import Draft, GroupDraft, Kind, Resource, plain_name

PLACEHOLDER = "192.0.2.{}"  # addresses that no network has
WITNESS = "witness"
WINDOW_MS = 600_000
RESTARTS_MAX = 100
VOTERS_MAX = 7
STORAGE_AGENTS = ("hamail:filesystem", "heartbeat:Filesystem", "heartbeat:LVM-activate", "heartbeat:ZFS")
PROPERTIES_SILENT = {
    *("have-watchdog", "dc-version", "cluster-infrastructure", "cluster-name", "last-lrm-refresh", "have-quorum"),
    *("stonith-enabled", "maintenance-mode", "stonith-action", "stonith-watchdog-timeout", "stonith-timeout"),
}
NO_QUORUM = "a node without a majority stops what it holds, always"


def translate(cib: Cib, addresses: dict[str, str], witness: tuple[str, str] | None) -> Draft:
    """`addresses`: Pacemaker's node -> numeric address, as far as they are known. `witness`: name and address."""
    used: set[str] = set()
    draft = Draft(plain_name(cib.properties.get("cluster-name", "mail"), set()))
    names = _nodes(draft, cib, addresses, used)
    _witness(draft, witness, used)
    devices.devices(draft, cib, names)
    _properties(draft, cib)
    refused = _clones(draft, cib)
    _groups(draft, cib, names, refused)
    _protection(draft, cib)
    for what, why in cib.others:
        draft.note(Kind.LEFT_OUT, what, why)
    return draft


def _nodes(draft: Draft, cib: Cib, addresses: dict[str, str], used: set[str]) -> dict[str, str]:
    seen = [*cib.nodes, *(c.node for c in cib.locations if c.node), *(level.target for level in cib.levels)]
    seen += [*addresses] if not cib.nodes else []
    names: dict[str, str] = {}
    for number, node in enumerate(dict.fromkeys(seen), start=11):
        name = names[node] = plain_name(node, used)
        draft.nodes[name] = addresses.get(node) or PLACEHOLDER.format(number)
        if node not in addresses:
            draft.guessed.add(name)
            why = "its address is not in the file: put it there, or give --address"
            draft.note(Kind.TO_DO, f"node {node}", f"{why} {node}=ADDRESS")
        if name != node:
            draft.note(Kind.CHANGED, f"node {node}", f"is called {name} here (small letters, digits and dashes)")
        if cib.node_attributes.get(node, {}).get("standby", "").lower() in ("on", "true"):
            draft.note(Kind.LEFT_OUT, f"node {node}", "is in standby; afterwards: hamailctl standby " + name)
    return names


def _witness(draft: Draft, given: tuple[str, str] | None, used: set[str]) -> None:
    """hamail's voters are 3, 5 or 7."""
    if given is None and len(draft.nodes) % 2:
        return
    name = plain_name(given[0] if given else WITNESS, used)
    draft.witness = name
    draft.nodes[name] = given[1] if given else PLACEHOLDER.format(99)
    if given is None:
        draft.guessed.add(name)
        why = "Pacemaker had none, or a qdevice; hamail needs a third voter: a small machine that runs hamaild only"
        draft.note(Kind.TO_DO, "witness", f"{why}; put its address there, or give --witness NAME=ADDRESS")


def _properties(draft: Draft, cib: Cib) -> None:
    if cib.properties.get("maintenance-mode", "").lower() == "true":
        draft.note(Kind.LEFT_OUT, "maintenance-mode", "is on; afterwards: hamailctl maintenance on")
    for key, value in sorted(cib.properties.items()):
        if key == "no-quorum-policy":
            kind = Kind.CHANGED if value in ("stop", "freeze", "suicide", "demote", "fence") else Kind.LEFT_OUT
            draft.note(kind, f"{key}={value}", NO_QUORUM)
        elif key not in PROPERTIES_SILENT:
            draft.note(
                Kind.CHANGED, f"{key}={value}", "hamail has one setting for time, `detection`, and no such other"
            )


def _clones(draft: Draft, cib: Cib) -> set[str]:
    """Ids of primitives and groups inside clones: hamail runs a group on one node only."""
    inside: set[str] = set()
    members = {group.id: group.members for group in cib.groups}
    for clone in cib.clones:
        inside |= {clone.member, *members.get(clone.member, ())}
        found = cib.primitives.get(clone.member)
        what = found.agent if found else clone.member
        if clone.kind == "promotable clone":
            why = (
                f"a promotable clone ({what}): hamail does not promote; DRBD can promote itself (auto-promote) on mount"
            )
        else:
            why = f"a {clone.kind} ({what}) runs on several nodes at once: let systemd start it on each of them"
        draft.note(Kind.LEFT_OUT, clone.id, why)
    return inside | {clone.id for clone in cib.clones}


class _Units:
    """Groups and single primitives that Pacemaker keeps on one node together: one group here."""

    def __init__(self, members: dict[str, list[str]]) -> None:
        self.members = members  # unit -> its primitives, in their order
        self._root = {unit: unit for unit in members}
        self._of = {primitive: unit for unit, found in members.items() for primitive in found}

    def unit(self, name: str) -> str | None:
        """The unit of a group, or of a primitive in one."""
        return name if name in self._root else self._of.get(name)

    def root(self, unit: str) -> str:
        while self._root[unit] != unit:
            unit = self._root[unit]
        return unit

    def join(self, one: str, other: str) -> None:
        """`other` gives the name."""
        self._root[self.root(one)] = self.root(other)

    def joined(self) -> dict[str, list[str]]:
        """Root -> its units, in the order of the file."""
        found: dict[str, list[str]] = {}
        for unit in self.members:
            found.setdefault(self.root(unit), []).append(unit)
        return found


def _groups(draft: Draft, cib: Cib, names: dict[str, str], refused: set[str]) -> None:
    grouped = {member for group in cib.groups for member in group.members}
    members = {group.id: [m for m in group.members if m in cib.primitives] for group in cib.groups}
    singles = [p.id for p in cib.primitives.values() if p.id not in grouped and p.standard != "stonith"]
    members = {unit: found for unit, found in (members | {s: [s] for s in singles}).items() if unit not in refused}
    units = _Units(members)
    _colocations(draft, cib, units, refused)
    used: set[str] = set()
    meta = {group.id: group.meta for group in cib.groups}
    for root, joined in units.joined().items():
        group = _group(draft, cib, root, [p for unit in joined for p in members[unit]], used)
        if group is None:
            continue
        for unit in joined:
            _chain(draft, members[unit], group)
            if unit != root:
                why = f"is part of group {group.name}, since they had to run on one node"
                draft.note(Kind.CHANGED, unit, why)
        _restarts(group, [meta.get(root, {}), *(cib.primitives[p].meta for p in members[root])])
        group.nodes = _nodes_of(draft, cib, names, {*joined, *(p for unit in joined for p in members[unit])})
        if not group.nodes:
            draft.note(Kind.LEFT_OUT, root, "no node is left that may run it; the group is not written")
            continue
        draft.groups.append(group)
    _orders(draft, cib, units, refused)
    if not draft.groups:
        draft.note(Kind.LEFT_OUT, "groups", "there is nothing in the file that hamail could keep running")


def _colocations(draft: Draft, cib: Cib, units: _Units, refused: set[str]) -> None:
    for c in cib.colocations:
        one, other = units.unit(c.resource), units.unit(c.with_resource)
        if {c.resource, c.with_resource} & refused:
            why = f"{c.resource} with {c.with_resource}, of which one is a clone that was left out"
            draft.note(Kind.LEFT_OUT, c.id, why)
        elif one is None or other is None:
            draft.note(Kind.LEFT_OUT, c.id, f"{c.resource} with {c.with_resource}: one of them is not in the file")
        elif c.score >= INFINITY and not c.role:
            units.join(one, other)
        elif units.root(one) != units.root(other):
            why = f"{c.resource} with {c.with_resource} (score {c.score}): groups here do not know of each other"
            draft.note(Kind.LEFT_OUT, c.id, why)


def _group(draft: Draft, cib: Cib, root: str, members: list[str], used: set[str]) -> GroupDraft | None:
    taken: set[str] = set()
    resources: list[Resource] = []
    for member in members:
        name = plain_name(member, taken)
        made = agents.resource(draft, cib.primitives[member], name)
        if made is not None:
            draft.taken[member] = name
            resources.append(made)
    if not resources:
        return None
    name = plain_name(root, used)
    draft.taken.setdefault(root, name)
    return GroupDraft(name, [], resources, origin=root)


def _chain(draft: Draft, members: list[str], group: GroupDraft) -> None:
    """In a group of Pacemaker each member waits for the one before it."""
    known = {r.name: r for r in group.resources}
    chain = [known[draft.taken[m]] for m in members if m in draft.taken and draft.taken[m] in known]
    for before, after in pairwise(chain):
        after.after.append(before.name)


def _restarts(group: GroupDraft, metas: list[dict[str, str]]) -> None:
    """migration-threshold and failure-timeout together are hamail's `restarts`."""
    for meta in metas:
        limit = meta.get("migration-threshold", "")
        if limit.isdigit() and 0 < int(limit) <= RESTARTS_MAX:
            window_ms = agents.duration_ms(meta.get("failure-timeout", "")) or WINDOW_MS
            # the threshold counts the failure that moves the group
            group.settings["restarts"] = f"{int(limit) - 1} in {format_duration(window_ms)}"
            return


def _nodes_of(draft: Draft, cib: Cib, names: dict[str, str], ids: set[str]) -> list[str]:
    """In order of preference, without those where it may not run."""
    wish = dict.fromkeys(names, 0)
    for c in cib.locations:
        if c.resource not in ids:
            continue
        if c.has_rule or c.node not in wish:
            draft.note(Kind.LEFT_OUT, c.id, "a location constraint with a rule or a pattern: hamail knows nodes only")
            continue
        if c.id.startswith(("cli-prefer-", "cli-ban-")):
            why = "is left from `pcs resource move` or `ban`, and was not taken over; look whether it was still meant"
            draft.note(Kind.TO_DO, c.id, why)
            continue
        wish[c.node] = max(-INFINITY, min(INFINITY, wish[c.node] + c.score))
    allowed = [node for node in names if wish[node] > -INFINITY]
    for node in names:
        if wish[node] <= -INFINITY:
            draft.note(Kind.CHANGED, f"node {node}", f"is not among the nodes of {', '.join(sorted(ids)[:3])}")
    return [names[node] for node in sorted(allowed, key=lambda node: -wish[node])]


def _orders(draft: Draft, cib: Cib, units: _Units, refused: set[str]) -> None:
    for c in cib.orders:
        text = f"{c.first} before {c.then}"
        one, other = units.unit(c.first), units.unit(c.then)
        if {c.first, c.then} & refused:
            draft.note(Kind.LEFT_OUT, c.id, f"{text}, of which one is a clone that was left out")
        elif one is None or other is None:
            draft.note(Kind.LEFT_OUT, c.id, f"{text}: one of them is not in the file")
        elif c.action not in ("start", ""):
            draft.note(Kind.LEFT_OUT, c.id, f"{text}: only the order of starts is known here, not that of {c.action}")
        elif units.root(one) != units.root(other):
            why = f"{text} are in different groups, which start by themselves here; put them into one group"
            draft.note(Kind.LEFT_OUT, c.id, why)
        elif not c.mandatory:
            draft.note(Kind.LEFT_OUT, c.id, f"{text} is optional there; hamail knows only orders that always hold")
        else:
            _after(draft, units, c.first, c.then)


def _after(draft: Draft, units: _Units, first: str, then: str) -> None:
    """The first members of `then` wait for the last ones of `first`."""
    lasts, firsts = units.members.get(first, [first]), units.members.get(then, [then])
    group = next((g for g in draft.groups if g.origin == units.root(units.unit(first) or "")), None)
    here = {r.name: r for r in group.resources} if group else {}
    before = [draft.taken[m] for m in lasts if draft.taken.get(m) in here]
    after = [draft.taken[m] for m in firsts if draft.taken.get(m) in here]
    if before and after and before[-1] not in here[after[0]].after and before[-1] != after[0]:
        here[after[0]].after.append(before[-1])


def _protection(draft: Draft, cib: Cib) -> None:
    fenced = {node for device in draft.devices for node in device.targets}
    off = cib.properties.get("stonith-enabled", "true").lower() in ("false", "0", "no", "off")
    for group in draft.groups:
        group.shared_storage = any(r.agent in STORAGE_AGENTS for r in group.resources)
        bare = [node for node in group.nodes if node not in fenced]
        if not bare or len(group.nodes) < 2:
            continue
        if group.shared_storage:
            group.settings["unsafe_reason"] = (
                f"imported from Pacemaker, which had no fence device for {', '.join(bare)}"
            )
            why = f"no fence device for {', '.join(bare)}: when it is lost, {group.name} waits for an operator"
            draft.note(Kind.TO_DO, f"group {group.name}", f"{why}; add a device, and remove unsafe_reason")
        else:
            group.settings["requires"] = "lease"
            why = "no fence device, and no storage: leases alone decide (requires = lease)"
            draft.note(Kind.CHANGED, f"group {group.name}", why)
    if off:
        draft.note(Kind.CHANGED, "stonith-enabled=false", "hamail fences whenever a lost node may still hold something")
