"""hamaild as a command: whose the journal is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOMEBODY = 12345


@pytest.mark.root
def test_root_makes_the_journal_as_the_owner_of_the_state_directory(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, SOMEBODY, SOMEBODY)
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    made = (
        "from pathlib import Path; from hamail.daemon.main import become_owner; from hamail.consensus.journal import"
        f" initialise; s = Path({str(state)!r}); become_owner(s); initialise(s / 'log', 'mail', 'n1')"
    )
    subprocess.run([sys.executable, "-c", made], check=True)
    files = [state / "log", *(state / "log").iterdir()]
    assert len(files) > 1
    assert {(f.stat().st_uid, f.stat().st_gid) for f in files} == {(SOMEBODY, SOMEBODY)}
