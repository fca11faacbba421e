"""docs/diagrams: the life of a group as a picture, from `core/transitions`. `--check` says what is not current.

Where the phases stand is drawn by hand; what leads from one to the other, and what it is called, comes from the table.
"""

import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "diagrams"
WIDTH, HEIGHT = 980, 600
BOX_W, BOX_H = 120, 44
COLOURS = {"idle": "#e5e7eb", "starting": "#fef3c7", "active": "#bbf7d0", "stopping": "#fef3c7"}
DOUBT_COLOUR = "#fecaca"
PLACES = {
    "idle": (490, 60),
    "starting": (110, 250),
    "active": (110, 370),
    "stopping": (110, 490),
    "fencing": (850, 250),
    "waiting": (850, 370),
    "blocked": (850, 490),
}
HELD, DOUBT = ("starting", "active", "stopping"), ("fencing", "waiting", "blocked")
FRAMES = {"held by its owner": (30, 190, 200, 360), "in doubt: the owner may still hold it": (740, 190, 220, 360)}


@dataclass(frozen=True)
class Edge:
    """`sources`: every phase that this arrow is drawn for."""

    sources: tuple[str, ...]
    then: str
    path: str
    label: tuple[int, int]
    anchor: str = "middle"


EDGES = (
    Edge(("idle",), "starting", "M 430 62 C 250 70 120 120 110 226", (250, 78)),
    Edge(("starting",), "active", "M 90 272 L 90 346", (84, 312), "end"),
    Edge(("starting", "active"), "stopping", "M 145 392 L 145 466", (152, 432), "start"),
    Edge(HELD, "idle", "M 230 215 C 330 200 420 150 460 84", (330, 150)),
    Edge(DOUBT, "idle", "M 740 215 C 650 200 560 150 520 84", (655, 130)),
    Edge(HELD, "fencing", "M 230 262 L 786 262", (508, 254)),
    Edge(HELD, "waiting", "M 230 350 L 786 370", (508, 350)),
    Edge(HELD, "blocked", "M 230 440 L 786 490", (508, 452)),
    Edge(DOUBT, "starting", "M 740 300 C 600 318 340 296 174 256", (508, 300)),
    Edge(DOUBT, "stopping", "M 740 530 C 600 560 340 550 174 500", (508, 546)),
    Edge(DOUBT, "fencing", "M 912 240 C 955 225 955 275 914 262", (950, 219), "end"),
    Edge(DOUBT, "waiting", "M 912 360 C 955 345 955 395 914 382", (950, 338), "end"),
    Edge(DOUBT, "blocked", "M 912 480 C 955 465 955 515 914 502", (950, 458), "end"),
)


def events(edge: Edge) -> dict[str, tuple[str, ...]]:
    """Event -> the phases of the edge that have it."""
    from hamail.core.transitions import ROWS

    found: dict[str, list[str]] = {}
    for row in ROWS:
        if str(row.phase) in edge.sources and str(row.then) == edge.then:
            found.setdefault(str(row.event), []).append(str(row.phase))
    return {event: tuple(phases) for event, phases in found.items()}


def undrawn() -> list[str]:
    """Rows of the table that no arrow stands for."""
    from hamail.core.transitions import ROWS

    drawn = {(phase, event, e.then) for e in EDGES for event, phases in events(e).items() for phase in phases}
    return [row.name for row in ROWS if (str(row.phase), str(row.event), str(row.then)) not in drawn]


def words(edge: Edge) -> list[str]:
    """The label, a line for each event; one that not all the phases have names those that do."""
    lines = []
    for event, phases in events(edge).items():
        all_of_them = set(phases) == set(edge.sources)
        lines.append(event if all_of_them else f"{event} ({', '.join(phases)})")
    return lines


def svg() -> str:
    style = (
        "text{font:13px system-ui,sans-serif;fill:#111827}.phase{font-weight:600;font-size:15px}"
        ".edge{fill:none;stroke:#4b5563;stroke-width:1.5;marker-end:url(#tip)}.frame{fill:none;stroke:#9ca3af;"
        "stroke-dasharray:5 4}.said{paint-order:stroke;stroke:#fff;stroke-width:5px;stroke-linejoin:round}"
        ".small{font-size:12px;fill:#6b7280}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        ' aria-label="The life of a group">',
        f"<style>{style}</style>",
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M 0 0 L 10 5 L 0 10 z" fill="#4b5563"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for title, (x, y, w, h) in FRAMES.items():
        parts.append(f'<rect class="frame" x="{x}" y="{y}" width="{w}" height="{h}" rx="10"/>')
        parts.append(
            f'<text class="small" x="{x + w // 2}" y="{y + h + 18}" text-anchor="middle">{escape(title)}</text>'
        )
    parts += [f'<path class="edge" d="{edge.path}"/>' for edge in EDGES]
    for phase, (x, y) in PLACES.items():
        colour = COLOURS.get(phase, DOUBT_COLOUR)
        parts.append(
            f'<rect x="{x - BOX_W // 2}" y="{y - BOX_H // 2}" width="{BOX_W}" height="{BOX_H}" rx="8"'
            f' fill="{colour}" stroke="#374151"/>'
        )
        parts.append(f'<text class="phase" x="{x}" y="{y + 5}" text-anchor="middle">{phase}</text>')
    for edge in EDGES:
        x, y = edge.label
        lines = words(edge)
        top = y - 7 * (len(lines) - 1)
        for number, line in enumerate(lines):
            parts.append(
                f'<text class="said" x="{x}" y="{top + 15 * number}" text-anchor="{edge.anchor}">{escape(line)}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def wanted() -> dict[str, str]:
    """File name -> content."""
    from hamail.core.transitions import diagram

    return {"life.svg": svg(), "life.mmd": diagram()}


def stale() -> list[str]:
    files = wanted()
    return sorted(n for n, text in files.items() if not (FOLDER / n).is_file() or (FOLDER / n).read_text() != text)


def main() -> int:
    if "--check" in sys.argv[1:]:
        found = stale()
        sys.stdout.write("".join(f"docs/diagrams/{name} is not current: make diagrams\n" for name in found))
        return bool(found)
    if missing := undrawn():
        sys.stdout.write(f"no arrow stands for {', '.join(missing)}: draw one in tools/diagrams.py\n")
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in wanted().items():
        (FOLDER / name).write_text(text)
    sys.stdout.write(f"docs/diagrams: {len(wanted())} files\n")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER.parents[1]))
    sys.exit(main())
