"""An asyncio event loop whose time is the world's: it jumps to what happens next, a timer or an event."""

import asyncio
import heapq
import itertools
import selectors

VIRTUAL_FD = 1_000_000  # from here on up descriptors belong to the kernel in memory
SPINS_MAX = 2000  # rounds of the loop at one moment
_BURIAL_ROUNDS_MAX = 400


class Stopped(BaseException):
    """Thrown through the loop: this life of the executor is over. `why`: killed | reset | end."""

    def __init__(self, why):
        super().__init__(why)
        self.why = why


class Agenda:
    """What will happen in the world, in true seconds; ties in the order in which they were written down."""

    def __init__(self):
        self.now_s = 0.0
        self.happened = 0
        self._heap = []
        self._serial = itertools.count()

    def at(self, when_s, act):
        heapq.heappush(self._heap, (max(when_s, self.now_s), next(self._serial), act))

    def after(self, delay_s, act):
        self.at(self.now_s + delay_s, act)

    def next_s(self):
        return self._heap[0][0] if self._heap else None

    def one(self):
        when_s, _serial, act = heapq.heappop(self._heap)
        self.now_s = max(self.now_s, when_s)
        self.happened += 1
        act()

    def run_until(self, until_s):
        while self._heap and self._heap[0][0] <= until_s:
            self.one()
        self.now_s = max(self.now_s, until_s)


class _Task(asyncio.Task):
    """Hashes by its number, not by its address: sets of tasks are walked in the same order in every run."""

    _numbers = itertools.count(1)

    def __init__(self, *args, **named):
        self._number = next(_Task._numbers)
        super().__init__(*args, **named)

    def __hash__(self):
        return self._number

    def __eq__(self, other):
        return self is other


class _Selector(selectors.SelectSelector):
    def __init__(self, world):
        super().__init__()
        self.world = world
        self.loop = None
        self._last_s = -1.0
        self._rounds = 0

    def select(self, timeout=None):
        world, agenda = self.world, self.world.agenda
        if self.loop.buried_s is not None:
            self.loop.buried_s += min(timeout or 0.0, 60.0)
            return []
        self._rounds = self._rounds + 1 if agenda.now_s == self._last_s else 0
        self._last_s = agenda.now_s
        if self._rounds > SPINS_MAX:
            world.judge.fail("the event loop turns and turns, and time stands still")
        world.step()
        if world.frozen_until_s > agenda.now_s:  # the process is stopped; the world is not
            agenda.run_until(world.frozen_until_s)
            world.step()
            return []
        if timeout == 0:
            return []
        until_s = None if timeout is None else agenda.now_s + timeout / world.rate
        while not self.loop._ready:
            next_s = agenda.next_s()
            if next_s is None and until_s is None:
                raise RuntimeError("nothing will ever happen any more")
            if next_s is None or (until_s is not None and until_s < next_s):
                agenda.now_s = until_s
                break
            agenda.one()
            if world.frozen_until_s > agenda.now_s:
                break
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, world):
        self.world = world
        self.buried_s = None
        _Task._numbers = itertools.count(1)
        selector = _Selector(world)
        selector.loop = self
        super().__init__(selector)
        self._clock_resolution = 1e-6
        self.set_task_factory(lambda loop, coro, **named: _Task(coro, loop=loop, **named))
        self.set_exception_handler(self._complain)

    def time(self):
        if self.buried_s is not None:
            return self.buried_s
        return self.world.monotonic_s()

    def _complain(self, _loop, context):
        if self.buried_s is None:
            self.world.complaint(context.get("exception") or context.get("message"))

    def add_reader(self, fd, callback, *args):
        if isinstance(fd, int) and fd >= VIRTUAL_FD:
            self.world.kernel.watch(fd, callback, args)
        else:
            super().add_reader(fd, callback, *args)

    def remove_reader(self, fd):
        if isinstance(fd, int) and fd >= VIRTUAL_FD:
            return self.world.kernel.unwatch(fd)
        return super().remove_reader(fd)

    def bury(self):
        """End every task of a process that has been killed; nothing that they still do reaches the world."""
        self.buried_s = self.world.monotonic_s()
        for _round in range(_BURIAL_ROUNDS_MAX):
            tasks = asyncio.all_tasks(self)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.call_soon(self.stop)
            self.run_forever()
        left = len(asyncio.all_tasks(self))
        self.close()
        return left
