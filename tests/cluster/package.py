"""The package of hamail that the lab's nodes have, and one of a later version, as an upgrade needs."""

import re
import subprocess
import tempfile
from pathlib import Path

from tests.lab.image import PACKAGE_PLACE
from tests.lab.node import Node

LATER = "0.1.0+later"
TIMEOUT_S = 120


def installed(node: Node) -> Path:
    """The file that the node was made with, seen from outside."""
    (package,) = (node.root / PACKAGE_PLACE.lstrip("/")).glob("hamail_*.deb")
    return package


def make_later(node: Node) -> str:
    """The same with another version, on the node's disk; returns where it lies there."""
    made = installed(node).with_name("later.deb")
    with tempfile.TemporaryDirectory() as work:
        root = Path(work, "root")
        _run("dpkg-deb", "-R", str(installed(node)), str(root))
        _replace(root / "DEBIAN" / "control", r"(?m)^Version: .*$", f"Version: {LATER}")
        (code,) = root.glob("usr/lib/hamail/lib/python3*/site-packages/hamail")
        _replace(code / "__init__.py", r'__version__ = ".*"', f'__version__ = "{LATER}"')
        _run("dpkg-deb", "--root-owner-group", "-Znone", "-b", str(root), str(made))
    return f"{PACKAGE_PLACE}/{made.name}"


def _replace(file: Path, pattern: str, text: str) -> None:
    changed, count = re.subn(pattern, text, file.read_text())
    assert count == 1, f"{file}: {pattern} is there {count} times"
    file.write_text(changed)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=TIMEOUT_S)
