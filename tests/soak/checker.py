"""Reads a history and says what was violated, what cannot be told, and how many failovers there were. Pure.

Each check is a function from a history to findings. Nothing here asks hamail what it thinks, but where the point is
whether it says the truth (S2, S3, S8).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from tests.lab.evidence import BLIND_LIMIT_NS
from tests.lab.intervals import NS_PER_MS, Hold, Span, intersection, overlap, total_ns, union
from tests.lab.oracle import Found, Outcome, Sent, Verdict, final, judge
from tests.soak.history import History, Record

TOLERANCE_NS = 60 * NS_PER_MS  # between what a process is told and what the recorder's next look sees
LATE_NS = 300 * NS_PER_MS  # from the last process' end until the kernel has cleared away what it held
CAUSE_NS = 3_000 * NS_PER_MS  # from the cause of a power-off to the last process' end, on a busy machine
DUEL_NS = 5_000 * NS_PER_MS
GRANT = re.compile(r"^(\S+) goes to (\S+) \(epoch (\d+)\)")
LEFT_ADDRESS = re.compile(r"^(\S+) must be fenced .*vip could not be stopped")
IS_OFF = re.compile(r"^(\S+) is off: (\S+) fenced it")
INCONCLUSIVE_LIMIT = 0.001  # of the failovers
ADDRESS, MOUNT, SERVICES = "vip", "mount", ("postfix", "dovecot")


@dataclass(frozen=True)
class Finding:
    invariant: str
    t: int
    text: str
    where: str = ""  # the step


@dataclass
class Report:
    violations: list[Finding] = field(default_factory=list)
    inconclusive: list[Finding] = field(default_factory=list)
    excused: list[Finding] = field(default_factory=list)  # see faults.RELAXED
    unexplained: list[Finding] = field(default_factory=list)  # fences and moves that no fault accounts for
    failovers: int = 0  # another node came to hold the group
    restarts: int = 0  # the same node came to hold it again
    fences: int = 0
    mail: Verdict = field(default_factory=lambda: Verdict(0, 0))

    @property
    def passed(self) -> bool:
        doubt = len(self.inconclusive) <= INCONCLUSIVE_LIMIT * max(self.failovers, 1)
        return not self.violations and doubt


Check = Callable[[History], Iterator[tuple[str, int, str]]]


def check(history: History) -> Report:
    report = Report()
    for test in (one_active, released_first, epochs, storage, order, agreement, targets, identities):
        for invariant, t, text in test(history):
            found = report.excused if excused(history, invariant, t, text) else report.violations
            found.append(Finding(invariant, t, text, history.step_at(t)))
    report.inconclusive = [Finding(i, t, text, history.step_at(t)) for i, t, text in doubts(history)]
    report.unexplained = [Finding(i, t, text, history.step_at(t)) for i, t, text in unexplained(history)]
    report.mail = mail(history)
    for name in ("lost", "corrupt", "phantom"):
        report.violations += [Finding("S5", 0, f"{name}: {m}") for m in getattr(report.mail, name)]
    owners = [node for _, node in takes(history)]
    report.failovers = sum(a != b for a, b in pairwise(owners))
    report.restarts = max(0, len(owners) - 1 - report.failovers)
    report.fences = sum(done(fence) for fence in history.fences)
    return report


def takes(history: History) -> list[tuple[int, str]]:
    """Each time that a node took the group: its mounts, in the order of time."""
    return sorted((h.certain_start, h.node) for h in mounts(history))


def mounts(history: History) -> list[Hold]:
    """Holds of the store; one that the recorder lost sight of for a moment comes in pieces, and counts once."""
    whole: list[Hold] = []
    for hold in sorted((h for h in history.evidence.holds if h.component == MOUNT), key=lambda h: h.certain_start):
        before = next((w for w in reversed(whole) if w.node == hold.node), None)
        if before is None or hold.possible_start > before.certain_end:
            whole.append(hold)
        else:
            whole[whole.index(before)] = replace(hold, possible_start=before.possible_start,
                                                 certain_start=before.certain_start)  # fmt: skip
    return whole


def done(fence: Record) -> bool:
    data = fence["data"]
    return data["words"][0] == "off" and data["answer"].startswith("ok") and data["mode"] != "lie"


# S1


def one_active(history: History) -> Iterator[tuple[str, int, str]]:
    """Never two nodes that hold the same component, nor any two components of the group."""
    for component in (*history.evidence.components(), None):
        for start, end in history.evidence.overlaps(component):
            yield "S1", start, f"{component or 'the group'} on two nodes for {(end - start) / NS_PER_MS:.1f} ms"


def doubts(history: History) -> Iterator[tuple[str, int, str]]:
    """Where the evidence does not tell whether two were active."""
    evidence = history.evidence
    certain = [span for c in (*evidence.components(), None) for span in evidence.overlaps(c)]
    for component in (*evidence.components(), None):
        for span in evidence.overlaps(component, possible=True):
            if span[1] > span[0] and not intersection([span], certain):
                length_ms = (span[1] - span[0]) / NS_PER_MS
                yield "S1", span[0], f"{component or 'the group'} possibly on two nodes for {length_ms:.1f} ms"
    for start, end in evidence.blind:
        if end - start > BLIND_LIMIT_NS and not watched_otherwise(history, start, end):
            yield "S1", start, f"the recorder did not look for {(end - start) / NS_PER_MS:.0f} ms"


def watched_otherwise(history: History, start: int, end: int) -> bool:
    """What comes and goes meanwhile writes on the LUN or changes addresses, and neither is missed by sleeping: writes
    are noted as they arrive, and changes of addresses wait in a queue. So with one node at most there is no doubt."""
    evidence = history.evidence
    nodes = {h.node for h in evidence.holds if h.possible_start < end and h.possible_end > start}
    nodes |= {r["node"] for r in history.wrote if r["data"]["from"] <= end and r["t"] >= start}
    return len(nodes) <= 1


# S2


def released_first(history: History) -> Iterator[tuple[str, int, str]]:
    """What hamail takes for a fence was one; and no node holds anything before the one before it has let go."""
    for event in history.events:
        match = IS_OFF.match(event["data"]["sentence"])
        if match and not was_off(history, match[1], event["t"]):
            yield "S2", event["t"], f"{match[1]} is said to be fenced, and its power was not off"
    evidence = history.evidence
    held = sorted((s, e, node) for node in evidence.nodes() for s, e in evidence.spans(node))
    for (_, end, node), (start, _, taker) in pairwise(held):
        if taker != node and start < end:
            yield "S2", start, f"{taker} began before {node} had let go, {(end - start) / NS_PER_MS:.1f} ms later"


def was_off(history: History, node: str, t: int) -> bool:
    """Off at `t`, or switched off in the moment before and on again; what the recorder is late with is judged by what
    the node did: a node that is off neither writes nor holds anything."""
    states = [(at, on) for at, name, on in history.evidence.power if name == node]
    before = [(at, on) for at, on in states if at <= t]
    if before and (not before[-1][1] or any(not on and at >= t - CAUSE_NS for at, on in before)):
        return True
    after = next(((at, on) for at, on in states if at > t), None)
    if after is None or after[1] or after[0] > t + CAUSE_NS:
        return False
    late = t + LATE_NS
    # Not mount and address: without a process and a wire they are what the kernel has not yet cleared away, which takes
    # it up to a second on a busy machine. What a dying node would still write is seen on the LUN.
    alive = [h for h in history.evidence.holds if h.node == node and h.component in SERVICES]
    holds = any(h.certain_start < after[0] and h.certain_end > late for h in alive)
    writes = any(r["node"] == node and t < r["t"] <= after[0] for r in history.wrote)
    return not holds and not writes


# S3


def epochs(history: History) -> Iterator[tuple[str, int, str]]:
    """One holder for an epoch, in the log and on the storage, and a later grant has a higher one."""
    holder: dict[tuple[str, int], str] = {}
    highest: dict[str, tuple[int, int]] = {}
    for event in sorted(history.events, key=lambda e: e["data"]["index"]):
        match = GRANT.match(event["data"]["sentence"])
        if not match:
            continue
        group, node, epoch, index = match[1], match[2], int(match[3]), event["data"]["index"]
        if holder.setdefault((group, epoch), node) != node:
            yield "S3", event["t"], f"epoch {epoch} of {group} belongs to {holder[group, epoch]} and to {node}"
        last_index, last_epoch = highest.get(group, (-1, -1))
        if index > last_index and epoch <= last_epoch:
            yield "S3", event["t"], f"epoch {epoch} of {group} was granted after epoch {last_epoch}"
        highest[group] = (index, max(epoch, last_epoch))
    granted = {epoch: node for (_, epoch), node in holder.items()}
    told: set[tuple[int, str]] = set()
    for record in history.canaries:
        epoch, node = int(record["data"]["epoch"]), record["node"]
        if (epoch, node) in told:
            continue
        told.add((epoch, node))
        if granted and granted.get(epoch, node) != node:
            yield "S3", record["t"], f"{node} writes under epoch {epoch}, which is {granted[epoch]}'s"
        if sum(e == epoch for e, _ in told) > 1:
            yield "S3", record["t"], f"two nodes write under epoch {epoch}"


# S4


def storage(history: History) -> Iterator[tuple[str, int, str]]:
    """In the order of arrival at the LUN: never an older epoch after a newer, and nobody else's write in between."""
    newest = (-1, "")
    spans: dict[int, tuple[str, int, int]] = {}
    for record in sorted(history.canaries, key=lambda r: r["t"]):
        epoch, node, t = int(record["data"]["epoch"]), record["node"], record["t"]
        if epoch < newest[0]:
            yield "S4", t, f"{node} wrote under epoch {epoch} after {newest[1]} under epoch {newest[0]}"
        newest = max(newest, (epoch, node))
        _, first, _ = spans.get(epoch, (node, t, t))
        spans[epoch] = (node, first, t)
    for record in history.wrote:
        run: Span = (record["data"]["from"], record["t"])
        for epoch, (node, first, last) in spans.items():
            if node != record["node"] and run[0] <= last and run[1] >= first:
                yield "S4", run[1], f"{record['node']} wrote on the LUN while {node} used it under epoch {epoch}"
    by_node: dict[str, list[Span]] = {}
    for record in history.wrote:
        by_node.setdefault(record["node"], []).append((record["data"]["from"], record["t"]))
    for start, end in overlap({n: union(s) for n, s in by_node.items()}):
        yield "S4", start, f"writes of two nodes arrived mixed for {(end - start) / NS_PER_MS:.1f} ms"


# S6


def order(history: History) -> Iterator[tuple[str, int, str]]:
    """Store, then services, then address; and backwards. A node that loses its power is not asked for an order."""
    evidence = history.evidence
    for node in evidence.nodes():
        possible = {c: evidence.spans(node, c, possible=True) for c in evidence.components()}
        offs = [t for t, name, on in evidence.power if name == node and not on]
        for hold in (h for h in evidence.holds if h.node == node):
            if hold.component in SERVICES and not covers(possible.get(MOUNT, []), hold.certain_start):
                yield "S6", hold.certain_start, f"{node}: {hold.component} began without the store"
            if hold.component.startswith(ADDRESS):
                if not covers(possible.get(MOUNT, []), hold.certain_start):
                    yield "S6", hold.certain_start, f"{node}: the address came up without the store"
                if not covers(possible.get("dovecot", []), hold.certain_start):
                    yield "S6", hold.certain_start, f"{node}: the address came up without Dovecot"
            if hold.component == MOUNT or hold.certain_end == evidence.until:
                continue
            if any(abs(t - hold.possible_end) < TOLERANCE_NS for t in offs):
                continue
            if not covers(possible.get(MOUNT, []), hold.certain_end):
                yield "S6", hold.certain_end, f"{node}: {hold.component} outlived the store"


def excused(history: History, invariant: str, t: int, text: str) -> bool:
    """The one relaxation: hamail says at once that the address is still there, and calls for a fence."""
    if invariant != "S6" or f": {ADDRESS} " not in text or not text.endswith("outlived the store"):
        return False
    told = (e for e in history.events if abs(e["t"] - t) < CAUSE_NS)
    matches = (LEFT_ADDRESS.match(e["data"]["sentence"]) for e in told)
    return any(match and match[1] == text.partition(":")[0] for match in matches)


def covers(spans: list[Span], t: int) -> bool:
    return any(start - TOLERANCE_NS <= t <= end + TOLERANCE_NS for start, end in spans)


# S8


def agreement(history: History) -> Iterator[tuple[str, int, str]]:
    """All nodes tell the same story: one log, of which each has applied a part."""
    told: dict[int, dict[str, list[str]]] = {}
    for event in history.events:
        said = told.setdefault(event["data"]["index"], {}).setdefault(event["node"], [])
        said.append(event["data"]["sentence"])
    first_t = {event["data"]["index"]: event["t"] for event in reversed(history.events)}
    for index, by_node in told.items():
        versions = {tuple(sorted(set(said))) for said in by_node.values()}
        if len(versions) > 1:
            yield "S8", first_t[index], f"entry {index} is not the same on all nodes: {by_node}"


# S12


def targets(history: History) -> Iterator[tuple[str, int, str]]:
    """Who was powered off was named; nobody fences itself; no two fence each other."""
    addresses = history.header.get("addresses", {})
    offs = [f for f in history.fences if done(f)]
    for fence in offs:
        plug = fence["data"]["words"][1]
        if addresses.get(plug) == fence["data"]["asks"]:
            yield "S12", fence["t"], f"{plug} has fenced itself"
        if not was_off(history, plug, fence["t"]):
            yield "S12", fence["t"], f"{plug} was switched off, and its power was not off"
    for before, after in pairwise(offs):
        names = (before["data"]["words"][1], after["data"]["words"][1])
        asked = (before["data"]["asks"], after["data"]["asks"])
        duel = names[0] != names[1] and asked == (addresses.get(names[1]), addresses.get(names[0]))
        if duel and after["t"] - before["t"] < DUEL_NS and not was_on_since(history, names[0], before["t"], after["t"]):
            yield "S12", after["t"], f"{names[0]} and {names[1]} have fenced each other"
    for t, node, on in history.evidence.power:
        if not on and not caused(history, node, t):
            yield "S12", t, f"{node} lost its power, and nobody had named it"


def was_on_since(history: History, node: str, start: int, end: int) -> bool:
    return any(on and name == node and start < t < end for t, name, on in history.evidence.power)


def caused(history: History, node: str, t: int) -> bool:
    recent = range(t - CAUSE_NS, t + CAUSE_NS)
    fenced = any(done(f) and f["data"]["words"][1] == node and f["t"] in recent for f in history.fences)
    bitten = any(w["node"] == node and w["t"] in recent for w in history.watchdogs)
    return (
        fenced
        or bitten
        or any(r["kind"] == "cut" and node in r["data"]["nodes"] and r["t"] in recent for r in history.nemesis)
    )


# S5


def identities(history: History) -> Iterator[tuple[str, int, str]]:
    """A mailbox keeps its UIDVALIDITY, and a UID is one message for ever."""
    validity: dict[str, int] = {}
    message: dict[tuple[str, int, int], str] = {}
    for record in (r for r in history.mail if r["kind"] == "found"):
        data = record["data"]
        if "uid" not in data:
            continue
        if validity.setdefault(data["box"], data["validity"]) != data["validity"]:
            yield (
                "S5",
                record["t"],
                f"UIDVALIDITY of {data['box']} changed: {validity[data['box']]}, {data['validity']}",
            )
            validity[data["box"]] = data["validity"]
        key = (data["box"], data["validity"], data["uid"])
        if message.setdefault(key, data["id"]) != data["id"]:
            yield "S5", record["t"], f"UID {data['uid']} of {data['box']} is {message[key]} and {data['id']}"


def mail(history: History) -> Verdict:
    """What became of every message. A copy is a copy when its UID is another one, not when it was read twice."""
    sha256: dict[str, str] = {}
    outcomes: dict[str, list[Outcome]] = {}
    copies: dict[tuple, Found] = {}
    for record in history.mail:
        kind, data = record["kind"], record["data"]
        if kind == "invoke":
            if data["id"] in sha256:
                raise ValueError(f"{data['id']} was sent as two messages")
            sha256[data["id"]] = data["sha256"]
        elif kind in ("ok", "fail", "info"):
            outcomes.setdefault(data["id"], []).append(Outcome(kind))
        elif kind == "found":
            key = (data["id"], data.get("box"), data.get("validity"), data.get("uid"))
            copies[key] = Found(data["id"], data["sha256"])
    # A message without an outcome was on its way when the load ended.
    sent = [Sent(m, h, final(outcomes.get(m, [Outcome.INFO])), len(outcomes.get(m, ()))) for m, h in sha256.items()]
    return judge(sent, copies.values())


# What no fault accounts for


def unexplained(history: History) -> Iterator[tuple[str, int, str]]:
    """Fences of a node that nothing was done to, and moves without any fault."""
    steps = [r for r in history.nemesis if r["kind"] == "step"]
    for fence in filter(done, history.fences):
        step = next((s for s in reversed(steps) if s["t"] <= fence["t"]), None)
        plug = fence["data"]["words"][1]
        if step is None or plug not in step["data"]["may_be_fenced"]:
            yield "fence", fence["t"], f"{plug} was fenced, and no fault of this step can explain it"
    healthy = [r for r in history.nemesis if r["kind"] == "healthy"]
    calm = [(r["t"], next((s["t"] for s in steps if s["t"] > r["t"]), r["t"])) for r in healthy]
    for t, node in takes(history)[1:]:
        if any(start < t < end for start, end in calm):
            yield "move", t, f"{node} took the group while nothing was wrong"


def counted(findings: list[Finding]) -> dict[str, int]:
    return dict(Counter(f.invariant for f in findings))


def double_ms(history: History) -> float:
    return total_ns(history.evidence.overlaps()) / NS_PER_MS
