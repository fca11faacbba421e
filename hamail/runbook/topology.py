"""The cluster as an SVG picture, for the runbook. Pure."""

from html import escape

from hamail.model.spec import ClusterSpec, GroupSpec
from hamail.model.state import ClusterState

WIDTH, BOX_WIDTH, BOX_HEIGHT, GAP = 820, 200, 92, 30
INK, LINE, FILL, ACTIVE, WITNESS = "#202124", "#5f6368", "#f1f3f4", "#d7efe0", "#fdf1d8"


def draw(state: ClusterState) -> str:
    spec = state.spec
    names = sorted(spec.nodes, key=lambda n: (spec.nodes[n].witness, n))
    width = max(WIDTH, len(names) * (BOX_WIDTH + GAP) + GAP)
    left = (width - len(names) * (BOX_WIDTH + GAP) + GAP) / 2
    x = {name: left + number * (BOX_WIDTH + GAP) for number, name in enumerate(names)}
    top = 110
    parts = [_clients(spec, width), *_links(spec, state, x, top, width)]
    parts += [_node(spec, state, name, x[name], top) for name in names]
    below = top + BOX_HEIGHT + 50
    parts += _storage(spec, x, top, below, width)
    parts += _devices(spec, x, top, below + 60)
    height = below + 60 + (56 if spec.fencing else 0)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="topology of cluster {escape(spec.name)}" font-family="sans-serif" font-size="13" fill="{INK}">'
    )
    return "\n".join([head, *parts, "</svg>"])


def addresses(group: GroupSpec) -> list[str]:
    return [a for r in group.resources if r.agent.endswith(":vip") for a in r.parameters.get("address", "").split()]


def _box(x: float, y: float, width: float, height: float, fill: str, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="5 3"' if dashed else ""
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="6" fill="{fill}" '
        f'stroke="{LINE}"{dash}/>'
    )


def _text(x: float, y: float, words: str, *, bold: bool = False, colour: str = INK) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle" fill="{colour}"{weight}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, dashed: bool = False) -> str:
    dash = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="{LINE}"{dash}/>'


def _clients(spec: ClusterSpec, width: float) -> str:
    vips = [a for g in spec.groups.values() for a in addresses(g)]
    words = f"clients use {', '.join(a.partition('/')[0] for a in vips)}" if vips else "clients"
    return _box(width / 2 - 190, 10, 380, 34, "#e8f0fe") + _text(width / 2, 32, words, bold=True)


def _links(spec: ClusterSpec, state: ClusterState, x: dict[str, float], top: float, width: float) -> list[str]:
    active = {state.group(g).owner for g in spec.groups}
    found = []
    for name, at in x.items():
        if not spec.nodes[name].witness:
            found.append(_line(width / 2, 44, at + BOX_WIDTH / 2, top, dashed=name not in active))
    return found


def _node(spec: ClusterSpec, state: ClusterState, name: str, x: float, y: float) -> str:
    node = spec.nodes[name]
    owned = [g for g in spec.groups if state.group(g).owner == name]
    fill = WITNESS if node.witness else (ACTIVE if owned else FILL)
    role = "witness: votes only" if node.witness else (f"runs {', '.join(owned)}" if owned else "standby")
    middle = x + BOX_WIDTH / 2
    lines = [_box(x, y, BOX_WIDTH, BOX_HEIGHT, fill), _text(middle, y + 24, name, bold=True)]
    lines += [_text(middle, y + 44, f"{node.address}, port {node.port}", colour=LINE), _text(middle, y + 64, role)]
    if node.watchdog_device:
        lines.append(_text(middle, y + 82, f"watchdog {node.watchdog_device}", colour=LINE))
    return "".join(lines)


def _storage(spec: ClusterSpec, x: dict[str, float], top: float, y: float, width: float) -> list[str]:
    devices = [
        f"{r.parameters.get('device', '?')} at {r.parameters.get('directory', '?')}"
        for g in spec.groups.values()
        for r in g.resources
        if r.agent.endswith(":filesystem")
    ]
    if not devices:
        return []
    found = [_line(x[n] + BOX_WIDTH / 2, top + BOX_HEIGHT, width / 2, y) for n in x if not spec.nodes[n].witness]
    words = f"shared storage: {'; '.join(devices)}"
    return [*found, _box(width / 2 - 230, y, 460, 34, "#fce8e6"), _text(width / 2, y + 22, words)]


def _devices(spec: ClusterSpec, x: dict[str, float], top: float, y: float) -> list[str]:
    """Beside each other; who switches whom is said in words, since lines would cross everything."""
    found = []
    left = min(x.values(), default=0.0)
    for number, device in enumerate(sorted(spec.fencing.values(), key=lambda d: (d.level, d.name))):
        at = left + number * (BOX_WIDTH + GAP)
        found.append(_box(at, y, BOX_WIDTH, 42, "#ffffff", dashed=True))
        found.append(_text(at + BOX_WIDTH / 2, y + 18, f"fence device {device.name}", bold=True))
        found.append(_text(at + BOX_WIDTH / 2, y + 35, f"switches {', '.join(sorted(device.targets))}", colour=LINE))
    return found
