"""A step of the wall clock changes nothing: no decision and no deadline reads it. It is for people's eyes only.

The lab's nodes share one kernel and so one wall clock, which cannot be stepped for the cluster alone; so the sources
are asked who reads it at all.
"""

import ast
import time
from pathlib import Path

from hamail.daemon import shell
from hamail.executor import clock

ROOT = Path(__file__).parents[2]
WALL = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
# Where it is read, and for what.
ALLOWED = {
    "hamail/daemon/shell.py": "stamps of events, for display",
    "hamail/executor/clock.py": "stamps of the timeline, for display",
    "hamail/daemon/prober.py": "stamp of the first answer, for display",
    "hamail/consensus/journal.py": "a number that surely has not been used yet, on a replaced disk",
    "hamail/pki/": "validity of certificates",
    "hamail/cli/": "display",
    "hamail/doctor/": "how far the clocks of nodes are apart, for people",
    "hamail/probe/": "when a mail service was out, for people; the prober is no part of a cluster",
    "hamail/daemon/reports.py": "stamp of a report for people",
    "hamail/audit/": "stamps of the trail",
    "hamail/enrol/": "how long a token is good; validity of certificates",
    "hamail/setup/": "stamps of backups and certificates",
    "hamail/practice/": "stamps of a drill's report",
    "hamail/support/": "stamp of an archive",
    "hamail/runbook/": "stamp of a document",
    "hamail/ocf/": "display",
    "agents/filesystem": "content of the probe, so that it differs each time",
}


def readers(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = ast.unparse(node.func)
            found |= {wall for wall in WALL if name == wall or name.endswith(f".{wall}")}
            if name.endswith("clock_gettime") or name.endswith("clock_gettime_ns"):
                found |= {"CLOCK_REALTIME"} & {ast.unparse(a).rpartition(".")[2] for a in node.args}
    return found


def test_nothing_reads_the_wall_clock_but_what_is_listed() -> None:
    files = [*ROOT.glob("hamail/**/*.py"), *(p for p in ROOT.glob("agents/*") if p.is_file())]
    assert len(files) > 100
    surprising = {}
    for path in files:
        name = str(path.relative_to(ROOT))
        if (found := readers(path)) and not any(name.startswith(place) for place in ALLOWED):
            surprising[name] = found
    assert not surprising


def test_deadlines_are_counted_on_the_boot_time_clock() -> None:
    for read in (shell.boottime_ns, clock.boottime_ns):
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        assert before <= read() <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
