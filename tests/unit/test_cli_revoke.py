"""`hamailctl pki revoke`: what is looked at first, what is refused, what is done, and how a node comes back."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from control_fake import FakeBackend, serving
from cryptography import x509
from msgspec.structs import replace

from hamail.cli import pki as pki_module
from hamail.cli import revoke as revoke_module
from hamail.cli import token as token_module
from hamail.cli.main import cli
from hamail.cli.revoke import _checks
from hamail.enrol import issuer as issuer_module
from hamail.enrol.token import Token, write_token
from hamail.enrol.tokens import Tokens
from hamail.model.preflight import Verdict
from hamail.model.serials import number_of
from hamail.model.state import Phase
from hamail.setup import renew as renew_module
from tests.unit.enrol_kit import Room

OPTIONS = ["--reason", "the server was stolen"]


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """n1, which keeps the authority; its own files in `n1`, and those of n2 in `n2`."""
    room = Room(tmp_path)
    monkeypatch.setattr(issuer_module, "SECRETS_FOLDER", room.secrets)
    room.cluster_file.write_text(room.cluster_file.read_text().replace("10.0.0.1", "127.0.0.1"))
    room.now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    room.serve()
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.chown", lambda *_: None)
    monkeypatch.setattr(token_module, "KEEP", room.keep.folder)
    monkeypatch.setattr(pki_module, "KEEP", room.keep.folder)
    for module in (token_module, pki_module):
        monkeypatch.setattr(module, "CLUSTER_FILE", room.cluster_file)
    monkeypatch.setattr(Tokens.__init__, "__defaults__", (room.tokens.folder,))
    monkeypatch.setattr("hamail.setup.node.Layout.group_id", property(lambda _: os.getgid()))
    monkeypatch.setattr(revoke_module, "CUT_OFF_S", 0.2)
    monkeypatch.setattr(revoke_module, "LOOK_S", 0.05)
    real = renew_module.anyone
    here = ("127.0.0.1", room.port)
    monkeypatch.setattr(renew_module, "anyone", lambda _, *words: real([here], *words))
    for name in ("n1", "n2", "n3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ca.pem").write_text(room.keep.bundle())
        own = {"node": name, "certificates": tmp_path / name, "state_dir": tmp_path / name}
        lines = {**own, "cluster_file": room.cluster_file}.items()
        (tmp_path / f"{name}.toml").write_text("".join(f'{key} = "{value}"\n' for key, value in lines))
    on(monkeypatch, tmp_path, "n1")
    for name in ("n1", "n2"):
        on(monkeypatch, tmp_path, name)
        given(room, name)
    on(monkeypatch, tmp_path, "n1")
    yield room
    room.close()


def on(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    for module in (token_module, pki_module):
        monkeypatch.setattr(module, "NODE_FILE", folder / f"{name}.toml")


def given(room: Room, name: str) -> None:
    """As after a join: a certificate by a token. Joined there is not said: the next question does it."""
    done = run("pki", "renew", "--token", "-", text=words(room.token(node=name)))
    assert done.exit_code == 0, done.output


def words(token: Token) -> str:
    return write_token(token) + "\n"


def run(*line: str, text: str = "", socket: str = "/nonexistent") -> Result:
    return CliRunner().invoke(cli, list(line), input=text, env={"HAMAIL_SOCKET": socket, "COLUMNS": "80"})


def number(folder: Path) -> int:
    return number_of(x509.load_pem_x509_certificate((folder / "node.pem").read_bytes()).serial_number)


def test_revoked_and_back_again(room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room.token(node="n2")
    refused = run("pki", "revoke", "n2", *OPTIONS, "--yes")
    assert refused.exit_code == 3 and "cannot be seen" in refused.output and "--force" in refused.output
    assert not room.keep.state.revoked

    done = run("pki", "revoke", "n2", *OPTIONS, "--yes", "--force", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["schema"] == "hamail/pki-revoke/1" and not told["cut_off"], "there is no hamaild to see it"
    assert "HAMAIL REVOCATIONS" in (tmp_path / "n1" / "ca.pem").read_text()
    audit = (room.keep.folder / "audit.jsonl").read_text()
    assert '"what": "revoked"' in audit and "the server was stolen" in audit
    assert [token.used_by for token in room.tokens.all(room.now_ns)] == ["n1"], "none that makes it into a node again"

    before = number(tmp_path / "n2")
    on(monkeypatch, tmp_path, "n2")
    thief = run("pki", "renew", "--force")
    assert thief.exit_code == 3 and "was revoked" in thief.output and number(tmp_path / "n2") == before
    assert "someone uses a revoked certificate of n2" in room.told()
    assert "REVOKED" not in run("pki", "status", "--json").output
    (tmp_path / "n2" / "revoked").write_text(room.keep.state.statement)  # as hamaild keeps what another node has told
    assert "REVOKED" in run("pki", "status", "--json").output

    on(monkeypatch, tmp_path, "n1")
    status = json.loads(run("pki", "status", "--json").output)["authority"]
    assert status["lines"]["n2"]["revoked_reason"] == "the server was stolen" and not status["lines"]["n2"]["serial"]
    on(monkeypatch, tmp_path, "n2")
    given(room, "n2")
    assert number(tmp_path / "n2") > before
    assert run("pki", "renew").exit_code == 0 == run("pki", "renew", "--force").exit_code
    on(monkeypatch, tmp_path, "n1")
    status = json.loads(run("pki", "status", "--json").output)["authority"]
    assert status["lines"]["n2"]["serial"] and "it has a new one since" in run("pki", "status").output


def test_the_status_tells_of_an_old_certificate(room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("pki", "status").exit_code == 0
    on(monkeypatch, tmp_path, "n2")
    old = (tmp_path / "n2" / "node.pem").read_bytes()
    assert run("pki", "renew", "--force").exit_code == 0 == run("pki", "renew").exit_code
    (tmp_path / "n2" / "node.pem").write_bytes(old)
    assert "this is an old certificate of n2" in run("pki", "renew").output
    on(monkeypatch, tmp_path, "n1")
    status = run("pki", "status")
    assert status.exit_code == 1 and "Someone at 127.0.0.1 used an old certificate" in status.output


@pytest.mark.parametrize(
    ("node", "said"), [("n9", "no node is called 'n9'"), ("n1", "n1 keeps the authority, and cannot revoke itself")]
)
def test_nobody_to_revoke(room: Room, node: str, said: str) -> None:
    done = run("pki", "revoke", node, *OPTIONS, "--yes", "--force")
    assert done.exit_code == 3 and said in done.output and not room.keep.state.revoked


def test_who_is_active_is_revoked_by_force_only(room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = FakeBackend()
    owner = backend.status().groups[0].owner
    assert owner is not None
    on(monkeypatch, tmp_path, "n3")
    with serving(backend, tmp_path / "c.sock"):
        socket = str(tmp_path / "c.sock")
        refused = run("pki", "revoke", owner, *OPTIONS, "--yes", socket=socket)
        assert refused.exit_code == 3 and f"{owner} is active for mail: it will lose its lease" in refused.output
        assert "hamailctl switchover mail" in refused.output and "--force" in refused.output
        dry = run("pki", "revoke", owner, *OPTIONS, "--force", "--dry-run", "--json", socket=socket)
        assert dry.exit_code == 0 and json.loads(dry.output)["preflight"]["order"] == "revocation"
        no = run("pki", "revoke", owner, *OPTIONS, "--force", text="n\n", socket=socket)
        assert no.exit_code == 4
    assert not room.keep.state.revoked


def test_it_is_revoked_also_when_nobody_reads_what_it_would_do(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hamail.cli.preflight_view.decide", lambda app, *_, **__: app.unread())
    monkeypatch.setattr("hamail.cli.app.silence", lambda _: None)
    run("pki", "revoke", "n2", *OPTIONS, "--yes", "--force")
    assert "n2" in room.keep.state.revoked


def test_what_it_would_do() -> None:
    status = FakeBackend().status()
    group = replace(status.groups[0], owner="n2", phase=Phase.ACTIVE)
    nodes = tuple(replace(n, alive=True) for n in status.nodes)
    calm = replace(status, quorum=True, nodes=nodes, groups=(replace(group, owner="n1"),))
    assert not [c for c in _checks(calm, "n2") if c.verdict is Verdict.WARNING]
    active = replace(calm, groups=(group,))
    (warning,) = [c for c in _checks(active, "n2") if c.verdict is Verdict.WARNING]
    assert "n2 is active for mail" in warning.reason and warning.next_step == "move it first: hamailctl switchover mail"
    alone = replace(calm, nodes=tuple(replace(n, alive=n.name == calm.node) for n in nodes))
    (warning,) = [c for c in _checks(alone, "n2") if c.verdict is Verdict.WARNING]
    assert "no majority" in warning.reason
    blind = replace(calm, quorum=False)
    (warning,) = [c for c in _checks(blind, "n2") if c.verdict is Verdict.WARNING]
    assert "may not know what n2 does" in warning.reason


def test_a_used_token_is_no_way_back(room: Room) -> None:
    """Its request would be answered again, with a certificate that counts."""
    from hamail.enrol.client import AskError
    from hamail.pki.request import new_request
    from tests.unit.enrol_kit import join

    for_n2, for_any = room.token(node="n2"), room.token(witness=True)
    request = new_request("mail", "n3")[1]
    join(for_any, "n3", witness=True, request=request)
    for node in ("n2", "n3"):
        assert run("pki", "revoke", node, *OPTIONS, "--yes", "--force").exit_code == 0
    with pytest.raises(AskError, match="not open"):
        join(for_any, "n3", witness=True, request=request)
    with pytest.raises(AskError, match="not open"):
        join(for_n2, "n2")
