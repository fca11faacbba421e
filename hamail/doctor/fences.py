"""Would fencing work, and would it still work on the day when the target is really gone?"""

import ipaddress
import re

from hamail.doctor.findings import Findings
from hamail.doctor.line import Opinions, fail, ok, unknown, warn
from hamail.model.ids import NodeName
from hamail.model.spec import ClusterSpec, FenceDeviceSpec, Requirement

ADDRESS_KEYS = ("ip", "ipaddr", "host")
NOT_ASKED = "not checked yet"
# A board in the server itself: it has its power from the server, and is gone with it.
BOARDS = re.compile(r"fence_(ipmi\w*|i?drac\w*|ilo\w*|redfish|rsa|rsb|imm|cisco_ucs|hpblade|bladecenter\w*)$")
HYPERVISORS = re.compile(r"fence_(virsh|virt|xvm|pve|vmware\w*|vbox|ovh|rhevm|kubevirt|docker|lxd|xenapi|hyperv)$")
PRETENDERS = ("fence_dummy",)
SECOND_WAY = "add a device of another kind with level = 2, as [fencing.NAME] in cluster.toml"


def targets(spec: ClusterSpec) -> tuple[NodeName, ...]:
    """Nodes that hamail may have to fence: those that may own a group."""
    return tuple(sorted({node for group in spec.groups.values() for node in group.nodes}))


def address_of(device: FenceDeviceSpec) -> str:
    return next((device.parameters[key] for key in ADDRESS_KEYS if device.parameters.get(key)), "")


def present(f: Findings) -> Opinions:
    for node in targets(f.spec):
        devices = f.spec.devices_for(node)
        groups = [g for g in f.spec.groups.values() if node in g.nodes and len(g.nodes) > 1]
        strict = [g.name for g in groups if g.requires == Requirement.FENCING and g.shared_storage]
        if devices:
            ways = ", ".join(f"{d.name} (level {d.level})" for d in devices)
            yield ok(node, f"can be fenced by {ways}")
        elif strict:
            yield fail(
                node,
                f"no device can fence it: when it is lost, {', '.join(strict)} waits for an operator",
                "add a fence device for it, as [fencing.NAME] in cluster.toml",
            )
        elif groups:
            yield warn(node, "no device can fence it; its groups rely on less", "see `requires` in cluster.toml")


def ready(f: Findings) -> Opinions:
    for node in targets(f.spec):
        for device in f.spec.devices_for(node):
            subject = f"{device.name} for {node}"
            said = _said(f, device, node)
            by = " and ".join(f.spec.fence_executors(device, node))
            if said == "":
                yield ok(subject, f"answers {by}, and reports the state of plug {device.targets[node]}")
            elif said == NOT_ASKED:
                when = "asked once hamaild runs" if f.before_start else f"{by or 'no node'} has not asked it yet"
                yield unknown(subject, when, "hamailctl doctor again in a few minutes")
            else:
                remedy = f"on {by}: check address, user and plug in cluster.toml, and the file of the password"
                yield fail(subject, f"does not work from {by}: {said}", f"{remedy}; the check is repeated by itself")


def _said(f: Findings, device: FenceDeviceSpec, node: NodeName) -> str:
    """ "" when the device answers one of those who would use it: as they say just now, else as they last said."""
    fresh = [f.reports[by].fence_ready for by in f.spec.fence_executors(device, node) if by in f.reports]
    answers = [known[device.name] for known in fresh if device.name in known]
    if answers:
        return "" if "" in answers else answers[0]
    view = next((v for v in f.status.nodes if v.name == node), None) if f.status else None
    return view.fence_devices.get(device.name, NOT_ASKED) if view else NOT_ASKED


def fate(f: Findings) -> Opinions:
    """Device and target must not die of the same cause."""
    for node in targets(f.spec):
        devices = f.spec.devices_for(node)
        if not devices:
            continue
        troubles = [opinion for device in devices for opinion in _of_device(f, device, node)]
        yield from troubles
        if not any(opinion.verdict == "fail" for opinion in troubles):
            yield from _of_all(f, node, devices)


def _of_device(f: Findings, device: FenceDeviceSpec, node: NodeName) -> Opinions:
    subject, address = f"{device.name} for {node}", address_of(device)
    name = device.agent.rpartition("/")[2]
    if name in PRETENDERS:
        yield fail(subject, f"{name} only pretends: after it a node still runs", "use the agent of a real device")
    elif address and address == f.spec.nodes[node].address:
        yield fail(
            subject,
            f"its address {address} is that of {node} itself: when {node} is dead, nothing answers there",
            "give the address of the device (a management board has one of its own)",
        )
    elif address in f.vips():
        yield fail(subject, f"its address {address} is a floating address of a group", "give the device's own address")
    elif not address:
        yield unknown(subject, "no address is configured, so what it shares with its target is not known")


def _of_all(f: Findings, node: NodeName, devices: tuple[FenceDeviceSpec, ...]) -> Opinions:
    names = ", ".join(d.name for d in devices)
    kinds = [d.agent.rpartition("/")[2] for d in devices]
    both = [d for d in devices if set(targets(f.spec)) <= set(d.targets) and len(d.targets) > 1]
    shared = _networks_shared(f, devices)
    if all(BOARDS.match(kind) for kind in kinds):
        text = f"only its own management board ({names}) can fence it: without power the board is silent as well"
        yield warn(node, f"{text}, and {node} counts as perhaps alive", f"{SECOND_WAY} (a switched power strip)")
    elif all(HYPERVISORS.match(kind) for kind in kinds) and len({address_of(d) for d in devices}) == 1:
        text = f"only the hypervisor {address_of(devices[0])} can fence it: if that dies with {node} in it, nobody can"
        yield warn(node, text, "place the nodes on two hypervisors, each fenced by its own; or add a second level")
    elif len(devices) == 1 and both:
        text = f"{names} holds the plugs of all mail nodes, and is the only way to fence any of them"
        yield warn(node, f"{text}: if it fails, no failover is possible", SECOND_WAY)
    elif shared:
        text = f"{names} is reached through the network of the heartbeats ({shared})"
        yield warn(
            node,
            f"{text}: when that is cut, so is fencing",
            "give fence devices a network of their own, or a 2nd level",
        )
    else:
        yield ok(node, f"{names}: no common cause with {node} is seen")


def _networks_shared(f: Findings, devices: tuple[FenceDeviceSpec, ...]) -> str:
    """The network in which the nodes and all of their devices are, "" when there is none or nobody knows."""
    found = {network for machine in f.machines().values() for a in machine.networks.values() for network in a}
    for text in sorted(found):
        try:
            network = ipaddress.ip_interface(text).network
            nodes = [ipaddress.ip_address(n.address) for n in f.spec.nodes.values()]
            addresses = [ipaddress.ip_address(address_of(d)) for d in devices]
        except ValueError:
            continue
        if all(a in network for a in (*nodes, *addresses)):
            return str(network)
    return ""
