"""One node's clock: virtual CLOCK_BOOTTIME with an offset and a rate error, both fixed for one boot."""

MILLION = 1_000_000


class Clock:
    def __init__(self, rate_ppm: int = 0) -> None:
        self.rate_ppm = rate_ppm  # > 0: fast
        self._booted_ns = 0

    def boot(self, real_ns: int) -> None:
        """CLOCK_BOOTTIME begins again."""
        self._booted_ns = real_ns

    def local_ns(self, real_ns: int) -> int:
        """What this node reads at `real_ns`."""
        passed = real_ns - self._booted_ns
        return passed + passed * self.rate_ppm // MILLION

    def real_ns(self, local_ns: int) -> int:
        """The first true time at which this node reads at least `local_ns`."""
        return self._booted_ns - (-local_ns * MILLION // (MILLION + self.rate_ppm))
