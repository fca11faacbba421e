"""Shared by the tests of the agents: load one in-process, give it an environment, private disks and namespaces."""

import contextlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
AGENTS = ROOT / "agents"
NAMES = ("vip", "filesystem", "postfix", "dovecot", "systemd")
SITE_PACKAGES = next(p for p in sys.path if p.endswith("site-packages"))


def load(name: str) -> ModuleType:
    sys.dont_write_bytecode = True  # no __pycache__ among the agents
    module_name = f"hamail_agent_{name}"
    loader = SourceFileLoader(module_name, str(AGENTS / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(module_name, loader))
    sys.modules[module_name] = module
    loader.exec_module(module)
    return module


@dataclass
class Answer:
    code: int
    out: str
    err: str
    took_ms: float

    @property
    def watched(self) -> list[int]:
        return [int(p) for p in re.findall(r"^hamail-watch: pid=(\d+) start=\d+$", self.out, re.MULTILINE)]

    @property
    def reason(self) -> str:
        found = re.findall(r"^ocf-exit-reason:(.*)$", self.err, re.MULTILINE)
        return found[-1] if found else ""


def call(module: ModuleType, action: str, environ: dict[str, str] | None = None, **parameters: str) -> Answer:
    full = {f"OCF_RESKEY_{k}": v for k, v in parameters.items()} | {"OCF_RESKEY_CRM_meta_interval": "10000"}
    out, err = io.StringIO(), io.StringIO()
    began = time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = module.main(["agent", action], full | (environ or {}))
    return Answer(int(code), out.getvalue(), err.getvalue(), (time.perf_counter() - began) * 1000)


def meta(**values: str) -> dict[str, str]:
    """What hamail's executor tells an agent."""
    return {f"OCF_RESKEY_CRM_meta_hamail_{k}": v for k, v in values.items()}


def sh(*words: str | Path) -> str:
    return subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def loop_device(image: Path) -> Iterator[str]:
    device = sh("losetup", "-f", "--show", image)
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=False)


@contextlib.contextmanager
def unmounted_after(directory: Path) -> Iterator[None]:
    try:
        yield
    finally:
        while os.path.ismount(directory):
            subprocess.run(["umount", "-l", str(directory)], check=True)
        subprocess.run(["chattr", "-i", str(directory)], check=False, capture_output=True)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that the services' own users can reach, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="hamail-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def installed(name: str, folder: Path, python: str = "/usr/bin/python3") -> Path:
    """A copy of the agent as an installation has it: with the interpreter's path in its first line."""
    target = folder / name
    text = (AGENTS / name).read_text()
    target.write_text(text.replace("#!/usr/bin/env python3", f"#!{python}", 1))
    target.chmod(0o755)
    return target


def need(program: str) -> None:
    """Missing tools fail, they do not skip: else nobody notices that a test has stopped running."""
    assert shutil.which(program), f"{program} is missing: see the list of packages that tests need"
