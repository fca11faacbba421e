"""This node's boot hold: the executor learns which groups there are, and makes sure that nothing of them is left here.

Once after each start of the executor, before the node joins; and again for a group that a change of the configuration
has added, or given other resources: it is granted to nobody before each of its nodes has said that nothing of it runs
there, e.g. started by hand.
"""

from typing import TYPE_CHECKING

from hamail.core.lease import MS
from hamail.model import actions as a
from hamail.model import commands as c
from hamail.model.ids import GroupName, LogIndex

if TYPE_CHECKING:
    from hamail.core.local import Local

RETRY_MS = 5000


class Cleaning:
    def __init__(self, local: "Local") -> None:
        self.l = local
        self.done = False  # the boot hold is over
        self.failed = False
        self.detail = "its executor has not said yet that nothing is left over"
        self.cleaned: dict[GroupName, LogIndex] = {}  # under which configuration
        self._told: LogIndex = 0  # the configuration under which a failure was told
        self._configured: LogIndex | None = None
        self._asked_ns: int | None = None

    def reconnected(self, done: bool) -> None:
        self.done, self.failed = done, False
        self.cleaned, self._told = {}, 0
        self.reconfigure()

    def reconfigure(self) -> None:
        self._configured = None
        self._asked_ns = None

    def notice(self, n: a.Cleaned) -> None:
        e = self.l.e
        # What a later search has found concerns the groups that it was for; this node could take the others before.
        self.done = n.ok or (self.done and n.config != 0)
        self.failed = not self.done
        self.detail = n.detail or "what was left over could not be cleaned up"
        self.cleaned = {**self.cleaned, **dict.fromkeys(n.groups, n.config)}
        if n.config != self._configured:
            self._asked_ns = None  # the configuration has changed meanwhile: search again at once
        if n.ok:
            return
        e.note("warning", f"cleaning up failed: {n.detail}")
        if self.done and self._told != n.config and self._open():
            self._told = n.config
            sentence = f"{e.me} cannot clean up what is left over of a group that has changed: {n.detail}"
            e.propose(f"unclean {n.config}", c.Annotate(at_ms=e.at_ms, node=e.me, event="node", sentence=sentence))

    def _open(self) -> tuple[GroupName, ...]:
        """Groups of this node that have changed, and of which the log does not know that nothing is left here."""
        state, me = self.l.e.state, self.l.e.me
        known = state.node(me).cleaned
        return tuple(
            name
            for name, spec in sorted(state.spec.groups.items())
            if me in spec.nodes and known.get(name, 0) < state.group(name).changed_at and name not in self.l.held
        )

    def step(self) -> None:
        self._configure()
        if self.l.joined:
            self._report()
        if self.l.e.state.maintenance.on or self.l.maintenance.suspended:
            return  # nothing is stopped now, also not what an executor that was replaced meanwhile has left running
        state, now_ns = self.l.e.state, self.l.e.now_ns
        new = [name for name in self._open() if self.cleaned.get(name, 0) < state.group(name).changed_at]
        due = self._asked_ns is None or now_ns - self._asked_ns >= RETRY_MS * MS
        if due and (not self.done or (self.l.joined and new)):
            self._asked_ns = now_ns
            self.l.ask(a.CleanUp(id=self.l.next_id()))

    def _configure(self) -> None:
        spec, config = self.l.e.state.spec, self.l.e.state.config.index
        if self._configured != config:
            self._configured = config
            groups = tuple(spec.groups[g] for g in sorted(spec.groups))
            self.l.ask(a.Configure(id=self.l.next_id(), cluster=spec.name, groups=groups, config=config))

    def _report(self) -> None:
        e = self.l.e
        found = {n: self.cleaned[n] for n in self._open() if self.cleaned.get(n, 0) >= e.state.group(n).changed_at}
        if found and self.l.incarnation is not None:
            done = c.CleanedUp(at_ms=e.at_ms, node=e.me, incarnation=self.l.incarnation, cleaned=found)
            e.propose(f"cleaned up {sorted(found.items())}", done)
