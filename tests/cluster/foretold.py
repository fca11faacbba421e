"""`plan`, `why` and `history` against what then truly happens: take the plan before the fault, compare after it."""

import json
from dataclasses import dataclass
from typing import Any

from tests.cluster.world import World
from tests.lab.cluster import WITNESS

NO = 6  # exit code of `plan` when service would not go on


@dataclass(frozen=True)
class Foretold:
    supposed: tuple[str, ...]
    plan: dict[str, Any]

    @property
    def mail(self) -> dict[str, Any]:
        return next(g for g in self.plan["groups"] if g["group"] == "mail")

    def came_true(self, world: World) -> None:
        """The newest move went where, ended how and stood on what was foretold; every node explains it the same."""
        told = self.mail
        world.until(lambda: world.moves() and world.moves()[-1]["result"] != "running", 5, "the move is closed")
        move = world.moves()[-1]
        true = (move["target"], move["trigger"], move["result"], move["evidence"])
        assert true == (told["after"], told["trigger"], told["result"], told["evidence"]), f"{self.supposed}: {told}"
        self._is_explained(world, move)

    def stays_down(self, world: World) -> None:
        """Service ended, and it was foretold that it would not come back by itself."""
        assert not self.plan["continues"] and self.mail["after"] is None, self.mail
        group = world.group()
        if group:
            assert group["phase"] == self.mail["phase"], (group["phase"], self.mail)

    def _is_explained(self, world: World, move: dict[str, Any]) -> None:
        """By the witness, which has run nothing of it, from its log alone."""
        why = json.loads(world.ctl(WITNESS, f"why {move['id']} --json").stdout)
        assert why["move"]["evidence"] == move["evidence"]
        decisions = [e["decision"] for e in why["events"] if e.get("decision")]
        assert decisions and all(d["rule"] for d in decisions)
        text = "\n".join(why["sentences"])
        planned = [s["event"]["decision"]["rule"] for s in self.plan["steps"] if s["event"].get("decision")]
        kept = [d["rule"] for d in decisions]
        missing = [rule for rule in dict.fromkeys(planned) if rule not in kept and "->" in rule]
        assert not missing, f"planned, but not in the history: {missing}\n{text}"
        shown = json.loads(world.ctl(WITNESS, f"history {move['id']} --json").stdout)["move"]
        assert (shown["target"], shown["evidence"], shown["result"]) == (
            move["target"],
            move["evidence"],
            move["result"],
        )
        usual_ms, limit_ms, true_ms = self.mail["usual_ms"], self.mail["limit_ms"], shown["outage_ms"]
        assert limit_ms is not None and len(self.mail["phases"]) >= 3, f"no time was foretold: {self.mail}"
        world.promised[move["id"]] = limit_ms  # compared with what the kernel saw when the test ends
        print(f"{' + '.join(self.supposed)}: usually {usual_ms} ms, at most {limit_ms} ms, by the history {true_ms} ms")


def foretell(world: World, *supposed: str, by: str = WITNESS) -> Foretold:
    words = " ".join(f"--if {text}" for text in supposed)
    done = world.ctl(by, f"plan {words} --json", code=None)
    plan = json.loads(done.stdout)
    assert done.returncode == (0 if plan["continues"] else NO), done.stderr
    return Foretold(supposed, plan)
