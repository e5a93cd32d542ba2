"""Parts of figures: plain Plotly dictionaries, typed arrays, and maps of many macros.

Colours are names beginning with "@" (``@measured``); the page's script replaces them with the
colours of its light or dark theme. Arrays travel as base64, so a page of 64 macros stays small.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

Figure = dict[str, Any]
MOST_POINTS_DRAWN = 110_000  # of a map with all its gaps, 0.6 MB; one with more is reduced by whole blocks

MOST_NAMED = 6  # macros in a row that stand as "macro 7" on a narrow screen; of more, the number alone
NARROW_PX, WIDE_PX = 340, 540  # narrowest map: of a telephone, and of the box that scrolls on one
NUMBER_PX = 15  # height of the line above a macro


# --- maps of many macros ----------------------------------------------------------------


def mosaic(
    maps: Mapping[int, NDArray[np.float32]],
    reduce: Callable[[NDArray[np.float32], int], NDArray[np.float32]],
    *,
    colorscale: Any,
    colorbar: Figure,
    hover: str,
    **limits: float,
) -> Figure:
    """All macros side by side in one heat map, numbered; reduced by whole blocks where there are many cells."""
    if not maps:
        return figure([], 120)
    rows, columns = next(iter(maps.values())).shape
    factor, grid = 1, _Grid.of(len(maps), rows, columns)
    while grid.size > MOST_POINTS_DRAWN:
        factor += 1
        grid = _Grid.of(len(maps), -(-rows // factor), -(-columns // factor))
    small = {m: reduce(_padded(a, factor), factor) for m, a in maps.items()}
    r, c, across, aside, above, named = grid.rows, grid.columns, grid.across, grid.aside, grid.above, grid.named
    z = np.full(grid.shape, np.nan, np.float32)
    notes, frames = [], []
    for place, (macro, values) in enumerate(small.items()):
        top, left = place // across * (r + above) + above, place % across * (c + aside) + aside // 2
        z[top : top + r, left : left + c] = values
        text = f"macro {macro}" if named else str(macro)
        note = {"x": left + c / 2 - 0.5, "y": top - 0.5, "yanchor": "bottom", "text": text, "showarrow": False}
        notes.append({**note, "borderpad": 1, "font": {"size": 10}})
        frame = {"type": "rect", "x0": left - 0.5, "x1": left + c - 0.5, "y0": top - 0.5, "y1": top + r - 0.5}
        frames.append({**frame, "layer": "below", "fillcolor": "@ground", "line": {"width": 0}})
    heat: Figure = {"type": "heatmap", "z": packed(z), "colorscale": colorscale, "hoverongaps": False, **limits}
    heat["colorbar"] = {"thickness": 12, "outlinewidth": 0, **colorbar}
    heat["hovertemplate"] = hover + "<extra></extra>"
    bare = {"showgrid": False, "zeroline": False, "showticklabels": False, "showline": False, "ticks": ""}
    x, y = {**bare, "constrain": "domain"}, {**bare, "autorange": "reversed", "scaleanchor": "x", "constrain": "domain"}
    height = int(min(900, max(200, 40 + 1000 * z.shape[0] / z.shape[1])))
    whole = figure([heat], height, x=x, y=y, left=10, bottom=10, annotations=notes, shapes=frames)
    return {**whole, "reduced": factor, "aspect": z.shape[0] / z.shape[1], "wide": not named}


@dataclass(frozen=True, slots=True)
class _Grid:
    """Grid of many macros of one size, in points: ``above``: room for numbers, ``aside``: gap between macros."""

    count: int
    rows: int  # of one macro
    columns: int
    across: int
    aside: int
    above: int

    @classmethod
    def of(cls, count: int, rows: int, columns: int) -> _Grid:
        across = min(count, max(1, round(math.sqrt(count * 3 * rows / columns))))
        aside = max(3, columns // 8)
        point_px = (NARROW_PX if across <= MOST_NAMED else WIDE_PX) / (across * (columns + aside))
        above = math.ceil(NUMBER_PX / point_px)  # room for the numbers, on the narrowest screen too
        return cls(count, rows, columns, across, aside, above)

    @property
    def named(self) -> bool:
        return self.across <= MOST_NAMED

    @property
    def shape(self) -> tuple[int, int]:
        return math.ceil(self.count / self.across) * (self.rows + self.above), self.across * (self.columns + self.aside)

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def _padded(a: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    return np.pad(a, [(0, -size % factor) for size in a.shape], constant_values=np.nan)


def _blocks(a: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The squares of f by f values that an array consists of, f = ``factor``: (rows / f, columns / f, f²)."""
    r, c = a.shape[0] // factor, a.shape[1] // factor
    return a.reshape(r, factor, c, factor).transpose(0, 2, 1, 3).reshape(r, c, factor * factor)


def block_mean(a: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    blocks = _blocks(a, factor)
    known = np.isfinite(blocks)
    count = known.sum(axis=-1)
    total = np.where(known, blocks, 0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def block_largest(a: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    blocks = _blocks(a, factor)
    pick = np.where(np.isfinite(blocks), np.abs(blocks), -1).argmax(axis=-1)
    return np.take_along_axis(blocks, pick[..., None], axis=-1)[..., 0]


def block_nearest(a: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    return a[factor // 2 :: factor, factor // 2 :: factor]


# --- parts ------------------------------------------------------------------------------


def figure(data: list[Figure], height: int, *, left: int = 60, bottom: int = 50, **layout: Any) -> Figure:
    """Traces and layout; ``x`` and ``y`` are the axes."""
    axes = {f"{name}axis": layout.pop(name) for name in ("x", "y") if name in layout}
    return {"data": data, "layout": {"height": height, "margin": {"l": left, "b": bottom}, **axes, **layout}}


def axis(title: str, **rest: Any) -> Figure:
    return {"title": {"text": title, "standoff": 12}, **rest}


def dots(x: Any, y: Any, colour: str, hover: str, *, size: int = 12, **marker: Any) -> Figure:
    drawn = {"type": "scatter", "mode": "markers", "x": _places(x), "y": _places(y)}
    return {**drawn, "marker": {"size": size, "color": colour, **marker}, "hovertemplate": hover + "<extra></extra>"}


def line(x: Any, y: Any, colour: str, hover: str, **style: Any) -> Figure:
    drawn = {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": {"color": colour, "width": 2, **style}}
    return {**drawn, "hovertemplate": hover + "<extra></extra>"}


def _places(values: Any) -> Any:
    """Values as a list, or as the typed array of ``packed``."""
    return values if isinstance(values, dict) else list(values)


def shown(name: str) -> str:
    """A name from outside, which Plotly would take for markup."""
    return escape(name, quote=False)


def packed(values: NDArray[Any]) -> Figure:
    """A Plotly typed array: float32 in base64; a matrix says its shape."""
    array = np.ascontiguousarray(values, np.float32)
    content = {"dtype": "f4", "bdata": base64.b64encode(array.tobytes()).decode()}
    return content if array.ndim == 1 else {**content, "shape": ", ".join(map(str, array.shape))}
