"""What only this machine can tell: its own settings and its interfaces; and what changes between two configurations."""

from ipaddress import ip_interface
from pathlib import Path

import msgspec
import pytest
from test_config_cluster import ETC, GOOD, SECOND, changed

from hamail.config import ConfigError, NodeConfig, diff, load_node, parse_cluster
from hamail.config.allow import Allow
from hamail.config.doctor import DoctorConfig
from hamail.config.duration import format_duration, parse_duration
from hamail.config.lines import Lines
from hamail.config.local import check_local, check_node, local_interfaces

STORAGE = GOOD[GOOD.index("[groups.mail.resources.storage]") : GOOD.index("[groups.mail.resources.dovecot]")]
SPEC = parse_cluster(GOOD, "c.toml")
INTERFACES = {
    "lo": (ip_interface("127.0.0.1/8"),),
    "eth0": (ip_interface("10.0.0.11/24"), ip_interface("fe80::1/64")),
    "eth1": (ip_interface("192.168.7.1/24"),),
}


def node(tmp_path, text):
    path = tmp_path / "node.toml"
    path.write_text(text)
    return path


def test_a_node_needs_only_its_name(tmp_path):
    config = load_node(node(tmp_path, 'node = "n1"\n'))
    assert config == NodeConfig(node="n1")
    assert config.control_socket == Path("/run/hamail/control.sock")


def test_sockets_follow_the_run_directory(tmp_path):
    config = load_node(node(tmp_path, 'node = "n1"\nrun_dir = "/tmp/x"\nexecutor_socket = "/tmp/y.sock"\n'))
    assert config.control_socket == Path("/tmp/x/control.sock")
    assert config.executor_socket == Path("/tmp/y.sock")


def test_the_sample_node_is_good_with_its_suggestions(tmp_path):
    text = (ETC / "node.toml").read_text()
    config = load_node(ETC / "node.toml")
    assert config == NodeConfig(node="n1", watchdog_device="/dev/watchdog")
    tables = ("# [allow]", "# [doctor]")
    settings = [line.removeprefix("# ") if " = " in line or line in tables else line for line in text.splitlines()]
    taken_out = "\n".join(settings)
    full = load_node(node(tmp_path, taken_out))
    assert full.allow.agents == ("hamail:*", "heartbeat:IPaddr2") and "/big" in full.allow.mounts
    assert full.allow.fence_parameters == ("ssh_options",) and "/etc/hamail/secrets" in full.allow.secrets
    assert full.doctor.domains == ("example.org",) and full.doctor.nameserver == "192.0.2.53"
    full = msgspec.structs.replace(full, allow=Allow(), doctor=DoctorConfig())
    assert full == NodeConfig(node="n1", watchdog_device="/dev/watchdog", bind_address="0.0.0.0")


NODE_REFUSED = {
    "no name": ("", "node", "is missing"),
    "odd name": ('node = "N1"', "node", "'N1' is not a name"),
    "unknown key": ('node = "n1"\nstatedir = "/x"', "statedir", "did you mean 'state_dir'?"),
    "relative path": ('node = "n1"\nstate_dir = "x"', "state_dir", "is a relative path"),
    "wrong type": ('node = "n1"\nstate_dir = 1', "state_dir", "is a number; expected a text"),
    "relative agent folder": ('node = "n1"\nagent_dirs = ["agents"]', "agent_dirs", "is a relative path"),
    "no agent folder": ('node = "n1"\nagent_dirs = []', "agent_dirs", "names no folder"),
    "host name": ('node = "n1"\nbind_address = "localhost"', "bind_address", "is not a numeric IP address"),
    "log level": ('node = "n1"\nlog_level = "loud"', "log_level", "expected one of debug, info"),
    "name server": ('node = "n1"\n[doctor]\nnameserver = "ns"', "doctor.nameserver", "not a numeric IP address"),
    "watchdog without unit": ('node = "n1"\nwatchdog_timeout = 5', "watchdog_timeout", "without a unit"),
}


@pytest.mark.parametrize(("text", "key", "reason"), NODE_REFUSED.values(), ids=NODE_REFUSED.keys())
def test_node_refused(tmp_path, text, key, reason):
    path = node(tmp_path, text)
    with pytest.raises(ConfigError) as refusal:
        load_node(path)
    (problem,) = refusal.value.problems
    assert problem.place.startswith(str(path)) and problem.place.endswith(f": {key}") and reason in problem.reason


def problems(spec, interfaces=INTERFACES, me="n1"):
    return [(p.place, p.reason) for p in check_local(spec, interfaces, me)]


def floating(address, interface="eth0", network_check="on"):
    resource = f'interface = "{interface}" }}\nnetwork_check = "{network_check}"'
    return parse_cluster(changed(("10.0.0.100/24", address), ('interface = "eth0" }', resource)), "c.toml")


def test_a_floating_address_in_the_interface_s_network_fits():
    assert problems(SPEC) == []


ADDRESS = "groups.mail.resources.vip.parameters.address"


def test_a_floating_address_outside_the_interface_s_network_is_refused():
    ((place, reason),) = problems(floating("10.0.0.100/24", "eth1"))
    assert place == ADDRESS
    assert reason.startswith("10.0.0.100/24 is not in the network of eth1 on n1, which has 192.168.7.0/24")


def test_another_prefix_than_the_interface_s_is_refused():
    ((_, reason),) = problems(floating("10.0.0.100/16"))
    assert "10.0.0.100/16 is not in the network of eth0 on n1, which has 10.0.0.0/24" in reason


def test_a_family_that_the_interface_does_not_have_is_refused():
    ((_, reason),) = problems(floating("10.0.0.100/24 fd00::100/64"))
    assert "fd00::100/64 is not in the network of eth0 on n1, which has no IPv6 network" in reason


def test_an_unknown_interface_is_refused():
    assert problems(floating("10.0.0.100/24", "eht0")) == [
        ("groups.mail.resources.vip.parameters.interface", "n1 has no network interface 'eht0' (did you mean 'eth0'?)")
    ]


def test_an_acknowledged_network_is_not_checked():
    assert problems(floating("192.168.99.1/32", "eth1", "off")) == []


def test_the_floating_address_itself_proves_nothing():
    """It may be on the wrong interface from an earlier life."""
    interfaces = INTERFACES | {"eth1": (ip_interface("10.0.0.100/24"),)}
    assert len(problems(floating("10.0.0.100/24", "eth1"), interfaces)) == 1


def test_this_machine_is_the_node_whose_address_it_has():
    moved = floating("10.0.0.100/24", "eth9")
    assert len(check_local(moved, INTERFACES)) == 1
    assert check_local(moved, {"eth0": (ip_interface("10.0.0.99/24"),)}) == ()  # an operator's desk
    assert check_local(moved, {"eth0": (ip_interface("10.0.0.13/24"),)}) == ()  # the witness never gets it


def test_local_interfaces_are_read_with_their_networks():
    assert ip_interface("127.0.0.1/8") in local_interfaces()["lo"]


WATCHDOG = parse_cluster(changed(('"10.0.0.11"', '"10.0.0.11"\nwatchdog_device = "/dev/watchdog"')), "c.toml")


def test_the_node_must_agree_with_what_the_cluster_believes_of_it():
    assert check_node(SPEC, NodeConfig(node="n1")) == ()
    assert check_node(WATCHDOG, NodeConfig(node="n1", watchdog_device="/dev/watchdog")) == ()
    (stranger,) = check_node(SPEC, NodeConfig(node="n9"))
    assert stranger.reason == "'n9' is not among the nodes of cluster mail: n1, n2, n3"
    (missing,) = check_node(WATCHDOG, NodeConfig(node="n1"))
    assert missing.reason == "is not set, but the cluster relies on /dev/watchdog of n1"
    (other,) = check_node(WATCHDOG, NodeConfig(node="n1", watchdog_device="/dev/watchdog", watchdog_timeout_s=30))
    assert (other.place, other.reason) == ("watchdog_timeout", "is 30s, but the others wait for one of 5s")


DIFFERENCES = {
    "nothing": (GOOD, []),
    "order of resources": (GOOD.replace(STORAGE, "") + STORAGE, []),
    "detection": (changed(('"1s"', '"300ms"')), ["cluster.detection: 1s -> 300ms"]),
    "watchdog": (changed(('"5s"', '"10s"')), ["cluster.watchdog_timeout: 5s -> 10s"]),
    "address": (changed(("10.0.0.12", "10.0.0.22")), ["nodes.n2.address: '10.0.0.12' -> '10.0.0.22'"]),
    "watchdog device": (
        changed(('"10.0.0.12"', '"10.0.0.12"\nwatchdog_device = "/dev/wd"')),
        ["nodes.n2.watchdog_device: not set -> '/dev/wd'"],
    ),
    "order of nodes": (changed(('["n1", "n2"]', '["n2", "n1"]')), ["groups.mail.nodes: n1, n2 -> n2, n1"]),
    "parameter": (changed(("10.0.0.250", "10.0.0.251")), ["fencing.pdu.parameters.ip: '10.0.0.250' -> '10.0.0.251'"]),
    "parameter removed": (
        changed((", verbose = false", "")),
        ["fencing.pdu.parameters.verbose: removed (was 'false')"],
    ),
    "requirement": (
        changed(("[groups.mail]\n", '[groups.mail]\nrequires = "lease"\nunsafe_reason = "bench"\n')),
        ["groups.mail.requires: fencing -> lease", "groups.mail.unsafe_reason: not set -> 'bench'"],
    ),
    "group added": (GOOD + SECOND, ["groups.post: added"]),
    "interval": (
        changed(('monitor_interval = "10s"', 'monitor_interval = "1500ms"')),
        ["groups.mail.resources.dovecot.monitor_interval: 10s -> 1500ms"],
    ),
}


@pytest.mark.parametrize(("text", "lines"), DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_differences(text, lines):
    assert diff(SPEC, parse_cluster(text, "c.toml")) == lines


def test_removed_is_said():
    assert diff(parse_cluster(GOOD + SECOND, "c.toml"), SPEC) == ["groups.post: removed"]


@pytest.mark.parametrize(
    ("text", "ms"), [("300ms", 300), ("1s", 1000), ("1.5s", 1500), ("10m", 600_000), ("2h", 7_200_000), (" 1 s ", 1000)]
)
def test_durations(text, ms):
    assert parse_duration(text) == ms
    assert parse_duration(format_duration(ms)) == ms


@pytest.mark.parametrize("text", ["", "1", "s", "-1s", "1w", "1e3s", "0.0001s", "1s 2s", "１s"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match=r"not a duration|finer than"):
        parse_duration(text)


def test_lines_of_keys():
    lines = Lines('# x\n[a]\nb = """\nc = 1\n"""\nc = 2\n["d.e".f]\ng.h = 1\n')
    assert (lines.of(("a",)), lines.of(("a", "b")), lines.of(("a", "c"))) == (2, 3, 6)
    assert (lines.of(("d.e", "f", "g", "h")), lines.of(("d.e", "f", "x"))) == (8, 7)
    assert lines.of(("nowhere",)) == 0
