"""What matters of a Pacemaker configuration, whichever form it was read from."""

from dataclasses import dataclass, field

INPUT_BYTES_MAX = 8 << 20
INFINITY = 1_000_000


class Unreadable(Exception):
    """The message says what is wrong with the file."""


@dataclass(frozen=True)
class Operation:
    name: str
    interval: str = ""
    timeout: str = ""
    on_fail: str = ""


@dataclass(frozen=True)
class Primitive:
    id: str
    standard: str  # ocf | systemd | stonith | lsb | service | ...
    provider: str
    type: str
    parameters: dict[str, str] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    operations: tuple[Operation, ...] = ()

    @property
    def agent(self) -> str:
        return ":".join(word for word in (self.standard, self.provider, self.type) if word)


@dataclass(frozen=True)
class Group:
    id: str
    members: tuple[str, ...]
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Clone:
    """Also bundles and promotable clones: `kind` says which."""

    id: str
    member: str
    kind: str = "clone"


@dataclass(frozen=True)
class Location:
    id: str
    resource: str
    node: str
    score: int
    has_rule: bool = False


@dataclass(frozen=True)
class Order:
    id: str
    first: str
    then: str
    mandatory: bool = True
    action: str = "start"


@dataclass(frozen=True)
class Colocation:
    id: str
    resource: str
    with_resource: str
    score: int
    role: str = ""


@dataclass(frozen=True)
class Level:
    target: str
    index: int
    devices: tuple[str, ...]


@dataclass
class Cib:
    nodes: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    primitives: dict[str, Primitive] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    clones: list[Clone] = field(default_factory=list)
    locations: list[Location] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    colocations: list[Colocation] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)  # (what, why it is not looked at)
    node_attributes: dict[str, dict[str, str]] = field(default_factory=dict)


def score(text: str | None) -> int:
    """ "INFINITY", "-INFINITY", "50"; no score counts as 0."""
    word = (text or "0").strip().upper()
    if word in ("INFINITY", "+INFINITY"):
        return INFINITY
    if word == "-INFINITY":
        return -INFINITY
    try:
        return max(-INFINITY, min(INFINITY, int(word)))
    except ValueError:
        return 0


def merge(parts: list[Cib]) -> Cib:
    """Several files of one cluster: resources, fence devices and constraints come apart from some versions of pcs."""
    whole = Cib()
    for part in parts:
        whole.nodes += [node for node in part.nodes if node not in whole.nodes]
        whole.properties |= part.properties
        whole.primitives |= part.primitives
        whole.groups += part.groups
        whole.clones += part.clones
        whole.locations += part.locations
        whole.orders += part.orders
        whole.colocations += part.colocations
        whole.levels += part.levels
        whole.others += part.others
        whole.node_attributes |= part.node_attributes
    return whole
