"""S4: no write lands under an older epoch than one that has landed. S4c: the claim on the storage never goes back."""

from typing import TYPE_CHECKING

from hamail.model.ids import GroupName
from hamail.ocf.claim import Claim

if TYPE_CHECKING:
    from hamail.simulation.checkers.checker import Checker


class Gate:
    """S4c holds under every hazard, also when the log itself grants twice: it is all that the claim promises."""

    def __init__(self, checker: "Checker") -> None:
        self._c = checker

    def late_write(self, group: GroupName, what: str) -> None:
        self._c.found("S4", group, what)

    def claimed(self, group: GroupName, before: Claim | None, claim: Claim) -> None:
        """A node that mounts has made its claim durable."""
        if before is None:
            return
        if (before.cluster, before.group) != (claim.cluster, claim.group):
            self._c.found("S4c", group, f"{claim.node} takes the storage of {before.group} for {claim.group}")
        if claim.epoch < before.epoch:
            self._c.found("S4c", group, f"{claim.node} claims under epoch {claim.epoch} after {before.epoch}")
        if claim.epoch == before.epoch and claim.node != before.node:
            self._c.found("S4c", group, f"{claim.node} claims under epoch {claim.epoch}, which is {before.node}'s")
