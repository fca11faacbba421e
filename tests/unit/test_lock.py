"""The lock: what is installed is what was tested, file by file."""

import os
import re
import subprocess
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("run", "dev", "audit", "build")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def entries(lock: str) -> dict[str, tuple[str, int]]:
    """name -> (version, number of hashes)"""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, pinned = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line).groups()  # type: ignore[union-attr]
            found[canonicalize_name(name)] = (pinned, line.count("--hash=sha256:"))
    return found


def asked(lock: str) -> list[Requirement]:
    extra = PROJECT["optional-dependencies"].get(lock, [])
    if lock == "build":
        return [Requirement("setuptools>=77")]
    return [Requirement(text) for text in [*PROJECT["dependencies"], *extra]]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_pinned_with_hashes(lock: str) -> None:
    found = entries(lock)
    assert found and all(hashes for _version, hashes in found.values())


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_has_what_the_project_asks_for(lock: str) -> None:
    found = entries(lock)
    for requirement in asked(lock):
        pinned = found.get(canonicalize_name(requirement.name))
        assert pinned is not None, f"{requirement.name} is not locked: make lock"
        assert requirement.specifier.contains(pinned[0], prereleases=True), (
            f"{requirement} against {pinned[0]}: make lock"
        )


def test_the_locks_agree_with_each_other() -> None:
    run = entries("run")
    for lock in ("dev", "audit"):
        assert run.items() <= entries(lock).items()


def test_the_lock_is_complete() -> None:
    """Also what our dependencies depend on; otherwise pip would refuse the lock, but only on a fresh machine."""
    run = entries("run")
    for name in run:
        for text in requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert canonicalize_name(needed.name) in run, f"{name} needs {needed.name}"


def test_what_runs_here_is_what_is_locked() -> None:
    different = {n: (v, version(n)) for n, (v, _hashes) in entries("run").items() if version(n) != v}
    assert not different, "make venv"


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_does_not_say_where_packages_come_from(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert "://" not in text and "--index" not in text and "--find-links" not in text and "--trusted" not in text


@pytest.mark.parametrize(("script", "lock"), [("setup.sh", "dev"), ("stage.sh", "run"), ("install.sh", "build")])
def test_set_up_and_installation_take_nothing_else(script: str, lock: str) -> None:
    text = (ROOT / "tools" / script).read_text().replace("\\\n", " ")
    installs = re.findall(r"pip(?:\"| -qq)? install (.*)", text)
    own = [line for line in installs if "--no-index" in line or "--no-deps --no-build-isolation -e ." in line]
    locked = [line for line in installs if line not in own]
    assert len(locked) == 1 and len(own) <= 1
    assert re.search(rf"--require-hashes -r requirements/{lock}\.txt", locked[0])


@pytest.mark.parametrize(
    ("says", "code", "word"),
    [
        ("echo 'ConnectionError: no route'; exit 1", 3, "NOT known"),
        ("echo 'Name Skip Reason'; echo 'x not found and could not be audited'", 3, "NOT known"),
        ("[ \"$1\" = --strict ] || exit 0; echo 'ERROR: x could not be audited'; exit 1", 3, "NOT known"),
        ("echo 'Name Version ID Fix'; echo 'x 1 Y-1 2'; exit 1", 1, "Y-1"),
        ("exit 0", 0, "no known hole"),
    ],
)
def test_an_audit_without_its_data_says_so(tmp_path: Path, says: str, code: int, word: str) -> None:
    for name, script in (("bandit", "exit 0"), ("pip-audit", says)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    words = [str(ROOT / "tools" / "audit.sh"), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    assert done.returncode == code and word in done.stdout + done.stderr
