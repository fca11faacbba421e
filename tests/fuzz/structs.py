"""Instances of hamail's own message types, from dice or as hypothesis strategies, by walking the types themselves."""

from functools import cache
from random import Random
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

WORDS = ("", "n1", "n2", "n3", "mail", "store", "postfix", "ipmi", "pdu", "a b", "é", "x" * 70)
NUMBERS = (0, 1, 2, 5, 7, 100, 1000, 2**31, 2**62, -1)


def sample(kind: Any, rng: "Random | ByteDice") -> Any:
    """One instance by chance."""
    return _sample(_info(kind), rng, 0)


_info = cache(inspect.type_info)  # it is slower than all that is made of it


def _sample(info: Any, rng: "Random | ByteDice", depth: int) -> Any:
    some = rng.choice((0, 1, 2)) if depth < 4 else 0
    match info:
        case inspect.StructType():
            return _make(info.cls, *(_sample(f.type, rng, depth + 1) for f in info.fields))
        case inspect.UnionType():
            return _sample(rng.choice(info.types), rng, depth)
        case inspect.BoolType():
            return rng.random() < 0.5
        case inspect.IntType():
            return rng.choice(NUMBERS)
        case inspect.FloatType():
            return rng.random()
        case inspect.StrType():
            return rng.choice(WORDS)
        case inspect.BytesType():
            return rng.randbytes(rng.randrange(20))
        case inspect.NoneType():
            return None
        case inspect.EnumType():
            return rng.choice(list(info.cls))
        case inspect.LiteralType():
            return rng.choice(info.values)
        case inspect.VarTupleType():
            return tuple(_sample(info.item_type, rng, depth + 1) for _ in range(some))
        case inspect.TupleType():
            return tuple(_sample(t, rng, depth + 1) for t in info.item_types)
        case inspect.ListType():
            return [_sample(info.item_type, rng, depth + 1) for _ in range(some)]
        case inspect.DictType():
            pairs = [
                (_sample(info.key_type, rng, depth), _sample(info.value_type, rng, depth + 1)) for _ in range(some)
            ]
            return dict(pairs)
    raise TypeError(f"no sample for {info}")


def strategy(kind: Any) -> st.SearchStrategy:
    """Every instance that can be said, within reason."""
    return _strategy(inspect.type_info(kind))


def _strategy(info: Any) -> st.SearchStrategy:
    match info:
        case inspect.StructType():
            return st.builds(_make, st.just(info.cls), *(_strategy(f.type) for f in info.fields))
        case inspect.UnionType():
            return st.one_of(*(_strategy(t) for t in info.types))
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return st.integers(-(2**63), 2**63 - 1)
        case inspect.FloatType():
            return st.floats(allow_nan=False)
        case inspect.StrType():
            return st.text(max_size=40)
        case inspect.BytesType():
            return st.binary(max_size=60)
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.EnumType():
            return st.sampled_from(list(info.cls))
        case inspect.VarTupleType():
            return st.lists(_strategy(info.item_type), max_size=3).map(tuple)
        case inspect.TupleType():
            return st.tuples(*(_strategy(t) for t in info.item_types))
        case inspect.ListType():
            return st.lists(_strategy(info.item_type), max_size=3)
        case inspect.DictType():
            return st.dictionaries(_strategy(info.key_type), _strategy(info.value_type), max_size=3)
    raise TypeError(f"no strategy for {info}")


def _make(kind: type[msgspec.Struct], *values: Any) -> msgspec.Struct:
    return kind(**dict(zip(kind.__struct_fields__, values, strict=True)))


class ByteDice:
    """Answers like `random.Random`, out of the bytes of an input: so a mutation of the bytes changes one decision."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at >= len(self._data)

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def randrange(self, end: int) -> int:
        return self._byte() % end

    def random(self) -> float:
        return self._byte() / 256

    def choice(self, options: Any) -> Any:
        return options[self._byte() % len(options)]

    def randbytes(self, length: int) -> bytes:
        return bytes(self._byte() for _ in range(length))
