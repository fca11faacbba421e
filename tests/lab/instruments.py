"""The measuring instruments of a running lab, put in its places: evidence recorder, availability probe, mail load."""

from pathlib import Path

from tests.lab.cluster import MAIL_NODES
from tests.lab.lab import Lab
from tests.lab.mail import MailLoad
from tests.lab.probe import Probe
from tests.lab.recorder import Recorder

SERVICES = ("smtp", "imap")


def netns(lab: Lab, host: str) -> str:
    return f"/run/netns/{lab.switch.namespace_of(host)}"


def recorder(lab: Lab, path: Path) -> Recorder:
    places = {node: netns(lab, node) for node in MAIL_NODES}
    return Recorder(path, places, (lab.addresses.vip, lab.addresses.vip6), netns(lab, "sw"))


def probe(lab: Lab, path: Path) -> Probe:
    vip = lab.addresses.vip
    return Probe(netns(lab, "client"), {"smtp": (vip, 25), "imap": (vip, 143)}, path)


def mail_load(lab: Lab, path: Path, rate: float) -> MailLoad:
    return MailLoad(netns(lab, "client"), lab.addresses.vip, path, rate)


def other(node: str) -> str:
    """The other mail node."""
    return next(name for name in MAIL_NODES if name != node)
