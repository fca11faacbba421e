"""A fault is data: when, what kind, which parameters. A list of them can be run again, cut down, and kept in a file."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

from hamail.model.spec import Requirement

if TYPE_CHECKING:
    from hamail.simulation.faults.dice import Dice

Parameters: TypeAlias = dict[str, Any]
Draw: TypeAlias = "Callable[[Dice], Parameters]"
Strike: TypeAlias = Callable[..., None]
ALL = frozenset(Requirement)
STRONG = frozenset({Requirement.FENCING, Requirement.WATCHDOG})  # something stops a node whose executor cannot
FENCED = frozenset({Requirement.FENCING})


class Fault(Struct, frozen=True):
    at_ms: int  # after the chaos has begun
    kind: str
    parameters: Parameters = {}

    def words(self) -> str:
        given = " ".join(f"{k}={v}" for k, v in self.parameters.items())
        return f"{self.at_ms / 1000:9.3f} s  {self.kind} {given}".rstrip()


class Kind(Struct, frozen=True):
    """One kind of fault. `draw` makes its parameters for a seed, `strike(world, **parameters)` does it."""

    name: str
    rows: tuple[int, ...]  # of the fault table
    draw: Draw
    strike: Strike
    survived: frozenset[Requirement] = ALL  # where safety is claimed under it: the others' declared price
    planned: bool = False  # an order of an operator rather than a fault


class Catalogue:
    """The kinds of one topic."""

    def __init__(self) -> None:
        self.kinds: list[Kind] = []

    def kind(
        self, *rows: int, draw: Draw, survived: Iterable[Requirement] = ALL, planned: bool = False
    ) -> Callable[[Strike], Strike]:
        def note(strike: Strike) -> Strike:
            name = getattr(strike, "__name__", "")
            self.kinds.append(Kind(name, rows, draw, strike, frozenset(survived), planned))
            return strike

        return note
