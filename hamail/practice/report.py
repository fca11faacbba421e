"""What a drill has shown: the facts of it, the figures, and the verdict. Pure. `schema` grows as everywhere."""

from msgspec import Struct

DRILL_SCHEMA = 1
PASSED, FAILED, ABORTED = "passed", "failed", "aborted"
TOLERANCE = 2.0  # without an objective: so many times what was expected still passes
TOLERANCE_MS = 2000  # and so much more at least


class Check(Struct, frozen=True, kw_only=True):
    """One question before the start. `ok` None: it could not be found out, which is no no."""

    name: str
    ok: bool | None
    detail: str = ""


class Expectation(Struct, frozen=True, kw_only=True):
    rto_ms: int
    limit_ms: int  # beyond it the drill has failed
    basis: str
    rpo: int = 0
    objective_ms: int | None = None
    steps: tuple[str, ...] = ()


class Phase(Struct, frozen=True, kw_only=True):
    name: str
    from_ms: float
    to_ms: float


class Gap(Struct, frozen=True, kw_only=True):
    """The outage of one service at the fault. `to_ms` None: it did not come back."""

    service: str
    from_ms: float
    to_ms: float | None

    @property
    def ms(self) -> float | None:
        return None if self.to_ms is None else self.to_ms - self.from_ms


class Told(Struct, frozen=True, kw_only=True):
    at_ms: int
    sentence: str


class Mails(Struct, frozen=True, kw_only=True):
    sent: int = 0
    acknowledged: int = 0
    found: int = 0
    lost: tuple[str, ...] = ()
    duplicated: int = 0
    corrupt: int = 0
    unknown: int = 0
    read: bool = False  # was the mailbox read back? Without that nothing is known of loss
    problem: str = ""


class DrillReport(Struct, frozen=True, kw_only=True):
    schema: int = DRILL_SCHEMA
    id: str
    name: str
    cluster: str
    group: str
    actor: str
    probed_from: str
    every_ms: int
    config_revision: int
    started_ms: float
    ended_ms: float
    source: str
    target: str = ""
    checks: tuple[Check, ...] = ()
    expected: Expectation
    fault_ms: float | None = None  # None: nothing was done
    fault: str = ""
    phases: tuple[Phase, ...] = ()
    told: tuple[Told, ...] = ()
    gaps: tuple[Gap, ...] = ()
    failed_checks: dict[str, int] = {}
    mails: Mails = Mails()
    sessions_held: dict[str, int] = {}
    sessions_dropped: dict[str, int] = {}
    redundant_ms: float | None = None  # from the fault until every node was able again; None: it was not reached
    aborted: str = ""
    notes: tuple[str, ...] = ()

    @property
    def rto_ms(self) -> int | None:
        """The longest outage that a client saw. None: no service was measured, or one did not come back."""
        lengths = [gap.ms for gap in self.gaps]
        if not lengths or any(ms is None for ms in lengths):
            return None
        return round(max(ms for ms in lengths if ms is not None))

    @property
    def rpo(self) -> int | None:
        """Acknowledged mails that are lost; None where the mailbox was not read back."""
        return len(self.mails.lost) if self.mails.read else None

    @property
    def _blind(self) -> bool:
        """Mail was sent to be read back, and the mailbox could not be read even in the end: a user could not either."""
        return bool(self.mails.sent and not self.mails.read and self.mails.problem)

    def failures(self) -> tuple[str, ...]:
        """Why it has not passed."""
        found = []
        if self.fault_ms is None:
            found.append("nothing was done: " + (self.fault or "the fault could not be made"))
            return tuple(found)
        rto, limit = self.rto_ms, self.expected.limit_ms
        if rto is None:
            gone = ", ".join(g.service for g in self.gaps if g.to_ms is None) or "no service"
            found.append(f"service did not come back: {gone}")
        elif rto > limit:
            found.append(f"the outage of {rto} ms is longer than {limit} ms")
        if self.mails.read and len(self.mails.lost) > self.expected.rpo:
            found.append(f"{len(self.mails.lost)} acknowledged mails are lost")
        if self.mails.corrupt:
            found.append(f"{self.mails.corrupt} mails are damaged")
        if self._blind:
            found.append(f"whether mail was lost could not be found out: {self.mails.problem}")
        if self.redundant_ms is None:
            found.append("the cluster is not redundant again")
        return tuple(found)

    @property
    def verdict(self) -> str:
        if self.aborted:
            return ABORTED
        return FAILED if self.failures() else PASSED

    def deviations(self) -> tuple[str, ...]:
        """What was otherwise than expected, also where it has passed."""
        found = list(self.failures())
        rto, expected = self.rto_ms, self.expected.rto_ms
        if rto is not None and rto <= self.expected.limit_ms and rto > 1.5 * expected:
            found.append(f"the outage took {rto} ms, about {expected} ms were expected")
        if self.mails.sent and not self.mails.read and not self._blind:
            found.append("whether mail was lost is not known: the mailbox was not read (--user, --password-file)")
        if not self.mails.sent:
            found.append("no mail was sent, so nothing is known of loss (--to, --user, --password-file)")
        if self.mails.duplicated:
            found.append(f"{self.mails.duplicated} mails were delivered twice, as SMTP allows after a lost answer")
        return tuple([*found, *self.notes])


def limit_ms(expected_ms: int, objective_ms: int | None) -> int:
    if objective_ms is not None:
        return objective_ms
    return max(round(TOLERANCE * expected_ms), expected_ms + TOLERANCE_MS)
