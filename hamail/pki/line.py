"""The line of certificates of one node: each new one takes the place of the one before.

Whoever shows a certificate that was followed by another one is not the node, or the node as it was in a backup.
"""

from msgspec import Struct
from msgspec.structs import replace

from hamail.model.serials import number_of


class Line(Struct, frozen=True, kw_only=True):
    """Serials are hexadecimal. `before` counts only as long as nobody has shown the newest: its answer may be lost."""

    newest: str = ""
    before: str = ""
    issued_at: str = ""  # wall clock, ISO 8601; for display, like all that follows
    misused_at: str = ""  # when an old one was shown, the first time since the newest was issued
    misused_from: str = ""

    def good(self, serial: int) -> bool:
        """An empty line knows nothing yet: it begins with what is shown first. What was issued after the newest that we
        know of is good as well: our memory is then that of a backup, and only the authority can have issued it."""
        known = (self.newest, self.before)
        return not self.newest or _text(serial) in known or number_of(serial) > number_of(int(self.newest, 16))

    def shown(self, serial: int) -> "Line":
        """After a good one was shown."""
        if _text(serial) == self.before:
            return self
        if _text(serial) == self.newest:
            return self if not self.before else replace(self, before="")
        return Line(newest=_text(serial))

    def followed(self, serial: int, at: str) -> "Line":
        """A new one is issued: to the holder of the one that was shown last, or to whoever joins in its place."""
        return Line(newest=_text(serial), before=self.before or self.newest, issued_at=at)

    def misused(self, at: str, host: str) -> "Line":
        return self if self.misused_at else replace(self, misused_at=at, misused_from=host)


def _text(serial: int) -> str:
    return f"{serial:x}"
