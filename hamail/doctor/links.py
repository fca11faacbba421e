"""Do the nodes hear each other, how fast, and do their clocks agree?"""

from hamail.doctor.findings import Findings
from hamail.doctor.line import Opinions, fail, ok, unknown, warn
from hamail.model.ids import NodeName
from hamail.model.report import LinkFacts

RTT_WARN_US, RTT_FAIL_US = 50_000, 200_000
CLOCK_WARN_US, CLOCK_FAIL_US = 100_000, 1_000_000
NO_WAY = "open TCP port {port} of {to} ({address}) for {of}, in both directions; then: hamailctl status on both"
LOST = "is {node} on, and does hamaild run there? Look at the machine and its cable; then: hamailctl status"
NTP = "let chrony or systemd-timesyncd run on both, with the same servers: timedatectl"


def reach(f: Findings) -> Opinions:
    if f.before_start:
        yield from _reach_before_start(f)
        return
    lost = _heard_by_nobody(f)
    for node in sorted(f.spec.nodes):
        report = f.reports.get(node)
        if node in lost:
            yield fail(node, f"no other node hears it ({lost[node] / 1000:.1f} s)", LOST.format(node=node))
            continue
        if report is None:
            why = f.silent.get(node, "it was not asked")
            yield unknown(node, f"what it hears is not known: {why}", "hamailctl status shows who hears it")
            continue
        others = [name for name in sorted(f.spec.nodes) if name != node]
        deaf = [n for n in others if n not in report.links or report.links[n].silent_ms >= f.timings.detection_ms]
        for name in deaf:
            if name in lost:
                continue
            seconds = report.links[name].silent_ms / 1000 if name in report.links else 0
            spec = f.spec.nodes[node]
            since = f"for {seconds:.1f} s" if seconds else "at all"
            remedy = NO_WAY.format(port=spec.port, to=node, address=spec.address, of=name)
            yield fail(f"{name} to {node}", f"{node} has not heard {name} {since}", remedy)
        if not deaf:
            yield ok(node, f"hears {' and '.join(others)}")


def _heard_by_nobody(f: Findings) -> dict[NodeName, int]:
    """Nodes that have told nothing and that each other one misses, with the time in ms: off, or cut off."""
    silent: dict[NodeName, int] = {}
    for node in f.spec.nodes:
        links = [report.links.get(node) for name, report in f.reports.items() if name != node]
        known = [link.silent_ms for link in links if link is not None]
        if node not in f.reports and len(known) > 1 and min(known) >= f.timings.detection_ms:
            silent[node] = min(known)
    return silent


def _reach_before_start(f: Findings) -> Opinions:
    for node, answer in sorted(f.reach.items()):
        spec = f.spec.nodes[node]
        place = f"{spec.address}, TCP port {spec.port}"
        if answer == "":
            yield ok(f"to {node}", f"{place} can be connected to")
        elif answer == "refused":
            yield ok(f"to {node}", f"{place}: the machine answers; hamaild does not run there yet")
        else:
            remedy = NO_WAY.format(port=spec.port, to=node, address=spec.address, of=f.me or "this machine")
            yield fail(f"to {node}", f"{place}: {answer}", remedy)


def pairs(f: Findings) -> dict[tuple[NodeName, NodeName], LinkFacts | None]:
    """Each two nodes once, with the quicker of their two measurements (as seen by the first of the two)."""
    found: dict[tuple[NodeName, NodeName], LinkFacts | None] = {}
    names = sorted(f.spec.nodes)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            seen = [
                LinkFacts(silent_ms=link.silent_ms, rtt_us=link.rtt_us, offset_us=sign * (link.offset_us or 0))
                for here, there, sign in ((one, other, 1), (other, one, -1))
                if here in f.reports and (link := f.reports[here].links.get(there)) and link.rtt_us is not None
            ]
            found[one, other] = min(seen, key=lambda link: link.rtt_us or 0) if seen else None
    return found


def round_trip(f: Findings) -> Opinions:
    if f.before_start:
        return
    for (one, other), link in pairs(f).items():
        subject = f"{one} - {other}"
        if link is None or link.rtt_us is None:
            yield unknown(subject, "not measured: neither of them could ask the other")
            continue
        limit_us = min(RTT_FAIL_US, f.timings.detection_ms * 1000 // 4)
        text = f"{link.rtt_us / 1000:.2f} ms there and back"
        if link.rtt_us >= limit_us:
            remedy = "give the nodes a quicker link, or raise `detection` (hamailctl timing shows what follows)"
            yield fail(subject, f"{text}: with detection = {f.timings.detection_ms} ms nodes will seem lost", remedy)
        elif link.rtt_us >= RTT_WARN_US:
            yield warn(subject, f"{text} is slow for a pair", "look for a loaded or a distant link between them")
        else:
            yield ok(subject, text)


def clocks(f: Findings) -> Opinions:
    if f.before_start:
        yield unknown("all nodes", "clocks are compared once hamaild runs", "meanwhile: timedatectl on each node")
        return
    for (one, other), link in pairs(f).items():
        subject = f"{one} - {other}"
        if link is None or link.offset_us is None or link.rtt_us is None:
            yield unknown(subject, "not measured: neither of them could ask the other")
            continue
        surely_us = max(0, abs(link.offset_us) - link.rtt_us // 2)  # what the way there and back cannot explain
        ahead, behind = (other, one) if link.offset_us > 0 else (one, other)
        if surely_us < CLOCK_WARN_US:
            yield ok(subject, f"the clocks agree to {max(1, (abs(link.offset_us) + link.rtt_us // 2) // 1000)} ms")
            continue
        text = f"the clock of {ahead} is {abs(link.offset_us) / 1e6:.2f} s ahead of that of {behind}"
        say = fail if surely_us >= CLOCK_FAIL_US else warn
        yield say(subject, f"{text}; after a move Dovecot sees time jump, and logs do not line up", NTP)
