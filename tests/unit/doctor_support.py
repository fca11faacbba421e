"""A healthy pair, as doctor's facts; each test breaks one thing of it."""

import datetime
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hamail.core.timing import derive
from hamail.doctor.checks import CHECKS
from hamail.doctor.findings import Findings
from hamail.doctor.line import Opinion
from hamail.model.actions import WatchdogStatus
from hamail.model.machine import Account, CertificateFacts, MachineFacts, ProgramFacts, StorageFacts
from hamail.model.report import LinkFacts, NodeReport
from hamail.model.spec import ClusterSpec, FenceDeviceSpec, GroupSpec, NodeSpec, ResourceSpec
from hamail.model.state import Maintenance
from hamail.model.status import NodeView, Status

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
AT_MS = int(NOW.timestamp() * 1000)
VIP = "203.0.113.25"
HOST = "mail.example.org"


def certificate(*names: str, days: int = 90) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "x")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW - datetime.timedelta(days=400))
    builder = builder.not_valid_after(NOW + datetime.timedelta(days=days))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


CERTIFICATE = certificate(HOST)


def resource(name: str, **parameters: str) -> ResourceSpec:
    return ResourceSpec(name=name, agent=f"hamail:{name}", parameters=parameters)


SPEC = ClusterSpec(
    name="mail",
    nodes={
        "n1": NodeSpec(name="n1", address="203.0.113.11", watchdog_device="/dev/watchdog"),
        "n2": NodeSpec(name="n2", address="203.0.113.12", watchdog_device="/dev/watchdog"),
        "n3": NodeSpec(name="n3", address="203.0.113.13", witness=True),
    },
    groups={
        "mail": GroupSpec(
            name="mail",
            nodes=("n1", "n2"),
            resources=(
                resource("filesystem", device="/dev/disk/by-uuid/5f0c", directory="/srv/mail", fstype="ext4"),
                resource("dovecot"),
                resource("postfix"),
                resource("vip", address=f"{VIP}/24", interface="eth0"),
            ),
        )
    },
    fencing={
        "pdu": FenceDeviceSpec(
            name="pdu", agent="fence_apc_snmp", targets={"n1": "1", "n2": "2"}, parameters={"ip": "198.51.100.9"}
        ),
        "ipmi-n1": FenceDeviceSpec(
            name="ipmi-n1", agent="fence_ipmilan", targets={"n1": "n1"}, parameters={"ip": "198.51.100.1"}, level=2
        ),
        "ipmi-n2": FenceDeviceSpec(
            name="ipmi-n2", agent="fence_ipmilan", targets={"n2": "n2"}, parameters={"ip": "198.51.100.2"}, level=2
        ),
    },
)


def machine(node: str, **changed: Any) -> MachineFacts:
    facts = MachineFacts(
        hostname=node,
        virtual="none",
        networks={"eth0": (f"203.0.113.1{node[-1]}/24",), "eth1": (f"198.51.100.10{node[-1]}/24",)},
        users={"postfix": Account(uid=102, gid=105), "vmail": Account(uid=5000, gid=5000)},
        groups={"postdrop": 106},
        postfix=ProgramFacts(
            settings={
                "mail_version": "3.7.11", "myhostname": HOST, "mydestination": "localhost", "inet_interfaces": "all",
                "virtual_mailbox_domains": "example.org", "queue_directory": "/srv/mail/queue",
                "smtp_bind_address": VIP, "smtp_bind_address_enforce": "yes", "soft_bounce": "no",
            }
        ),
        dovecot=ProgramFacts(
            settings={
                "shutdown_clients": "yes", "listen": "*, ::", "mail_location": "maildir:/srv/mail/box/%u",
                "base_dir": "/run/dovecot", "dovecot_version": "2.3.19",
            }
        ),
        certificates={use: CertificateFacts(path="/etc/ssl/mail.pem", der=CERTIFICATE) for use in ("SMTP", "IMAP")},
        files={"/etc/postfix/main.cf": "aaaa", "/etc/dovecot/dovecot.conf": "bbbb"},
        storage={
            "mail/filesystem": StorageFacts(
                directory="/srv/mail", device="/dev/disk/by-uuid/5f0c", present=True, size_bytes=1000, uuid="5f0c",
                fstype="ext4", mounted=node == "n1", bare="hidden" if node == "n1" else "immutable",
            )
        },
        units={
            "postfix.service": "disabled", "dovecot.service": "disabled", "hamaild.service": "enabled",
            "hamail-executor.service": "enabled",
        },
    )  # fmt: skip
    return msgspec.structs.replace(facts, **changed)


def report(node: str, facts: MachineFacts | None = None, **changed: Any) -> NodeReport:
    others = [name for name in SPEC.nodes if name != node]
    found = NodeReport(
        at_ms=AT_MS,
        version="1.0",
        links={name: LinkFacts(silent_ms=20, rtt_us=300, offset_us=0) for name in others},
        watchdog=None if node == "n3" else WatchdogStatus(armed=True, timeout_s=5, identity="iTCO_wdt"),
        machine=None if node == "n3" else facts or machine(node),
        machine_problem="a witness has no executor" if node == "n3" else "",
    )
    return msgspec.structs.replace(found, **changed)


def status(**devices: str) -> Status:
    """`devices`: of both nodes, device -> "" or why it is not ready."""

    def view(name: str) -> NodeView:
        known = {d.name: devices.get(d.name.replace("-", "_"), "") for d in SPEC.devices_for(name)}
        spec = SPEC.nodes[name]
        return NodeView(
            name=name, address=spec.address, witness=spec.witness, alive=True, suspected=False, silent_ms=0,
            joined=True, standby=False, ready=True, fence_devices=known,
        )  # fmt: skip

    return Status(
        schema=1, cluster="mail", node="n1", at_ms=AT_MS, version="1.0", quorum=True, coordinator="n3", term=1,
        applied=9, config_revision=1, maintenance=Maintenance(), nodes=tuple(view(n) for n in SPEC.nodes), groups=(),
    )  # fmt: skip


def findings(n1: dict[str, Any] | None = None, n2: dict[str, Any] | None = None, **changed: Any) -> Findings:
    """`n1`, `n2`: what is different in the facts of that machine."""
    found = Findings(
        spec=SPEC,
        timings=derive(1000, 5),
        me="n1",
        at_ms=AT_MS,
        status=status(),
        reports={
            "n1": report("n1", machine("n1", **(n1 or {}))),
            "n2": report("n2", machine("n2", **(n2 or {}))),
            "n3": report("n3"),
        },
    )
    return msgspec.structs.replace(found, **changed)


def opinions(name: str, f: Findings) -> list[Opinion]:
    (check,) = [check for check in CHECKS if check.name == name]
    return list(check.judge(f))


def with_settings(program: str, **changed: str) -> dict[str, ProgramFacts]:
    before = getattr(machine("n1"), program).settings
    return {program: ProgramFacts(settings={**before, **changed})}


def with_storage(node: str, **changed: Any) -> dict[str, Any]:
    before = machine(node).storage["mail/filesystem"]
    return {"storage": {"mail/filesystem": msgspec.structs.replace(before, **changed)}}
