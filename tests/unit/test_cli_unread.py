"""Nobody reads the output any more (`| head`): an order is carried out all the same, and looking ends quietly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from control_fake import FakeBackend, serving

CONFIG = Path(__file__).parents[2] / "etc" / "cluster.toml"


def unread(socket: Path, *words: str, deaf: bool = False) -> subprocess.CompletedProcess[str]:
    """`deaf`: also what it says of errors."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [sys.executable, "-m", "hamail.cli.main", "--socket", str(socket), *words],
            stdout=writer,
            stderr=writer if deaf else subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize(
    "words",
    [("config", "apply", str(CONFIG), "--yes"), ("standby", "n2", "--yes", "--json"), ("clear", "mail")],
    ids=lambda words: words[0],
)
def test_an_order_is_carried_out(tmp_path, words, deaf):
    backend = FakeBackend()
    with serving(backend, tmp_path / "c"):
        done = unread(tmp_path / "c", *words, deaf=deaf)
    assert done.returncode == 0 and len(backend.submitted) == 1
    assert deaf or "nobody reads the output any more; the order is carried out all the same" in done.stderr


def test_what_only_looks_ends_without_a_word(tmp_path):
    with serving(FakeBackend(), tmp_path / "c"):
        done = unread(tmp_path / "c", "status")
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", [f"config apply {CONFIG} --yes", "standby n2 --yes", "clear mail --json"])
def test_an_order_is_carried_out_without_any_output(tmp_path, words, closed):
    backend, command = FakeBackend(), f"exec {sys.executable} -m hamail.cli.main --socket {tmp_path / 'c'} {words}"
    with serving(backend, tmp_path / "c"):
        done = subprocess.run(["/bin/sh", "-c", f"{command} {closed}"], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr, len(backend.submitted)) == (0, b"", 1)
