"""`hamailctl plan --if`: what may be supposed, how it is written, and what it means."""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from hamail.model.ids import DeviceName, GroupName, NodeName, ResourceName
from hamail.model.spec import ClusterSpec

EVERYWHERE = "*"


class Suppose(StrEnum):
    NODE_DOWN = "node-down"
    NODE_CUT_OFF = "node-cut-off"
    LINK_DOWN = "link-down"
    RESOURCE_FAILED = "resource-failed"
    STOP_FAILS = "stop-fails"
    FENCE_FAILS = "fence-fails"
    SWITCHOVER = "switchover"
    STANDBY = "standby"


USAGE = {
    Suppose.NODE_DOWN: ("node-down=NODE", "the node loses its power"),
    Suppose.NODE_CUT_OFF: ("node-cut-off=NODE", "the node runs on, but nobody hears it"),
    Suppose.LINK_DOWN: ("link-down=NODE-NODE", "two nodes do not hear each other"),
    Suppose.RESOURCE_FAILED: (
        "resource-failed=GROUP/RESOURCE[@NODE]",
        "it fails for good: where it runs, on NODE, or everywhere (@*)",
    ),
    Suppose.STOP_FAILS: ("stop-fails=GROUP[@NODE]", "the group cannot be stopped: where it runs, or on NODE"),
    Suppose.FENCE_FAILS: ("fence-fails=DEVICE", "the fence device cuts nothing"),
    Suppose.SWITCHOVER: ("switchover=GROUP@NODE", "you order it"),
    Suppose.STANDBY: ("standby=NODE", "you order it"),
}


class Hypothesis(Struct, frozen=True, kw_only=True):
    suppose: Suppose
    node: NodeName = ""  # EVERYWHERE: all of them
    other: NodeName = ""  # the other end of a link
    group: GroupName = ""
    resource: ResourceName = ""
    device: DeviceName = ""

    def __str__(self) -> str:
        at = f"@{self.node}" if self.node else ""
        match self.suppose:
            case Suppose.NODE_DOWN | Suppose.NODE_CUT_OFF | Suppose.STANDBY:
                value = self.node
            case Suppose.LINK_DOWN:
                value = f"{self.node}-{self.other}"
            case Suppose.RESOURCE_FAILED:
                value = f"{self.group}/{self.resource}{at}"
            case Suppose.FENCE_FAILS:
                value = self.device
            case _:
                value = f"{self.group}{at}"
        return f"{self.suppose}={value}"


def words(h: Hypothesis) -> str:
    """The supposition as the beginning of a sentence."""
    place = {"": "where it runs", EVERYWHERE: "everywhere"}.get(h.node, f"on {h.node}")
    return {
        Suppose.NODE_DOWN: f"{h.node} loses its power",
        Suppose.NODE_CUT_OFF: f"{h.node} runs on, but nobody hears it",
        Suppose.LINK_DOWN: f"{h.node} and {h.other} do not hear each other",
        Suppose.RESOURCE_FAILED: f"{h.resource} of {h.group} fails for good {place}",
        Suppose.STOP_FAILS: f"{h.group} cannot be stopped {place}",
        Suppose.FENCE_FAILS: f"{h.device} cuts nothing",
        Suppose.SWITCHOVER: f"you order {h.group} to {h.node}",
        Suppose.STANDBY: f"you put {h.node} into standby",
    }[h.suppose]


def parse(text: str, spec: ClusterSpec) -> Hypothesis:
    """Raises ValueError with a sentence that names what would be right."""
    kind, equals, value = text.partition("=")
    if kind not in {s.value for s in Suppose}:
        raise ValueError(f"'{text}': nobody can suppose '{kind}'; there are {', '.join(u for u, _ in USAGE.values())}")
    suppose = Suppose(kind)
    if not equals or not value:
        raise ValueError(f"'{text}': write it as {USAGE[suppose][0]}")
    match suppose:
        case Suppose.NODE_DOWN | Suppose.NODE_CUT_OFF:
            return Hypothesis(suppose=suppose, node=_known(text, value, "node", spec.nodes))
        case Suppose.STANDBY:
            return Hypothesis(suppose=suppose, node=_known(text, value, "mail node", _mail_nodes(spec)))
        case Suppose.LINK_DOWN:
            node, other = _link(text, value, spec)
            return Hypothesis(suppose=suppose, node=node, other=other)
        case Suppose.FENCE_FAILS:
            return Hypothesis(suppose=suppose, device=_known(text, value, "fence device", spec.fencing))
    place, _, node = value.partition("@")
    if node and (node != EVERYWHERE or suppose is Suppose.SWITCHOVER):
        _known(text, node, "mail node", _mail_nodes(spec))
    group, slash, resource = place.partition("/")
    _known(text, group, "group", spec.groups)
    if suppose is Suppose.RESOURCE_FAILED:
        _known(text, resource, f"resource of {group}", [r.name for r in spec.groups[group].resources])
    elif slash or (suppose is Suppose.SWITCHOVER and not node):
        raise ValueError(f"'{text}': write it as {USAGE[suppose][0]}")
    return Hypothesis(suppose=suppose, node=node, group=group, resource=resource)


def _mail_nodes(spec: ClusterSpec) -> list[NodeName]:
    return [name for name, node in spec.nodes.items() if not node.witness]


def _known(text: str, name: str, what: str, names: Iterable[str]) -> str:
    if name not in names:
        raise ValueError(f"'{text}': there is no {what} '{name}'; there is {', '.join(sorted(names)) or 'none'}")
    return name


def _link(text: str, value: str, spec: ClusterSpec) -> tuple[NodeName, NodeName]:
    """Names may contain dashes themselves."""
    for node in sorted(spec.nodes):
        other = value.removeprefix(f"{node}-")
        if other != value and other in spec.nodes and other != node:
            return node, other
    raise ValueError(f"'{text}': write it as link-down=NODE-NODE with two of {', '.join(sorted(spec.nodes))}")
