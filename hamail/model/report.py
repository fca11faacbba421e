"""What one node tells of itself and its links when `hamailctl doctor` asks; never older than a few seconds."""

from msgspec import Struct

from hamail.model.actions import WatchdogStatus
from hamail.model.ids import DeviceName, NodeName
from hamail.model.machine import MachineFacts


class LinkFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The way from the reporting node to another and back, measured through hamail's own links."""

    silent_ms: int  # since the last heartbeat from there
    rtt_us: int | None = None  # the quickest of a few; None: no answer
    offset_us: int | None = None  # its wall clock less ours; the true value is at most rtt / 2 away


class NodeReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    at_ms: int  # wall clock of the reporting node
    version: str = ""
    links: dict[NodeName, LinkFacts] = {}
    watchdog: WatchdogStatus | None = None  # None: no executor here
    fence_ready: dict[DeviceName, str] = {}  # as in a heartbeat, but asked for just now
    machine: MachineFacts | None = None
    machine_problem: str = ""  # why there is none
