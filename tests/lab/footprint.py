"""What hamail costs a node: CPU time of its units with everything that they ever started, and their share of memory."""

import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab.cgroup import HIERARCHIES, V2
from tests.lab.node import Node

UNITS = ("hamaild.service", "hamail-executor.service", "hamail-agents.service")
KIB_PER_MB = 1000**2 / 1024


@dataclass(frozen=True)
class Usage:
    at_s: float
    units_s: float  # CPU seconds of hamail's units, ended children included
    node_s: float  # of the whole node


def cpu(node: Node) -> Usage:
    """CPU time so far. The cgroup counts what has ended as well, so checks in short-lived processes are in it.

    Raises LookupError when none of hamail's units runs there: then there is nothing to measure.
    """
    folders = unit_folders(node, V2)
    if not folders:
        raise LookupError(f"hamail does not run on {node.name}: no cgroup of {' or '.join(UNITS)}")
    units = sum(_cpu_stat_s(folder) for folder in folders)
    return Usage(time.monotonic(), units, _cpu_stat_s(V2 / node.machine.name))


def per_minute(before: Usage, after: Usage) -> tuple[float, float]:
    """CPU seconds a minute: hamail's units, and the whole node."""
    minutes = (after.at_s - before.at_s) / 60
    return (after.units_s - before.units_s) / minutes, (after.node_s - before.node_s) / minutes


def pss_mb(node: Node) -> float:
    """Proportional set size of all processes of hamail's units, in 10^6 bytes."""
    kib = 0
    for pid in pids(node):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # ended meanwhile
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / KIB_PER_MB


def pids(node: Node) -> set[int]:
    found: set[int] = set()
    for root in HIERARCHIES:
        for folder in unit_folders(node, root):
            for file in folder.rglob("cgroup.procs"):
                found.update(int(pid) for pid in file.read_text().split())
    return found


def unit_folders(node: Node, root: Path) -> list[Path]:
    top = root / node.machine.name
    return [folder for unit in UNITS for folder in top.rglob(unit)] if top.is_dir() else []


def _cpu_stat_s(folder: Path) -> float:
    values = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
    return int(values["usage_usec"]) / 1e6
