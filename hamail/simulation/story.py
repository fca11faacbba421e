"""A power cut and a planned move, told by a simulated cluster: for machines that cannot host the real one."""

from collections.abc import Iterable, Iterator

from hamail.model import commands as c
from hamail.model.state import Event
from hamail.simulation.spec import cluster
from hamail.simulation.world import WALL_START_MS, World

LIMIT_MS = 20_000


class Storyteller:
    def __init__(self) -> None:
        self._world = World(cluster())
        self._told = 0

    def tell(self) -> Iterator[str]:
        """Raises RuntimeError when the simulated cluster does not do what it should."""
        world = self._world
        yield _line(0, "Three simulated nodes: n1 and n2 serve mail, n3 is the witness. No real machine is involved.")
        world.start_all()
        yield from self._until_on("n1")
        world.run_ms(5000)
        yield from self._news()
        cut_ns = world.now_ns
        yield _line(cut_ns, "POWER CUT of n1, the active node.")
        world.power_off("n1")
        yield from self._until_on("n2")
        yield _line(world.now_ns, f"Mail is back after {(world.now_ns - cut_ns) / 1e9:.2f} s without it.")
        world.run_ms(3000)
        yield from self._news()
        yield _line(world.now_ns, "The power of n1 returns.")
        world.machines["n1"].power_on()
        world.run_ms(5000)
        yield from self._news()
        yield _line(world.now_ns, "It stays a standby: going back would be a second outage.")
        yield from self._switch_back()
        yield _line(world.now_ns, f"Nodes active at the same time: {self._most_active()} at most, in the whole story.")

    def _switch_back(self) -> Iterator[str]:
        world = self._world
        yield _line(world.now_ns, "An operator orders: hamailctl switchover mail --to n1")
        epoch = world.state.group("mail").epoch
        move = c.RequestMove(
            at_ms=world.wall_ms, group="mail", target="n1", expected_epoch=epoch, actor="operator", reason="planned"
        )
        world.order(move)
        yield from self._until_on("n1")
        gap_ms = (world.checker.intervals[-1][2] - (world.checker.intervals[-2][3] or 0)) / 1e6
        yield _line(world.now_ns, f"From the last thing stopped on n2 to the first one started on n1: {gap_ms:.0f} ms.")

    def _until_on(self, node: str) -> Iterator[str]:
        def there() -> bool:
            return self._world.active_on("mail") == node and self._world.state.group("mail").phase == "active"

        if not self._world.run_until(there, LIMIT_MS):
            raise RuntimeError(f"the simulated group did not come up on {node}\n{self._world.recent()}")
        yield from self._news()

    def _news(self) -> Iterator[str]:
        fresh: list[Event] = [e for e in self._world.state.events if e.index > self._told]
        self._told = self._world.state.applied
        for e in fresh:
            yield _line((e.at_ms - WALL_START_MS) * 1_000_000, e.sentence)

    def _most_active(self) -> int:
        """From the true state, which the world has checked after every event."""
        spans = [(begin, end or self._world.now_ns) for _, _, begin, end in self._world.checker.intervals]
        return max(sum(1 for b, e in spans if b <= at < e) for at, _ in spans)


def _line(at_ns: int, words: str) -> str:
    return f"[simulated {at_ns / 1e9:7.2f} s] {words}"


def power_cut_story() -> Iterable[str]:
    """Start, power cut, takeover, return, switchover: really simulated, line by line, each labelled as simulated."""
    return Storyteller().tell()
