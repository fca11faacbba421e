"""A whole trial as data: the cluster, its faults, what stays broken. It can be run again, cut down, and kept."""

from pathlib import Path

import msgspec
from msgspec import Struct

from hamail.model.ids import NodeName
from hamail.simulation.faults import Fault
from hamail.simulation.trial.settings import Settings


class Plan(Struct, frozen=True, kw_only=True):
    settings: Settings
    faults: tuple[Fault, ...] = ()  # by time
    chaos_ms: int = 0
    helped_ms: int = 0  # so often during the chaos somebody does what the cluster asks for; 0 = nobody
    broken: dict[NodeName, str] = {}  # a minority that stays broken while the others must serve, and how

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=1)


class Regression(Struct, frozen=True, kw_only=True):
    """A plan that once found something."""

    found: str  # what was wrong
    cause: str = ""  # written by hand when it is known
    price: str = ""  # the name of the hazard that excuses it; empty: it must not happen any more
    plan: Plan

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=1) + b"\n")


def load(path: Path) -> Regression:
    return msgspec.json.decode(path.read_bytes(), type=Regression)
