"""Links between nodes: any bytes, in any pieces: either messages or FrameError, and no growing buffer."""

from random import Random

from hamail.model.messages import AnyMessage
from hamail.transport.frames import FRAME_BYTES_MAX, HEADER_BYTES, FrameError, FrameReader, encode
from tests.fuzz.structs import sample

INSTRUMENT = ("hamail.transport.frames",)


def seeds() -> list[bytes]:
    rng = Random(1)
    frames = [encode(sample(AnyMessage, rng)) for _ in range(60)]
    return [*frames, b"".join(frames[:6]), b"\xff" * 8, b"\x00\x10\x00\x01"]


def one(data: bytes) -> None:
    reader = FrameReader()
    taken = []
    try:
        for begin in range(0, len(data), 97):
            reader.feed(data[begin : begin + 97])
            while (message := reader.take()) is not None:
                taken.append(message)
            assert reader.unfinished <= FRAME_BYTES_MAX + HEADER_BYTES + 97
    except FrameError:
        pass
    again = FrameReader()
    for message in taken:
        again.feed(encode(message))
        assert again.take() == message
