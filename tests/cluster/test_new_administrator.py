"""The new administrator: three machines with the package and nothing else, a few commands, a power cut, and back.

No file is edited, and none is copied: what the machines need of each other goes over the wire that the token proves.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.conftest import NAME, SAY, missing
from tests.cluster.world import BUILD
from tests.lab import instruments, mail
from tests.lab.cluster import NODES
from tests.lab.lab import Lab, Missing
from tests.lab.node import Node

TEN_MINUTES_S = 600.0
MAIL_RATE = 5.0
ENOUGH = 20
FLOWS_S = 30.0
HEALTHY_S = 45.0
CODE_REFUSED = 3
ROUNDS_MAX = 6


def bare(node: Node) -> None:
    """As the package has left it: no configuration, no certificates, no passwords."""
    etc = node.root / "etc/hamail"
    for path in [etc / "cluster.toml", etc / "node.toml", *(etc / "pki").glob("*"), *(etc / "secrets").glob("*")]:
        path.unlink(missing_ok=True)


@pytest.fixture
def machines() -> Iterator[Lab]:
    lab = Lab(f"{NAME[:6]}a", **SAY)
    try:
        lab.up(hamail=False, furnish=bare)
        yield lab
    except Missing as error:
        missing(error)
    finally:
        lab.down()


def settings(node: Node) -> str:
    """Everything that could have been edited, as one text."""
    return node.run("cd /etc/hamail && find . -type f -not -path './pki/*' | sort | xargs sha256sum").stdout


def init(lab: Lab) -> dict[str, str]:
    """The one command on the first node; gives the commands for the others."""
    first, at = lab.nodes["n1"], lab.addresses
    first.run(["sh", "-c", "umask 077; cat >/root/pdu"], input=lab.pdu_password_file.read_text())
    words = ["hamailctl", "init", "--cluster", "lab", "--yes", "--json", "--apply-mail-settings"]
    words += ["--node", f"n1={at.v4('n1')}", "--node", f"n2={at.v4('n2')}", "--witness", f"n3={at.v4('n3')}"]
    words += ["--vip", f"{at.vip}/24", "--vip", f"{at.vip6}/64", "--device", "/dev/lun", "--mount", "/srv/mail"]
    words += ["--fence", f"pdu fence_lab n1=n1 n2=n2 ip={at.v4('pdu')} username=hamail password=@/root/pdu"]
    first.run("mkfs.ext4 -q -F /dev/lun")  # as it comes from the shop
    refused = first.run(words, check=False)
    assert refused.returncode == CODE_REFUSED and "is empty" in refused.stdout, refused
    done = json.loads(first.run([*words, "--prepare-storage"]).stdout)
    assert done["node"] == "n1" and done["troubles"] == []
    first.run("rm /root/pdu")
    return done["join"]


@pytest.mark.alone
def test_from_three_bare_machines_to_a_takeover(machines: Lab) -> None:
    lab, nodes, began_s = machines, machines.nodes, time.monotonic()
    commands = init(lab)
    again = nodes["n1"].run("hamailctl init --yes --cluster x", check=False)
    assert again.returncode != 0, "what is set up is not set up again"
    nodes["n2"].run(f"{commands['n2']} --yes --apply-mail-settings")
    nodes["n3"].run(f"{commands['n3']} --yes")
    lab.wait_healthy(HEALTHY_S)
    assert lab.active() == "n1"
    told = nodes["n3"].run("hamailctl status").stdout
    assert "mail is active on n1; n2 could take over" in told
    before = {name: settings(nodes[name]) for name in NODES}
    doctor = nodes["n1"].run("hamailctl doctor --no-dns", check=False)
    assert "No failure" in doctor.stdout, doctor.stdout

    used = nodes["n3"].run(f"{commands['n2']} --yes", check=False)
    assert used.returncode == CODE_REFUSED and "set up already" in used.stderr
    assert not nodes["n3"].run("ls -A /etc/hamail/secrets", check=False).stdout, "a witness fences nobody"
    secret = lab.pdu_password_file.read_text().strip()
    assert nodes["n2"].run("cat /etc/hamail/secrets/pdu").stdout.strip() == secret
    for name in ("n1", "n2"):
        assert "smtp_bind_address_enforce = yes" in nodes[name].run("postconf smtp_bind_address_enforce").stdout
        journal = nodes[name].run("journalctl --no-pager").stdout
        assert secret not in journal

    load = instruments.mail_load(lab, BUILD / "administrator-mail.jsonl", MAIL_RATE).start()
    try:
        wait(lambda: load.progress().acknowledged >= ENOUGH, FLOWS_S, "mail flows")
        lab.cut("n1")
        wait(lambda: lab.active() == "n2", FLOWS_S, "n2 has taken over")
        flowed = load.progress().acknowledged
        wait(lambda: load.progress().acknowledged >= flowed + ENOUGH, FLOWS_S, "mail flows again")
        lab.on("n1")
        lab.wait_healthy(HEALTHY_S)
        assert lab.active() == "n2", "a group never moves back by itself"
        verdict = mail.verdict(load, load.stop(), lambda script: nodes["n2"].run(script).stdout)
    finally:
        load.__exit__()
    assert verdict.passed, verdict
    assert {name: settings(nodes[name]) for name in NODES} == before
    took_s = time.monotonic() - began_s
    print(f"{took_s:.0f} s from bare machines to the takeover and back, {verdict.acknowledged} mails")
    assert took_s < TEN_MINUTES_S

    renewed_under_mail(lab)
    stolen_and_replaced(lab)


def renewed_under_mail(lab: Lab) -> None:
    """New certificates on all nodes, and another authority: nobody loses a lease, nothing moves."""
    nodes = lab.nodes
    epoch = lab.status("n2")["groups"][0]["epoch"]
    nodes["n1"].run("hamailctl pki rotate --ca --yes")
    for _ in range(ROUNDS_MAX):
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: node.run("systemctl start hamail-renew"), nodes.values()))
        time.sleep(2.2)  # hamaild looks every two seconds
        known = json.loads(nodes["n1"].run("hamailctl pki status --json").stdout)
        if known["authority"]["phase"] == "settled":
            break
    assert known["authority"]["phase"] == "settled", known
    assert nodes["n1"].run("ls -d /var/lib/hamail-issuer/[0-9]*").stdout.split() == ["/var/lib/hamail-issuer/2"]
    assert lab.unhealthy() == ""
    assert lab.status("n2")["groups"][0]["epoch"] == epoch
    nodes["n1"].run("systemctl restart hamaild")  # what is on the disk is good for a start as well
    lab.wait_healthy(HEALTHY_S)
    assert lab.status("n2")["groups"][0]["epoch"] == epoch


def stolen_and_replaced(lab: Lab) -> None:
    """The active server is stolen: it loses mail, is fenced, and its key is worth nothing; a token brings it back."""
    nodes = lab.nodes
    told = json.loads(nodes["n1"].run("hamailctl pki revoke n2 --reason stolen --yes --force --json").stdout)
    assert told["cut_off"]
    wait(lambda: lab.active() == "n1", FLOWS_S, "n1 has taken over from the one that was revoked")
    lab.on("n2")
    token = json.loads(nodes["n1"].run("hamailctl token create --node n2 --json").stdout)["token"]
    nodes["n2"].run("hamailctl pki renew --token -", input=token)
    lab.wait_healthy(HEALTHY_S)
    assert lab.active() == "n1"


def wait(condition, seconds: float, what: str) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)
