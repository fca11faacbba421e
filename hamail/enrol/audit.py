"""What the issuer did and refused, one JSON object a line, appended and never changed."""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

FILE = "audit.jsonl"
FILE_BYTES_MAX = 16 << 20  # then the older half of the story is in FILE.1, and a still older one is gone
TEXT_MAX = 300

log = logging.getLogger("hamail.issuer")


class Audit:
    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def note(self, what: str, **details: object) -> None:
        """Raises OSError: what cannot be noted is not done."""
        shortened = {key: str(value)[:TEXT_MAX] for key, value in details.items() if value not in ("", None)}
        line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), "what": what, **shortened})
        if self.path.exists() and self.path.stat().st_size > FILE_BYTES_MAX:
            self.path.replace(self.path.with_name(f"{FILE}.1"))
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, line.encode() + b"\n")
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        log.info("%s", line)

    def last(self, count: int) -> list[dict[str, str]]:
        try:
            lines = self.path.read_text(errors="replace").splitlines()[-count:]
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
