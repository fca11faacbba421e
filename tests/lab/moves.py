"""What hamail itself tells about moves, for the timelines in reports. Never evidence: that comes from the kernel."""

import json
from dataclasses import dataclass

from tests.lab.lab import Lab
from tests.lab.node import NodeError

GROUP = "mail"
ASK_TIMEOUT_S = 10
MOVE_TIMEOUT_S = 60


@dataclass(frozen=True)
class Move:
    id: int
    source: str
    target: str
    trigger: str
    result: str
    points: tuple[tuple[str, int], ...]  # (point, wall-clock milliseconds), in order

    def since_start(self) -> list[tuple[str, float]]:
        first = self.points[0][1] if self.points else 0
        return [(name, at - first) for name, at in self.points]


def parse(document: dict | list) -> list[Move]:
    """Moves out of `hamailctl history --json`, oldest first."""
    moves = document["moves"] if isinstance(document, dict) else document
    found = []
    for move in moves:
        stamps = {step["point"]: step["at_ms"] for step in move["timeline"]} if "timeline" in move else move["stamps"]
        points = tuple(sorted(stamps.items(), key=lambda item: item[1]))
        found.append(
            Move(move["id"], move["source"] or "", move["target"] or "", move["trigger"], move["result"], points)
        )
    return sorted(found, key=lambda move: move.id)


def history(lab: Lab) -> list[Move]:
    """From whichever node answers. Raises NodeError when none does."""
    errors = []
    for node in lab.nodes.values():
        try:
            answer = node.run(["hamailctl", "history", "--json"], timeout_s=ASK_TIMEOUT_S)
            return parse(json.loads(answer.stdout))
        except (NodeError, ValueError) as error:
            errors.append(f"{node.name}: {error}")
    raise NodeError("no node gives the history: " + "; ".join(errors))


def latest(lab: Lab) -> int:
    return max((move.id for move in history(lab)), default=0)


def since(lab: Lab, after: int) -> list[Move]:
    return [move for move in history(lab) if move.id > after]


def switchover(lab: Lab, source: str, target: str) -> None:
    """Order the planned move on the active node. Raises NodeError when it fails."""
    command = ["hamailctl", "switchover", GROUP, "--to", target, "--reason", "lab", "--yes"]
    lab.run(source, command, timeout_s=MOVE_TIMEOUT_S)
