"""What the control API needs from the daemon. `hamaild` implements it; tests use a fake."""

from typing import Protocol

from hamail.control.api import Why
from hamail.model.commands import AnyCommand, Outcome, Unknown
from hamail.model.ids import GroupName, LogIndex, NodeName, RequestId
from hamail.model.leaving import Leaving
from hamail.model.preflight import Preflight, PreflightAsk
from hamail.model.report import NodeReport
from hamail.model.situation import Situation
from hamail.model.spec import ClusterSpec
from hamail.model.state import ClusterState
from hamail.model.status import Status
from hamail.model.timings import Timings


class NotProposed(Exception):
    """Raised by `Backend.submit` when the command surely never left this node; the text says why, in words."""


class Backend(Protocol):
    def status(self) -> Status:
        """What this node knows and hears right now."""

    def state(self) -> ClusterState:
        """The replicated state as applied on this node."""

    def timings(self) -> Timings:
        """All durations that follow from the applied configuration."""

    def why(self, group: GroupName) -> tuple[str, ...]:
        """Why the group is where it is, in sentences. The group exists."""

    def account(self, number: LogIndex) -> Why | None:
        """Why an event or a move came about, from the log alone; None when the history does not have it."""

    def situation(self) -> Situation:
        """All that decisions are made from, as this node knows it."""

    def preflight(self, ask: PreflightAsk, report: NodeReport | None = None) -> Preflight:
        """What is found before an order. Group, nodes and the order exist; `report` is the target's word, if any."""

    async def report_of(self, node: NodeName) -> NodeReport | str:
        """What a node sees of its machine and its links, asked now; or why there is nothing."""

    def leaving(self, group: GroupName, node: NodeName) -> Leaving:
        """What would follow at once if this maintenance ended now; "" and "": that of the whole cluster."""

    def check_config(self, source: str) -> tuple[ClusterSpec | None, tuple[str, ...], tuple[str, ...]]:
        """Read TOML: the spec (None when there are problems), the problems, and the changes against the applied one."""

    async def check_config_elsewhere(self, source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Why other mail nodes could not use it, and which of them cannot be asked; each sentence names its node."""

    def config_effects(self, spec: ClusterSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Why it cannot be applied now, and what it would do to what runs. In sentences."""

    async def submit(self, command: AnyCommand) -> Outcome | Unknown:
        """Propose and return when the command has been applied on this node, or when nobody can tell.

        A command whose `request` id was applied before has no second effect and gives the first answer.
        Raises `NotProposed` when the command surely never left.
        """

    def note_refusal(self, request: RequestId, actor: str, reason: str, what: str, group: GroupName, why: str) -> None:
        """Let the history keep that an order was refused before it reached the log. Nobody waits for it."""

    async def wait_applied(self, after: int, timeout_ms: int) -> int:
        """Return the applied index as soon as it is greater than `after`, or after `timeout_ms`."""

    async def reports(self) -> tuple[dict[NodeName, NodeReport], dict[NodeName, str]]:
        """What every node sees of its machine and its links, asked now; and of the silent ones why there is nothing."""

    def now_ms(self) -> int:
        """Wall clock, for display only."""
