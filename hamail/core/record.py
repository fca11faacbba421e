"""What the history keeps of every decision: trigger, rule, the facts it stood on, and what was rejected.

Made while a command is applied, from the command and the state alone, so every node keeps the same. Bounded: whatever a
command carries, its record stays small.
"""

from typing import Any

import msgspec
from msgspec.structs import replace

from hamail.core.words import clock
from hamail.model.asked import asked_for
from hamail.model.commands import Command
from hamail.model.state import EVENTS_KEPT, ClusterState, Decision, Event, GroupState

FACTS_MAX = 24  # of one record, and as many rejected alternatives
KEY_CHARS_MAX = 60
TEXT_CHARS_MAX = 240
REFUSALS_LOOKED_AT = (
    20  # the same refusal among so many events is not recorded again: a loop must not flush the history
)
WALL_CLOCK_FROM_MS = 10**11  # a longer duration does not occur
NO_FACTS = frozenset(
    {"at_ms", "request", "actor", "reason", "basis", "spec", "source", "sentence", "stamps", "group", "node"}
)


def decision(command: Command, about: GroupState, rule: str, *, whole: bool) -> Decision:
    """`about`: the group concerned. `whole`: with the facts; further events of the same entry only name their rule."""
    basis = command.basis
    return Decision(
        rule=rule or tag(command),
        trigger=str(about.trigger) if about.move else "",
        move=about.move,
        by=basis.by[:KEY_CHARS_MAX] if basis is not None and whole else "",
        facts=facts(command) if whole else {},
        rejected=bounded(basis.rejected) if basis is not None and whole else {},
    )


def tag(command: Command) -> str:
    return str(command.__struct_config__.tag)


def facts(command: Command) -> dict[str, str]:
    """What the command says, and what its proposer went by."""
    said = {
        _key(name): words
        for name in command.__struct_fields__
        if name not in NO_FACTS and (words := _words(name, getattr(command, name)))
    }
    return bounded({**said, **(command.basis.facts if command.basis is not None else {})})


def _key(field: str) -> str:
    return field.removesuffix("_ms").replace("_", " ")


def _words(field: str, value: Any) -> str:
    """Empty for what says nothing."""
    if value in (None, "", (), {}) or (value == 0 and not isinstance(value, bool)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and field.endswith("_ms"):
        return clock(value) if value >= WALL_CLOCK_FROM_MS else f"{value / 1000:g} s"
    if isinstance(value, tuple):
        return ", ".join(str(x) for x in value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in sorted(value.items()))
    if isinstance(value, msgspec.Struct):
        return ", ".join(str(x) for x in msgspec.structs.astuple(value))
    return str(value)


def bounded(words: dict[str, str]) -> dict[str, str]:
    return {clip(k, KEY_CHARS_MAX): clip(v, TEXT_CHARS_MAX) for k, v in list(words.items())[:FACTS_MAX]}


def clip(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def refused(state: ClusterState, command: Command, why: str) -> ClusterState:
    """An order of a person that was refused is part of the history; nothing else of the state changes."""
    if not command.request:
        return state
    sentence = refusal_words(command.actor, asked_for(command), why)
    if repeated(state, sentence):
        return state
    event = Event(
        index=state.applied,
        at_ms=command.at_ms,
        kind="refused",
        sentence=sentence,
        group=clip(str(getattr(command, "group", "")), KEY_CHARS_MAX),
        node=clip(str(getattr(command, "node", "") or getattr(command, "target", "")), KEY_CHARS_MAX),
        actor=clip(command.actor, KEY_CHARS_MAX),
        reason=clip(command.reason, 2 * TEXT_CHARS_MAX),
        decision=decision(command, GroupState(), "refused", whole=True),
    )
    return replace(state, events=(*state.events, event)[-EVENTS_KEPT:])


def refusal_words(actor: str, what: str, why: str) -> str:
    return clip(f"{actor} asked for {what}; refused: {why}", 2 * TEXT_CHARS_MAX)


def repeated(state: ClusterState, sentence: str) -> bool:
    return any(e.kind == "refused" and e.sentence == sentence for e in state.events[-REFUSALS_LOOKED_AT:])
