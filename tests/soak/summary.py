"""What a soak has shown: one line for each kind of fault, and the totals of all labs."""

import math
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

COUNTED = ("failovers", "restarts", "fences", "canary_writes", "blind")
LISTS = ("violations", "inconclusive", "excused", "unexplained", "problems")
SERVICES = ("smtp", "imap")
PLAIN_WIDTH = 140


def quantile(values: list[float], share: float) -> float:
    """Nearest rank. Raises ValueError without values."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def total(seed: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """`results`: of each lab, see `one.result`."""
    mail: dict[str, int] = {}
    for found in results:
        for key, value in found.get("mail", {}).items():
            mail[key] = mail.get(key, 0) + value
    steps = [step for found in results for step in found.get("steps", ())]
    return {
        "seed": seed,
        "commit": next((r["commit"] for r in results if "commit" in r), ""),
        "passed": all(r["passed"] for r in results),
        "seconds": max((r.get("seconds", 0) for r in results), default=0),
        "labs": len(results),
        "steps": len(steps),
        **{key: sum(r.get(key, 0) for r in results) for key in COUNTED},
        **{key: [{"lab": r["lab"], "what": item} for r in results for item in r.get(key, ())] for key in LISTS},
        "mail": mail,
        "faults": by_family(steps),
    }


def by_family(steps: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    families: dict[str, list[dict[str, Any]]] = {}
    for step in steps:
        families.setdefault(step["family"], []).append(step)
    lines = {}
    for family, of in sorted(families.items()):
        line: dict[str, Any] = {"count": len(of)} | {k: sum(s[k] for s in of) for k in ("moves", "starts", "fences")}
        for service in SERVICES:
            seen = [s[service] for s in of if s[service] is not None]
            line[f"{service}_unknown"] = len(of) - len(seen)
            if seen:
                line[service] = {"p50": quantile(seen, 0.5), "p99": quantile(seen, 0.99), "max": max(seen)}
        lines[family] = line
    return lines


def show(found: dict[str, Any], folder: Path) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    table = Table("fault", "count", "moves", "starts", "fences", "SMTP p50 / p99 / max", "IMAP p50 / p99 / max",
                  box=box.SIMPLE, title=f"longest time without an answer, seed {found['seed']}")  # fmt: skip
    for family, line in found["faults"].items():
        shown = [outage(line.get(service)) for service in SERVICES]
        table.add_row(family, *(str(line[k]) for k in ("count", "moves", "starts", "fences")), *shown)
    console.print(table)
    mail = found["mail"]
    console.print(
        f"{found['failovers']} failovers to the other node and {found['restarts']} starts on the same one, "
        f"{found['steps']} steps, {found['fences']} fences, {found['seconds']} s in {found['labs']} labs, "
        f"commit {found['commit']}"
    )
    console.print(
        f"violations {len(found['violations'])}, inconclusive {len(found['inconclusive'])}, excused "
        f"{len(found['excused'])}, not explained "
        f"{len(found['unexplained'])}, canary writes {found['canary_writes']}"
    )
    console.print(
        f"mails: {mail.get('acknowledged', 0)} acknowledged (SMTP {mail.get('by_smtp', 0)}, LMTP "
        f"{mail.get('by_lmtp', 0)}, IMAP {mail.get('by_imap', 0)}), {mail.get('lost', 0)} lost, "
        f"{mail.get('corrupt', 0)} corrupt, {mail.get('phantom', 0)} phantom; {mail.get('duplicates', 0)} duplicates, "
        f"{mail.get('unknown', 0)} unknown and not there, {mail.get('recovered', 0)} unknown and there"
    )
    for key in LISTS:
        for item in found[key]:
            console.print(f"{key}: {item['lab']}: {item['what']}", markup=False, soft_wrap=True)
    if not found["passed"]:
        console.print(
            f"[red]NOT PASSED.[/] Everything is kept in {folder}: history.jsonl of each lab (one record a line, in the "
            f"order of time), the nodes' journals n1.log n2.log n3.log, and lun.img, the store as it was at the end. "
            f"The same schedule again: make soak SEED={found['seed']} LABS={found['labs']} FAILOVERS=..."
        )


def outage(line: dict[str, float] | None) -> str:
    return "" if line is None else " / ".join(f"{line[k] / 1000:.2f}" for k in ("p50", "p99", "max")) + " s"
