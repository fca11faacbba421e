"""From Pacemaker to hamail: what comes along, what does not, and that the result can be used."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hamail.cli.main import cli
from hamail.config import parse_cluster
from hamail.model.spec import ClusterSpec, Requirement
from hamail.pacemaker.cib import INFINITY, Unreadable, score
from hamail.pacemaker.corosync import addresses
from hamail.pacemaker.draft import plain_name
from hamail.pacemaker.read_json import read_json
from hamail.pacemaker.read_xml import read_xml

HERE = Path(__file__).parent / "pacemaker"
sys.path.insert(0, str(HERE))
from make_json import colocation, location, nvset, order, pair, primitive  # noqa: E402

COROSYNC = """
totem { cluster_name: mailpair }
nodelist {
  node {
    ring0_addr: 10.20.0.11
    name: Mail1.example.org
    nodeid: 1
  }
  node {
    ring0_addr: mail2
    name: Mail2.example.org
  }
}
"""


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["--socket", "/nonexistent", "import", "pacemaker", *words])


def imported(tmp_path: Path, document: Any, *words: str) -> tuple[ClusterSpec, list[dict[str, str]], Result]:
    """The configuration as hamail reads it, the notes, and how the command ended."""
    file = tmp_path / "in"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    result = run(str(file), "--json", *words)
    assert result.exit_code in (0, 1), result.output
    answer = json.loads(result.stdout)
    return parse_cluster(answer["config"], "the result"), answer["notes"], result


def said(notes: list[dict[str, str]], kind: str) -> str:
    return "\n".join(f"{n['what']}: {n['why']}" for n in notes if n["kind"] == kind)


# ---- a CIB ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path: Path) -> tuple[ClusterSpec, list[dict[str, str]], Result]:
    corosync = tmp_path / "corosync.conf"
    corosync.write_text(COROSYNC)
    given = ("--address", "Mail2.example.org=10.20.0.12", "--witness", "n3=10.20.0.13")
    return imported(tmp_path, (HERE / "pair.xml").read_text(), "--corosync", str(corosync), *given)


def test_nodes_and_witness(whole) -> None:
    spec, notes, _ = whole
    assert spec.name == "mailpair"
    assert {n: (s.address, s.witness) for n, s in spec.nodes.items()} == {
        "mail1": ("10.20.0.11", False),
        "mail2": ("10.20.0.12", False),
        "n3": ("10.20.0.13", True),
    }
    assert "is called mail1 here" in said(notes, "changed") and "is in standby" in said(notes, "not carried over")
    assert "address" not in said(notes, "to do")


def test_the_group_with_its_order_and_what_had_to_be_with_it(whole) -> None:
    spec, notes, _ = whole
    group = spec.groups["g-mail"]
    assert group.nodes == ("mail1", "mail2")
    found = {r.name: (r.agent, r.after) for r in group.resources}
    assert found == {
        "fs-mail": ("hamail:filesystem", ()),
        "vip-mail": ("hamail:vip", ("fs-mail",)),
        "dovecot": ("hamail:dovecot", ("vip-mail",)),
        "postfix": ("hamail:postfix", ("dovecot",)),
        "rspamd": ("hamail:systemd", ("postfix",)),
        "vip6-mail": ("hamail:vip", ("rspamd",)),
    }
    by_name = {r.name: r for r in group.resources}
    assert by_name["fs-mail"].parameters == {
        "device": "/dev/disk/by-id/wwn-0x5000c500a1b2c3d4-part1",
        "directory": "/srv/mail",
        "fstype": "ext4",
        "options": "noatime,nodiratime",
    }
    assert by_name["vip-mail"].parameters == {"address": "10.20.0.25/24", "interface": "ens18"}
    assert by_name["vip6-mail"].parameters["address"] == "2001:db8:20::25/64"
    assert by_name["rspamd"].parameters == {"unit": "rspamd.service"} and not by_name["rspamd"].critical
    assert (group.restarts, group.restarts_window_ms) == (2, 600_000)
    assert group.requires is Requirement.FENCING and group.shared_storage
    assert "vip6_mail: is part of group g-mail" in said(notes, "changed")


def test_another_file_system_keeps_its_agent_and_has_a_group_of_its_own(whole) -> None:
    spec, notes, _ = whole
    (resource,) = spec.groups["backup-mount"].resources
    assert resource.agent == "heartbeat:Filesystem" and resource.parameters["fstype"] == "nfs"
    assert (resource.monitor_interval_ms, resource.monitor_timeout_ms) == (30_000, 60_000)
    assert 'agents = ["heartbeat:Filesystem"]' in said(notes, "to do")


def test_fence_devices(whole) -> None:
    spec, notes, result = whole
    pdu, ipmi = spec.fencing["pdu"], spec.fencing["ipmi-mail1"]
    assert pdu.targets == {"mail1": "3", "mail2": "4"} and pdu.parameters == {"ip": "10.20.9.9", "username": "apc"}
    assert pdu.secret_files == {"password": "/etc/hamail/secrets/pdu"} and pdu.timeout_ms == 30_000
    assert (pdu.level, ipmi.level) == (1, 1)
    assert ipmi.targets == {"mail1": "Mail1.example.org"}
    assert "has level 1, 2 depending on the target" in said(notes, "changed")
    assert "put its password into /etc/hamail/secrets/pdu" in said(notes, "to do")
    assert "pcmk_delay_max" in said(notes, "changed")
    assert "hunter" not in result.output


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("ping-clone", "runs on several nodes at once"),
        ("old_filter", "lsb:mailfilter"),
        ("old-sbd", "no fence agent of the fence-agents family"),
        ("needs-ping", "with a rule or a pattern"),
        ("backup-near-mail", "groups here do not know of each other"),
        ("mail-then-backup", "put them into one group"),
        ("site", "rsc_ticket"),
        ("alert-mail", "alert agents"),
        ("no-quorum-policy=ignore", "without a majority"),
        ("postfix", "on-fail=standby"),
    ],
)
def test_what_a_cib_loses_is_said(whole, what: str, why: str) -> None:
    _, notes, result = whole
    lost = [n for n in notes if n["kind"] == "not carried over" and n["what"] == what]
    assert any(why in n["why"] for n in lost), said(notes, "not carried over")
    assert result.exit_code == 1


def test_a_left_over_of_a_move_is_something_to_look_at(whole) -> None:
    assert "cli-prefer-vip6_mail: is left from `pcs resource move`" in said(whole[1], "to do")


# ---- the JSON of pcs -----------------------------------------------------------------------------------------------


def test_the_json_of_pcs(tmp_path: Path) -> None:
    spec, notes, result = imported(tmp_path, pair())
    group = spec.groups["mail"]
    assert group.nodes == ("n1", "n2")
    assert {r.name: r.agent for r in group.resources} == {
        "fs": "hamail:filesystem",
        "ip": "hamail:vip",
        "postfix": "hamail:postfix",
        "dovecot": "hamail:dovecot",
        "db": "heartbeat:pgsql",
    }
    assert spec.fencing["f-n1"].targets == {"n1": "n1"} and spec.fencing["f-n2"].secret_files
    lost = said(notes, "not carried over")
    assert "drbd-clone: a promotable clone (ocf:linbit:drbd)" in lost
    assert "c1: mail with drbd-clone" in lost and "o1: drbd-clone before mail" in lost
    assert "os1: an order constraint with resource sets" in lost
    assert "db: monitor_password is a secret" in lost and "o2: mail before db is optional" in lost
    assert "secret-" not in result.output
    todo = said(notes, "to do")
    assert "no nic is named" in todo and "node n1: its address is not in the file" in todo and "witness" in todo


def test_parts_of_pcs_in_files_of_their_own(tmp_path: Path) -> None:
    document = pair()
    files = []
    for name in ("resources", "stonith", "constraints"):
        (tmp_path / name).write_text(json.dumps(document[name]))
        files.append(str(tmp_path / name))
    result = run(*files, "--json", "--address", "n1=10.20.0.1", "--address", "n2=10.20.0.2")
    spec = parse_cluster(json.loads(result.stdout)["config"], "x")
    assert set(spec.nodes) == {"n1", "n2", "witness"} and len(spec.fencing) == 2 and set(spec.groups) == {"mail"}


def small(*primitives: dict[str, Any], fencing: tuple[dict[str, Any], ...] = (), **more: Any) -> dict[str, Any]:
    return {
        "nodes": [{"uname": "n1"}, {"uname": "n2"}],
        "resources": {
            "primitives": list(primitives),
            "groups": more.pop("groups", []),
            "clones": more.pop("clones", []),
        },
        "stonith": {"primitives": list(fencing)},
        "constraints": more,
    }


IP = primitive("ip", "ocf:heartbeat:IPaddr2", ip="10.20.0.25", cidr_netmask="24", nic="eth0")
WEB = primitive("web", "systemd:nginx")
FENCE = primitive("f", "stonith:fence_x", pcmk_host_map="n1:1;n2:2")


def test_nothing_is_lost_and_the_exit_code_says_so(tmp_path: Path) -> None:
    _, notes, result = imported(tmp_path, small(IP, fencing=(FENCE,)))
    assert result.exit_code == 0 and not said(notes, "not carried over")


def test_without_fencing_and_storage_leases_decide(tmp_path: Path) -> None:
    spec, _, _ = imported(tmp_path, small(IP))
    assert spec.groups["ip"].requires is Requirement.LEASE and not spec.groups["ip"].shared_storage


def test_without_fencing_storage_waits_for_an_operator(tmp_path: Path) -> None:
    disk = primitive("fs", "ocf:heartbeat:Filesystem", device="/dev/sdb1", directory="/srv/mail", fstype="ext4")
    spec, notes, _ = imported(tmp_path, small(disk))
    assert spec.groups["fs"].requires is Requirement.FENCING and spec.groups["fs"].unsafe_reason
    todo = said(notes, "to do")
    assert "no fence device for n1, n2" in todo and "/dev/sdb1 may be another disk tomorrow" in todo


def test_orders_within_and_colocations(tmp_path: Path) -> None:
    together = [colocation("c", "web", "ip", "INFINITY")]
    spec, _, _ = imported(tmp_path, small(IP, WEB, colocation=together, order=[order("o", "ip", "web")]))
    assert {r.name: r.after for r in spec.groups["ip"].resources} == {"ip": (), "web": ("ip",)}


def test_orders_of_other_kinds(tmp_path: Path) -> None:
    together = [colocation("c", "web", "ip", "INFINITY")]
    wrong = order("o", "ip", "web") | {"first_action": "stop"}
    _, notes, _ = imported(tmp_path, small(IP, WEB, colocation=together, order=[wrong, order("o2", "ip", "gone")]))
    assert "not that of stop" in said(notes, "not carried over") and "o2: ip before gone" in said(
        notes, "not carried over"
    )


def test_where_it_may_not_run(tmp_path: Path) -> None:
    never = [location("l", "ip", "n1", "-INFINITY")]
    spec, _, _ = imported(tmp_path, small(IP, location=never))
    assert spec.groups["ip"].nodes == ("n2",)
    _, notes, _ = imported(tmp_path, small(IP, WEB, location=[*never, location("l2", "ip", "n2", "-INFINITY")]))
    assert "ip: no node is left that may run it" in said(notes, "not carried over")


@pytest.mark.parametrize(
    ("device", "kind", "words"),
    [
        (
            primitive("f", "stonith:fence_x", pcmk_host_map="n1:1,2;n2:3"),
            "not carried over",
            "n1 has several plugs (1,2)",
        ),
        (primitive("f", "stonith:fence_x"), "to do", "does not say which nodes"),
        (primitive("f", "stonith:fence_x", plug="7", pcmk_host_list="n1 n2"), "to do", "had the same plug"),
        (primitive("f", "stonith:fence_x", pcmk_host_list="n9"), "not carried over", "it names no node of the cluster"),
        (primitive("f", "stonith:fence_x", pcmk_host_list="n1,n9"), "not carried over", "n9 is no node"),
        (primitive("f", "stonith:fence_x", action="on"), "not carried over", "action=on"),
        (primitive("f", "stonith:fence_x", pcmk_reboot_action="off"), "not carried over", "pcmk_reboot_action=off"),
        (primitive("f", "stonith:fence_x", passwd_script="/x"), "not carried over", "runs no script"),
        (primitive("f", "stonith:fence_watchdog"), "changed", "drive the watchdogs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_odd_fence_devices(tmp_path: Path, device: dict[str, Any], kind: str, words: str) -> None:
    _, notes, _ = imported(tmp_path, small(IP, fencing=(device,)))
    assert words in said(notes, kind)


@pytest.mark.parametrize(
    ("member", "kind", "words"),
    [
        (primitive("x", "systemd:postfix@-", meta={"is-managed": "false"}), "not carried over", "is-managed=false"),
        (primitive("x", "systemd:a", meta={"target-role": "Stopped"}), "not carried over", "target-role=Stopped"),
        (primitive("x", "systemd:a", meta={"allow-migrate": "true"}), "not carried over", "allow-migrate"),
        (primitive("x", "ocf:heartbeat:Dummy", **{"odd name": "1"}), "not carried over", "'odd name'"),
        (primitive("x", "ocf:heartbeat:IPaddr2", ip="mail.example.org", nic="e"), "to do", "is not numeric"),
        (
            primitive("x", "ocf:heartbeat:IPaddr2", ip="fd00::1", nic="e", cidr_netmask="129"),
            "to do",
            "/64 was assumed",
        ),
        (primitive("x", "ocf:heartbeat:Filesystem", device="/dev/a", directory="/srv"), "to do", "ext4 was assumed"),
        (primitive("x", "ocf:heartbeat:dovecot", binary="/usr/sbin/dovecot"), "changed", "without binary"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_odd_resources(tmp_path: Path, member: dict[str, Any], kind: str, words: str) -> None:
    _, notes, _ = imported(tmp_path, small(member, IP))
    assert words in said(notes, kind), notes


def test_names_that_are_the_same_here_stay_apart(tmp_path: Path) -> None:
    spec, _, _ = imported(tmp_path, small(IP | {"id": "IP_1"}, primitive("ip-1", "systemd:nginx")))
    assert set(spec.groups) == {"ip-1", "ip-1-2"}


def test_a_hostile_value_stays_a_value(tmp_path: Path) -> None:
    evil = 'x" ]\\ [groups.evil] # '
    member = primitive("x", "ocf:heartbeat:Dummy", state=evil, more="a\nb")
    spec, notes, _ = imported(tmp_path, small(member, primitive('y"]\n[z', "systemd:nginx")))
    assert set(spec.groups) == {"x", "y-z"} and spec.groups["x"].resources[0].parameters == {"state": evil}
    assert "the value of more has control characters" in said(notes, "not carried over")
    plain = run(str(tmp_path / "in"))
    assert parse_cluster(plain.stdout, "stdout") == spec, "the same with comments"


# ---- what is refused -----------------------------------------------------------------------------------------------

HEAD, TAIL = '<?xml version="1.0"?><!DOCTYPE cib [', "<cib><configuration>&a;</configuration></cib>"
BOMB = f'{HEAD}<!ENTITY b "bbbb"><!ENTITY a "&b;&b;">]>{TAIL}'
OUTSIDE = f'{HEAD}<!ENTITY a SYSTEM "file:///etc/shadow">]>{TAIL}'


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (BOMB, 3, "declares a DTD or entities"),
        (OUTSIDE, 3, "declares a DTD or entities"),
        ("<cib><configuration>", 3, "is not XML"),
        ("<html/>", 3, "has no <configuration>"),
        ("{", 3, "is not JSON"),
        ("[" * 100_000, 3, "is not JSON"),
        ('{"a": {"b": 1}}', 3, "has no resources"),
        ('{"primitives": [{"id": "x"}]}', 3, "is not what pcs writes"),
        ('{"target_node": [{"target": "n1", "index": null}]}', 3, "is not what pcs writes"),
        ("plain words", 3, "is not JSON"),
        (json.dumps({"primitives": [primitive("x", "lsb:y")]}), 3, "no configuration that hamail could use"),
        ("\udcff".encode("utf-8", "surrogateescape"), 2, "not UTF-8"),
    ],
    ids=range(12),
)
def test_refused(tmp_path: Path, content: str | bytes, code: int, words: str) -> None:
    file = tmp_path / "in"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = run(str(file), "--out", str(tmp_path / "out"))
    assert result.exit_code == code and words in result.output, result.output
    assert not (tmp_path / "out").exists() and "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "said_"),
    [
        (("/nonexistent",), "No such file"),
        (("FILE", "--address", "n1"), "write NAME=ADDRESS"),
        (("FILE", "--witness", "n3=host"), "write NAME=ADDRESS"),
        (("FILE", "--corosync", "/nonexistent"), "No such file"),
        (("FILE", "--out", "FILE"), "File exists"),
        ((), "Missing argument"),
    ],
)
def test_wrong_usage(tmp_path: Path, words: tuple[str, ...], said_: str) -> None:
    file = tmp_path / "in"
    file.write_text(json.dumps(small(IP)))
    result = run(*(str(file) if word == "FILE" else word for word in words))
    assert result.exit_code == 2 and said_ in result.output
    assert json.loads(file.read_text()), "an old file is never written over"


def test_the_file_that_is_written_passes_the_check(tmp_path: Path) -> None:
    out = tmp_path / "cluster.toml"
    result = run(str(HERE / "pair.xml"), "--out", str(out))
    assert result.exit_code == 1 and "Not carried over:" in result.stderr and str(out) in result.stderr
    checked = CliRunner().invoke(cli, ["--socket", "/nonexistent", "config", "check", str(out)])
    assert checked.exit_code == 0, checked.output
    assert "# TO DO: a placeholder" in out.read_text() and "was ocf:heartbeat:IPaddr2" in out.read_text()


def test_help_has_examples() -> None:
    assert "pcs config --output-format=json" in run("--help").output


# ---- small parts ---------------------------------------------------------------------------------------------------


def test_scores() -> None:
    assert [score(s) for s in ("INFINITY", "-INFINITY", "+INFINITY", "5", None, "?", "99999999")] == [
        INFINITY, -INFINITY, INFINITY, 5, 0, 0, INFINITY,
    ]  # fmt: skip


def test_names() -> None:
    used: set[str] = set()
    assert [plain_name(n, used) for n in ("Mail_1.example.org", "mail-1", "42", "-")] == [
        "mail-1",
        "mail-1-2",
        "x",
        "x-2",
    ]
    assert len(plain_name("a" * 60, {"a" * 32})) == 32


def test_corosync_names() -> None:
    assert addresses(COROSYNC) == {"Mail1.example.org": "10.20.0.11"}
    assert addresses("nothing { } of it") == {}


def test_templates_and_sets() -> None:
    with pytest.raises(Unreadable, match="made from a template"):
        read_xml('<configuration><resources><primitive id="x" template="t"/></resources></configuration>')
    sets = """<configuration><constraints>
      <rsc_order id="o"><resource_set id="s"><resource_ref id="a"/><resource_ref id="b"/></resource_set></rsc_order>
      <rsc_colocation id="c" score="INFINITY"><resource_set id="t"><resource_ref id="a"/><resource_ref id="b"/>
      </resource_set></rsc_colocation>
      <rsc_order id="p"><resource_set id="u" sequential="false"><resource_ref id="a"/></resource_set></rsc_order>
      </constraints></configuration>"""
    cib = read_xml(sets)
    assert [(o.first, o.then) for o in cib.orders] == [("a", "b")]
    assert [(c.resource, c.with_resource) for c in cib.colocations] == [("b", "a")]
    assert cib.others == [("p", "a constraint with resource sets that are no plain sequence")]


def test_bundles_in_json() -> None:
    cib = read_json(
        json.dumps(
            {"bundles": [{"id": "b", "primitive": {"id": "p"}}], "properties": {"nvsets": nvset("x", {"a": "1"})}}
        )
    )
    assert (cib.clones[0].kind, cib.clones[0].member, cib.properties) == ("bundle", "p", {"a": "1"})
