"""Run a service's own commands from an agent."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass

from hamail.ocf.codes import Code, Failure
from hamail.ocf.units import CLEAN

OUTPUT_BYTES = 4096


@dataclass(frozen=True)
class Done:
    code: int
    output: str


def need(program: str) -> str:
    """Full path. Raises Failure(INSTALLED)."""
    found = shutil.which(program, path=CLEAN["PATH"])
    if found is None:
        raise Failure(Code.INSTALLED, f"{program} is not installed on this node")
    return found


def run(words: list[str], seconds: float) -> Done:
    """Output goes to a file, not a pipe: a daemon that keeps it open must not make us wait for its end.

    Raises Failure when it does not end in time (outcome unknown) or cannot be run.
    """
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=CLEAN,
                timeout=seconds,
                check=False,
                cwd="/",
            )
        except subprocess.TimeoutExpired:
            raise Failure(
                Code.GENERIC, f"{' '.join(words)} did not end within {seconds:.0f} s; outcome unknown"
            ) from None
        except (FileNotFoundError, PermissionError):
            raise Failure(Code.INSTALLED, f"{words[0]} is not installed on this node") from None
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - OUTPUT_BYTES))
        return Done(done.returncode, output.read().decode(errors="replace").strip())
