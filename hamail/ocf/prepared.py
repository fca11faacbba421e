"""What an agent found out ahead of its start, so that a start in an emergency need not ask again.

hamail calls validate-all with the evidence "prepare" when a node has cleaned up, and for addresses again while the
group waits for the proof that its former owner is out: read-only questions, and the lock on a bare mount point.
Without it (and under other cluster managers) the start asks by itself.

Two kinds of answer: one that is true for a moment (`keep`, `take`), and one that is true as long as the files it was
read from are the same (`remember`, `recall`).
"""

import json
from pathlib import Path

from hamail.ocf.detached import forget, note, noted
from hamail.ocf.process import boottime_s

FRESH_S = 3.0
FILES_MAX = 500  # more than this below a configuration folder: not worth reading, ask again


def keep(name: str, text: str = "") -> None:
    # in full: rounded up the moment would lie in the future
    note(f"{name}.prepared", f"{boottime_s()!r} {text}")


def take(name: str) -> str | None:
    """The text kept a moment ago, once; None when there is none or it is not fresh."""
    moment, _, text = noted(f"{name}.prepared").partition(" ")
    if not moment:
        return None
    forget(f"{name}.prepared")
    try:
        age_s = boottime_s() - float(moment)
    except ValueError:
        return None
    return text if 0 <= age_s <= FRESH_S else None


def remember(name: str, text: str, mark: str) -> None:
    """Keep `text` as long as the files stay as they were for `mark`, a fingerprint taken before they were read."""
    note(f"{name}.remembered", json.dumps([mark, text]))


def recall(name: str, folder: Path) -> str | None:
    try:
        print_then, text = json.loads(noted(f"{name}.remembered") or "null")
    except (ValueError, TypeError):
        return None
    return str(text) if print_then and print_then == fingerprint(folder) else None


def fingerprint(folder: Path) -> str:
    """Changes with any file below; empty when there are too many files, or they cannot be seen."""
    marks = []
    try:
        for path in folder.rglob("*"):
            s = path.stat()
            marks.append(f"{path} {s.st_ino} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns}")
            if len(marks) > FILES_MAX:
                return ""
    except OSError:
        return ""
    return "\n".join(sorted(marks))
