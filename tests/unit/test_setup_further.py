"""`hamailctl join` and the renewal, against a real issuer: all or nothing, and nothing by hand."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from hamail.config import parse_cluster
from hamail.enrol import issuer as issuer_module
from hamail.enrol.messages import Joined, Noted, Refused, Welcome
from hamail.pki.keep import Phase
from hamail.setup import further
from hamail.setup.further import FurtherPlan, Joining
from hamail.setup.problem import SetupError
from hamail.setup.renew import Own, renew
from hamail.transport.certificates import Certificates, own_identity
from tests.unit.enrol_kit import Room
from tests.unit.setup_kit import Bench, layout, make_bench, no_journal

__all__ = ["no_journal"]

CONFIGURATION = """\
[cluster]
name = "mail"
[nodes.n1]
address = "127.0.0.1"
[nodes.n2]
address = "10.0.0.11"
watchdog_device = "/dev/watchdog"
[nodes.n3]
address = "10.0.0.13"
witness = true
[fencing.pdu]
agent = "fence_apc_snmp"
targets = { n1 = "1", n2 = "2" }
secret_files = { password = "%s/pdu" }
[groups.mail]
nodes = ["n1", "n2"]
[groups.mail.resources.storage]
agent = "hamail:filesystem"
parameters = { device = "/dev/disk/by-id/wwn-1", directory = "/srv/mail", fstype = "ext4" }
[groups.mail.resources.vip]
agent = "hamail:vip"
parameters = { address = "10.0.0.100/24", interface = "eth0" }
network_check = "off"
"""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    room = Room(tmp_path)
    room.cluster_file.write_text(CONFIGURATION % room.secrets)
    monkeypatch.setattr(issuer_module, "SECRETS_FOLDER", room.secrets)
    monkeypatch.setattr(further, "SECRETS_FOLDER", str(room.secrets))
    room.serve()
    yield room
    room.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    root = tmp_path / "root"
    root.mkdir()
    return make_bench(root)


def plan(room: Room, bench: Bench, node: str = "", witness: bool = False) -> tuple[Joining, FurtherPlan]:
    again = node if node in room.keep.state.joined else ""
    joining = Joining(room.token(node=again, witness=witness), bench, layout(bench.root))
    return joining, joining.plan(node=node, addresses=(), witness=witness)


def move_secret(room: Room, bench: Bench) -> None:
    """On another machine the file is not there yet; here it would be the issuer's own."""
    real = further.files_of

    def files_of(*words: object, **named: object) -> list:
        named["secrets"] = {str(bench.root / Path(path).name): text for path, text in named["secrets"].items()}
        return real(*words, **named)

    further.files_of = files_of


@pytest.fixture(autouse=True)
def restored(room: Room, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(further, "files_of", further.files_of)
    move_secret(room, bench)


def test_a_mail_server_joins(room: Room, bench: Bench, no_journal: list[bool]) -> None:
    joining, made = plan(room, bench)
    assert (made.node, made.witness, made.watchdog, made.rejoining) == ("n2", False, "/dev/watchdog", False)
    joining.settle(made, apply_mail=False)
    place = layout(bench.root)
    assert own_identity(Certificates.of(place.etc / "pki")).node == "n2"
    assert (place.etc / "cluster.toml").read_text() == room.cluster_file.read_text()
    assert (bench.root / "pdu").read_text() == "canary-of-the-pdu\n"
    assert (bench.root / "pdu").stat().st_mode & 0o777 == 0o600
    assert no_journal == [False] and room.keep.state.joined == ("n1", "n2")


def test_a_witness_joins(room: Room, bench: Bench, no_journal: list[bool]) -> None:
    joining, made = plan(room, bench, node="n3", witness=True)
    assert made.watchdog is None and made.mail.empty
    joining.settle(made, apply_mail=False)
    assert "watchdog" not in (layout(bench.root).etc / "node.toml").read_text().splitlines()[-1]
    assert not (bench.root / "pdu").exists()


def test_a_machine_in_the_place_of_a_lost_one(room: Room, bench: Bench, no_journal: list[bool]) -> None:
    room.keep.joined("n2")
    joining, made = plan(room, bench, node="n2")
    assert made.rejoining
    joining.settle(made, apply_mail=False)
    assert no_journal == [True], "its empty journal stands for a lost one: it does not vote at once"


def test_looking_uses_nothing_up(room: Room, bench: Bench, no_journal: list[bool]) -> None:
    before = sorted(bench.root.rglob("*"))
    joining, made = plan(room, bench)
    assert sorted(bench.root.rglob("*")) == before and not room.tokens.all(room.now_ns)[0].used_by
    joining.settle(made, apply_mail=False)


@pytest.mark.parametrize("what", ["journal", "last word", "interrupt"])
def test_whatever_fails_nothing_is_left(
    room: Room, bench: Bench, no_journal: list[bool], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    joining, made = plan(room, bench)
    before = sorted(p for p in bench.root.rglob("*") if p.is_file())

    def fail(*_: object) -> None:
        raise KeyboardInterrupt if what == "interrupt" else SetupError("the disk is full")

    if what == "last word":
        real = room.issuer.answer
        refuse = (Refused(reason="not now"), False)
        monkeypatch.setattr(room.issuer, "answer", lambda q, p: refuse if isinstance(q, Joined) else real(q, p))
    else:
        monkeypatch.setattr("hamail.setup.node.initialise_journal", fail)
    with pytest.raises(KeyboardInterrupt if what == "interrupt" else SetupError):
        joining.settle(made, apply_mail=False)
    assert sorted(p for p in bench.root.rglob("*") if p.is_file()) == before, "the journal too: nobody has run on it"
    assert room.keep.state.joined == ("n1",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: msgspec.structs.replace(w, certificate="none"), "sent no certificate"),
        (lambda w: msgspec.structs.replace(w, certificate=w.authorities), "not for n2"),
        (lambda w: msgspec.structs.replace(w, secrets={"/etc/shadow": "x"}), "a secret for /etc/shadow"),
        (lambda w: msgspec.structs.replace(w, secrets={"/etc/hamail/secrets/../node.toml": "x"}), "a secret for"),
    ],
)
def test_an_answer_that_is_wrong_changes_nothing(
    room: Room, bench: Bench, monkeypatch: pytest.MonkeyPatch, change, said: str
) -> None:
    joining, made = plan(room, bench)
    real = room.issuer.answer

    def answer(request: object, peer: object) -> tuple[object, bool]:
        found, slow = real(request, peer)
        return (change(found) if isinstance(found, Welcome) else found), slow

    monkeypatch.setattr(room.issuer, "answer", answer)
    before = sorted(bench.root.rglob("*"))
    with pytest.raises(SetupError, match=said):
        joining.settle(made, apply_mail=False)
    assert sorted(bench.root.rglob("*")) == before


def test_a_machine_that_does_not_fit_keeps_its_token(room: Room, bench: Bench) -> None:
    bench.here["eth0"] = (next(iter(bench.here["eth0"])),)
    bench.here["eth7"] = bench.here.pop("eth0")
    with pytest.raises(SetupError, match="does not fit") as caught:
        plan(room, bench)
    assert "no network interface 'eth0'" in caught.value.reasons[0]
    assert not room.tokens.all(room.now_ns)[0].used_by


def test_a_missing_watchdog_is_told(room: Room, bench: Bench) -> None:
    (bench.root / "dev/watchdog").unlink()
    assert any("modprobe softdog" in remark for remark in plan(room, bench)[1].remarks)


# Renewal


@pytest.fixture
def member(room: Room, bench: Bench, no_journal: list[bool]) -> Own:
    joining, made = plan(room, bench)
    joining.settle(made, apply_mail=False)
    place = layout(bench.root)
    return Own(place.etc / "pki", place.group_id)


def ask(room: Room, own: Own, force: bool = False):
    return renew(own, parse_cluster(room.cluster_file.read_text(), "x"), "n2", force=force, port=room.port)


def test_nothing_is_due(room: Room, member: Own) -> None:
    before = member.certificate.read_bytes()
    done = ask(room, member)
    assert not done.renewed and not done.trust_changed and done.phase == Phase.SETTLED
    assert member.certificate.read_bytes() == before
    assert datetime.fromisoformat(done.expires) > datetime.now(UTC)


def test_renewed_with_a_new_key_in_one_rename(room: Room, member: Own) -> None:
    before = member.certificate.read_text()
    assert ask(room, member, force=True).renewed
    after = member.certificate.read_text()
    assert after.split("BEGIN CERTIFICATE")[0] != before.split("BEGIN CERTIFICATE")[0]
    assert own_identity(Certificates.of(member.folder)).node == "n2"
    assert member.certificate.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in member.folder.iterdir()) == ["ca.pem", "node.pem"]


def test_certificate_and_key_in_two_files_become_one(room: Room, member: Own) -> None:
    """As made by `python -m hamail.pki issue`."""
    text = member.certificate.read_text()
    key, begin, certificate = text.partition("-----BEGIN CERTIFICATE")
    (member.folder / "node.key").write_text(key)
    (member.folder / "node.key").chmod(0o640)
    member.certificate.write_text(begin + certificate)
    assert not ask(room, member).renewed
    assert ask(room, member, force=True).renewed
    assert not (member.folder / "node.key").exists()
    assert own_identity(Certificates.of(member.folder)).node == "n2"


def test_another_authority_is_followed_step_by_step(room: Room, member: Own) -> None:
    one = parse_cluster(room.cluster_file.read_text(), "x")
    room.keep.begin_change()
    nodes = ("n2",)
    seen = []
    real = room.keep.advance
    room.keep.advance = lambda _: real(nodes)  # the only node of this test
    for _ in range(5):
        done = renew(member, one, "n2", force=False, port=room.port)
        seen.append((done.phase, done.renewed, done.trust_changed))
        assert own_identity(Certificates.of(member.folder)).node == "n2", "it could start again at any moment"
    assert seen == [
        ("introducing", False, True),
        ("changing", True, False),
        ("settled", False, True),
        ("settled", False, False),
        ("settled", False, False),
    ]


@pytest.mark.parametrize("kind", ["strangers", "garbage"])
def test_a_node_takes_no_trust_in_which_it_would_not_believe_itself(
    room: Room, member: Own, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    from hamail.pki import create_authority

    create_authority(tmp_path / "x", "mail")
    other = (tmp_path / "x" / "ca.pem").read_text() if kind == "strangers" else "garbage"
    real = room.issuer.answer

    def answer(request: object, peer: object) -> tuple[object, bool]:
        found, slow = real(request, peer)
        return (msgspec.structs.replace(found, authorities=other) if hasattr(found, "phase") else found), slow

    monkeypatch.setattr(room.issuer, "answer", answer)
    before = {p.name: p.read_bytes() for p in member.folder.iterdir()}
    with pytest.raises(SetupError):
        ask(room, member)
    assert {p.name: p.read_bytes() for p in member.folder.iterdir()} == before


def test_nobody_answers(room: Room, member: Own) -> None:
    room.port += 1
    with pytest.raises(SetupError, match="no node keeps the authority"):
        ask(room, member)
    assert x509.load_pem_x509_certificate(member.certificate.read_bytes()) and Noted()
