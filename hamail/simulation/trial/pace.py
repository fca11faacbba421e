"""How fast faults follow each other. Each pace shows what the others are too slow or too short for.

- *swarm*: any mixture at any distance, two faults at once, a systematic sweep of pairs: what breaks rules.
- *dense*: one takeover after the other, with other faults in the middle of some: what happens once in 100,000 moves.
- *sparse*: hours of ordinary life between faults, with the detection time of a careful site: what piles up.
"""

import random
from typing import Literal

import msgspec

from hamail.model.spec import Requirement
from hamail.simulation.faults import Fault, kinds_for
from hamail.simulation.faults.dice import Dice
from hamail.simulation.logs.build import LogKind
from hamail.simulation.trial.draw import BLOWS, draw
from hamail.simulation.trial.plan import Plan
from hamail.simulation.trial.settings import takeover_ms

Pace = Literal["swarm", "dense", "sparse"]
PACES: tuple[Pace, ...] = ("swarm", "dense", "sparse")
SHARES = (28, 35, 37)  # of the seeds
DENSE_FAULTS = 1000
DENSE_DETECTION_MS = (1000, 2000)
COMPANION_SHARE = 0.25  # of the takeovers: something else happens in the middle of it
SPARSE_FAULTS = 120
SPARSE_PAUSE_MS = 600_000
SPARSE_DETECTION_MS = (10_000, 30_000, 30_000)
LIMITED_SHARE = 0.2  # of the dense ones: the failure policy holds most of what happens there back
MAIL_EVERY_MS: dict[Pace, int] = {"swarm": 500, "dense": 500, "sparse": 2000}


def pace_of(seed: int) -> Pace:
    return random.Random(f"pace {seed}").choices(PACES, SHARES)[0]  # noqa: S311 - reproducible on purpose


def plan(seed: int, pace: Pace, log: LogKind | None = None, requires: Requirement | None = None) -> Plan:
    """`log`, `requires`: instead of what would be drawn."""
    if pace == "swarm":
        drawn = draw(seed, (), log, requires)
    else:
        # The real log costs fifty times as much: it is tried at the swarm's pace.
        drawn = draw(seed, (), log or "perfect", requires)
        rng = random.Random(f"{pace} {seed}")  # noqa: S311
        detection_ms = rng.choice(DENSE_DETECTION_MS if pace == "dense" else SPARSE_DETECTION_MS)
        limited = pace == "sparse" or rng.random() < LIMITED_SHARE
        settings = msgspec.structs.replace(drawn.settings, detection_ms=detection_ms, limited=limited)
        dice = Dice(rng, settings.spec())
        gap_ms = takeover_ms(settings.requires, dice.t)
        faults = _dense(dice, settings.requires, gap_ms) if pace == "dense" else _sparse(dice, settings.requires)
        drawn = msgspec.structs.replace(
            drawn, settings=settings, faults=faults, chaos_ms=faults[-1].at_ms + gap_ms, helped_ms=dice.of(2000, 5000)
        )
    settings = msgspec.structs.replace(drawn.settings, mail_every_ms=MAIL_EVERY_MS[pace])
    return msgspec.structs.replace(drawn, settings=settings)


def _dense(dice: Dice, requires: Requirement, gap_ms: int) -> tuple[Fault, ...]:
    able = kinds_for(requires)
    names = {kind.name for kind in able}
    blows = [(name, given) for name, given in BLOWS if name in names]
    faults: list[Fault] = []
    at_ms = 0.0
    for _ in range(DENSE_FAULTS):
        name, given = dice.of(*blows)
        if given.get("for_ms") == 0:
            given = {**given, "for_ms": int(gap_ms * dice.of(0.7, 1.0, 1.3))}
        faults.append(Fault(int(at_ms), name, given))
        if dice.share(COMPANION_SHARE):
            kind = dice.of(*able)
            faults.append(Fault(int(at_ms + gap_ms * dice.rng.uniform(-0.3, 0.6)), kind.name, kind.draw(dice)))
        at_ms += gap_ms * dice.rng.uniform(0.8, 1.5)
    return tuple(sorted((f for f in faults if f.at_ms >= 0), key=lambda f: f.at_ms))


def _sparse(dice: Dice, requires: Requirement) -> tuple[Fault, ...]:
    able = kinds_for(requires)
    faults: list[Fault] = []
    at_ms = 0.0
    for _ in range(SPARSE_FAULTS):
        kind = dice.of(*able)
        faults.append(Fault(int(at_ms), kind.name, kind.draw(dice)))
        at_ms += dice.rng.uniform(0, SPARSE_PAUSE_MS)
    return tuple(faults)
