"""The list of all checks, in the order in which they are shown. docs/doctor.md is made from it."""

from collections.abc import Iterable

from hamail.doctor import boot, dovecot, fences, links, names, policies, postfix, sameness, served, storage, watchdogs
from hamail.doctor.areas import AREAS
from hamail.doctor.findings import Findings
from hamail.doctor.line import Check, Line, Opinions


def _check(name: str, judge: object, looks_at: str, bites: str) -> Check:
    area = name.partition("-")[0]
    return Check(name=name, area=area, looks_at=looks_at, bites=bites, judge=judge)  # type: ignore[arg-type]


CHECKS: tuple[Check, ...] = (
    _check(
        "nodes-looked-at", boot.looked_at,
        "whether each mail node's executor has told what it sees, and what it could not look at",
        "what nobody looks at is found out on the day of the failover",
    ),
    _check(
        "nodes-links", links.reach,
        "who hears whose heartbeats; before the start: whether the other nodes' port can be connected to",
        "a node that one other node does not hear cannot be elected, and may seem lost",
    ),
    _check(
        "nodes-round-trip", links.round_trip,
        "time there and back through hamail's own links, each two nodes",
        "slow links make healthy nodes seem lost",
    ),
    _check(
        "nodes-clocks", links.clocks,
        "difference of the wall clocks, each two nodes (hamail itself does not rely on it)",
        "Dovecot stops when time moves backwards at a move; logs do not line up",
    ),
    _check(
        "nodes-versions", sameness.versions,
        "versions of hamail, Postfix and Dovecot on the nodes",
        "a newer Postfix or Dovecot may change what the older one then cannot read",
    ),
    _check(
        "fence-device", fences.present,
        "whether each node that may own a group can be fenced at all",
        "nothing proves that a lost node is out: the group stays down until a person says so",
    ),
    _check(
        "fence-ready", fences.ready,
        "whether each device answers the node that would use it, and reports the state of the plug",
        "a wrong password shows when the fence is needed",
    ),
    _check(
        "fence-fate", fences.fate,
        "what device and target share: address, power (management boards), hypervisor, one device for all, the network",
        "the device dies of what its target dies of, and the fence never succeeds",
    ),
    _check(
        "watchdog-armed", watchdogs.armed,
        "watchdog configured, armed, with the timeout that the others count with; hardware or softdog",
        "a machine on which a stop hangs is not reset",
    ),
    _check(
        "watchdog-guest", watchdogs.guests,
        "whether a node is a virtual machine, and cluster.toml says so",
        "a paused guest stops its clock and its watchdog together, and wakes up as a second owner",
    ),
    _check(
        "storage-device", storage.device,
        "whether each node sees the device, under a name that stays the same",
        "the start on the other node fails, or takes another disk",
    ),
    _check(
        "storage-same", storage.same,
        "UUID and size of the file system, read from the disk on each node",
        "two disks under one name: after a move the mail is not there",
    ),
    _check(
        "storage-mount-point", storage.mount_point,
        "the mount point where nothing is mounted: locked (immutable), not writable, empty",
        "a service that starts without the storage accepts mail on the root disk",
    ),
    _check(
        "storage-fstab", storage.fstab,
        "/etc/fstab names neither device nor mount point of a group",
        "a boot mounts the disk on a second machine: its file system is destroyed",
    ),
    _check(
        "postfix-settings", postfix.settings,
        "Postfix is installed, and its settings can be read",
        "the start on this node fails",
    ),
    _check(
        "postfix-interfaces", postfix.interfaces,
        "inet_interfaces is `all` and does not name the floating address",
        "without the address every command of Postfix is fatal, also the stop",
    ),
    _check(
        "postfix-source", postfix.source,
        "smtp_bind_address is the floating address, and enforced",
        "after a move outgoing mail comes from an address that SPF and PTR do not know",
    ),
    _check(
        "postfix-queue", postfix.queue,
        "queue_directory lies on storage that moves with the group",
        "mail that was accepted stays on the dead node",
    ),
    _check(
        "postfix-identity", postfix.identity,
        "myhostname, myorigin, mydestination and virtual_mailbox_domains are the same on both nodes",
        "the server changes its name, or refuses its own domains, after a move",
    ),
    _check(
        "postfix-bounces", postfix.bounces,
        "soft_bounce is off",
        "mail that should be refused stays in the senders' queues for days",
    ),
    _check(
        "dovecot-settings", dovecot.settings,
        "Dovecot is installed, and its settings can be read",
        "the start on this node fails",
    ),
    _check(
        "dovecot-clients", dovecot.clients,
        "shutdown_clients is yes",
        "sessions outlive the stop, the unmount fails, and the node is fenced for it",
    ),
    _check(
        "dovecot-listen", dovecot.listen,
        "`listen` takes in the floating address, without depending on it",
        "Dovecot does not start while the address is not there yet",
    ),
    _check(
        "dovecot-mailboxes", dovecot.mailboxes,
        "mail_location (mail_path, its INBOX, mail_home) lies on storage that moves with the group",
        "the mailboxes stay on the dead node",
    ),
    _check(
        "dovecot-base", dovecot.local_state,
        "base_dir lies on the node's own disk",
        "sockets of another machine are taken for live ones",
    ),
    _check(
        "same-users", sameness.users,
        "ids of the mail programs' users and groups on both nodes",
        "files carry numbers: the service cannot read its own files after a move",
    ),
    _check(
        "same-certificates", sameness.certificates,
        "fingerprint and end of the certificates that Postfix and Dovecot are configured with",
        "clients are asked to trust anew, or are refused, after a move",
    ),
    _check(
        "same-served", served.shown,
        "the certificate that the floating address shows, its names and its end",
        "what is configured is not what is served",
    ),
    _check(
        "same-configuration", sameness.drift,
        "digests of the files below /etc/postfix and /etc/dovecot",
        "a change made on one node only is lost at the next move",
    ),
    _check(
        "boot-services", boot.services,
        "units of the groups are not started at boot",
        "two nodes run the service, one of them without the storage",
    ),
    _check(
        "boot-hamail", boot.hamail,
        "hamaild and hamail-executor are started at boot",
        "a node that has been reset does not come back as a standby",
    ),
    _check(
        "boot-rivals", boot.rivals,
        "Keepalived, Pacemaker and others do not run; no network configuration names a floating address",
        "two managers fight about one address, or one starts what the other stops",
    ),
    _check(
        "dns-resolver", names.resolver,
        "a name server answers, and the service's name and domains are known",
        "the checks below cannot be made",
    ),
    _check(
        "dns-address", names.address,
        "the service's name leads to the floating addresses only (A, AAAA)",
        "clients go to a node instead of the service",
    ),
    _check(
        "dns-mx", names.mx,
        "MX of each domain: there, no alias, leads to a floating address",
        "mail from outside goes to one node, or nowhere",
    ),
    _check(
        "dns-ptr", names.pointer,
        "PTR of each floating address, confirmed forward, and the same as myhostname",
        "others refuse the mail",
    ),
    _check(
        "dns-ttl", names.ttl,
        "how long the addresses may be remembered",
        "a move to another site is seen late",
    ),
    _check(
        "dns-spf", policies.spf,
        "SPF: one record, within ten look-ups, allows each floating address, ends in -all or ~all",
        "mail is refused as forged",
    ),
    _check(
        "dns-dkim", policies.dkim,
        "DKIM: each selector is published and is the public half of the key that signs here",
        "signatures do not verify, on one node or on both",
    ),
    _check(
        "dns-dmarc", policies.dmarc,
        "DMARC: one valid record",
        "some receivers refuse mail of domains without it",
    ),
    _check(
        "dns-mta-sts", policies.mta_sts,
        "MTA-STS, where it is announced: the policy can be had and covers the MX",
        "senders that obey it deliver nothing",
    ),
    _check(
        "dns-tlsa", policies.tlsa,
        "TLSA, where it is published: fits the served certificate and the one of every node; DNSSEC",
        "senders that use DANE deliver nothing after a move or a renewal",
    ),
)  # fmt: skip

assert tuple(dict.fromkeys(check.area for check in CHECKS)) == AREAS


def judged(f: Findings, areas: Iterable[str] = AREAS) -> tuple[Line, ...]:
    """Every line of the checks of these areas."""
    wanted = set(areas)
    return tuple(line for check in CHECKS if check.area in wanted for line in _lines(check, check.judge(f)))


def _lines(check: Check, opinions: Opinions) -> tuple[Line, ...]:
    return tuple(
        Line(check=check.name, area=check.area, subject=o.subject, verdict=o.verdict, reason=o.reason, remedy=o.remedy)
        for o in dict.fromkeys(opinions)
    )
