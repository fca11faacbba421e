"""The draft as a commented cluster.toml."""

import json

from hamail.pacemaker.draft import Device, Draft, GroupDraft, Kind, Resource

HEAD = """\
# A cluster for hamail, made from a Pacemaker configuration by `hamailctl import pacemaker`.
#
# Look through it, put right what is marked TO DO, then:   hamailctl config check FILE
# Pacemaker and Corosync must be off for good on every node before hamail starts: two managers would fight.
"""


def text(value: str) -> str:
    """A TOML basic string; JSON's is one as well, but for a few control characters."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def table(values: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{key} = {text(value)}" for key, value in values.items()) + " }"


def comment(words: str) -> str:
    return "# " + "".join(c if c.isprintable() else "?" for c in words)


def write(draft: Draft) -> str:
    parts = [HEAD, _notes(draft), f"[cluster]\nname = {text(draft.cluster)}\n"]
    parts += [_node(draft, name, address) for name, address in draft.nodes.items()]
    parts += [_device(device) for device in draft.devices]
    parts += [_group(draft, group) for group in draft.groups]
    return "\n".join(part for part in parts if part)


def _notes(draft: Draft) -> str:
    lines = [
        comment(f"{note.kind.value.upper()}: {note.what}: {note.why}")
        for note in draft.notes
        if note.kind is not Kind.CHANGED
    ]
    return "\n".join(lines) + "\n" if lines else ""


def _node(draft: Draft, name: str, address: str) -> str:
    guessed = "   # TO DO: a placeholder" if name in draft.guessed else ""
    lines = [f"[nodes.{name}]", f"address = {text(address)}{guessed}"]
    if name == draft.witness:
        lines.append("witness = true                      # votes, and never runs anything")
    else:
        lines.append('# watchdog_device = "/dev/watchdog"   # where there is one: also in its node.toml')
    return "\n".join(lines) + "\n"


def _device(device: Device) -> str:
    lines = [
        comment(f"was {device.origin}"),
        f"[fencing.{device.name}]",
        f"agent = {text(device.agent)}",
        f"targets = {table(device.targets)}",
    ]
    if device.parameters:
        lines.append(f"parameters = {table(device.parameters)}")
    if device.secret_files:
        lines.append(f"secret_files = {table(device.secret_files)}   # TO DO: write the secret into that file")
    if device.timeout:
        lines.append(f"timeout = {text(device.timeout)}")
    if device.level != 1:
        lines.append(f"level = {device.level}")
    return "\n".join(lines) + "\n"


def _group(draft: Draft, group: GroupDraft) -> str:
    nodes = ", ".join(text(node) for node in group.nodes)
    lines = [comment(f"was {group.origin}"), f"[groups.{group.name}]", f"nodes = [{nodes}]"]
    if not group.shared_storage:
        lines.append("shared_storage = false")
    lines += [f"{key} = {text(value)}" for key, value in group.settings.items()]
    parts = ["\n".join(lines) + "\n"]
    parts += [_resource(draft, group, resource) for resource in group.resources]
    return "\n".join(parts)


def _resource(draft: Draft, group: GroupDraft, resource: Resource) -> str:
    lines = [
        comment(f"was {resource.origin}"),
        f"[groups.{group.name}.resources.{resource.name}]",
        f"agent = {text(resource.agent)}",
    ]
    if resource.parameters:
        lines.append(f"parameters = {table(resource.parameters)}")
    if resource.after:
        lines.append(f"after = [{', '.join(text(name) for name in dict.fromkeys(resource.after))}]")
    if resource.agent == "hamail:vip" and draft.guessed & set(group.nodes):
        lines.append('network_check = "off"   # TO DO: remove this line once the addresses of the nodes are right')
    lines += [f"{key} = {text(value)}" for key, value in resource.settings.items()]
    lines += [f"{key} = {'true' if value else 'false'}" for key, value in resource.plain.items()]
    return "\n".join(lines) + "\n"
