"""The cluster's configuration: what is read, and each thing that is refused, with its place and reason."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hamail.config import ConfigError, load_cluster, parse_cluster, warnings
from hamail.config.load import FILE_BYTES_MAX
from hamail.model.spec import Requirement

ETC = Path(__file__).resolve().parents[2] / "etc"

GOOD = """\
[cluster]
name = "mail"
detection = "1s"
watchdog_timeout = "5s"

[nodes.n1]
address = "10.0.0.11"
[nodes.n2]
address = "10.0.0.12"
[nodes.n3]
address = "10.0.0.13"
witness = true

[fencing.pdu]
agent = "fence_apc_snmp"
targets = { n1 = "1", n2 = "2" }
parameters = { ip = "10.0.0.250", snmp_version = 3, verbose = false }
secret_files = { password = "/etc/hamail/secrets/pdu" }
level = 1
timeout = "20s"

[groups.mail]
nodes = ["n1", "n2"]
restarts = "2 in 5m"

[groups.mail.resources.storage]
agent = "hamail:filesystem"
parameters = { device = "/dev/disk/by-id/lun", directory = "/srv/mail" }
[groups.mail.resources.dovecot]
agent = "hamail:dovecot"
after = ["storage"]
monitor_interval = "10s"
[groups.mail.resources.vip]
agent = "hamail:vip"
parameters = { address = "10.0.0.100/24", interface = "eth0" }
after = ["dovecot"]
"""

DEVICE = "[fencing.pdu]"
GROUP = "[groups.mail]\n"
DOVECOT = "[groups.mail.resources.dovecot]\n"
FENCING = GOOD[GOOD.index(DEVICE) : GOOD.index(GROUP)]
WITNESS = '[nodes.n3]\naddress = "10.0.0.13"\nwitness = true\n'
VIP = 'address = "10.0.0.100/24"'
SECOND = """
[groups.post]
nodes = ["n2", "n1"]
[groups.post.resources.disk]
agent = "hamail:filesystem"
parameters = { device = "/dev/disk/by-id/other", directory = "/srv/post" }
[groups.post.resources.vip]
agent = "hamail:vip"
parameters = { address = "10.0.0.101/24", interface = "eth0" }
"""


def changed(*changes):
    text = GOOD
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def more_nodes(*numbers):
    return "".join(f'[nodes.n{n}]\naddress = "10.0.0.{10 + n}"\n' for n in numbers) + WITNESS


def refused(text):
    with pytest.raises(ConfigError) as refusal:
        parse_cluster(text, "c.toml")
    return [(p.place, p.reason) for p in refusal.value.problems]


def test_what_is_good_is_read_in_full():
    spec = parse_cluster(GOOD, "c.toml")
    assert (spec.name, spec.detection_ms, spec.watchdog_timeout_s) == ("mail", 1000, 5)
    assert spec.voters() == ("n1", "n2", "n3") and spec.nodes["n3"].witness
    device = spec.fencing["pdu"]
    assert device.parameters == {"ip": "10.0.0.250", "snmp_version": "3", "verbose": "false"}
    assert (device.timeout_ms, device.level, device.targets) == (20_000, 1, {"n1": "1", "n2": "2"})
    group = spec.groups["mail"]
    assert (group.requires, group.shared_storage) == (Requirement.FENCING, True)
    assert (group.restarts, group.restarts_window_ms, group.nodes) == (2, 300_000, ("n1", "n2"))
    assert [(r.name, r.after) for r in group.resources] == [
        ("storage", ()),
        ("dovecot", ("storage",)),
        ("vip", ("dovecot",)),
    ]
    assert warnings(spec) == ()


ACCEPTED = {
    "five voters": changed((WITNESS, more_nodes(4, 5))),
    "seven voters": changed((WITNESS, more_nodes(4, 5, 6, 7))),
    "fast": changed(('"1s"', '"300ms"')),
    "detection at its lowest": changed(('"1s"', '"200ms"')),
    "IPv6 nodes": changed(("10.0.0.11", "fd00::11"), ("10.0.0.12", "fd00::12"), ("10.0.0.13", "fd00::13")),
    "IPv6 floating address on IPv4 nodes": changed(("10.0.0.100/24", "10.0.0.100/24 fd00::100/64")),
    "floating address in an acknowledged other network": changed(
        (VIP, 'address = "192.168.9.9/24"'), ('interface = "eth0" }', 'interface = "eth1" }\nnetwork_check = "off"')
    ),
    "host route as floating address": changed(
        ("10.0.0.100/24", "10.0.0.100/32"), ('interface = "eth0" }', 'interface = "eth1" }\nnetwork_check = "off"')
    ),
    "watchdog with a reason": changed(
        ('address = "10.0.0.11"', 'address = "10.0.0.11"\nwatchdog_device = "/dev/watchdog"'),
        ('address = "10.0.0.12"', 'address = "10.0.0.12"\nwatchdog_device = "/dev/watchdog"'),
        (GROUP, GROUP + 'requires = "watchdog"\nunsafe_reason = "no PDU yet"\n'),
    ),
    "no fencing with a reason": changed((FENCING, ""), (GROUP, GROUP + 'unsafe_reason = "test bench"\n')),
    "no shared storage with a lease": changed(
        (FENCING, ""), (GROUP, GROUP + 'shared_storage = false\nrequires = "lease"\n')
    ),
    "virtual nodes that are fenced": changed(('"10.0.0.11"', '"10.0.0.11"\nvirtual = true')),
    "virtual nodes without shared storage": changed(
        ('"10.0.0.11"', '"10.0.0.11"\nvirtual = true'), (GROUP, GROUP + 'shared_storage = false\nrequires = "lease"\n')
    ),
    "one node alone needs no fencing": changed((FENCING, ""), ('["n1", "n2"]', '["n1"]')),
    "two groups": GOOD + SECOND,
    "another folder's fence agent": changed(("fence_apc_snmp", "/usr/sbin/fence_apc_snmp")),
    "agents of others": changed(("hamail:dovecot", "heartbeat:dovecot_2.x")),
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(text):
    parse_cluster(text, "c.toml")


REFUSED = {
    # name: (changes, key, part of the reason)
    "no cluster": ([("[cluster]", "[klaster]")], "cluster", "is missing"),
    "unknown table": ([("[cluster]", "[klaster]")], "klaster", "is not known here (did you mean 'cluster'?)"),
    "unknown key": ([("detection", "detektion")], "cluster.detektion", "(did you mean 'detection'?)"),
    "unknown key of a node": ([("witness", "wittness")], "nodes.n3.wittness", "did you mean 'witness'?"),
    "unknown key of a device": ([("\ntimeout = ", "\ntimeuot = ")], "fencing.pdu.timeuot", "did you mean 'timeout'?"),
    "unknown key of a group": ([("restarts", "restart")], "groups.mail.restart", "did you mean 'restarts'?"),
    "unknown key of a resource": (
        [("monitor_interval", "interval")],
        "groups.mail.resources.dovecot.interval",
        "is not known here",
    ),
    "missing key": ([('name = "mail"\n', "")], "cluster.name", "is missing"),
    "missing address": ([('address = "10.0.0.12"\n', "")], "nodes.n2.address", "is missing"),
    "missing agent": ([('agent = "hamail:dovecot"\n', "")], "groups.mail.resources.dovecot.agent", "is missing"),
    "missing nodes": ([('nodes = ["n1", "n2"]\n', "")], "groups.mail.nodes", "is missing"),
    "number for a text": ([('"10.0.0.11"', "10")], "nodes.n1.address", "is a number; expected a text"),
    "text for a boolean": ([("= true", '= "yes"')], "nodes.n3.witness", "is a text; expected true or false"),
    "boolean for a number": (
        [("level = 1", "level = true")],
        "fencing.pdu.level",
        "is true or false; expected a number",
    ),
    "text for a list": ([('["n1", "n2"]', '"n1"')], "groups.mail.nodes", "is a text; expected a list"),
    "list of numbers": ([('["n1", "n2"]', "[1, 2]")], "groups.mail.nodes", "must be a list of texts"),
    "fraction as parameter": (
        [("snmp_version = 3", "snmp_version = 2.5")],
        "fencing.pdu.parameters.snmp_version",
        "is a number with a fraction; expected a text",
    ),
    "resources as a list": (
        [("[groups.mail.resources.dovecot]\n", "[[groups.post.resources]]\n")],
        "groups.post.resources",
        "is a list; expected a table, or tables as in [groups.post.resources.NAME]",
    ),
    "text for a table": ([("[nodes.n1]\naddress", "[nodes]\nn1")], "nodes.n1", "must be a table, as in [nodes.n1]"),
    "line break in a parameter": (
        [('"10.0.0.250"', '"10.0.0.250\\naction=on"')],
        "fencing.pdu.parameters.ip",
        "has control characters",
    ),
    "odd name of a parameter": (
        [("{ ip =", '{ "i p" = "x", ip =')],
        "fencing.pdu.parameters",
        "'i p' cannot be the name of a parameter",
    ),
    "duration without unit": ([('"20s"', "20")], "fencing.pdu.timeout", 'without a unit; write it as in "20s"'),
    "duration with an unknown unit": ([('"20s"', '"20sec"')], "fencing.pdu.timeout", "'20sec' is not a duration"),
    "negative duration": ([('"20s"', '"-20s"')], "fencing.pdu.timeout", "'-20s' is not a duration"),
    "duration out of bounds": ([('"20s"', '"20h"')], "fencing.pdu.timeout", "it must be between 1s and 10m"),
    "bad restarts": ([('"2 in 5m"', '"often"')], "groups.mail.restarts", "'often' is not a number of restarts"),
    "restarts in no time": ([('"2 in 5m"', '"2 in 0s"')], "groups.mail.restarts", "in more than no time"),
    "odd name of the cluster": ([('name = "mail"', 'name = "Mail"')], "cluster.name", "only a-z, 0-9 and -"),
    "odd name of a node": ([("[nodes.n2]", "[nodes.N_2]")], "nodes.N_2", "'N_2' is not a name"),
    "long name": ([("[nodes.n2]", f"[nodes.{'n' * 33}]")], f"nodes.{'n' * 33}", "at most 32 characters"),
    "odd name of a group": ([(GROUP, '[groups."a b"]\n')], "groups.a b", "'a b' is not a name"),
    "odd name of a resource": (
        [("[groups.mail.resources.vip]", "[groups.mail.resources.Vip]")],
        "groups.mail.resources.Vip",
        "'Vip' is not a name",
    ),
    "one voter": (
        [('[nodes.n2]\naddress = "10.0.0.12"\n', ""), (WITNESS, "")],
        "nodes",
        "1 node: the loss of one would leave no majority",
    ),
    "two voters": ([(WITNESS, "")], "nodes", "2 nodes: the loss of one would leave no majority; add a witness"),
    "four voters": ([(WITNESS, more_nodes(4))], "nodes", "4 nodes: an even number can split into halves"),
    "nine voters": ([(WITNESS, more_nodes(4, 5, 6, 7, 8, 9))], "nodes", "9 nodes: at most 7"),
    "host name for an address": ([("10.0.0.12", "n2.example.org")], "nodes.n2.address", "is not a numeric IP address"),
    "one address twice": ([("10.0.0.12", "10.0.0.11")], "nodes.n2.address", "10.0.0.11 is the address of n1 as well"),
    "one IPv6 address twice": (
        [("10.0.0.11", "fd00::11"), ("10.0.0.12", "FD00:0:0::0011")],
        "nodes.n2.address",
        "is the address of n1 as well",
    ),
    "no address of a machine": ([("10.0.0.12", "0.0.0.0")], "nodes.n2.address", "is not the address of one machine"),
    "port out of range": ([("witness", "port = 70000\nwitness")], "nodes.n3.port", "it must be between 1 and 65535"),
    "relative watchdog": (
        [("witness", 'watchdog_device = "watchdog"\nwitness')],
        "nodes.n3.watchdog_device",
        "is a relative path",
    ),
    "detection too short": ([('"1s"', '"199ms"')], "cluster.detection", "must be between 200 ms and 30000 ms"),
    "detection too long": ([('"1s"', '"31s"')], "cluster.detection", "must be between 200 ms and 30000 ms"),
    "watchdog too short": ([('"5s"', '"1s"')], "cluster.watchdog_timeout", "must be between 2 s and 60 s"),
    "watchdog in fractions": ([('"5s"', '"5500ms"')], "cluster.watchdog_timeout", "counts in whole seconds"),
    "no fence agent": ([("fence_apc_snmp", "apc")], "fencing.pdu.agent", "'apc' is not a fence agent"),
    "relative fence agent": ([("fence_apc_snmp", "bin/fence_apc")], "fencing.pdu.agent", "is a relative path"),
    "fence agent that goes back": (
        [("fence_apc_snmp", "/usr/sbin/../../tmp/fence_apc")],
        "fencing.pdu.agent",
        "goes back with '..'",
    ),
    "no target": ([('{ n1 = "1", n2 = "2" }', "{ }")], "fencing.pdu.targets", "names no node"),
    "unknown target": ([("n2 = ", "n7 = ")], "fencing.pdu.targets.n7", "no node is called 'n7'"),
    "witness as target": ([("n2 = ", "n3 = ")], "fencing.pdu.targets.n3", "n3 is a witness"),
    "one plug twice": ([('n2 = "2"', 'n2 = "1"')], "fencing.pdu.targets.n2", "plug '1' is that of n1 as well"),
    "only executor is the target": (
        [(DEVICE, DEVICE + '\nexecutors = ["n1"]')],
        "fencing.pdu.executors",
        "nobody can fence n1 with it: a node does not fence itself",
    ),
    "nobody to fence the only mail node": (
        [('[nodes.n2]\naddress = "10.0.0.12"', '[nodes.n2]\nwitness = true\naddress = "10.0.0.12"')],
        "fencing.pdu.targets.n1",
        "nobody can fence n1 with it",
    ),
    "unknown executor": (
        [(DEVICE, DEVICE + '\nexecutors = ["n9"]')],
        "fencing.pdu.executors",
        "no node is called 'n9'",
    ),
    "witness as executor": ([(DEVICE, DEVICE + '\nexecutors = ["n3"]')], "fencing.pdu.executors", "n3 is a witness"),
    "executor twice": (
        [(DEVICE, DEVICE + '\nexecutors = ["n1", "n1"]')],
        "fencing.pdu.executors",
        "names 'n1' twice",
    ),
    "level out of range": ([("level = 1", "level = 0")], "fencing.pdu.level", "it must be between 1 and 9"),
    "password in the open": (
        [("verbose = false", 'password = "x"')],
        "fencing.pdu.parameters.password",
        "a secret must not be written here; use secret_files = { password = FILE }",
    ),
    "passwd in the open": ([("verbose = false", 'passwd = "x"')], "fencing.pdu.parameters.passwd", "a secret must not"),
    "snmp password in the open": (
        [("verbose = false", 'snmp_priv_passwd = "x"')],
        "fencing.pdu.parameters.snmp_priv_passwd",
        "a secret must not",
    ),
    "password of a resource in the open": (
        [('interface = "eth0"', 'interface = "eth0", password = "x"')],
        "groups.mail.resources.vip.parameters.password",
        "a secret must not be written here",
    ),
    "fixed plug": (
        [("verbose = false", 'plug = "1"')],
        "fencing.pdu.parameters.plug",
        "is set by hamail in every call",
    ),
    "fixed action": ([("verbose = false", 'action = "on"')], "fencing.pdu.parameters.action", "is set by hamail"),
    "relative secret file": (
        [("/etc/hamail/secrets/pdu", "pdu")],
        "fencing.pdu.secret_files.password",
        "relative path",
    ),
    "secret given twice": (
        [("{ password =", "{ ip ="), ("/etc/hamail/secrets/pdu", "/x")],
        "fencing.pdu.secret_files.ip",
        "is given in `parameters` as well",
    ),
    "group on a witness": ([('["n1", "n2"]', '["n1", "n3"]')], "groups.mail.nodes", "n3 is a witness"),
    "group on an unknown node": ([('["n1", "n2"]', '["n1", "n22"]')], "groups.mail.nodes", "(did you mean 'n2'?)"),
    "group on a node twice": ([('["n1", "n2"]', '["n1", "n1"]')], "groups.mail.nodes", "names 'n1' twice"),
    "group on no node": ([('["n1", "n2"]', "[]")], "groups.mail.nodes", "names no node that may own the group"),
    "agent without provider": (
        [("hamail:dovecot", "dovecot")],
        "groups.mail.resources.dovecot.agent",
        "'dovecot' is not of the form provider:type",
    ),
    "agent with Pacemaker's prefix": (
        [("hamail:dovecot", "ocf:heartbeat:dovecot")],
        "groups.mail.resources.dovecot.agent",
        "(did you mean 'heartbeat:dovecot'?)",
    ),
    "agent with a path": (
        [("hamail:dovecot", "hamail:../dovecot")],
        "groups.mail.resources.dovecot.agent",
        "is not of the form",
    ),
    "unknown dependency": (
        [('after = ["storage"]', 'after = ["storge"]')],
        "groups.mail.resources.dovecot.after",
        "no resource of this group is called 'storge' (did you mean 'storage'?)",
    ),
    "dependency on itself": (
        [('after = ["storage"]', 'after = ["dovecot"]')],
        "groups.mail.resources.dovecot.after",
        "dovecot cannot wait for itself",
    ),
    "dependency cycle": (
        [('after = ["storage"]', 'after = ["vip"]')],
        "groups.mail.resources",
        "these resources wait for each other: dovecot, vip; none of them could ever start",
    ),
    "monitor too often": (
        [('monitor_interval = "10s"', 'monitor_interval = "10ms"')],
        "groups.mail.resources.dovecot.monitor_interval",
        "it must be between 200ms and 1h",
    ),
    "relative device": (
        [("/dev/disk/by-id/lun", "lun")],
        "groups.mail.resources.storage.parameters.device",
        "'lun' is a relative path",
    ),
    "relative mount point": (
        [("/srv/mail", "srv/mail")],
        "groups.mail.resources.storage.parameters.directory",
        "is a relative path",
    ),
    "unknown requirement": (
        [(GROUP, GROUP + 'requires = "fence"\n')],
        "groups.mail.requires",
        "expected one of fencing, watchdog, lease (did you mean 'fencing'?)",
    ),
    "shared storage without a fence device": (
        [(FENCING, "")],
        "groups.mail.requires",
        "shared storage without a fence device for n1, n2",
    ),
    "shared storage with one node not fenced": (
        [(', n2 = "2"', "")],
        "groups.mail.requires",
        "shared storage without a fence device for n2",
    ),
    "fencing without devices and without shared storage": (
        [(FENCING, ""), (GROUP, GROUP + "shared_storage = false\n")],
        "groups.mail.requires",
        'choose requires = "lease"',
    ),
    "lease for shared storage": (
        [(GROUP, GROUP + 'requires = "lease"\n')],
        "groups.mail.requires",
        "'lease' does not prove that a lost node has stopped writing",
    ),
    "watchdog for shared storage": (
        [(GROUP, GROUP + 'requires = "watchdog"\n')],
        "groups.mail.requires",
        "'watchdog' does not prove that a lost node has stopped writing",
    ),
    "empty reason": (
        [(GROUP, GROUP + 'requires = "lease"\nunsafe_reason = " "\n')],
        "groups.mail.unsafe_reason",
        "is empty",
    ),
    "watchdog for shared storage on a guest, whatever the reason": (
        [
            ('"10.0.0.11"', '"10.0.0.11"\nvirtual = true\nwatchdog_device = "/dev/watchdog"'),
            ('"10.0.0.12"', '"10.0.0.12"\nwatchdog_device = "/dev/watchdog"'),
            (GROUP, GROUP + 'requires = "watchdog"\nunsafe_reason = "we never pause"\n'),
        ],
        "groups.mail.requires",
        "'watchdog' is not enough for shared storage on virtual machines (n1)",
    ),
    "lease for shared storage on a guest, whatever the reason": (
        [
            ('"10.0.0.12"', '"10.0.0.12"\nvirtual = true'),
            (GROUP, GROUP + 'requires = "lease"\nunsafe_reason = "we never pause"\n'),
        ],
        "groups.mail.requires",
        "'lease' is not enough for shared storage on virtual machines (n2)",
    ),
    "watchdog on a node without one": (
        [
            ('"10.0.0.11"', '"10.0.0.11"\nwatchdog_device = "/dev/watchdog"'),
            (GROUP, GROUP + 'requires = "watchdog"\nunsafe_reason = "no PDU yet"\n'),
        ],
        "groups.mail.requires",
        "n2 has no watchdog_device",
    ),
    "floating address without prefix": (
        [("10.0.0.100/24", "10.0.0.100")],
        "groups.mail.resources.vip.parameters.address",
        "'10.0.0.100' has no prefix length",
    ),
    "floating address that is none": (
        [("10.0.0.100/24", "10.0.0.300/24")],
        "groups.mail.resources.vip.parameters.address",
        "'10.0.0.300/24' is not an address with a prefix length",
    ),
    "no floating address": ([(VIP + ", ", "")], "groups.mail.resources.vip.parameters.address", "is missing"),
    "no interface": ([(', interface = "eth0"', "")], "groups.mail.resources.vip.parameters.interface", "is missing"),
    "floating address of a node": (
        [("10.0.0.100/24", "10.0.0.12/24")],
        "groups.mail.resources.vip.parameters.address",
        "10.0.0.12 is the address of n2 itself",
    ),
    "floating address of the witness": (
        [("10.0.0.100/24", "10.0.0.13/24")],
        "groups.mail.resources.vip.parameters.address",
        "10.0.0.13 is the address of n3 itself",
    ),
    "floating address of a node, network check off": (
        [("10.0.0.100/24", "10.0.0.12/24"), ('interface = "eth0" }', 'interface = "eth0" }\nnetwork_check = "off"')],
        "groups.mail.resources.vip.parameters.address",
        "10.0.0.12 is the address of n2 itself",
    ),
    "second floating address of a node": (
        [("10.0.0.100/24", "10.0.0.100/24 10.0.0.11/24")],
        "groups.mail.resources.vip.parameters.address",
        "10.0.0.11 is the address of n1 itself",
    ),
    "floating address outside the nodes' network": (
        [("10.0.0.100/24", "10.0.9.100/24")],
        "groups.mail.resources.vip.parameters.address",
        "10.0.9.100/24 does not contain 10.0.0.11, the address of n1",
    ),
    "floating address with a prefix too long": (
        [("10.0.0.100/24", "10.0.0.100/28")],
        "groups.mail.resources.vip.parameters.address",
        "10.0.0.100/28 does not contain 10.0.0.11",
    ),
    "network as floating address": (
        [("10.0.0.100/24", "10.0.0.0/24")],
        "groups.mail.resources.vip.parameters.address",
        "is the address of the network 10.0.0.0/24 itself",
    ),
    "broadcast as floating address": (
        [("10.0.0.100/24", "10.0.0.255/24")],
        "groups.mail.resources.vip.parameters.address",
        "is the broadcast address",
    ),
    "loopback as floating address": (
        [("10.0.0.100/24", "127.0.0.5/8")],
        "groups.mail.resources.vip.parameters.address",
        "cannot be owned by one machine of a network",
    ),
    "odd network check": (
        [('interface = "eth0" }', 'interface = "eth0" }\nnetwork_check = "no"')],
        "groups.mail.resources.vip.network_check",
        "expected one of on, off",
    ),
}


@pytest.mark.parametrize(("changes", "key", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(changes, key, reason):
    found = refused(changed(*changes))
    matching = [(place, why) for place, why in found if place.split(": ", 1)[-1] == key and reason in why]
    assert len(matching) == 1, found
    assert matching[0][0].startswith("c.toml"), found


SHARED = {
    "device": ("/dev/disk/by-id/other", "/dev/disk/by-id/lun", "groups.post.resources.disk.parameters.device"),
    "mount point": ("/srv/post", "/srv/mail/", "groups.post.resources.disk.parameters.directory"),
    "floating address": ("10.0.0.101", "10.0.0.100", "groups.post.resources.vip.parameters.address"),
}


@pytest.mark.parametrize(("old", "new", "key"), SHARED.values(), ids=SHARED.keys())
def test_two_groups_do_not_share(old, new, key):
    found = refused(GOOD + SECOND.replace(old, new))
    assert len(found) == 1 and found[0][0].endswith(f": {key}") and "of groups.mail.resources." in found[0][1]


def test_all_problems_come_at_once_in_the_order_of_lines_with_their_lines():
    text = changed(
        ('"1s"', '"soon"'),
        ("10.0.0.12", "10.0.0.11"),
        ("witness", "wittness"),
        ('["storage"]', '["disk"]'),
        ('"20s"', "20"),
    )
    places = [place for place, _ in refused(text)]
    assert places == [
        "c.toml:3: cluster.detection",
        "c.toml:9: nodes.n2.address",
        "c.toml:12: nodes.n3.wittness",
        "c.toml:20: fencing.pdu.timeout",
        "c.toml:31: groups.mail.resources.dovecot.after",
    ]


def test_one_mistake_is_one_problem():
    """A bad address must not make its node unknown to the groups and devices that name it."""
    assert len(refused(changed(("10.0.0.12", "n2.example.org")))) == 1
    assert len(refused(changed(('"1s"', '"soon"')))) == 1
    assert len(refused(changed(('agent = "hamail:vip"\n', "")))) == 1


def test_secrets_are_not_repeated_in_messages():
    text = changed(("verbose = false", 'password = "s3cret-value"'))
    assert not any("s3cret-value" in place + why for place, why in refused(text))


def test_what_is_not_toml_has_its_line():
    (problem,) = refused(changed(('name = "mail"', "name = mail")))
    assert problem[0] == "c.toml:2" and problem[1].startswith("is not TOML: Invalid value")


def test_a_key_given_twice_is_refused():
    (problem,) = refused(changed(('name = "mail"', 'name = "mail"\nname = "post"')))
    assert "is not TOML: Cannot overwrite a value" in problem[1]


def test_files_that_cannot_be_read(tmp_path):
    missing, binary, large = tmp_path / "missing.toml", tmp_path / "binary.toml", tmp_path / "large.toml"
    binary.write_bytes(b'[cluster]\nname = "\xff"\n')
    large.write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    for path, place, reason in (
        (missing, f"{missing}", "cannot be read: No such file or directory"),
        (binary, f"{binary}:2", "is not UTF-8 text"),
        (large, f"{large}", f"is over {FILE_BYTES_MAX} bytes"),
    ):
        with pytest.raises(ConfigError) as refusal:
            load_cluster(path)
        assert [(p.place, p.reason) for p in refusal.value.problems] == [(place, reason)]


def test_the_sample_is_good_and_gives_no_warning():
    spec, source = load_cluster(ETC / "cluster.toml")
    assert source == (ETC / "cluster.toml").read_text()
    assert warnings(spec) == ()


def test_the_sample_s_suggestions_are_good_as_well():
    """Every commented key of the sample, taken out of its comment."""
    lines = []
    for line in (ETC / "cluster.toml").read_text().splitlines():
        bare = line.removeprefix("# ")
        if (
            line.startswith("# ")
            and ("= " in bare or bare.startswith("["))
            and not bare.startswith(("unsafe", "network"))
        ):
            lines.append(bare)
        else:
            lines.append(line)
    text = "\n".join(lines).replace("virtual = true ", "virtual = false ")
    assert "fencing.ipmi-n1" in text
    assert len(parse_cluster(text, "sample").devices_for("n1")) == 2


WARNINGS = {
    "single": (changed(('["n1", "n2"]', '["n1"]')), "group mail may run on n1 only"),
    "risk": (ACCEPTED["no fencing with a reason"], "group mail accepts a risk: test bench"),
    "bare": (ACCEPTED["no fencing with a reason"], "no fence device for n1, n2; its loss waits for an operator"),
    "witness": (changed(("witness = true\n", "")), "no node is a witness"),
    "level": (GOOD + FENCING.replace("pdu]", "two]"), "n1: some of its fence devices share a level"),
    "local": (ACCEPTED["no shared storage with a lease"], "says shared_storage = false: is that device local?"),
    "empty": (GOOD[: GOOD.index(GROUP)], "there is no group yet"),
}


@pytest.mark.parametrize(("text", "warning"), WARNINGS.values(), ids=WARNINGS.keys())
def test_warnings(text, warning):
    assert any(warning in found for found in warnings(parse_cluster(text, "c.toml")))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_text_makes_it_fail_otherwise(data):
    """A good text with one stretch replaced by anything: it is read, or refused with places and reasons."""
    at = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(at, min(len(GOOD), at + 30)))
    pieces = ["true", "1", "-1", '""', "{}", "[]", "[1]", "1979-05-27", "nan", '"x"', "\n[x]\n", "."]
    middle = data.draw(st.one_of(st.sampled_from(pieces), st.text(max_size=8)))
    try:
        parse_cluster(GOOD[:at] + middle + GOOD[end:], "c.toml")
    except ConfigError as error:
        assert error.problems and all(p.place.startswith("c.toml") and p.reason for p in error.problems)
