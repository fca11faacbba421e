"""Keeps this node's audit trail: what operators ask for, and every decision that is applied; tells the cluster how far
the trail has grown, so that nobody can shorten it unseen."""

import asyncio
import contextlib

import structlog

from hamail.audit.entry import Fact
from hamail.audit.reading import goes_on_from
from hamail.audit.trail import Trail
from hamail.daemon.shell import Shell, wall_ms
from hamail.model import commands as c
from hamail.model.commands import AnyCommand, Outcome
from hamail.model.ids import LogIndex

REPORT_EVERY_S = 60.0
SILENT = (c.Barrier, c.ReportAudit)  # they say nothing; and a report must not be a reason for the next one

log = structlog.get_logger("hamail.audit")


class AuditKeeper:
    def __init__(self, shell: Shell, trail: Trail) -> None:
        self._shell = shell
        self.trail = trail
        self._reported = 0
        self._compared = False  # with what the cluster knew of it before this start
        self._task: asyncio.Task[None] | None = None
        shell.machine.heard = self.decided

    def start(self) -> None:
        self.trail.start()
        self._task = asyncio.get_running_loop().create_task(self._report_often())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self.trail.stop)

    def asked(self, actor: str, what: str, reason: str, result: str) -> None:
        """An operator has asked for something."""
        self.trail.note(Fact(at_ms=wall_ms(), kind="request", actor=actor, what=what, reason=reason, result=result))

    def decided(self, index: LogIndex, command: AnyCommand, outcome: Outcome) -> None:
        """An entry of the log was applied here."""
        if isinstance(command, SILENT) or index <= self.trail.last_index:
            return
        self.trail.last_index = index
        told = [e.sentence for e in self._shell.engine.state.events[-8:] if e.index == index]
        result = "; ".join(outcome.reasons) if outcome.reasons else "accepted"
        self.trail.note(
            Fact(
                at_ms=command.at_ms,
                kind="decision",
                actor=command.actor,
                what=": ".join((type(command).__name__, " ".join(told))) if told else type(command).__name__,
                reason=command.reason,
                result=result,
                index=index,
            )
        )

    async def _report_often(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            sequence, digest = self.trail.head
            if sequence != self._reported and self._shell.consensus is not None and not self._shell.engine.problem:
                self._report(sequence, digest, anew=not self._compared and not await self._as_known())
                self._compared = True

    async def _as_known(self) -> bool:
        """While hamaild was not running, somebody may have written the trail anew, and as long as it was."""
        known = self._shell.engine.state.audit.get(self._shell.engine.me)
        if known is None:
            return True
        try:
            same = await asyncio.to_thread(goes_on_from, self.trail.path, known.sequence, known.digest)
        except OSError as error:
            log.warning("the audit trail cannot be read", error=str(error))
            return True  # it is not taken for changed; the next report says how far it goes
        if not same:
            log.warning("the audit trail of this node is not the one that the cluster knows", entry=known.sequence)
        return same

    def _report(self, sequence: int, digest: str, *, anew: bool) -> None:
        def done(outcome: object) -> None:
            if not isinstance(outcome, Outcome):
                return  # unknown: said again with the next one
            if outcome.accepted:
                self._reported = sequence
            elif not anew:
                log.warning("the cluster knows a longer audit trail of this node", why="; ".join(outcome.reasons))
                self._report(sequence, digest, anew=True)

        me = self._shell.engine.me
        command = c.ReportAudit(at_ms=wall_ms(), node=me, sequence=sequence, digest=digest, anew=anew)
        self._shell.propose(command, done)
