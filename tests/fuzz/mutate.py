"""A plain mutator, for the fixed inputs of the test suite and for machines that atheris does not support."""

from random import Random

INTERESTING = (0, 1, 0x7F, 0x80, 0xC0, 0xC1, 0xDF, 0xFF)
WORDS = (
    b"\xff" * 4,
    b"\x00" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80",
    b"9" * 40,
)


class Mutator:
    def __init__(self, seeds: list[bytes], rng: Random, length_max: int) -> None:
        self._seeds = seeds or [b""]
        self._rng = rng
        self._length_max = length_max

    def next(self) -> bytes:
        rng = self._rng
        data = bytearray(rng.choice(self._seeds))
        for _ in range(rng.choice((0, 1, 1, 1, 2, 4, 8, 32))):
            self._change(data)
        return bytes(data[: self._length_max])

    def _change(self, data: bytearray) -> None:
        rng = self._rng
        at = rng.randrange(len(data) + 1)
        match rng.randrange(8):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at % len(data)] = rng.choice(INTERESTING)
            case 2:
                data[at:at] = rng.randbytes(rng.choice((1, 1, 4, 40)))
            case 3:
                del data[at : at + rng.choice((1, 1, 4, 40))]
            case 4:
                data[at:at] = data[at : at + rng.choice((1, 4, 40, 400))] * rng.choice((1, 2, 20))
            case 5:
                other = rng.choice(self._seeds)
                begin = rng.randrange(len(other) + 1)
                data[at:] = other[begin:]
            case 6:
                data[at : at + 4] = rng.choice(WORDS)
            case _:
                del data[at:]
        del data[self._length_max :]
