"""Since when each alert has been pending, as this node has seen it; and a line in its log when one comes or goes."""

import structlog
from msgspec.structs import replace

from hamail.model.alert import Alert

log = structlog.get_logger("hamail")


class Board:
    def __init__(self) -> None:
        self._since_ms: dict[tuple[str, str], int] = {}

    def see(self, pending: tuple[Alert, ...], at_ms: int) -> tuple[Alert, ...]:
        """The same alerts, each with its `since_ms`. What is not among them is over. `at_ms`: wall clock."""
        keys = {(a.name, a.subject) for a in pending}
        for name, subject in self._since_ms.keys() - keys:
            del self._since_ms[name, subject]
            log.info("alert is over", alert=name, subject=subject)
        for a in pending:
            if (a.name, a.subject) not in self._since_ms:
                self._since_ms[a.name, a.subject] = at_ms
                log.info("alert", alert=a.name, subject=a.subject, severity=a.severity.value, text=a.text)
        return tuple(replace(a, since_ms=self._since_ms[a.name, a.subject]) for a in pending)
