"""Picture of the packages, drawn from the imports of the source.

    python docs/architecture_picture.py            # writes docs/images/architecture.svg
    python docs/architecture_picture.py --check    # exit code 1 if it is not up to date

One panel a room, one box a package (or a module that stands beside the packages). Arrows inside a room go from
who imports to what is imported; one that follows from others is left out. Small print in a box names what it
imports of other rooms, again without what follows. Packages that import each other are joined by a red line.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "images" / "architecture.svg"

ROOMS = {"hil": "#dbeafe", "search": "#fef3c7", "mapping": "#dcfce7", "firmware_protocols": "#fae8ff", "cim": "#fee2e2"}
# Left edge and width of the panel of each room; the narrow rooms stand beside the wide one.
PANELS = {"hil": (6, 590), "search": (604, 176), "mapping": (788, 286), "cim": (1082, 168)}
UNDER = ("firmware_protocols", 604, 646)  # below the three narrow ones
WIDTH, BOX, ROW, GAP, LINE, LETTER = 1256, 30, 44, 22, 13, 6.0

PROTOCOL = "frames, messages, link, both roles"
Graph = dict[str, set[str]]


def package_of(name: str) -> str | None:
    """The package (or the lone module) of a dotted name: "hil.driver.cells" is in "hil.driver"."""
    parts = name.split(".")
    if parts[0] not in ROOMS:
        return None
    if parts[0] == "firmware_protocols":
        return parts[0]
    path = ROOT.joinpath(*parts[:2])
    return ".".join(parts[:2]) if len(parts) > 1 and (path.is_dir() or path.with_suffix(".py").exists()) else None


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports() -> Graph:
    """What each package imports directly; lists of public names (``__init__`` of a room) are not imports."""
    graph: Graph = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if path == ROOT / room / "__init__.py" and room != "firmware_protocols":
                continue
            own = package_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
            if own is None:
                continue
            found = graph.setdefault(own, set())
            found |= {p for name in imported(path) if (p := package_of(name)) and p != own}
    return graph


def reach(graph: Graph) -> Graph:
    """Everything that each package imports, directly or through others."""
    found: Graph = {}
    for start in graph:
        seen: set[str] = set()
        open_ = [start]
        while open_:
            new = graph[open_.pop()] - seen
            seen |= new
            open_ += new
        found[start] = seen
    return found


def reduced(names: set[str], far: Graph) -> list[str]:
    """``names`` without those that another of them imports."""
    return sorted(n for n in names if not any(n in far[m] and m not in far[n] for m in names if m != n))


def heights(graph: Graph, far: Graph, room: str) -> dict[str, int]:
    """Row of each package of a room, 0 at the bottom; packages that import each other stand in one row."""
    members = [n for n in graph if n.split(".")[0] == room]

    def ring(name: str) -> frozenset[str]:
        return frozenset({name} | {m for m in far[name] if name in far[m]})

    known: dict[frozenset[str], int] = {}

    def height(group: frozenset[str]) -> int:
        if group not in known:
            below = {ring(m) for n in group for m in graph[n] if m in members} - {group}
            known[group] = 1 + max((height(b) for b in below), default=-1)
        return known[group]

    return {name: height(ring(name)) for name in members}


@dataclass(frozen=True)
class PackageBox:
    """One package on the picture: left upper corner, width, height, and the lines of its small print."""

    name: str
    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]


def small_print(name: str, graph: Graph, far: Graph) -> tuple[str, ...]:
    """Lines such as "cim: record, simulator", one for each other room that a package imports."""
    room = name.split(".")[0]
    foreign = reduced({n for n in graph[name] if n.split(".")[0] != room}, far)
    lines = []
    for other in ROOMS:
        of = [n.partition(".")[2] for n in foreign if n.split(".")[0] == other]
        if of == [""]:
            lines.append(other)
        for start in range(0, len(of) if of != [""] else 0, 3):
            lines.append((f"{other}: " if start == 0 else "  ") + ", ".join(of[start : start + 3]))
    return tuple(lines)


def ordered(rows: list[list[str]], graph: Graph) -> list[list[str]]:
    """Each row sorted by where its neighbours stand, so that fewer arrows cross."""
    for sweep in range(8):
        place = {n: (i + 0.5) / len(row) for row in rows for i, n in enumerate(row)}
        near = {n: [m for m in place if m in graph[n] or n in graph[m]] for n in place}
        for row in rows if sweep % 2 else rows[::-1]:
            row.sort(key=lambda n: (round(sum(place[m] for m in near[n]) / len(near[n]), 9) if near[n] else 0.5, n))
            place |= {n: (i + 0.5) / len(row) for i, n in enumerate(row)}
    return rows


def fitting(row: list[str], across: float, graph: Graph, far: Graph) -> Iterator[list[PackageBox]]:
    """Boxes of a row, without places yet; a row that is too wide becomes several."""
    made: list[PackageBox] = []
    for name in row:
        lines = small_print(name, graph, far)
        label = name.partition(".")[2] or PROTOCOL
        width = round(max([len(label) * 7.6, *(len(t) * LETTER for t in lines)]) + 18, 1)
        if made and sum(b.width + 4 for b in made) + width > across:
            yield made
            made = []
        made.append(PackageBox(name, 0, 0, width, BOX + LINE * len(lines), lines))
    yield made


def panel(
    room: str, left: float, across: float, top: float, graph: Graph, far: Graph
) -> tuple[list[PackageBox], float]:
    """Boxes of one room from ``top`` downwards, and where the panel ends."""
    high = heights(graph, far, room)
    rows = [sorted(n for n in high if high[n] == h) for h in range(max(high.values()), -1, -1)]
    boxes: list[PackageBox] = []
    y = top + 30
    for made in (part for row in ordered(rows, graph) for part in fitting(row, across - 20, graph, far)):
        gap = min(GAP, (across - 20 - sum(b.width for b in made)) / max(len(made) - 1, 1))
        x = left + (across - sum(b.width for b in made) - gap * (len(made) - 1)) / 2
        for box in made:
            boxes.append(replace(box, x=round(x, 1), y=y))
            x += box.width + gap
        y += max(b.height for b in made) + ROW
    return boxes, y - ROW + 14


def arrow(above: PackageBox, below: PackageBox, mutual: bool) -> str:
    x0, x1 = above.x + above.width / 2, below.x + below.width / 2
    if above.y == below.y:
        left, right = (above, below) if above.x < below.x else (below, above)
        path = f"M{left.x + left.width / 2:.1f} {left.y} C{left.x + left.width / 2:.1f} {left.y - 22} "
        path += f"{right.x + right.width / 2:.1f} {right.y - 22} {right.x + right.width / 2:.1f} {right.y}"
    else:
        y0, y1 = above.y + above.height, below.y - 3
        path = f"M{x0:.1f} {y0} C{x0:.1f} {(y0 + y1) / 2:.1f} {x1:.1f} {(y0 + y1) / 2:.1f} {x1:.1f} {y1}"
    return f'<path d="{path}" class="{"ring" if mutual else "arrow"}"/>'


def arrows(boxes: list[PackageBox], graph: Graph, far: Graph) -> list[str]:
    """Arrows inside one room, without those that follow from others; one line for two that import each other."""
    at = {b.name: b for b in boxes}
    found = []
    for name in sorted(at):
        inside = {m for m in graph[name] if m in at}
        ring = {m for m in inside if name in far[m]}
        found += [arrow(at[name], at[other], False) for other in reduced(inside - ring, far)]
        found += [arrow(at[name], at[other], True) for other in sorted(ring) if name < other]
    return found


def drawn(box: PackageBox) -> list[str]:
    label, middle = box.name.partition(".")[2] or PROTOCOL, box.x + box.width / 2
    return [
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="5" class="box"/>',
        f'<text x="{middle:.1f}" y="{box.y + 20}" class="name">{escape(label)}</text>',
        *(
            f'<text x="{middle:.1f}" y="{box.y + 20 + LINE * (i + 1)}" class="small">{escape(text)}</text>'
            for i, text in enumerate(box.lines)
        ),
    ]


def draw(graph: Graph) -> str:
    far = reach(graph)
    body: list[str] = []
    ends = {room: panel(room, left, across, 10, graph, far)[1] for room, (left, across) in PANELS.items()}
    low = max(end for room, end in ends.items() if room != "hil")
    under, left, across = UNDER
    foot = panel(under, left, across, low + 8, graph, far)[1]
    end = max(ends["hil"], foot)
    places = [(room, left, across, 10.0, end if room == "hil" else low) for room, (left, across) in PANELS.items()]
    places.append((under, left, across, low + 8, foot))
    for room, x, width, top, bottom in places:
        boxes, _ = panel(room, x, width, top, graph, far)
        body.append(
            f'<rect x="{x}" y="{top}" width="{width}" height="{bottom - top:.0f}" rx="8" fill="{ROOMS[room]}"/>'
        )
        body.append(f'<text x="{x + 12}" y="{top + 20}" class="room">{room}/</text>')
        body += arrows(boxes, graph, far)
        body += [part for box in boxes for part in drawn(box)]
    height = end + 8
    style = (
        "text{font-family:ui-sans-serif,Helvetica,Arial,sans-serif;fill:#111827}.room{font-size:15px;font-weight:700}"
        ".name{font-size:13px;font-weight:600;text-anchor:middle}.small{font-size:10.5px;text-anchor:middle;"
        "fill:#374151}.box{fill:#fff;stroke:#6b7280}.arrow{fill:none;stroke:#4b5563;marker-end:url(#tip)}"
        ".ring{fill:none;stroke:#dc2626;stroke-width:1.6}"
    )
    tip = (
        '<marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#4b5563"/></marker>'
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">'
    title = "<title>Packages of hil and what they import</title>"
    back = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>'
    return "\n".join([head, title, f"<style>{style}</style><defs>{tip}</defs>", back, *body, "</svg>", ""])


def main(arguments: list[str]) -> int:
    graph = imports()
    picture = draw(graph)
    if "--check" in arguments:
        up_to_date = PICTURE.exists() and PICTURE.read_text("utf-8") == picture
        print("up to date" if up_to_date else "not up to date: python docs/architecture_picture.py")
        return 0 if up_to_date else 1
    PICTURE.write_text(picture, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
