"""hamailctl doctor against the real control server: what is asked, shown, and how it ends."""

import json
import tomllib
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from control_fake import FakeBackend, serving
from dns_zone import serving as serving_names
from doctor_support import HOST, SPEC, VIP, machine, report, status, with_storage

from hamail.cli.main import cli
from hamail.control.client import ControlClient, SurelyNotDone
from hamail.control.reports import ASKERS_MAX
from hamail.doctor import document, here
from hamail.doctor import served as served_module
from hamail.model.machine import MachineFacts

ROOT = Path(__file__).parents[2]


class Backend(FakeBackend):
    """The healthy pair of doctor_support behind the scripted state."""

    def __init__(self) -> None:
        super().__init__()
        self.found = {name: report(name) for name in SPEC.nodes}
        self.silent: dict[str, str] = {}
        self._state = msgspec.structs.replace(self._now(), spec=SPEC)
        self.state = lambda: self._state  # type: ignore[method-assign]

    def _now(self):
        return super().state()

    def status(self):
        return status()

    async def reports(self):
        return self.found, self.silent


@pytest.fixture(autouse=True)
def nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The floating address is nobody's, and must not be asked for."""
    monkeypatch.setattr(served_module, "look", lambda *_args, **_kw: {})


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def run(backend: Backend, tmp_path: Path):
    with serving(backend, tmp_path / "c.sock"):

        def run_it(*words: str):
            env = {"HAMAIL_SOCKET": str(tmp_path / "c.sock"), "COLUMNS": "80"}
            return CliRunner().invoke(cli, ["doctor", "--node-config", str(tmp_path / "none"), *words], env=env)

        yield run_it


def test_a_healthy_pair(run) -> None:
    result = run("--no-dns")
    assert result.exit_code == 0, result.output
    assert "Nodes and links" in result.output and "FAIL" not in result.output and "No failure." in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_a_failure_is_named_with_its_remedy_and_the_exit_code(run, backend: Backend) -> None:
    backend.found["n2"] = report("n2", machine("n2", **with_storage("n2", bare="open")))
    result = run("--no-dns", "--only", "storage")
    assert result.exit_code == 1
    assert "FAIL" in result.output and "chattr +i /srv/mail" in " ".join(result.output.split())
    assert "1 failure" in result.output and "Postfix\n" not in result.output


def test_a_silent_node_is_unknown_and_no_failure(run, backend: Backend) -> None:
    del backend.found["n2"]
    backend.silent["n2"] = "n2 has not answered within 12 s"
    result = run("--no-dns")
    assert result.exit_code == 0 and "n2 has not answered within 12 s" in " ".join(result.output.split())


def test_json(run, backend: Backend) -> None:
    backend.found["n2"] = report("n2", machine("n2", fstab=("/dev/sdb /srv/mail",)))
    result = run("--no-dns", "--json", "--quiet")
    body = json.loads(result.stdout)
    assert result.exit_code == 1 and body["counts"]["fail"] == 1 and body["counts"]["ok"] > 20
    (line,) = [line for line in body["lines"] if line["verdict"] == "fail"]
    assert (line["check"], line["area"], line["subject"]) == ("storage-fstab", "storage", "n2")
    assert line["remedy"] and not [one for one in body["lines"] if one["verdict"] == "ok"]


def test_names_are_asked_of_the_given_server(run) -> None:
    with serving_names(f"{HOST}. 300 IN A {VIP}", f"example.org. 300 IN MX 10 {HOST}.") as (port, server):
        result = run("--only", "dns", "--nameserver", f"127.0.0.1#{port}", "--selector", "s1")
    assert result.exit_code == 1 and "s1._domainkey.example.org: is not published" in " ".join(result.output.split())
    assert f"{HOST}. A" in server.asked


def test_node_toml_says_what_to_ask(run, tmp_path: Path) -> None:
    with serving_names(f"other.example.net. 300 IN A {VIP}") as (port, server):
        (tmp_path / "none").write_text(
            'node = "n1"\n[doctor]\nhostname = "other.example.net"\ndomains = ["example.net"]\n'
        )
        run("--only", "dns", "--nameserver", f"127.0.0.1#{port}")
    assert "other.example.net. A" in server.asked and "example.net. MX" in server.asked


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--only", "nothing"), 2, "is not one of"),
        (("--only", "dns", "--nameserver", "ns.example.org"), 2, "does not appear to be an IPv4 or IPv6 address"),
        (("--before-start", "--config", "/nonexistent"), 3, "/nonexistent"),
    ],
)
def test_refused(run, words: tuple[str, ...], code: int, said: str) -> None:
    result = run(*words)
    assert result.exit_code == code and said in result.output, result.output


def test_a_broken_node_toml_is_named(run, tmp_path: Path) -> None:
    (tmp_path / "none").write_text("node = 1")
    result = run("--no-dns")
    assert result.exit_code == 3 and "expected a text" in result.output


def test_without_hamaild_it_says_how_to_go_on(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["--socket", str(tmp_path / "none"), "doctor"])
    assert result.exit_code == 4 and "hamailctl doctor --before-start" in result.output


def test_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this very machine, as n1 of a cluster on loopback addresses."""
    source = (ROOT / "etc/cluster.toml").read_text()
    for number in (1, 2, 3):
        source = source.replace(f"10.0.0.1{number}", f"127.0.0.{number}")
    source = source.replace('# network_check = "off"', 'network_check = "off"')
    file = tmp_path / "cluster.toml"
    file.write_text(source)
    assert tomllib.loads(source)
    monkeypatch.setattr(here, "CONNECT_TIMEOUT_S", 0.5)
    words = ["doctor", "--before-start", "--no-dns", "--config", str(file), "--node-config", str(tmp_path / "x")]
    result = CliRunner().invoke(cli, [*words, "--json"])
    body = json.loads(result.stdout)
    assert body["before_start"]
    lines = {(line["check"], line["subject"]): line for line in body["lines"]}
    assert "hamaild does not run there yet" in lines["nodes-links", "to n2"]["reason"]
    assert lines["nodes-looked-at", "n2"]["verdict"] == "unknown"
    assert ("storage-device", "mail/storage on n1") in lines


def test_a_look_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here.sys, "executable", "/bin/false")
    found = here.look(SPEC)
    assert found.machine is None and "cannot be looked at" in found.machine_problem


def test_a_look_at_this_machine() -> None:
    assert isinstance(here.look(SPEC).machine, MachineFacts)


def test_too_many_askers_are_sent_away(backend: Backend, tmp_path: Path) -> None:
    with serving(backend, tmp_path / "c.sock"):
        import asyncio
        import threading

        release = threading.Event()

        async def slow():
            while not release.is_set():
                await asyncio.sleep(0.01)
            return {}, {}

        backend.reports = slow  # type: ignore[method-assign]
        results: list[object] = []

        def ask() -> None:
            try:
                results.append(ControlClient(tmp_path / "c.sock").reports())
            except SurelyNotDone as error:
                results.append(error)
                release.set()

        threads = [threading.Thread(target=ask) for _ in range(ASKERS_MAX + 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert sum(isinstance(r, SurelyNotDone) for r in results) == 1 and len(results) == ASKERS_MAX + 1


def test_the_document_is_current() -> None:
    told = (ROOT / "docs/doctor.md").read_text()
    assert told == document.document(), "python -m hamail.doctor.document >docs/doctor.md"
