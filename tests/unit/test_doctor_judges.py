"""Every judge, by tables: which fact leads to which verdict, and that a failure always has a remedy."""

from typing import Any

import msgspec
import pytest
from doctor_support import (
    AT_MS,
    HOST,
    SPEC,
    VIP,
    certificate,
    findings,
    machine,
    opinions,
    report,
    status,
    with_settings,
    with_storage,
)

from hamail.doctor.areas import AREAS, TITLES
from hamail.doctor.checks import CHECKS, judged
from hamail.doctor.dns_facts import DnsFacts
from hamail.doctor.findings import Findings, Served
from hamail.doctor.line import Verdict
from hamail.doctor.links import reach
from hamail.model.actions import WatchdogStatus
from hamail.model.machine import Account, CertificateFacts, ProgramFacts
from hamail.model.report import LinkFacts
from hamail.model.spec import FenceDeviceSpec, Requirement

OK, WARN, FAIL, UNKNOWN = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN


def links(node: str, peer: str, **changed: Any) -> Findings:
    f = findings()
    before = f.reports[node]
    link = msgspec.structs.replace(before.links[peer], **changed)
    changed_report = msgspec.structs.replace(before, links={**before.links, peer: link})
    return msgspec.structs.replace(f, reports={**f.reports, node: changed_report})


def pair_offset(offset_us: int, rtt_us: int = 300) -> Findings:
    f = links("n1", "n2", offset_us=offset_us, rtt_us=rtt_us)
    other = f.reports["n2"]
    link = LinkFacts(silent_ms=20, rtt_us=rtt_us, offset_us=-offset_us)
    reports = {**f.reports, "n2": msgspec.structs.replace(other, links={**other.links, "n1": link})}
    return msgspec.structs.replace(f, reports=reports)


def silent(*nodes: str) -> Findings:
    f = findings()
    reports = {name: r for name, r in f.reports.items() if name not in nodes}
    return msgspec.structs.replace(f, reports=reports, silent=dict.fromkeys(nodes, "it has not answered"))


def lost(node: str) -> Findings:
    """It has lost its power: it tells nothing, and nobody hears it."""
    f = silent(node)
    missed = {
        name: msgspec.structs.replace(
            r, links={**r.links, node: msgspec.structs.replace(r.links[node], silent_ms=3000)}
        )
        for name, r in f.reports.items()
    }
    return msgspec.structs.replace(f, reports=missed)


def no_machine() -> Findings:
    f = findings()
    dumb = report("n2", machine=None, machine_problem="no connection to its executor", watchdog=None)
    return msgspec.structs.replace(f, reports={**f.reports, "n2": dumb})


def watchdog(**changed: Any) -> Findings:
    f = findings()
    seen = report("n2", watchdog=WatchdogStatus(**({"armed": True, "timeout_s": 5, "identity": "iTCO_wdt"} | changed)))
    return msgspec.structs.replace(f, reports={**f.reports, "n2": seen})


def fencing(**devices: dict[str, Any]) -> Findings:
    made = {
        name: FenceDeviceSpec(name=name, **({"agent": "fence_apc", "targets": {"n1": "1", "n2": "2"}} | given))
        for name, given in devices.items()
    }
    return findings(spec=msgspec.structs.replace(SPEC, fencing=made))


def ready(**told: dict[str, str]) -> Findings:
    """What the nodes say of their devices just now; what they said before counts no more."""
    f = findings(status=status(pdu="broken an hour ago"))
    reports = {name: msgspec.structs.replace(r, fence_ready=told.get(name, {})) for name, r in f.reports.items()}
    return msgspec.structs.replace(f, reports=reports)


def group(**changed: Any) -> Findings:
    f = fencing()
    mail = msgspec.structs.replace(SPEC.groups["mail"], **changed)
    return msgspec.structs.replace(f, spec=msgspec.structs.replace(f.spec, groups={"mail": mail}))


def device(path: str) -> Findings:
    mail = SPEC.groups["mail"]
    disk = msgspec.structs.replace(mail.resources[0], parameters={"device": path, "directory": "/srv/mail"})
    mail = msgspec.structs.replace(mail, resources=(disk, *mail.resources[1:]))
    return findings(spec=msgspec.structs.replace(SPEC, groups={"mail": mail}))


def node_spec(**changed: Any) -> Findings:
    n2 = msgspec.structs.replace(SPEC.nodes["n2"], **changed)
    return findings(spec=msgspec.structs.replace(SPEC, nodes={**SPEC.nodes, "n2": n2}))


def served(**given: Served) -> Findings:
    places = {f"{use} {VIP}:25": s for use, s in given.items()}
    return findings(served=places, dns=DnsFacts(hostname=HOST))


def before_start(**reach: str) -> Findings:
    return findings(before_start=True, reach=reach, status=None)


CERTIFICATES = {use: CertificateFacts(path="/x", der=certificate(HOST)) for use in ("SMTP", "IMAP")}
OLD = certificate(HOST, days=-1)
SOON = {use: CertificateFacts(path="/x", der=certificate(HOST, days=10)) for use in ("SMTP",)}
ENDS = {"SMTP": CertificateFacts(path="/x", der=OLD)}
DRIFT = {f"/etc/postfix/map{i}": "x" for i in range(9)}

# check, facts, the worst verdict, words that are said with it
TABLE = [
    ("nodes-looked-at", findings(), OK, ""),
    ("nodes-looked-at", silent("n2"), UNKNOWN, "it has not answered"),
    ("nodes-looked-at", findings(n2={"problems": ("Postfix: it hangs",)}), UNKNOWN, "it hangs"),
    ("nodes-links", findings(), OK, "hears n2 and n3"),
    ("nodes-links", links("n2", "n3", silent_ms=3000), FAIL, "n2 has not heard n3 for 3.0 s"),
    ("nodes-links", silent("n2"), UNKNOWN, "what it hears is not known"),
    ("nodes-links", lost("n1"), FAIL, "no other node hears it (3.0 s)"),
    ("nodes-links", before_start(n2="", n3="refused"), OK, "hamaild does not run there yet"),
    ("nodes-links", before_start(n2="no answer within 2 s"), FAIL, "open TCP port 7461"),
    ("nodes-round-trip", findings(), OK, "0.30 ms"),
    ("nodes-round-trip", pair_offset(0, 60_000), WARN, "60.00 ms there and back is slow"),
    ("nodes-round-trip", pair_offset(0, 250_000), FAIL, "nodes will seem lost"),
    ("nodes-round-trip", silent("n1", "n2"), UNKNOWN, "neither of them could ask"),
    ("nodes-clocks", findings(), OK, "agree to"),
    ("nodes-clocks", pair_offset(-150_000), WARN, "the clock of n1 is 0.15 s ahead of that of n2"),
    ("nodes-clocks", pair_offset(2_000_000), FAIL, "the clock of n2 is 2.00 s ahead"),
    ("nodes-clocks", pair_offset(150_000, 200_000), OK, ""),  # what the way explains is no offset
    ("nodes-clocks", before_start(), UNKNOWN, "timedatectl"),
    ("nodes-clocks", silent("n1", "n2"), UNKNOWN, "not measured"),
    ("nodes-versions", findings(), OK, "3.7.11 on n1 and n2"),
    ("nodes-versions", findings(n2=with_settings("postfix", mail_version="3.9")), WARN, "different versions"),
    ("nodes-versions", findings(reports={"n1": report("n1"), "n3": report("n3", version="2.0")}), WARN, "n3: 2.0"),
    ("fence-device", findings(), OK, "pdu (level 1), ipmi-n1 (level 2)"),
    ("fence-device", fencing(), FAIL, "waits for an operator"),
    ("fence-device", group(shared_storage=False, requires=Requirement.LEASE), WARN, "its groups rely on less"),
    ("fence-ready", findings(), OK, "answers n2"),
    ("fence-ready", findings(status=status(pdu="login denied")), FAIL, "login denied"),
    ("fence-ready", ready(n1={"pdu": "", "ipmi-n2": "refused"}, n2={"pdu": ""}), FAIL, "ipmi-n2 for n2"),
    ("fence-ready", ready(n1={"pdu": "", "ipmi-n2": ""}, n2={"pdu": "", "ipmi-n1": ""}), OK, "answers n1"),
    ("fence-ready", findings(status=status(pdu="not checked yet")), UNKNOWN, "has not asked it yet"),
    ("fence-ready", findings(status=None, before_start=True), UNKNOWN, "once hamaild runs"),
    ("fence-fate", findings(), OK, "no common cause"),
    ("fence-fate", fencing(p={"parameters": {"ip": "203.0.113.11"}}), FAIL, "is that of n1 itself"),
    ("fence-fate", fencing(p={"parameters": {"ipaddr": VIP}}), FAIL, "is a floating address"),
    ("fence-fate", fencing(p={"agent": "/usr/sbin/fence_dummy"}), FAIL, "only pretends"),
    ("fence-fate", fencing(p={}, q={"parameters": {"ip": "198.51.100.9"}}), UNKNOWN, "no address is configured"),
    ("fence-fate", fencing(p={"parameters": {"ip": "198.51.100.9"}}), WARN, "holds the plugs of all mail nodes"),
    (
        "fence-fate",
        fencing(
            a={"agent": "fence_ipmilan", "targets": {"n1": "a"}, "parameters": {"ip": "198.51.100.1"}},
            b={"agent": "fence_ipmilan", "targets": {"n2": "b"}, "parameters": {"ip": "198.51.100.2"}},
        ),
        WARN,
        "only its own management board",
    ),
    (
        "fence-fate",
        fencing(h={"agent": "fence_virsh", "parameters": {"ip": "198.51.100.7"}}),
        WARN,
        "only the hypervisor",
    ),
    (
        "fence-fate",
        fencing(
            a={"parameters": {"ip": "203.0.113.9"}, "targets": {"n1": "1"}},
            b={"parameters": {"ip": "203.0.113.8"}, "targets": {"n2": "1"}},
        ),
        WARN,
        "through the network of the heartbeats (203.0.113.0/24)",
    ),
    ("watchdog-armed", findings(), OK, "iTCO_wdt"),
    ("watchdog-armed", node_spec(watchdog_device=None), WARN, "has no watchdog"),
    ("watchdog-armed", watchdog(armed=False, detail="device busy"), FAIL, "device busy"),
    ("watchdog-armed", watchdog(timeout_s=60), FAIL, "resets after 60 s"),
    ("watchdog-armed", watchdog(identity="Software Watchdog"), WARN, "softdog"),
    ("watchdog-armed", silent("n2"), UNKNOWN, "it has not answered"),
    ("watchdog-armed", no_machine(), UNKNOWN, "no connection to its executor"),
    ("watchdog-armed", before_start(), UNKNOWN, "wdctl"),
    ("watchdog-guest", findings(), OK, "real hardware"),
    ("watchdog-guest", findings(n2={"virtual": "kvm"}), WARN, "virtual = true"),
    ("watchdog-guest", node_spec(virtual=True), WARN, "is none"),
    ("watchdog-guest", findings(n2={"virtual": ""}), UNKNOWN, "nobody can tell"),
    ("storage-device", findings(), OK, "is there"),
    ("storage-device", device("/dev/sdb1"), WARN, "another disk after the next boot"),
    ("storage-device", device("/dev/nvme0n1p1"), WARN, "by-uuid"),
    ("storage-device", findings(n2=with_storage("n2", present=False, problem="no such file")), FAIL, "no such file"),
    ("storage-device", no_machine(), UNKNOWN, "no connection"),
    ("storage-device", findings(n2={"storage": {}}), UNKNOWN, "was not looked at"),
    ("storage-same", findings(), OK, "UUID 5f0c"),
    ("storage-same", findings(n2=with_storage("n2", uuid="other")), FAIL, "is not the same file system everywhere"),
    ("storage-same", findings(n2=with_storage("n2", size_bytes=2000)), WARN, "another size"),
    ("storage-same", findings(n2=with_storage("n2", uuid="", problem="in use")), UNKNOWN, "in use"),
    ("storage-mount-point", findings(), OK, "locked"),
    ("storage-mount-point", findings(n2=with_storage("n2", bare="open")), FAIL, "chattr +i /srv/mail"),
    ("storage-mount-point", findings(n2=with_storage("n2", bare="filled")), FAIL, "files under the mount point"),
    ("storage-mount-point", findings(n2=with_storage("n2", bare="unwritable")), OK, "cannot be written to"),
    ("storage-mount-point", findings(n2=with_storage("n2", bare="missing")), OK, "does not exist yet"),
    ("storage-mount-point", no_machine(), UNKNOWN, "no connection"),
    ("storage-fstab", findings(), OK, ""),
    ("storage-fstab", findings(n2={"fstab": ("/dev/sdb /srv/mail ext4",)}), FAIL, "remove that line on n2"),
    ("postfix-settings", findings(), OK, "3.7.11"),
    ("postfix-settings", findings(n2={"postfix": None}), FAIL, "apt install postfix"),
    ("postfix-settings", findings(n2={"postfix": ProgramFacts(problem="bad main.cf")}), FAIL, "bad main.cf"),
    ("postfix-interfaces", findings(), OK, "= all"),
    (
        "postfix-interfaces",
        findings(n2=with_settings("postfix", inet_interfaces=f"{VIP}, 127.0.0.1")),
        FAIL,
        "postconf",
    ),
    (
        "postfix-interfaces",
        findings(n2=with_settings("postfix", inet_interfaces="loopback-only")),
        FAIL,
        "nobody outside",
    ),
    ("postfix-interfaces", findings(n2=with_settings("postfix", inet_interfaces="10.9.9.9")), FAIL, "does not take in"),
    ("postfix-source", findings(), OK, f"from {VIP} only"),
    ("postfix-source", findings(n2=with_settings("postfix", smtp_bind_address="")), WARN, "the node's own address"),
    ("postfix-source", findings(n2=with_settings("postfix", smtp_bind_address="10.9.9.9")), WARN, "does not move"),
    ("postfix-source", findings(n2=with_settings("postfix", smtp_bind_address_enforce="no")), WARN, "silently uses"),
    ("postfix-queue", findings(), OK, "moves with the group"),
    ("postfix-queue", findings(n2=with_settings("postfix", queue_directory="/var/spool/postfix")), FAIL, "own disk"),
    ("postfix-queue", findings(n2=with_settings("postfix", queue_directory="/srv/mailx")), FAIL, "own disk"),
    ("postfix-identity", findings(), OK, HOST),
    ("postfix-identity", findings(n2=with_settings("postfix", myhostname="n2.example.org")), FAIL, "change its name"),
    ("postfix-identity", findings(n2=with_settings("postfix", mydestination="other")), WARN, "mydestination"),
    (
        "postfix-identity",
        findings(n1=with_settings("postfix", myhostname="n1.x"), n2=with_settings("postfix", myhostname="n1.x")),
        WARN,
        "is the name of n1 itself",
    ),
    ("postfix-bounces", findings(), OK, ""),
    ("postfix-bounces", findings(n2=with_settings("postfix", soft_bounce="yes")), WARN, "soft_bounce"),
    ("dovecot-settings", findings(), OK, ""),
    ("dovecot-settings", findings(n2={"dovecot": None}), FAIL, "not installed"),
    ("dovecot-settings", findings(n2={"dovecot": ProgramFacts(problem="bad line 3")}), FAIL, "bad line 3"),
    ("dovecot-clients", findings(), OK, ""),
    ("dovecot-clients", findings(n2=with_settings("dovecot", shutdown_clients="no")), FAIL, "sessions outlive"),
    ("dovecot-listen", findings(), OK, ""),
    ("dovecot-listen", findings(n2=with_settings("dovecot", listen=VIP)), WARN, "cannot start before"),
    ("dovecot-listen", findings(n2=with_settings("dovecot", listen="127.0.0.1")), FAIL, "not on the floating address"),
    ("dovecot-mailboxes", findings(), OK, "/srv/mail/box"),
    (
        "dovecot-mailboxes",
        findings(n2=with_settings("dovecot", mail_location="mdbox:/var/vmail/%d/%n")),
        FAIL,
        "own disk",
    ),
    (
        "dovecot-mailboxes",
        findings(n2=with_settings("dovecot", mail_location="maildir:~/Maildir")),
        UNKNOWN,
        "user's home",
    ),
    ("dovecot-mailboxes", findings(n2=with_settings("dovecot", mail_path="/srv/mail/%{user}")), OK, ""),
    (
        "dovecot-mailboxes",
        findings(n2=with_settings("dovecot", mail_path="/srv/mail/%{user}", mail_inbox_path="/var/mail/%{user}")),
        FAIL,
        "mail is below /var/mail, on n2's own disk",
    ),
    (
        "dovecot-mailboxes",
        findings(n2=with_settings("dovecot", mail_location="mbox:/srv/mail/%u:INBOX=/var/mail/%u")),
        FAIL,
        "mail is below /var/mail, on n2's own disk",
    ),
    (
        "dovecot-mailboxes",
        findings(n2=with_settings("dovecot", mail_path="%{home}/mail", mail_home="/home/%{user | username}")),
        UNKNOWN,
        "user's home",
    ),
    (
        "dovecot-mailboxes",
        findings(n2=with_settings("dovecot", mail_path="%{home}/mail", mail_home="/srv/mail/%{user}")),
        OK,
        "/srv/mail",
    ),
    ("dovecot-base", findings(), OK, ""),
    ("dovecot-base", findings(n2=with_settings("dovecot", base_dir="/srv/mail/run")), FAIL, "/run/dovecot"),
    ("same-users", findings(), OK, ""),
    ("same-users", findings(n2={"users": {"postfix": Account(uid=109, gid=105)}}), FAIL, "usermod -u"),
    ("same-users", findings(n2={"users": {"postfix": Account(uid=102, gid=105)}}), WARN, "user vmail"),
    ("same-users", findings(n2={"groups": {"postdrop": 999}}), FAIL, "group postdrop"),
    ("same-users", no_machine(), UNKNOWN, "no connection"),
    ("same-certificates", findings(), OK, "good until"),
    ("same-certificates", findings(n2={"certificates": CERTIFICATES}), FAIL, "different certificates"),
    ("same-certificates", findings(n2={"certificates": {}}), FAIL, "has no certificate configured"),
    ("same-certificates", findings(n1={"certificates": SOON}, n2={"certificates": SOON}), WARN, "in 10 days"),
    ("same-certificates", findings(n1={"certificates": ENDS}, n2={"certificates": ENDS}), FAIL, "renew it"),
    ("same-certificates", findings(n1={"certificates": {}}, n2={"certificates": {}}), UNKNOWN, "neither"),
    (
        "same-certificates",
        findings(n2={"certificates": {"SMTP": CertificateFacts(path="/x", problem="cannot be read")}}),
        FAIL,
        "/x cannot be read",
    ),
    (
        "same-certificates",
        findings(**{n: {"certificates": {"SMTP": CertificateFacts(path="/x", der=b"x")}} for n in ("n1", "n2")}),
        FAIL,
        "cannot be read",
    ),
    ("same-served", served(SMTP=Served(der=machine("n1").certificates["SMTP"].der)), OK, HOST),
    ("same-served", served(SMTP=Served(der=certificate(HOST))), WARN, "another certificate than is configured"),
    ("same-served", served(SMTP=Served(der=certificate("other.org"))), WARN, f"not for {HOST}"),
    ("same-served", served(SMTP=Served(der=certificate("*.example.org"))), WARN, "another certificate"),
    ("same-served", served(SMTP=Served(der=OLD)), FAIL, "has ended"),
    ("same-served", served(SMTP=Served(der=b"x")), FAIL, "cannot be read"),
    ("same-served", served(SMTP=Served(why="offers no STARTTLS")), UNKNOWN, "STARTTLS"),
    ("same-configuration", findings(), OK, "2 files"),
    ("same-configuration", findings(n2={"files": {"/etc/postfix/main.cf": "cccc"}}), WARN, "/etc/dovecot/dovecot.conf"),
    ("same-configuration", findings(n2={"files": DRIFT}), WARN, "and 5 more"),
    ("same-configuration", findings(n2={"files_left_out": 3}), UNKNOWN, "3 more were not compared"),
    ("same-configuration", findings(n1={"files": {}}, n2={"files": {}}), UNKNOWN, "no configuration"),
    ("boot-services", findings(), OK, ""),
    (
        "boot-services",
        findings(n2={"units": {"postfix.service": "enabled"}}),
        FAIL,
        "systemctl disable postfix.service",
    ),
    ("boot-services", findings(n2={"units": {}}), UNKNOWN, "systemd says nothing"),
    ("boot-services", findings(n2={"units": {"x.service": "unknown: no bus"}}), UNKNOWN, "no bus"),
    ("boot-hamail", findings(), OK, ""),
    ("boot-hamail", findings(n2={"units": {"hamaild.service": "disabled"}}), WARN, "systemctl enable hamaild"),
    ("boot-hamail", findings(n2={"units": {}}), UNKNOWN, "is not a unit"),
    ("boot-rivals", findings(), OK, ""),
    ("boot-rivals", findings(n2={"rivals": ("Pacemaker is running (process pacemakerd)",)}), FAIL, "disable --now"),
    ("boot-rivals", findings(n2={"rivals": (f"/etc/network/interfaces names {VIP}",)}), FAIL, "only hamail sets it"),
]
ORDER = (OK, UNKNOWN, WARN, FAIL)


@pytest.mark.parametrize(
    ("name", "f", "verdict", "words"), TABLE, ids=[f"{t[0]}-{t[2]}-{i}" for i, t in enumerate(TABLE)]
)
def test_judge(name: str, f: Findings, verdict: Verdict, words: str) -> None:
    found = opinions(name, f)
    assert found, "a judge that says nothing"
    worst = max(found, key=lambda o: ORDER.index(o.verdict)).verdict
    assert worst is verdict, found
    said = [f"{o.subject} {o.reason} {o.remedy}" for o in found if o.verdict is verdict]
    assert any(words in text for text in said), said


def test_every_check_is_tried_with_each_of_its_verdicts() -> None:
    tried = {(name, verdict) for name, _, verdict, _ in TABLE}
    names = {check.name for check in CHECKS if check.area != "dns"}
    assert {name for name, _ in tried} == names
    without_ok = names - {name for name, verdict in tried if verdict is OK}
    assert not without_ok
    assert all(any((name, v) in tried for v in (WARN, FAIL, UNKNOWN)) for name in names)


@pytest.mark.parametrize("f", [t[1] for t in TABLE], ids=range(len(TABLE)))
def test_every_failure_and_warning_has_a_remedy(f: Findings) -> None:
    for line in judged(f):
        assert line.reason and line.subject
        assert line.remedy or line.verdict in (OK, UNKNOWN), line
        assert "\n" not in line.reason + line.remedy


def test_a_healthy_pair_has_nothing_but_ok() -> None:
    lines = judged(findings())
    assert [line for line in lines if line.verdict is not OK] == []
    assert len({line.check for line in lines}) >= 26


def test_nothing_known_is_no_failure() -> None:
    """Every node silent: nothing but unknown, as far as facts are needed."""
    f = silent("n1", "n2", "n3")
    lines = judged(msgspec.structs.replace(f, status=None, me=None))
    assert {line.verdict for line in lines} <= {OK, UNKNOWN}


def test_only_some_areas() -> None:
    assert {line.area for line in judged(findings(), ("fence", "boot"))} == {"fence", "boot"}
    assert set(TITLES) == set(AREAS) == {check.area for check in CHECKS}


def test_a_cluster_without_mail_is_not_asked_for_it() -> None:
    f = findings(spec=msgspec.structs.replace(SPEC, groups={}))
    assert not [
        line for line in judged(f) if line.area in ("postfix", "dovecot", "storage") and line.check != "storage-fstab"
    ]
    assert AT_MS


def test_a_node_that_is_off_is_one_failure_and_no_closed_port() -> None:
    """Each of the others was told to open its port."""
    failures = [line for line in reach(lost("n1")) if line.verdict is FAIL]
    assert [line.subject for line in failures] == ["n1"] and "port" not in failures[0].remedy
