"""Voters, timings and the addresses of nodes."""

import ipaddress

from hamail.config.problem import Problems
from hamail.core import timing
from hamail.model.spec import ClusterSpec

VOTERS_MIN = 3
VOTERS_MAX = 7

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def voters(spec: ClusterSpec, problems: Problems) -> None:
    count = len(spec.nodes)
    if not count:
        return
    if count < VOTERS_MIN:
        problems.add(
            ("nodes",),
            f"{count} {'node' if count == 1 else 'nodes'}: the loss of one would leave no majority; "
            "add a witness (a small third machine that only votes)",
        )
    elif count % 2 == 0:
        problems.add(
            ("nodes",), f"{count} nodes: an even number can split into halves with no majority; add or remove a witness"
        )
    elif count > VOTERS_MAX:
        problems.add(("nodes",), f"{count} nodes: at most {VOTERS_MAX}, as every decision waits for a majority of them")


def timings(spec: ClusterSpec, problems: Problems) -> None:
    for reason in timing.problems(spec.detection_ms, spec.watchdog_timeout_s):
        key = "watchdog_timeout" if reason.startswith("watchdog") else "detection"
        problems.add(("cluster", key), reason)


def node_addresses(spec: ClusterSpec, problems: Problems) -> None:
    seen: dict[IPAddress, str] = {}
    for name, node in sorted(spec.nodes.items()):
        if not node.address:
            continue
        path = ("nodes", name, "address")
        address = numeric(node.address)
        if address is None:
            problems.add(
                path, f"{node.address!r} is not a numeric IP address; a cluster must not wait for name servers"
            )
        elif address.is_unspecified or address.is_multicast:
            problems.add(path, f"{node.address} is not the address of one machine")
        elif address in seen:
            problems.add(path, f"{node.address} is the address of {seen[address]} as well")
        else:
            seen[address] = name


def numeric(text: str) -> IPAddress | None:
    """Also normalises: two ways to write one IPv6 address compare equal."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def known_addresses(spec: ClusterSpec) -> dict[IPAddress, str]:
    """Address -> node."""
    found = {numeric(node.address): name for name, node in sorted(spec.nodes.items())}
    return {address: name for address, name in found.items() if address is not None}
