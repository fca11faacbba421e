"""`hamailctl init`, `join`, `token`, `pki`: what is refused, how, and that nothing is changed then."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hamail.cli import pki as pki_module
from hamail.cli import token as token_module
from hamail.cli.main import cli
from hamail.enrol.token import Token, read_token, write_token
from hamail.enrol.tokens import Tokens
from hamail.pki.keep import Keep
from hamail.setup.machine import Machine
from tests.unit.enrol_kit import CLUSTER

GOOD = write_token(
    Token(cluster="mail", host="127.0.0.1", port=1, fingerprint=bytes(32), id=b"123456", secret=b"s" * 20)
)
WORDS = ["init", "--cluster", "mail", "--node", "n1=10.0.0.11", "--node", "n2=10.0.0.12", "--witness", "n3=10.0.0.13"]
WORDS += ["--vip", "10.0.0.100/24", "--device", "/dev/sdb1", "--yes"]


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with the package and nothing else."""
    monkeypatch.setattr(Machine, "is_root", staticmethod(lambda: True))
    monkeypatch.setattr(Machine, "has_systemd", lambda self: False)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    from hamail.setup import node

    real = node.Layout
    monkeypatch.setattr(node, "Layout", lambda: real(tmp_path / "etc", tmp_path / "var", "root"))
    for module, name in ((token_module, "KEEP"), (pki_module, "KEEP")):
        monkeypatch.setattr(module, name, tmp_path / "keep")
    for module in (token_module, pki_module):
        monkeypatch.setattr(module, "CLUSTER_FILE", tmp_path / "cluster.toml")
        monkeypatch.setattr(module, "NODE_FILE", tmp_path / "node.toml")
    monkeypatch.setattr("hamail.enrol.tokens.FOLDER", tmp_path / "tokens")
    monkeypatch.setattr(Tokens.__init__, "__defaults__", (tmp_path / "tokens",))
    return tmp_path


@pytest.fixture
def first(root: Path) -> Path:
    """The node that keeps the authority."""
    Keep(root / "keep").create("mail")
    (root / "cluster.toml").write_text(CLUSTER % "/etc/hamail/secrets")
    (root / "node.toml").write_text(f'node = "n1"\ncertificates = "{root}/pki"\n')
    return root


def run(*words: str, text: str = "") -> Result:
    return CliRunner().invoke(cli, list(words), input=text)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["init", "--yes"], 2, "not enough is known, and nobody can be asked"),
        (["init", "--template", "web", "--yes"], 2, "'web' is not 'mail-pair'"),
        ([*WORDS], 2, "missing: --fence TEXT, or --no-fencing REASON"),
        ([*WORDS, "--fence", "pdu"], 3, "--fence begins with a name"),
        ([*WORDS, "--fence", "pdu a n1=1 password=x"], 3, "all users of this machine see command lines"),
        ([*WORDS, "--fence", "pdu a n1=1 n2=2", "--vip", "x"], 3, "'x' is no address"),
        ([*WORDS[:4], "n1", *WORDS[5:], "--no-fencing", "test"], 3, "is not of the form NAME=ADDRESS"),
        ([*WORDS, "--no-fencing", "test", "--vip", "10.0.0.100"], 3, "no interface of this machine has the network"),
        ([*WORDS, "--no-fencing", "test", "--interface", "lo"], 3, "no address of these nodes is one of this machine"),
        (["join"], 2, "Missing argument 'TOKEN'"),
        (["join", "nonsense"], 2, "this is no join token"),
        (["join", GOOD[:-3]], 2, "not whole: copy it again"),
        (["join", GOOD, "--yes"], 3, "cannot be reached"),
        (["token"], 2, "Usage"),
        (["token", "create"], 3, "this node does not keep the cluster's authority"),
        (["token", "create", "--for", "5s"], 2, "at least 1m and at most 24h"),
        (["token", "create", "--for", "soon"], 2, "soon"),
        (["token", "close"], 2, "which one?"),
        (["token", "close", "xyz"], 3, "no token is called 'xyz'; nothing was closed"),
        (["pki", "status"], 3, "this machine is no node"),
        (["pki", "renew"], 3, "this machine is no node"),
        (["pki", "rotate", "--ca", "--yes"], 3, "does not keep the authority"),
        (["pki", "revoke", "n2", "--reason", "stolen"], 3, "does not keep the cluster's authority, so nobody can be"),
    ],
)
def test_refused(root: Path, words: list[str], code: int, said: str) -> None:
    before = sorted(root.rglob("*"))
    done = run(*words)
    assert said in done.output and done.exit_code == code, done.output
    assert sorted(root.rglob("*")) == before
    assert "Traceback" not in done.output and "ssss" not in done.output


@pytest.mark.parametrize(
    "words", [["init", "--yes"], ["join", GOOD], ["token", "create"], ["token", "list"], ["pki", "status"]]
)
def test_root_only(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    done = run(*words)
    assert done.exit_code == 3 and "Run it as root" in done.output


@pytest.mark.parametrize(
    "words",
    [["init"], ["join"], ["token"], ["pki"], *(["token", w] for w in ("create", "list", "close"))]
    + [["pki", w] for w in ("status", "renew", "rotate", "revoke")],
)
def test_help_has_an_example(words: list[str]) -> None:
    done = run(*words, "--help")
    assert done.exit_code == 0 and f"hamailctl {' '.join(words)}" in done.output.split("Example")[1]


def test_the_token_is_read_from_standard_input(root: Path) -> None:
    assert "cannot be reached" in run("join", "-", "--yes", text=f"{GOOD[:40]}\n{GOOD[40:]}\n").output


def test_a_token_is_made_listed_and_closed(first: Path) -> None:
    done = json.loads(run("token", "create", "--node", "n3", "--json").output)
    assert done["command"] == f"hamailctl join {done['token']} --witness"
    token = read_token(done["token"])
    assert (token.cluster, token.host, token.port) == ("mail", "10.0.0.11", 7462)
    (row,) = json.loads(run("token", "list", "--json").output)["tokens"]
    assert (row["id"], row["node"], row["witness"]) == (token.id.hex(), "n3", True)
    assert token.secret.hex() not in run("token", "list").output + (first / "keep/audit.jsonl").read_text()
    assert "token opened" in (first / "keep/audit.jsonl").read_text()
    assert run("token", "close", "--all").exit_code == 0
    assert json.loads(run("token", "list", "--json").output)["tokens"] == []


def test_waiting_ends_when_the_token_is_used_or_gone(first: Path) -> None:
    import threading

    tokens = Tokens()

    def when_open(act) -> threading.Thread:
        def watch() -> None:
            while not (found := tokens.all(0)):
                pass
            act(found[0])

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        return thread

    thread = when_open(lambda one: tokens.use(one, "n2", "request"))
    done = run("token", "create", "--wait")
    thread.join(10)
    assert done.exit_code == 0 and "n2 has used it" in done.output
    run("token", "close", "--all")
    thread = when_open(lambda one: tokens.close(one.id))
    done = run("token", "create", "--wait")
    thread.join(10)
    assert done.exit_code == 1 and "nobody has used it" in done.output


@pytest.mark.parametrize(("node", "said"), [("n9", "no node is called 'n9'"), ("n1", "n1 is this machine")])
def test_no_token_for_nobody(first: Path, node: str, said: str) -> None:
    done = run("token", "create", "--node", node)
    assert done.exit_code == 3 and said in done.output


@pytest.mark.parametrize(
    ("days", "code", "said"),
    [
        (700, 0, "renews itself in 459 days"),
        (100, 0, "renews itself in 0 days"),
        (30, 1, "has not renewed itself"),
        (-3, 1, "EXPIRED"),
    ],
)
def test_the_status_of_certificates(
    first: Path, monkeypatch: pytest.MonkeyPatch, days: int, code: int, said: str
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    from hamail.pki import issue

    issue(first / "keep" / "1", "mail", "n1", first / "pki", days=days)
    done = run("pki", "status")
    assert done.exit_code == code and "n2: has not joined" in done.output, done.output
    assert f"\n{first}/pki/ca.pem\n" in done.output, "a path is in one piece, however narrow the screen"
    rows = json.loads(run("pki", "status", "--json").output)
    assert said in rows["certificates"][0]["sentence"]
    assert rows["certificates"][0]["subject"] == "hamail://mail/n1" and rows["authority"]["phase"] == "settled"


def test_a_change_of_the_authority_begins_once(first: Path) -> None:
    assert run("pki", "rotate", "--ca", text="n\n").exit_code == 4
    assert run("pki", "rotate", "--ca", "--yes").exit_code == 0
    again = run("pki", "rotate", "--ca", "--yes")
    assert again.exit_code == 3 and "under way already" in again.output
    assert Keep(first / "keep").state.made == 2
