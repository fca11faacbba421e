"""One node's clock: virtual CLOCK_BOOTTIME with an offset and a rate error. The rate may change; it never jumps."""

MILLION = 1_000_000


class Clock:
    def __init__(self, rate_ppm: int = 0) -> None:
        self.rate_ppm = rate_ppm  # > 0: fast
        self._since_ns = 0  # true time from which on the present rate counts
        self._read_ns = 0  # what the clock read then
        self.stopped = False

    def boot(self, real_ns: int) -> None:
        """CLOCK_BOOTTIME begins again."""
        self._since_ns, self._read_ns, self.stopped = real_ns, 0, False

    def stop(self, real_ns: int) -> None:
        """As a guest's clocks do while it is paused."""
        self._since_ns, self._read_ns, self.stopped = real_ns, self.local_ns(real_ns), True

    def go_on(self, real_ns: int) -> None:
        self._since_ns, self.stopped = real_ns, False

    def set_rate(self, real_ns: int, rate_ppm: int) -> None:
        self._since_ns, self._read_ns, self.rate_ppm = real_ns, self.local_ns(real_ns), rate_ppm

    def local_ns(self, real_ns: int) -> int:
        """What this node reads at `real_ns`."""
        passed = 0 if self.stopped else real_ns - self._since_ns
        return self._read_ns + passed + passed * self.rate_ppm // MILLION

    def real_ns(self, local_ns: int) -> int:
        """The first true time at which this node reads at least `local_ns`, if its rate stays as it is."""
        return self._since_ns - (-(local_ns - self._read_ns) * MILLION // (MILLION + self.rate_ppm))
