"""What only this machine can tell: whether the cluster's configuration fits its interfaces and its own settings."""

import ipaddress
from collections.abc import Mapping

import psutil

from hamail.config.node import NodeConfig
from hamail.config.problem import Problem, dotted
from hamail.config.rules.addresses import Interface, floating_addresses, parse
from hamail.config.rules.cluster import numeric
from hamail.config.section import nearest
from hamail.model.ids import NodeName
from hamail.model.spec import ClusterSpec

Interfaces = Mapping[str, tuple[Interface, ...]]


def local_interfaces() -> Interfaces:
    """Name -> addresses with their networks."""
    found = {}
    for name, entries in psutil.net_if_addrs().items():
        parsed = (_interface(entry.address, entry.netmask) for entry in entries)
        found[name] = tuple(interface for interface in parsed if interface is not None)
    return found


def check_local(spec: ClusterSpec, interfaces: Interfaces, node: NodeName | None = None) -> tuple[Problem, ...]:
    """Does each floating address that this node may get fit the interface it is meant for?

    Without `node`, this machine is the node whose address it has; on a machine that is none there is nothing to check.
    """
    me = node or whose(spec, interfaces)
    if me is None:
        return ()
    problems = []
    for group, resource, path in floating_addresses(spec):
        if me not in group.nodes:
            continue
        name = resource.parameters.get("interface", "")
        if name not in interfaces:
            near = nearest(name, tuple(interfaces))
            problems.append(Problem(dotted((*path, "interface")), f"{me} has no network interface {name!r}{near}"))
        elif resource.network_check:
            problems += [
                Problem(dotted((*path, "address")), why)
                for floating in parse(resource.parameters.get("address", ""))
                if (why := _outside(floating, name, interfaces[name], me))
            ]
    return tuple(problems)


def check_node(spec: ClusterSpec, node: NodeConfig) -> tuple[Problem, ...]:
    """Do this node's own settings agree with what the cluster believes of it?"""
    if node.node not in spec.nodes:
        members = ", ".join(sorted(spec.nodes))
        return (Problem("node", f"{node.node!r} is not among the nodes of cluster {spec.name}: {members}"),)
    believed = spec.nodes[node.node].watchdog_device
    if believed is None:
        return ()
    if node.watchdog_device != believed:
        why = f"is {node.watchdog_device or 'not set'}, but the cluster relies on {believed} of {node.node}"
        return (Problem("watchdog_device", why),)
    if node.watchdog_timeout_s != spec.watchdog_timeout_s:
        why = f"is {node.watchdog_timeout_s}s, but the others wait for one of {spec.watchdog_timeout_s}s"
        return (Problem("watchdog_timeout", why),)
    return ()


def whose(spec: ClusterSpec, interfaces: Interfaces) -> NodeName | None:
    """The node that this machine is, by its addresses."""
    here = {interface.ip for entries in interfaces.values() for interface in entries}
    return next((name for name, n in sorted(spec.nodes.items()) if numeric(n.address) in here), None)


def _interface(address: str, netmask: str | None) -> Interface | None:
    """psutil gives hardware addresses in the same list, and netmasks of IPv6 in full."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
        if netmask is None:
            return ipaddress.ip_interface(ip)
        bits = int(ipaddress.ip_address(netmask.partition("%")[0])).bit_count()
        return ipaddress.ip_interface(f"{ip}/{bits}")
    except ValueError:
        return None


def _outside(floating: Interface, name: str, present: tuple[Interface, ...], me: NodeName) -> str:
    same = [i for i in present if i.version == floating.version and not i.ip.is_link_local and i.ip != floating.ip]
    if any(floating.ip in i.network and floating.network == i.network for i in same):
        return ""
    networks = ", ".join(sorted({str(i.network) for i in same})) or f"no IPv{floating.version} network"
    return (
        f"{floating} is not in the network of {name} on {me}, which has {networks}; "
        'if that is meant, say network_check = "off" in this resource'
    )
