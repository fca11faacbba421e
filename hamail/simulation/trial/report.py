"""What a batch of trials has shown, for people."""

from hamail.simulation.faults import KINDS
from hamail.simulation.trial.tally import Tally


def per_cpu_minute(total: Tally, amount: float) -> float:
    return amount / max(total.cpu_s / 60, 1e-9)


def progress(total: Tally) -> str:
    hours = total.simulated_ms / 3_600_000
    return (
        f"simulate: {total.seeds} seeds, {hours:.1f} h, {sum(total.faults.values())} faults, "
        f"{total.failovers} failovers, {total.violations} violations, {per_cpu_minute(total, hours):.1f} h/CPU min"
    )


def share(values: list[int], part: float) -> float:
    """A quantile, in seconds."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] / 1000 if ordered else 0.0


def table(total: Tally, first: int, wall_s: float) -> str:
    hours = total.simulated_ms / 3_600_000
    rows = (
        ("seeds", f"{total.seeds} (from {first})"),
        ("simulated hours", f"{hours:.1f}"),
        ("faults injected", f"{sum(total.faults.values())}"),
        ("failovers completed", f"{total.failovers}"),
        ("mails acknowledged", f"{total.mails}"),
        ("came back in place", f"{total.returns}"),
        ("ordered moves", f"{total.ordered}"),
        (
            "a healed core served",
            f"p50 {share(total.recovered_ms, 0.5):.1f} s, p99 {share(total.recovered_ms, 0.99):.1f} s",
        ),
        ("violations", f"{total.violations}"),
        ("CPU minutes", f"{total.cpu_s / 60:.1f} ({wall_s / 60:.1f} min by the wall clock)"),
        ("simulated hours per CPU minute", f"{per_cpu_minute(total, hours):.1f}"),
        ("failovers per CPU minute", f"{per_cpu_minute(total, total.failovers):.0f}"),
    )
    kinds = sorted(KINDS.values(), key=lambda k: (k.rows, k.name))
    by_kind = [
        f"  {','.join(map(str, kind.rows)):>8}  {kind.name:32} {total.faults.get(kind.name, 0):8}" for kind in kinds
    ]
    lines = [f"simulate: {name:32} {value}" for name, value in rows]
    return "\n".join(["simulate: faults by row of the fault table and kind", *by_kind, *lines])
