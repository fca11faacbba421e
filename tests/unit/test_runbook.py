"""The runbook says what this cluster's operator must do, and nothing that is not so."""

import re
import xml.etree.ElementTree as ET

import click
import pytest

from hamail.cli.main import cli
from hamail.config import parse_cluster
from hamail.core.apply import apply, empty_state
from hamail.core.timing import derive
from hamail.model import commands as c
from hamail.model.practice import DrillRecord
from hamail.runbook import content, paper, topology

SOURCE = """
[cluster]
name = "post"
[nodes.n1]
address = "192.0.2.1"
watchdog_device = "/dev/watchdog"
[nodes.n2]
address = "192.0.2.2"
[nodes.w]
address = "192.0.2.3"
witness = true
[fencing.pdu]
agent = "fence_apc"
targets = { n1 = "1", n2 = "2" }
parameters = { ip = "192.0.2.9", username = "it's 100%" }
secret_files = { password = "/etc/hamail/secrets/pdu" }
[groups.mail]
nodes = ["n1", "n2"]
[groups.mail.resources.vip]
agent = "hamail:vip"
parameters = { address = "192.0.2.100/24", interface = "eth0" }
after = ["imap"]
[groups.mail.resources.store]
agent = "hamail:filesystem"
parameters = { device = "/dev/sdb1", directory = "/srv/mail", fstype = "ext4" }
[groups.mail.resources.imap]
agent = "hamail:dovecot"
after = ["store"]
[groups.mail.resources.smtp]
agent = "hamail:postfix"
after = ["store"]
[groups.mail.resources.db]
agent = "heartbeat:pgsql"
parameters = { pgdata = "/srv/mail/pg data" }
after = ["store"]
[objectives]
rto = "5s"
availability = "99.999%"
[contacts]
"on call" = "+49 30 <123>"
"""


@pytest.fixture
def state():
    spec = parse_cluster(SOURCE, "x")
    state, outcome = apply(empty_state(), 1, c.ApplyConfig(at_ms=0, spec=spec, source=SOURCE, expected_revision=0))
    assert outcome.accepted
    record = DrillRecord(id="d", name="node-loss", group="mail", at_ms=0, verdict="passed", rto_ms=1234, rpo=0)
    state, _ = apply(state, 2, c.RecordDrill(at_ms=0, record=record))
    return state


def book(state):
    return content.make(state, derive(1000, 5), "today")


def commands(state) -> list[str]:
    return [step.command for section in book(state).sections for step in section.steps if step.command]


def test_manual_takeover_has_this_cluster_s_commands_in_the_order_of_the_start(state) -> None:
    (by_hand,) = (s for s in book(state).sections if s.title.startswith("Manual takeover of mail"))
    said = [step.command for step in by_hand.steps]

    def place(text: str) -> int:
        return next(n for n, command in enumerate(said) if text in command)

    assert place("systemctl stop hamail-executor") < place("fence_apc") < place("mount -t ext4 /dev/sdb1 /srv/mail")
    assert place("mount -t ext4") < place("systemctl start dovecot.service") < place("ip address add 192.0.2.100")
    assert place("mount -t ext4") < place("systemctl start postfix@-.service || systemctl start postfix.service")
    assert "systemctl stop postfix@-.service postfix.service" in said
    assert "OCF_RESKEY_pgdata='/srv/mail/pg data' /usr/lib/ocf/resource.d/heartbeat/pgsql start" in said[place("pgsql")]
    assert place("ip address add 192.0.2.100") < place("ip address del 192.0.2.100") < place("umount /srv/mail")
    assert place("systemctl stop dovecot.service") < place("umount /srv/mail") < place("systemctl start hamail-exec")
    assert all("ndisc_notify=1; " in command for command in said if "address add" in command and "::" in command)
    assert "lost" in by_hand.danger
    assert sum("fence_apc" in command for command in said) == 2


def test_the_fence_command_takes_its_password_from_the_file(state, tmp_path) -> None:
    import subprocess

    line = next(command for command in commands(state) if "fence_apc" in command)
    secret = tmp_path / "pdu"
    secret.write_text("pass w\\nord%s")
    line = line.replace("/etc/hamail/secrets/pdu", str(secret)).replace("| fence_apc", "| cat")
    said = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        "action=off", "ip=192.0.2.9", "username=it's 100%", "plug=1", "password=pass w\\nord%s",
    ]  # fmt: skip


def test_every_hamailctl_command_in_it_exists(state) -> None:
    text = paper.markdown(book(state), "")
    found = {tuple(m.split()) for m in re.findall(r"hamailctl ((?:[a-z-]+ ?)+)", text)}
    assert len(found) > 10
    for words in found:
        assert words[0] in cli.commands, words
        command = cli.commands[words[0]]
        if isinstance(command, click.Group) and len(words) > 1 and words[0] != "maintenance":
            assert words[1] in command.commands, words


@pytest.mark.parametrize("form", [paper.markdown, paper.html])
def test_what_an_operator_looks_for_is_in_it(state, form) -> None:
    text = form(book(state), topology.draw(state))
    for words in (
        content.checksum(state),
        "node-loss",
        "1234 ms",
        "5000 ms",
        "99.999",
        "on call",
        "192.0.2.100",
        "pdu",
    ):
        assert words in text, words


def test_the_page_needs_nothing_else_and_the_picture_is_one(state) -> None:
    page = paper.html(book(state), topology.draw(state))
    assert "&lt;123&gt;" in page and "<123>" not in page
    assert not re.search(r"(?:src|href)=", page)
    root = ET.fromstring(topology.draw(state))
    words = "".join(root.itertext())
    for name in ("n1", "n2", "w", "witness", "/dev/sdb1", "fence device pdu", "192.0.2.100"):
        assert name in words


def test_a_bare_cluster_has_a_runbook_too() -> None:
    source = (
        SOURCE[: SOURCE.index("[fencing.pdu]")] + SOURCE[SOURCE.index("[groups.mail]") : SOURCE.index("[objectives]")]
    )
    source = source.replace('nodes = ["n1", "n2"]\n', 'nodes = ["n1", "n2"]\nrequires = "lease"\nunsafe_reason = "x"\n')
    spec = parse_cluster(source, "x")
    state, _ = apply(empty_state(), 1, c.ApplyConfig(at_ms=0, spec=spec, source=source, expected_revision=0))
    text = paper.markdown(book(state), topology.draw(state))
    assert "pull its power cords; no device can switch it" in text
    assert "None is configured" in text and "No drill has been held" in text
