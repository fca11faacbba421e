"""A seed becomes a list of steps, as plain data: the same seed and number give the same list on every machine."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.soak.faults import FENCE_MODES, FENCE_PARTNERS, FENCE_SHARE, KINDS, PAIR_SHARE

PAIR_DELAY_S = 1.5
FENCE_KIND = "fence_device"


@dataclass(frozen=True)
class Fault:
    kind: str
    role: str
    parameters: dict[str, Any]
    after_s: float  # from the beginning of the step
    for_s: float  # then it is taken back

    @property
    def name(self) -> str:
        """For tables: with the parameter that makes it another fault."""
        detail = next((self.parameters[k] for k in ("process", "mode", "holder") if k in self.parameters), "")
        return f"{self.kind} {detail}".strip() + ("" if self.role == "active" else f" ({self.role})")


@dataclass(frozen=True)
class Step:
    number: int
    faults: tuple[Fault, ...]

    @property
    def name(self) -> str:
        return " + ".join(sorted(f.name for f in self.faults))

    @property
    def family(self) -> str:
        """The line of the summary that it counts in."""
        kinds = sorted(f.kind for f in self.faults)
        if FENCE_KIND in kinds:
            mode = next(f.parameters["mode"] for f in self.faults if f.kind == FENCE_KIND)
            return f"fence device: {mode}, and a loss"
        return kinds[0] if len(kinds) == 1 else "two at once"

    def json(self) -> str:
        return json.dumps(asdict(self))


def steps(seed: str, kinds: Sequence[str] = ()) -> Iterator[Step]:
    """Without end. Every kind comes once before any comes at random, so that a short run is not a lucky one.

    `kinds`: only these, one after the other.
    """
    rng = random.Random(seed)
    first = list(KINDS)
    rng.shuffle(first)
    number = 0
    while True:
        number += 1
        if kinds:
            yield Step(number, (_fault(rng, kinds[(number - 1) % len(kinds)]),))
        else:
            yield Step(number, _faults(rng, first.pop() if first and number % 2 == 0 else ""))


def _faults(rng: random.Random, wanted: str) -> tuple[Fault, ...]:
    share = rng.random()
    if wanted:
        return (_fault(rng, wanted),)
    if share < FENCE_SHARE:
        mode = rng.choices(list(FENCE_MODES), list(FENCE_MODES.values()))[0]
        loss = _fault(rng, rng.choice(FENCE_PARTNERS), "active")
        return (Fault(FENCE_KIND, "active", {"mode": mode}, 0.0, round(rng.uniform(1.5, 5.0), 2)), loss)
    if share < FENCE_SHARE + PAIR_SHARE:
        pairing = [kind for kind in KINDS if KINDS[kind].pairs]
        left, right = _draw(rng, pairing), _draw(rng, pairing)
        return (_fault(rng, left), _fault(rng, right, after_s=round(rng.uniform(0, PAIR_DELAY_S), 2)))
    return (_fault(rng, _draw(rng, list(KINDS))),)


def _draw(rng: random.Random, kinds: list[str]) -> str:
    return rng.choices(kinds, [KINDS[kind].weight for kind in kinds])[0]


def _fault(rng: random.Random, name: str, role: str = "", after_s: float = 0.0) -> Fault:
    kind = KINDS[name]
    drawn = rng.choices(list(kind.roles), list(kind.roles.values()))[0]
    parameters = {key: rng.choice(values) for key, values in kind.choices.items()}
    return Fault(name, role or drawn, parameters, after_s, round(rng.uniform(*kind.for_s), 2))
