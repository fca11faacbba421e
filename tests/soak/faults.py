"""The catalogue of faults: what may be drawn, whom it hits, how long it lasts, and what it makes legitimate. Data only.

A role is a place in the cluster at the moment of the fault ("active", "standby", "witness"), or several ("both" mail
nodes, "all"). How a fault is done to a lab is in `nemesis`.

Not here, and why: the step of the wall clock (nodes share the host's kernel and its one realtime clock, and time
namespaces have no offset for it; tests/unit/test_clock_wall.py covers it), fixed delay (this needs netem or a relay,
which the lab has not: `slow_link` queues instead, up to two seconds), and a fence device whose *status* lies as well
(the lab's LUN cannot refuse an older epoch's writes as SCSI reservations do, so it would only destroy the store).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ROLES = {"active": 6, "standby": 1, "witness": 1}
MAIL_ROLES = {"active": 5, "standby": 1}
ACTIVE = {"active": 1}


@dataclass(frozen=True)
class Kind:
    """`choices`: parameter -> values to draw from. `fences`: the nodes that it hits may be fenced for it."""

    weight: int
    roles: Mapping[str, int]
    for_s: tuple[float, float]
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    fences: bool = True
    pairs: bool = True  # may be one of two faults at once


KINDS: dict[str, Kind] = {
    "power_cut": Kind(24, {**ROLES, "both": 1, "all": 1}, (0.2, 4.0), {"stagger_s": (0.0, 0.0, 0.3, 1.5)}),
    "freeze": Kind(6, MAIL_ROLES, (0.3, 5.0), {"pause_watchdog": (False, True)}),
    "stop_process": Kind(
        6, ACTIVE, (0.3, 7.0), {"process": ("hamaild", "executor", "agents", "dovecot", "postfix", "qmgr")}
    ),
    "kill_process": Kind(
        8,
        {"active": 5, "standby": 1},
        (0.3, 1.5),
        {"process": ("hamaild", "executor", "agents", "both", "dovecot", "postfix", "qmgr", "canary")},
    ),
    "kill_witness": Kind(1, {"witness": 1}, (0.3, 1.5), fences=False),
    "isolate": Kind(10, ROLES, (0.5, 5.0)),
    "cut_off": Kind(6, ROLES, (0.5, 5.0)),  # from the other nodes; client and fence device stay in reach
    "all_apart": Kind(2, {"all": 1}, (0.5, 7.0)),
    "one_link": Kind(2, {"active": 1}, (1.0, 4.0), {"peer": ("standby", "witness")}, fences=False),
    "one_way": Kind(6, ROLES, (0.5, 4.0), {"direction": ("out", "in"), "peer": ("any", "standby", "witness")}),
    "flapping": Kind(2, ROLES, (2.0, 5.0), {"period_ms": (50, 200, 500, 1500)}),
    "loss": Kind(2, ROLES, (2.0, 5.0), {"percent": (5, 15, 30, 50)}),
    "slow_link": Kind(2, ROLES, (2.0, 5.0), {"rate": ("64kbit", "128kbit", "512kbit")}),
    "unplug": Kind(5, ROLES, (0.5, 4.0)),
    "lun_lost": Kind(4, ACTIVE, (2.5, 4.0)),
    "lun_hung": Kind(2, ACTIVE, (1.0, 8.0)),
    "busy_umount": Kind(3, ACTIVE, (0.5, 1.0), {"holder": ("open file", "another namespace")}, pairs=False),
    "watchdog_gone": Kind(1, MAIL_ROLES, (1.0, 3.0)),
    "state_full": Kind(1, {"active": 1, "standby": 1, "witness": 1}, (2.0, 4.0)),
    "switchover": Kind(12, ACTIVE, (0.3, 1.0), fences=False),
}
"""Kinds by name; the weights are those of the draw."""

FENCE_MODES: dict[str, int] = {"fail": 2, "hang": 1, "slow": 3, "lie": 2}
"""A bad fence device is drawn together with a loss of the active node, else nobody would use it."""
FENCE_PARTNERS = ("power_cut", "freeze", "isolate")
FENCE_SHARE = 0.06
PAIR_SHARE = 0.15

RELAXED: dict[str, frozenset[str]] = {
    "an emergency stop that could not remove the address in time": frozenset({"S6"}),
}
"""What a fault may break after all, counted apart ("excused"). Everything else must hold under all that is drawn here.

Past its hard deadline (a node that was frozen for longer than its lease) an emergency stop gives each agent moments,
and goes on without waiting: an address without its service hurts nobody, the store in two hands does. It must say so,
the node counts as still running, and is reset.

The fence device that lies answers `off` with "ok" and cuts nothing, but its status is truthful: hamail asks for it, so
the fence counts as failed, nothing may start, and nothing is excused.
"""

PLANTS = {
    "liar": "the fence device says that it has cut the power, also when asked, and has not (breaks S1, S2, S4, S5)",
    "no-fsync": "Dovecot acknowledges what is not on the disk yet (breaks S5)",
}
"""Bugs that can be planted on purpose (`PLANT=name`): a soak that passes with one of them is a broken soak."""
