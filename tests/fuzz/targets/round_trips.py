"""What is said is what is heard: every message, command, request and snapshot comes out of its bytes as it went in."""

import asyncio

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hamail.consensus import codec
from hamail.executor import wire
from hamail.model.actions import AnyNotice, AnyRequest
from hamail.model.commands import AnyCommand
from hamail.model.messages import AnyMessage
from hamail.model.state import ClusterState
from hamail.transport import frames
from tests.fuzz.structs import strategy

INSTRUMENT = ("hamail.transport.frames", "hamail.consensus.codec", "hamail.executor.wire")
LENGTH_MAX = 2048
_loop = asyncio.new_event_loop()
WHAT = st.one_of(
    *(
        st.tuples(st.just(name), strategy(kind))
        for name, kind in {
            "message": AnyMessage,
            "command": AnyCommand,
            "request": AnyRequest,
            "notice": AnyNotice,
            "state": ClusterState,
        }.items()
    )
)


def comes_back(kind: str, value: msgspec.Struct) -> None:
    if kind == "message":
        reader = frames.FrameReader()
        reader.feed(frames.encode(value))
        assert reader.take() == value
        assert reader.take() is None
    elif kind == "command":
        proposal = codec.Proposal("n1", 1, 2, value)
        assert codec.decode_command(codec.encode_command(proposal)) == proposal
    elif kind == "state":
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=ClusterState) == value
    else:
        reader = asyncio.StreamReader(loop=_loop)
        reader.feed_data(wire.encode(value))
        step = wire.read_request(reader) if kind == "request" else wire.read_notice(reader)
        try:
            step.send(None)
        except StopIteration as done:
            assert done.value == value


@settings(database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(WHAT)
def check(pair: tuple[str, msgspec.Struct]) -> None:
    comes_back(*pair)


check.hypothesis.fuzz_one_input(bytes(64))  # its tables are written once, not while an input is handled


def seeds() -> list[bytes]:
    return [bytes((first + i * step) % 256 for i in range(300)) for first in (0, 90, 200) for step in (0, 3, 77)]


def one(data: bytes) -> None:
    check.hypothesis.fuzz_one_input(data)
