"""Small cluster specs for simulations: mail nodes, witnesses, one group with the usual resources."""

from hamail.model.ids import NodeName
from hamail.model.spec import (
    DEFAULT_FAILOVERS,
    DEFAULT_QUARANTINE,
    Budget,
    ClusterSpec,
    FenceDeviceSpec,
    GroupSpec,
    NodeSpec,
    Requirement,
    ResourceSpec,
)


def mail_group(
    nodes: tuple[NodeName, ...],
    requires: Requirement,
    *,
    name: str = "mail",
    restarts: int = 3,
    failovers: tuple[Budget, ...] = DEFAULT_FAILOVERS,
) -> GroupSpec:
    return GroupSpec(
        name=name,
        nodes=nodes,
        resources=(
            ResourceSpec(name="store", agent="hamail:filesystem"),
            ResourceSpec(name="postfix", agent="hamail:postfix", after=("store",)),
            ResourceSpec(name="dovecot", agent="hamail:dovecot", after=("store",)),
            ResourceSpec(name="address", agent="hamail:vip", after=("postfix", "dovecot")),
        ),
        requires=requires,
        unsafe_reason=None if requires is Requirement.FENCING else "a simulation",
        restarts=restarts,
        failovers=failovers,
    )


def cluster(
    mail: tuple[NodeName, ...] = ("n1", "n2"),
    witnesses: tuple[NodeName, ...] = ("n3",),
    *,
    requires: Requirement = Requirement.FENCING,
    levels: int = 1,
    detection_ms: int = 1000,
    restarts: int = 3,
    groups: tuple[str, ...] = ("mail",),
    failovers: tuple[Budget, ...] = DEFAULT_FAILOVERS,
    quarantine: Budget | None = DEFAULT_QUARANTINE,
) -> ClusterSpec:
    """`levels`: so many fence devices, one at each level; each can fence every mail node."""
    names = {**dict.fromkeys(mail, False), **dict.fromkeys(witnesses, True)}
    nodes = {
        name: NodeSpec(name=name, address=f"192.0.2.{number}", witness=witness)
        for number, (name, witness) in enumerate(sorted(names.items()), start=1)
    }
    devices = ("pdu", "ipmi", "san")[:levels]
    return ClusterSpec(
        name="simulated",
        nodes=nodes,
        groups={g: mail_group(mail, requires, name=g, restarts=restarts, failovers=failovers) for g in groups},
        fencing={
            d: FenceDeviceSpec(name=d, agent=f"fence_{d}", targets={n: n for n in mail}, level=level, timeout_ms=10_000)
            for level, d in enumerate(devices, start=1)
        },
        detection_ms=detection_ms,
        quarantine=quarantine,
    )
