"""`hamailctl init`: what it looks at, what it refuses, and that it does all or nothing."""

from pathlib import Path

import pytest

from hamail.config import parse_cluster
from hamail.config.load import load_node
from hamail.pki.keep import Keep
from hamail.setup import first
from hamail.setup.answers import read_fence, read_named
from hamail.setup.draft import cluster_toml, node_toml
from hamail.setup.place import RECORD, File, Placement
from hamail.setup.problem import SetupError
from hamail.transport.certificates import Certificates, own_identity
from tests.unit.setup_kit import DEVICE, Bench, answers, layout, make_bench, no_journal

__all__ = ["no_journal"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    root = tmp_path / "root"
    root.mkdir()
    return make_bench(root)


def plan(bench: Bench, **changes: object) -> first.FirstPlan:
    return first.plan(answers(bench.root, **changes), bench, layout(bench.root))


def tree(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


# What is written


def test_the_configuration_says_what_was_answered(bench: Bench) -> None:
    spec = plan(bench).spec
    assert (spec.name, sorted(spec.nodes), spec.nodes["n3"].witness) == ("mail", ["n1", "n2", "n3"], True)
    assert spec.fencing["pdu"].secret_files == {"password": "/etc/hamail/secrets/pdu"}
    parameters = {r.name: r.parameters for r in spec.groups["mail"].resources}
    assert parameters["storage"] == {"device": DEVICE, "directory": "/srv/mail", "fstype": "ext4"}
    assert parameters["vip"] == {"address": "10.0.0.100/24", "interface": "eth0"}
    assert spec.nodes["n1"].watchdog_device == "/dev/watchdog"


@pytest.mark.parametrize(
    "changes",
    [
        {"fences": (), "unsafe_reason": 'a "test" \\ only'},
        {"watchdog": ""},
        {"virtual": True},
        {"vips": ("10.0.0.100/24", "fd00::100/64")},
        {"cluster": "post-2"},
    ],
)
def test_every_kind_of_answer_makes_a_good_configuration(tmp_path: Path, changes: dict) -> None:
    given = answers(tmp_path, **changes)
    spec = parse_cluster(cluster_toml(given), "x")
    assert spec.groups["mail"].unsafe_reason == (given.unsafe_reason or None)
    assert all(line == line.rstrip() for line in cluster_toml(given).splitlines())
    assert max(map(len, cluster_toml(given).splitlines())) <= 130


def test_the_secret_is_in_no_configuration_and_no_message(bench: Bench) -> None:
    made = plan(bench)
    assert made.secrets == {"/etc/hamail/secrets/pdu": "canary\n"}
    assert "canary" not in made.configuration and "canary" not in repr(made)


def test_the_first_node_is_whole(bench: Bench, no_journal: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    made, place = plan(bench), layout(bench.root)
    inside(monkeypatch, bench)
    (bench.root / "keep").mkdir()
    first.settle(made, bench, place, keep=bench.root / "keep", apply_mail=False)
    own = own_identity(Certificates.of(place.etc / "pki"))
    assert (own.cluster, own.node) == ("mail", "n1")
    assert load_node(place.etc / "node.toml").watchdog_device == "/dev/watchdog"
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in place.etc.rglob("*") if p.is_file()}
    assert modes == {
        "ca.pem": "0o640",
        "node.pem": "0o640",
        "cluster.toml": "0o644",
        "node.toml": "0o644",
        "pdu": "0o600",
    }
    assert Keep(bench.root / "keep").state.joined == ("n1",) and no_journal == [False]
    assert not (place.etc / RECORD).exists()


def inside(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    """Secrets are named by their place on a real machine; here that is below the folder."""
    real = first.files_of

    def files_of(*words: object, **named: object) -> list[File]:
        named["secrets"] = {str(bench.path(path)): text for path, text in named["secrets"].items()}
        return real(*words, **named)

    monkeypatch.setattr(first, "files_of", files_of)


# All or nothing


@pytest.mark.parametrize("step", ["authority", "files", "journal", "interrupt"])
def test_whatever_fails_nothing_is_left(
    bench: Bench, no_journal: list[bool], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    made, place = plan(bench), layout(bench.root)
    inside(monkeypatch, bench)
    before = tree(bench.root)

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt if step == "interrupt" else SetupError("the disk is full", "make room")

    target = {
        "authority": ("hamail.setup.first.Keep.certify", fail),
        "files": ("hamail.setup.place.write_whole", refuse_node_toml),
        "journal": ("hamail.setup.node.initialise_journal", fail),
        "interrupt": ("hamail.setup.node.initialise_journal", fail),
    }[step]
    monkeypatch.setattr(*target)
    with pytest.raises(KeyboardInterrupt if step == "interrupt" else SetupError) as caught:
        first.settle(made, bench, place, keep=bench.root / "keep", apply_mail=False)
    assert tree(bench.root) == before
    assert not (bench.root / "keep").exists()
    if step != "interrupt":
        assert "everything was taken back" in caught.value.reason


def refuse_node_toml(disk: object, path: Path, data: bytes, **named: object) -> None:
    if path.name == "node.toml":
        raise OSError(28, "No space left on device")
    path.write_bytes(data)
    path.chmod(named.get("mode", 0o600))


def test_a_set_up_that_was_cut_off_is_taken_back_by_the_next(tmp_path: Path) -> None:
    """As if the power had gone between any two of its writes."""
    files = [File(path=tmp_path / "etc" / name, content=b"x", mode=0o600) for name in ("a", "b", "sub/c")]
    for written in range(len(files) + 1):
        placement = Placement(tmp_path / "etc")
        placement.begin(files, [tmp_path / "keep"])
        (tmp_path / "keep").mkdir()
        placement.place(files[:written])
        after = Placement(tmp_path / "etc")
        assert len(after.recover()) == written + 1
        assert [p for p in tmp_path.rglob("*") if p.is_file()] == [] and not (tmp_path / "keep").exists()
        assert Placement(tmp_path / "etc").recover() == ()


def test_what_is_there_is_not_overwritten(
    bench: Bench, no_journal: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, place = plan(bench), layout(bench.root)
    inside(monkeypatch, bench)
    first.settle(made, bench, place, keep=bench.root / "keep", apply_mail=False)
    before = tree(bench.root)
    with pytest.raises(SetupError, match="set up already; nothing was changed") as caught:
        plan(bench)
    assert len(caught.value.reasons) == 4 and all("exists" in reason for reason in caught.value.reasons)
    with pytest.raises(SetupError, match="authority is kept on this machine already"):
        first.settle(made, bench, place, keep=bench.root / "keep", apply_mail=False)
    assert tree(bench.root) == before


# What it refuses


@pytest.mark.parametrize(
    ("changes", "said", "hint"),
    [
        ({"device": "/dev/sdb1"}, "may be another disk after the next boot", "Use: /dev/disk/by-uuid/1234-5678"),
        ({"device": "/dev/nvme0n1p2"}, "may be another disk", "ls -l /dev/disk"),
        ({"device": "/dev/disk/by-id/none"}, "No such file", "lsblk"),
        ({"fstype": "xfs"}, "has a file system of type ext4, not xfs", "--fstype ext4"),
        (
            {"nodes": {"n1": "10.0.0.21", "n2": "10.0.0.12"}},
            "no address of these nodes is one of this machine",
            "--node",
        ),
        (
            {"witness": {"n3": "10.0.0.11"}, "nodes": {"n1": "10.0.0.21", "n2": "10.0.0.12"}},
            "the witness",
            "mail servers",
        ),
        ({"interface": "eth9"}, "does not fit", ""),
        ({"vips": ("10.9.0.100/24",)}, "make no configuration", ""),
        ({"vips": ("10.0.0.100",)}, "make no configuration", ""),
        ({"nodes": {"n1": "10.0.0.11"}}, "make no configuration", ""),
        ({"fences": ()}, "make no configuration", ""),
        ({"cluster": "Mail"}, "make no configuration", ""),
        ({"mount": "srv"}, "make no configuration", ""),
    ],
)
def test_refused_with_a_reason_and_nothing_written(bench: Bench, changes: dict, said: str, hint: str) -> None:
    answers(bench.root)  # its password file
    before = tree(bench.root)
    with pytest.raises(SetupError) as caught:
        plan(bench, **changes)
    assert said in caught.value.reason and hint in caught.value.hint
    assert tree(bench.root) == before


def test_a_device_without_a_file_system(bench: Bench) -> None:
    bench.said[("blkid",)] = (2, "")
    with pytest.raises(SetupError, match="has no file system") as caught:
        plan(bench)
    assert caught.value.hint.endswith(f"mkfs.ext4 {DEVICE}")


@pytest.mark.parametrize(
    "line",
    [
        "UUID=1234-5678 /mnt/other ext4 defaults 0 2",
        "/dev/sdb1 /mnt/other ext4 defaults 0 2",
        "/dev/disk/by-uuid/1234-5678 /mnt ext4 rw 0 2",
        "/dev/sdz9 /srv/mail/ ext4 defaults 0 2",
    ],
)
def test_storage_that_the_boot_mounts_is_refused(bench: Bench, line: str) -> None:
    (bench.root / "etc/fstab").write_text(f"# first\n{line}\n")
    with pytest.raises(SetupError, match="line 2 mounts the shared storage at boot"):
        plan(bench)
    (bench.root / "etc/fstab").write_text(
        f"# first\n{line.replace('defaults', 'noauto').replace(' rw ', ' noauto ')}\n"
    )
    plan(bench)


def test_storage_that_is_mounted_now_is_told(bench: Bench) -> None:
    (bench.root / "proc/self/mountinfo").write_text("30 1 8:17 / /srv/mail rw - ext4 /dev/sdb1 rw\n")
    assert any("is mounted at /srv/mail now" in remark for remark in plan(bench).remarks)
    assert bench.proposed_devices() == []


def test_what_is_proposed(bench: Bench) -> None:
    import ipaddress

    assert bench.proposed_devices() == ["/dev/disk/by-uuid/1234-5678"]
    assert bench.interface_for(ipaddress.ip_interface("10.0.0.100/24")) == "eth0"
    assert bench.interface_for(ipaddress.ip_interface("fd00::100/64")) == "eth1"
    assert bench.interface_for(ipaddress.ip_interface("10.5.0.100/24")) == ""
    assert bench.watchdog() == "/dev/watchdog"
    assert bench.addresses() == ("10.0.0.11", "fd00::11")


# What is said on the command line

NODES = {"n1": "10.0.0.11", "n2": "10.0.0.12"}


def test_a_fence_device_in_one_text() -> None:
    fence = read_fence("pdu fence_apc_snmp n1=1 n2=2 ip=10.0.0.250 password=@/root/p other=@/root/q", NODES)
    assert fence.targets == {"n1": "1", "n2": "2"} and fence.parameters == {"ip": "10.0.0.250"}
    assert fence.secret_file("password") == "/etc/hamail/secrets/pdu"
    assert fence.secret_file("other") == "/etc/hamail/secrets/pdu.other"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "begins with a name"),
        ("pdu", "begins with a name"),
        ("pdu n1=1", "begins with a name"),
        ("pdu fence_x ip=1", "names no node"),
        ("pdu fence_x n1", "'n1' has no value"),
        ("pdu fence_x n1=", "'n1' has no value"),
        ("PDU fence_x n1=1", "is no name"),
        ("pdu fence_x n1=1 password=canary", "password is a secret"),
        ("pdu fence_x n1=1 passwd=canary", "passwd is a secret"),
    ],
)
def test_a_fence_device_that_is_none(text: str, said: str) -> None:
    with pytest.raises(SetupError, match=said) as caught:
        read_fence(text, NODES)
    assert "canary" not in caught.value.reason + caught.value.hint


@pytest.mark.parametrize("text", ["", "n1", "n1=", "=10.0.0.11", " = "])
def test_a_node_without_name_or_address(text: str) -> None:
    with pytest.raises(SetupError, match="not of the form NAME=ADDRESS"):
        read_named(text, "--node")


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"", "is empty"), (b" \n", "is empty")])
def test_a_secret_that_cannot_be_read(bench: Bench, content: bytes | None, said: str) -> None:
    given = answers(bench.root)
    file = Path(given.fences[0].secrets["password"])
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(SetupError, match=said):
        first.plan(given, bench, layout(bench.root))


def test_a_witness_has_no_watchdog() -> None:
    assert "watchdog" not in node_toml("n3", None, "join")
