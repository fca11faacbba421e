"""The two configuration files of a mail pair, with comments for whoever reads them next."""

import json

from hamail.model.ids import NodeName
from hamail.setup.answers import Answers, Fence

CLUSTER = """\
# {title}: a pair of mail servers and a witness. Written by `hamailctl init`; the same on every node.
#
# A change:   hamailctl config check FILE, then hamailctl config apply FILE
# Durations are texts with a unit: "300ms", "1s", "10m". Every key: man 5 cluster.toml

[cluster]
name = {cluster}
# detection = "1s"          # a node unheard for this long is missed. All other times follow: hamailctl timing
"""
MAIL_NODE = """
[nodes.{name}]
address = {address}
"""
WITNESS = """
[nodes.{name}]
address = {address}
witness = true              # votes, and never runs anything
"""
FENCE = """
[fencing.{name}]
agent = {agent}
targets = {{ {targets} }}   # node = plug on this device
"""
NO_FENCE = """
# No fence device. The loss of a node waits for an operator, who makes sure that it is off, then:
#   hamailctl fence confirm NODE
# One makes a takeover automatic:
# [fencing.pdu]
# agent = "fence_apc_snmp"
# targets = {{ {targets} }}
# parameters = {{ ip = "10.0.0.250", username = "hamail" }}
# secret_files = {{ password = "/etc/hamail/secrets/pdu" }}
"""
GROUP = """
# What lives together on one node and moves together. Resources start as soon as what they name in `after` is up.

[groups.mail]
nodes = [{nodes}]           # in order of preference for the first start; a group never moves back by itself
# restarts = "3 in 10m"     # a failed service is restarted in place this often before the group moves
"""
RESOURCES = """
[groups.mail.resources.storage]
agent = "hamail:filesystem"
parameters = {{ device = {device}, directory = {mount}, fstype = {fstype} }}

[groups.mail.resources.dovecot]
agent = "hamail:dovecot"
after = ["storage"]

[groups.mail.resources.postfix]
agent = "hamail:postfix"
after = ["storage"]

[groups.mail.resources.vip]
agent = "hamail:vip"
parameters = {{ address = {vips}, interface = {interface} }}
after = ["dovecot"]         # IMAP clients are back first; SMTP clients try again until Postfix is up, too
"""
NODE = """\
# What only this node knows. Written by `hamailctl {command}`. Every key: man 5 node.toml

node = {node}
"""
NODE_WATCHDOG = """\
watchdog_device = {device}   # the one that cluster.toml relies on
"""


def cluster_toml(answers: Answers) -> str:
    parts = [CLUSTER.format(title=answers.cluster, cluster=quoted(answers.cluster))]
    for name, address in answers.nodes.items():
        parts.append(MAIL_NODE.format(name=name, address=quoted(address)))
        if answers.watchdog:
            device = quoted(answers.watchdog)
            parts.append(f"watchdog_device = {device}   # resets the machine when a stop hangs\n")
        if answers.virtual:
            parts.append("virtual = true              # a virtual machine: only fencing protects shared storage\n")
    for name, address in answers.witness.items():
        parts.append(WITNESS.format(name=name, address=quoted(address)))
    parts += [_fence(fence) for fence in answers.fences]
    if not answers.fences:
        targets = ", ".join(f'{name} = "{number}"' for number, name in enumerate(answers.nodes, 1))
        parts.append(NO_FENCE.format(targets=targets))
    parts.append(GROUP.format(nodes=", ".join(quoted(name) for name in answers.nodes)))
    if answers.unsafe_reason:
        parts.append(f"unsafe_reason = {quoted(answers.unsafe_reason)}\n")
    parts.append(
        RESOURCES.format(
            device=quoted(answers.device),
            mount=quoted(answers.mount),
            fstype=quoted(answers.fstype),
            vips=quoted(" ".join(answers.vips)),
            interface=quoted(answers.interface),
        )
    )
    return "".join(parts)


def node_toml(node: NodeName, watchdog: str | None, command: str) -> str:
    text = NODE.format(node=quoted(node), command=command)
    return text + (NODE_WATCHDOG.format(device=quoted(watchdog)) if watchdog else "")


def _fence(fence: Fence) -> str:
    text = FENCE.format(name=fence.name, agent=quoted(fence.agent), targets=_pairs(fence.targets))
    if fence.parameters:
        text += f"parameters = {{ {_pairs(fence.parameters)} }}\n"
    if fence.secrets:
        files = {parameter: fence.secret_file(parameter) for parameter in fence.secrets}
        text += f"secret_files = {{ {_pairs(files)} }}   # owner root, mode 0600\n"
    return text


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{key if _bare(key) else quoted(key)} = {quoted(value)}" for key, value in values.items())


def _bare(key: str) -> bool:
    return key.isascii() and all(c.isalnum() or c in "-_" for c in key)


def quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are a part of TOML's."""
    return json.dumps(text, ensure_ascii=False)
