"""`ocf-tester` of the distribution's resource-agents passes on our agents, installed as an operator has them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agents_mail_room import dovecot_parameters, inside, mail_room, postfix_parameters
from agents_support import ROOT, SITE_PACKAGES, installed, loop_device, need, open_folder, sh

pytestmark = pytest.mark.root
TESTER = "/usr/sbin/ocf-tester"
PASSED = "passed all tests"
PYTHON = "/usr/bin/python3"


@contextmanager
def installation() -> Iterator[tuple[Path, dict[str, str]]]:
    """Agents and library where also `nobody` can read them: ocf-tester asks for the meta-data as that user."""
    need(TESTER)
    need("xmllint")
    version = sh(PYTHON, "-c", "import sys; print(sys.version_info[:2])")
    assert version == str(sys.version_info[:2]), f"{PYTHON} is {version}: the compiled libraries do not fit"
    with open_folder() as folder:
        library = folder / "lib"
        shutil.copytree(ROOT / "hamail", library / "hamail", ignore=shutil.ignore_patterns("__pycache__"))
        for package in ("pyroute2", "msgspec"):
            shutil.copytree(Path(SITE_PACKAGES) / package, library / package)
        yield folder, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(library), "OCF_ROOT": "/usr/lib/ocf"}


def options(parameters: dict[str, str]) -> list[str]:
    return [word for key, value in parameters.items() for word in ("-o", f"{key}={value}")]


def test_vip() -> None:
    name = f"ha-ocf-{os.getpid()}"
    with installation() as (folder, environ):
        agent = installed("vip", folder, PYTHON)
        sh("ip", "netns", "add", name)
        try:
            sh("ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
            for link in ("lo", "eth0", "eth1"):
                sh("ip", "-n", name, "link", "set", link, "up")
            words = [TESTER, "-n", "vip", *options({"address": "10.9.8.100/24", "interface": "eth0"}), str(agent)]
            done = subprocess.run(
                ["ip", "netns", "exec", name, *words], env=environ, capture_output=True, text=True, check=False
            )
        finally:
            subprocess.run(["ip", "netns", "del", name], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert PASSED in done.stdout


def test_filesystem() -> None:
    with installation() as (folder, environ):
        agent = installed("filesystem", folder, PYTHON)
        image = folder / "lun.img"
        with image.open("wb") as file:
            file.truncate(64 << 20)
        sh("mkfs.ext4", "-q", "-F", image)
        with loop_device(image) as loop:
            (folder / "lun").symlink_to(loop)
            given = {"device": str(folder / "lun"), "directory": str(folder / "mail")}
            words = [TESTER, "-n", "fs", *options(given), str(agent)]
            done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
        subprocess.run(["chattr", "-i", folder / "mail"], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert PASSED in done.stdout


@pytest.mark.parametrize("name", ["postfix", "dovecot"])
def test_mail(name: str) -> None:
    with installation() as (folder, environ), mail_room(folder) as room:
        agent = installed(name, folder, PYTHON)
        given = postfix_parameters(str(folder)) if name == "postfix" else dovecot_parameters(str(folder))
        done = inside(room | environ, TESTER, "-n", name, *options(given), agent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert PASSED in done.stdout
