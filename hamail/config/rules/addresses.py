"""Floating IP addresses: written with their prefix, nobody else's, and inside a network of the nodes."""

import ipaddress
from collections.abc import Iterator

from hamail.config.problem import Path, Problems, dotted
from hamail.config.rules.cluster import IPAddress, known_addresses, numeric
from hamail.config.rules.protection import owners
from hamail.model.spec import ClusterSpec, GroupSpec, ResourceSpec

VIP = "hamail:vip"
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def floating_addresses(spec: ClusterSpec) -> Iterator[tuple[GroupSpec, ResourceSpec, Path]]:
    """Resources of the vip agent, with the path of their parameters."""
    for name, group in sorted(spec.groups.items()):
        for resource in group.resources:
            if resource.agent == VIP:
                yield group, resource, ("groups", name, "resources", resource.name, "parameters")


def parse(text: str) -> tuple[Interface, ...]:
    """ "10.0.0.100/24 fd00::100/64". Raises ValueError with the word that is wrong."""
    found = []
    for word in text.split():
        if "/" not in word:
            raise ValueError(f"{word!r} has no prefix length; write it as in 10.0.0.100/24")
        try:
            found.append(ipaddress.ip_interface(word))
        except ValueError as error:
            raise ValueError(f"{word!r} is not an address with a prefix length: {error}") from error
    return tuple(found)


def floating(spec: ClusterSpec, problems: Problems) -> None:
    nodes = known_addresses(spec)
    seen: dict[IPAddress, str] = {}
    for group, resource, path in floating_addresses(spec):
        here = (*path, "address")
        if not resource.parameters.get("interface", "").strip():
            problems.add((*path, "interface"), "is missing: on which network interface shall the address be?")
        try:
            interfaces = parse(resource.parameters.get("address", ""))
        except ValueError as error:
            problems.add(here, str(error))
            continue
        if not interfaces:
            problems.add(here, "is missing: write the floating address, as in 10.0.0.100/24")
        for interface in interfaces:
            if why := _unusable(interface, nodes):
                problems.add(here, why)
            elif interface.ip in seen:
                problems.add(here, f"{interface.ip} is the floating address of {seen[interface.ip]} as well")
            elif resource.network_check and (why := _outside(spec, group, interface)):
                problems.add(here, why)
            seen.setdefault(interface.ip, dotted(path[:-1]))


def _unusable(interface: Interface, nodes: dict[IPAddress, str]) -> str:
    ip, network = interface.ip, interface.network
    if ip in nodes:
        return f"{ip} is the address of {nodes[ip]} itself, which must keep it; choose a free one"
    if ip.is_multicast or ip.is_unspecified or ip.is_loopback:
        return f"{ip} cannot be owned by one machine of a network"
    if network.prefixlen < network.max_prefixlen - 1 and ip == network.network_address:
        return f"{ip} is the address of the network {network} itself"
    if ip.version == 4 and network.prefixlen < 31 and ip == network.broadcast_address:
        return f"{ip} is the broadcast address of {network}"
    return ""


def _outside(spec: ClusterSpec, group: GroupSpec, interface: Interface) -> str:
    """Compared with nodes of the same family only: an IPv6 address on nodes known by IPv4 proves nothing."""
    for node in owners(spec, group):
        address = numeric(spec.nodes[node].address)
        if address is not None and address.version == interface.version and address not in interface.network:
            return (
                f"{interface} does not contain {address}, the address of {node}: nobody would reach it there; "
                'if it belongs to another network of these nodes, say network_check = "off" in this resource'
            )
    return ""
