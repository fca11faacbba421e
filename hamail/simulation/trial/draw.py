"""From a seed to a plan. Each seed draws its cluster and which kinds of faults it uses ("swarm"), for rare mixtures.

Every eighth seed is part of a systematic sweep instead: all ordered pairs of the twelve core faults.
"""

import random

from hamail.model.ids import NodeName
from hamail.model.spec import Requirement
from hamail.simulation.faults import KINDS, Fault, Kind, kinds_for
from hamail.simulation.faults.clocks import RATE_PPM_MAX
from hamail.simulation.faults.dice import Dice
from hamail.simulation.faults.fault import Parameters
from hamail.simulation.logs.build import LogKind
from hamail.simulation.trial.plan import Plan
from hamail.simulation.trial.settings import Settings, takeover_ms

R = Requirement
FAULTS = (120, 240, 400)
BLOWS = (  # what takes a group from its owner, and lets it come back as a standby before the next one
    ("power_cut", {"node": "owner", "back_ms": 1000}),
    ("power_cut", {"node": "owner", "back_ms": 200}),
    ("isolate", {"node": "owner", "for_ms": 0}),
    ("deaf_or_dumb", {"node": "owner", "deaf": False, "for_ms": 0}),
    ("pause_node", {"node": "owner", "for_ms": 0}),
    ("failing_stop_in_a_move", {"node": "owner"}),
    ("fence_by_hand", {"node": "owner"}),
)
BEYOND_SHARE = 0.05  # of the seeds: also what `requires` does not claim to survive; the checkers excuse its price
BUSY_SHARE = 0.7  # of the seeds: every other fault is such a blow
SWEEP_EVERY = 8
# The core twelve by their row in the fault table, each with the kinds that do it.
CORE: dict[int, tuple[str, ...]] = {
    1: ("kill_daemon",),
    3: ("power_cut",),
    5: ("hang_daemon",),
    8: ("isolate",),
    9: ("mail_nodes_apart",),
    10: ("one_way", "deaf_or_dumb"),
    18: ("wall_jump",),
    21: ("disk_full",),
    22: ("sync_error",),
    29: ("failing_stop_in_a_move",),
    33: ("needed_fence_fails",),
    39: ("quorum_lost_in_a_move",),
}
BREAKAGES = ("off", "isolated", "disk", "left")


def draw(
    seed: int, only: tuple[str, ...] = (), log: LogKind | None = None, requires: Requirement | None = None
) -> Plan:
    """`only`, `log`, `requires`: instead of what would be drawn."""
    rng = random.Random(f"plan {seed}")  # noqa: S311 - reproducible on purpose
    settings = _settings(seed, rng, log, requires)
    dice = Dice(rng, settings.spec())
    faults = _sweep(seed // SWEEP_EVERY, dice, settings) if _in_sweep(seed) and not only else ()
    faults = faults or _swarm(dice, settings, only)
    last_ms = faults[-1].at_ms if faults else 0
    return Plan(
        settings=settings,
        faults=faults,
        chaos_ms=last_ms + dice.of(0, 1, 2) * takeover_ms(settings.requires, dice.t) // 2,
        helped_ms=dice.of(0, 2000, 2000, 5000, 20_000),
        broken=_broken(dice, settings),
    )


def focused(settings: Settings, only: tuple[str, ...], faults: int = 12, **given: object) -> Plan:
    """A short trial with these kinds only, on a given cluster: to look at one rule closely.

    `given`: parameters that are not drawn, for the kinds that have them.
    """
    dice = Dice(random.Random(f"focus {settings.seed}"), settings.spec())  # noqa: S311
    used = [KINDS[name] for name in only]
    gap_ms = takeover_ms(settings.requires, dice.t)
    series, at_ms = [], 0.0
    for _ in range(faults):
        kind = dice.rng.choice(used)
        drawn = kind.draw(dice)
        drawn |= {name: value for name, value in given.items() if name in drawn}
        series.append(Fault(int(at_ms), kind.name, drawn))
        at_ms += dice.of(100, 0.5 * gap_ms, 1.0 * gap_ms, 1.6 * gap_ms)
    return Plan(settings=settings, faults=tuple(series), chaos_ms=int(at_ms), helped_ms=5000)


def _in_sweep(seed: int) -> bool:
    return seed % SWEEP_EVERY == 0


def _settings(seed: int, rng: random.Random, log: LogKind | None, requires: Requirement | None) -> Settings:
    drawn = rng.choices((R.FENCING, R.LEASE, R.WATCHDOG), (7, 2, 1))[0]
    mail, witnesses = rng.choices(
        (
            (("n1", "n2"), ("n3",)),
            (("n1", "n2", "n3"), ()),
            (("n1", "n2", "n3"), ("n4", "n5")),
            (("n1", "n2"), ("n3", "n4", "n5")),
        ),
        (80, 8, 6, 6),
    )[0]
    nodes = (*mail, *witnesses)
    rate = rng.choice((0, 500, RATE_PPM_MAX))
    logs: tuple[LogKind, ...] = ("perfect", "raft", "malicious")
    drawn_log = rng.choices(logs, (86, 10, 4))[0]
    return Settings(
        seed=seed,
        requires=requires or drawn,
        detection_ms=rng.choices((300, 1000, 2000, 5000, 10_000), (5, 60, 25, 7, 3))[0],
        mail=mail,
        witnesses=witnesses,
        groups=rng.choices((("mail",), ("lists", "mail")), (8, 2))[0],
        levels=rng.choice((1, 2, 2)),
        log=log or drawn_log,
        late_share=rng.choice((0.0, 0.0, 0.1, 0.3)),
        rates_ppm={n: rng.choice((-rate, rate)) for n in nodes},
        returns_ms={n: rng.choice((800, 3000, 12_000)) for n in nodes},
        start_ms={n: rng.choice((20, 100, 300)) for n in mail},
        stop_ms={n: rng.choice((20, 300, 1000)) for n in mail},  # the longest is too long for the smallest stop budget
    )


def _swarm(dice: Dice, settings: Settings, only: tuple[str, ...]) -> tuple[Fault, ...]:
    able = kinds_for(settings.requires) if dice.share(1 - BEYOND_SHARE) else list(KINDS.values())
    if not dice.devices:
        able = [k for k in able if 33 not in k.rows and 34 not in k.rows and k.name != "device_out_of_reach"]
    if only:
        used = [KINDS[name] for name in only]
    else:
        share = dice.rng.uniform(0.15, 0.8)
        used = [k for k in able if dice.rng.random() < share] or able
    weights = [dice.rng.choice((1, 2, 4)) for _ in used]
    return _series(dice, settings, used, weights)


def _series(dice: Dice, settings: Settings, used: list[Kind], weights: list[int]) -> tuple[Fault, ...]:
    gap_ms = takeover_ms(settings.requires, dice.t)
    able = {kind.name for kind in kinds_for(settings.requires)}
    blows = [(name, given) for name, given in BLOWS if name in able] if dice.share(BUSY_SHARE) else []
    faults, at_ms = [], 0.0
    for number in range(dice.of(*FAULTS)):
        if blows and number % 2:
            name, given = dice.of(*blows)
            if given.get("for_ms") == 0:
                given = {**given, "for_ms": int(gap_ms * dice.of(0.7, 1.0, 1.3))}
            faults.append(Fault(int(at_ms), name, given))
            at_ms += gap_ms * dice.of(0.5, 0.8, 1.2)
            continue
        kind = dice.rng.choices(used, weights)[0]
        faults.append(Fault(int(at_ms), kind.name, kind.draw(dice)))
        at_ms += dice.of(50, 300, 0.3 * gap_ms, 0.8 * gap_ms) if blows else gap_ms * dice.of(0.01, 0.3, 0.8, 1.2, 2)
    return tuple(faults)


def _sweep(number: int, dice: Dice, settings: Settings) -> tuple[Fault, ...]:
    """One of the twelve first, each of the other eleven on top of it, at all sorts of distances."""
    able = {kind.name for kind in kinds_for(settings.requires)}
    rows = [row for row in sorted(CORE) if all(name in able for name in CORE[row])]
    first = sorted(CORE)[number % len(CORE)]
    if first not in rows:
        return ()
    gap_ms = takeover_ms(settings.requires, dice.t)
    faults, at_ms = [], 0.0
    for second in [r for r in rows if r != first]:
        for apart_ms in (0, 50, 0.3 * gap_ms, 0.9 * gap_ms, dice.between(0, 2 * gap_ms)):
            faults.append(_core(first, at_ms, dice))
            faults.append(_core(second, at_ms + apart_ms, dice))
            at_ms += apart_ms + 2.5 * gap_ms
    return tuple(sorted(faults, key=lambda f: f.at_ms))


def _core(row: int, at_ms: float, dice: Dice) -> Fault:
    kind = KINDS[dice.of(*CORE[row])]
    parameters: Parameters = kind.draw(dice)
    return Fault(int(at_ms), kind.name, parameters)


def _broken(dice: Dice, settings: Settings) -> dict[NodeName, str]:
    """At most a minority, and never every mail node."""
    nodes = list(dice.nodes)
    dice.rng.shuffle(nodes)
    most = (len(nodes) - 1) // 2
    broken: dict[NodeName, str] = {}
    for name in nodes[: dice.rng.randint(0, most) if dice.share(0.2) else most]:
        if set(settings.mail) - set(broken) - {name}:
            broken[name] = dice.of(*BREAKAGES)
    return broken
