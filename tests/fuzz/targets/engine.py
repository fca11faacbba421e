"""A node's brain under anything that can be said to it: messages of peers, entries of the log, notices of its executor,
time. Nothing may raise: an exception here would be a fail-stop, on every node at once if it came from the log.
"""

import msgspec
from msgspec.structs import replace

from hamail.core.effects import Effect, Propose, SaveBarred, Send
from hamail.core.engine import Engine
from hamail.model import commands as c
from hamail.model.actions import AnyNotice
from hamail.model.messages import Heartbeat, LeaseAnswer, LeaseRequest, ReleaseAnswer, ReleaseRequest
from hamail.model.spec import FenceDeviceSpec, GroupSpec, Requirement
from hamail.model.state import ClusterState
from hamail.simulation.spec import cluster
from tests.fuzz.structs import NUMBERS, ByteDice, sample

INSTRUMENT = ("hamail.core",)
LENGTH_MAX = 400
EVENTS_MAX = 16
MS = 1_000_000
REQUIRES = tuple(Requirement)
Message = Heartbeat | LeaseRequest | LeaseAnswer | ReleaseRequest | ReleaseAnswer


def seeds() -> list[bytes]:
    return [bytes((first * 7 + i * step) % 256 for i in range(200)) for first in range(6) for step in (1, 37, 101)]


def one(data: bytes) -> None:
    dice = ByteDice(data)
    requires = dice.choice(REQUIRES)
    spec = cluster(requires=requires, levels=2 if requires is Requirement.FENCING else 0)
    me = dice.choice(("n1", "n2", "n3"))
    engine = Engine(me=me, bootstrap=spec, source="", barred={}, life="life", now_ns=0)
    now_ns, index = 0, 1
    engine.apply(index, c.ApplyConfig(at_ms=0, spec=spec, source="", expected_revision=0))
    for _ in range(EVENTS_MAX):
        if dice.done:
            break
        now_ns += dice.choice((0, 1, 50, 700, 6000)) * MS
        match dice.randrange(8):
            case 0 | 1 | 2:
                index += 1
                engine.apply(index, _command(engine, dice))
                effects = engine.react(now_ns, 0)
            case 3 | 4:
                effects = engine.message(dice.choice(("n1", "n2", "n3", "n9")), sample(Message, dice), now_ns, 0)
            case 5:
                effects = engine.notice(sample(AnyNotice, dice), now_ns, 0)
            case 6:
                engine.leadership(dice.random() < 0.5)
                effects = engine.executor_lost(now_ns, 0) if dice.random() < 0.2 else []
            case _:
                effects = engine.tick(now_ns, 0)
        _check(effects)
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(engine.state), type=ClusterState)
    assert state == engine.state, "the state does not come out of a snapshot as it went in"


def _command(engine: Engine, dice: ByteDice) -> c.AnyCommand:
    """Any command; or a configuration that fits the state as far as its nodes go, and has anything else in it."""
    if dice.random() < 0.9:
        return sample(c.AnyCommand, dice)
    known = engine.state.spec
    spec = replace(
        known,
        detection_ms=dice.choice((known.detection_ms, *NUMBERS)),
        watchdog_timeout_s=dice.choice((known.watchdog_timeout_s, *NUMBERS)),
        groups=dice.choice((known.groups, sample(dict[str, GroupSpec], dice))),
        fencing=dice.choice((known.fencing, sample(dict[str, FenceDeviceSpec], dice))),
    )
    revision = engine.state.config.revision
    return c.ApplyConfig(at_ms=0, spec=spec, source="", expected_revision=revision)


def _check(effects: list[Effect]) -> None:
    """An answer that a voter gives for good is durable before it is sent."""
    saved: dict[str, int] = {}
    for effect in effects:
        if isinstance(effect, SaveBarred):
            saved = effect.barred
        elif isinstance(effect, Send) and isinstance(effect.message, ReleaseAnswer) and effect.message.yes:
            assert saved.get(effect.message.group, 0) >= effect.message.epoch
        elif isinstance(effect, Propose):
            msgspec.msgpack.encode(effect.command)
