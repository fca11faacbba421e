"""What wants attention now. One table has every alert that there is; the documents are made from it."""

from msgspec import Struct

from hamail.model.state import Severity


class Kind(Struct, frozen=True, kw_only=True):
    severity: Severity
    about: str  # what its subject is: node | link | group | incident | cluster
    meaning: str
    step: str  # what a person does next; {subject} is filled in


class Alert(Struct, frozen=True, kw_only=True):
    """Pending. No two have the same name and subject."""

    name: str
    severity: Severity
    subject: str
    text: str
    next_step: str
    since_ms: int = 0  # wall clock, when the node that tells saw it first; 0: it has just come up


def _critical(about: str, meaning: str, step: str) -> Kind:
    return Kind(severity=Severity.CRITICAL, about=about, meaning=meaning, step=step)


def _warning(about: str, meaning: str, step: str) -> Kind:
    return Kind(severity=Severity.WARNING, about=about, meaning=meaning, step=step)


# In the order in which they are told. A name never changes: others' rules are written with it.
KINDS: dict[str, Kind] = {
    "fail-stop": _critical(
        "node",
        "the node that tells takes no part: its journal is damaged, its disk is full, or its own state is in doubt",
        "do what the text says; journalctl -u hamaild -u hamail-executor on {subject}",
    ),
    "no-majority": _critical(
        "node",
        "the node that tells hears no majority: it decides nothing, and knows of the others only what was last heard",
        "hamailctl status on the other nodes; then the links between them",
    ),
    "no-coordinator": _critical(
        "node",
        "the node that tells knows of nobody who leads the log: nothing is decided until one does; a second is normal",
        "hamailctl status on the other nodes; then the links between them",
    ),
    "group-blocked": _critical(
        "group",
        "nothing proves that its owner is off: only a person can decide",
        "make sure that {node} is off, then: hamailctl fence confirm {node}; or: hamailctl clear {subject}",
    ),
    "group-not-active": _critical(
        "group", "no node serves it: it is down, or on its way to a node", "hamailctl why {subject}"
    ),
    "group-gone": _critical(
        "group",
        "its owner is heard and says that it runs there no more, but could not report it",
        "hamailctl why {subject}",
    ),
    "service-down": _critical(
        "group",
        "a resource without which mail is not served has failed, and nothing is done about it: maintenance",
        "mend it on {node}, or let hamail do it: hamailctl maintenance off {scope}",
    ),
    "fence-failed": _critical(
        "node",
        "it has to be fenced, and no device could",
        "make sure that {subject} is off, then: hamailctl fence confirm {subject}",
    ),
    "certificate-expired": _critical(
        "node", "no other node talks to one whose certificate has expired", "on {subject}: hamailctl pki status"
    ),
    "no-standby": _warning(
        "group",
        "if its owner fails as well, nobody takes over",
        "hamailctl why {subject} tells of each node why it could not",
    ),
    "service-failed": _warning(
        "group",
        "a resource has failed: it is being restarted, or mail is served without it",
        "hamailctl why {subject}; on {node}: journalctl -u hamail-executor",
    ),
    "link-broken": _warning(
        "link",
        "two nodes live, and at least one of them does not hear the other",
        "hamailctl doctor; then look at the network and the firewalls between {one} and {other}",
    ),
    "node-not-heard": _warning(
        "node",
        "a mail node is off, cut off, or its hamaild does not run",
        "on {subject}: power, network, systemctl status hamaild",
    ),
    "witness-lost": _warning(
        "node",
        "a witness is off or cut off: one further loss, and no majority is left",
        "on {subject}: power, network, systemctl status hamaild",
    ),
    "node-not-ready": _warning("node", "it is heard, but could not take a group over", "hamailctl doctor"),
    "fence-not-ready": _warning(
        "node", "a device that fences this node did not answer when it was last looked at", "hamailctl doctor"
    ),
    "watchdog-not-armed": _warning(
        "node",
        "its watchdog is configured, but would not reset it in time",
        "on {subject}: journalctl -u hamail-executor",
    ),
    "quarantined": _warning(
        "node",
        "it was lost and came back too often: it is used only if nobody else can",
        "find out what ails {subject}, then: hamailctl quarantine --clear {subject}",
    ),
    "failovers-used-up": _warning(
        "group",
        "it has moved so often that it moves for no failed service now",
        "hamailctl why {subject}; then hamailctl clear {subject}",
    ),
    "deadman-suspended": _warning(
        "node",
        "maintenance is off, but this node has not said that its dead-man's switch is in force again",
        "if it stays so, switch {subject} off",
    ),
    "maintenance-on-long": _warning(
        "cluster, group or node",
        "somebody may have forgotten it, and nothing is protected meanwhile",
        "hamailctl maintenance off {scope}",
    ),
    "certificate-expires": _warning(
        "node", "it should have renewed itself long ago", "on {subject}: hamailctl pki renew"
    ),
    "certificate-revoked": _warning(
        "node",
        "by hamailctl pki revoke: no other node talks to it",
        "where the authority is kept: hamailctl token create --node {subject}; on it: hamailctl pki renew --token -",
    ),
    "incident-open": _warning("incident", "its record has not been closed", "hamailctl incident close"),
}


def alert(name: str, subject: str, text: str, **words: str) -> Alert:
    """`words`: what the next step names besides the subject."""
    kind = KINDS[name]
    step = kind.step.format(subject=subject, **words).strip()
    return Alert(name=name, severity=kind.severity, subject=subject, text=text, next_step=step)
