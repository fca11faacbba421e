"""One file of everything that was seen: JSON lines in the order of time, all stamped by one CLOCK_MONOTONIC.

`{"t": ns, "src": "recorder|switch|storage|fence|nemesis|daemon|client", "node": "", "kind": "", "data": {}}`, after a
header line that says what was run. `History` is what the checker reads.
"""

import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.evidence import Evidence

Record = dict[str, Any]
HEADER = "header"


def merge(target: Path, header: Record, sources: Iterable[Iterable[Record]]) -> None:
    """Each source in its own order of time, or nearly."""
    with open(target, "w") as file:
        for number, record in enumerate(heapq.merge(*(in_order(s) for s in sources), key=lambda r: r["t"])):
            if number == 0:
                first = {"t": record["t"], "seq": 0, "src": "soak", "node": "", "kind": HEADER, "data": header}
                file.write(json.dumps(first, separators=(",", ":")) + "\n")
            whole = {"t": record["t"], "seq": number + 1, "src": record["src"], "node": record.get("node", "")}
            whole |= {"kind": record["kind"], "data": record.get("data", {})}
            file.write(json.dumps(whole, separators=(",", ":")) + "\n")


def in_order(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda r: r["t"])


def lines(path: Path, node: str = "") -> Iterator[Record]:
    """Records of one instrument's file; a last line that was cut short is left out."""
    if not path.exists():
        return
    with open(path) as file:
        for line in file:
            if line.endswith("\n"):
                record = json.loads(line)
                yield {**record, "node": node} if node else record


@dataclass
class History:
    header: Record = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)
    canaries: list[Record] = field(default_factory=list)
    wrote: list[Record] = field(default_factory=list)
    fences: list[Record] = field(default_factory=list)
    nemesis: list[Record] = field(default_factory=list)
    events: list[Record] = field(default_factory=list)
    watchdogs: list[Record] = field(default_factory=list)
    mail: list[Record] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> "History":
        return cls.from_records(lines(path))

    @classmethod
    def from_records(cls, records: Iterable[Record]) -> "History":
        self, kernel = cls(), []
        place = {
            "canary": self.canaries,
            "wrote": self.wrote,
            "pdu": self.fences,
            "event": self.events,
            "watchdog": self.watchdogs,
        }
        for record in records:
            if record["kind"] == HEADER:
                self.header = record["data"]
            elif record["src"] == "nemesis":
                self.nemesis.append(record)
            elif record["src"] == "client":
                self.mail.append(record)
            elif record["kind"] in place:
                place[record["kind"]].append(record)
            else:
                kernel.append(record)
        self.evidence = Evidence.from_records(kernel)
        return self

    def step_at(self, t: int) -> str:
        """The step of the schedule during which something happened, in words."""
        before = [r for r in self.nemesis if r["kind"] == "step" and r["t"] <= t]
        return f"step {before[-1]['data']['step']}, {before[-1]['data']['name']}" if before else "before the first step"
