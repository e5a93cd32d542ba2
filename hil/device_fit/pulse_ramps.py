"""Ramps of pulses as CrossSim takes them: CSV of currents after each pulse, one ramp a column, names in the first line.

``set.csv`` has ramps that rise, ``reset.csv`` such that fall; empty places and zeros end a ramp. Conductance is current
over the voltage of the reads, which the file does not say. What a pulse does to a cell at G is ΔG = mean(G) ± sd(G), in
bins of G fitted to some ramps and judged on the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from cim.fit.goodness_of_fit import distance
from hil.errors import FileError
from hil.pages.tables import Table, labelled

MOST_BYTES, MOST_COLUMNS, BINS, LEAST_STEPS = 64 << 20, 4096, 10, 20
NUMBERED = re.compile(r"([A-Za-z_ ]+?)[ _]*(\d+)")
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RampResult:
    """What a pulse does: rows of bins (middle µS, steps, mean ΔG µS, sd µS); ``ks`` of held-out steps."""

    ramps: int
    steps: int
    low_us: float
    high_us: float
    rows: tuple[tuple[float, int, float, float], ...]
    mean_us: float
    sd_us: float
    ks: float
    floor: float
    held_out: int
    record: None = None

    def lines(self) -> list[str | Table]:
        """The fit in words."""
        way, reach = "rising" if self.mean_us > 0 else "falling", f"{self.low_us:.4g} to {self.high_us:.4g} µS"
        rows = tuple((f"{g:.4g}", f"{n}", f"{mean:+.3g}", f"{sd:.2g}") for g, n, mean, sd in self.rows)
        return [
            labelled(
                "Ramps",
                ("ramps", f"{self.ramps} {way}, {self.steps} pulses, {reach}"),
                ("a pulse", f"{self.mean_us:+.3g} µS on average, ± {self.sd_us:.2g} µS from pulse to pulse"),
                ("note", "reads are in the spread of a pulse; cells over time are not in such a file: no record"),
            ),
            "",
            Table("Pulses", ("µS before", "pulses", "mean µS", "sd µS"), rows),
            "",
            f"{self.held_out} held-out pulses: Kolmogorov-Smirnov distance {self.ks:.3f} (floor {self.floor:.3f})",
        ]

    def to_json(self) -> dict[str, Any]:
        names = ("before_us", "pulses", "mean_us", "sd_us")
        rows = [dict(zip(names, row, strict=True)) for row in self.rows]
        return {**{n: getattr(self, n) for n in self.__slots__ if n not in ("record", "rows")}, "rows": rows}


def is_ramps(path: Path) -> bool:
    """Whether the first line numbers columns of one name, as ramps are."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open("rb") as file:
        names = file.readline(1 << 20).decode("utf-8-sig", "replace").strip().split(",")
    found = [NUMBERED.fullmatch(name.strip().strip('"')) for name in names]
    return len(names) > 1 and all(found) and len({match[1].lower() for match in found if match}) == 1


def fit_ramps(path: Path, read_v: float) -> RampResult:
    """Fit the ramps of one file.

    Raises:
        FileError: no such ramps, or too few pulses.
    """
    ramps = _ramps(path, read_v)
    before = [ramp[:-1] for ramp in ramps]
    moved = [np.diff(ramp) for ramp in ramps]
    odd = len(ramps) > 1
    fit = [k for k in range(len(ramps)) if not (odd and k % 2)]
    test = [k for k in range(len(ramps)) if k % 2] if odd else fit
    g, d = np.concatenate([before[k] for k in fit]), np.concatenate([moved[k] for k in fit])
    if len(d) < LEAST_STEPS:
        raise FileError(f"{len(d)} pulses to fit, fewer than {LEAST_STEPS}", where=str(path))
    edges = np.unique(np.quantile(g, np.linspace(0, 1, BINS + 1)))
    place = np.clip(np.searchsorted(edges, g, side="right") - 1, 0, len(edges) - 2)
    rows = []
    for k in range(len(edges) - 1):
        inside = d[place == k]
        if len(inside) > 1:
            rows.append((float(np.median(g[place == k])), len(inside), float(inside.mean()), float(inside.std(ddof=1))))
    table = np.array(rows)
    later = np.concatenate([before[k] for k in test])
    mean, sd = (np.interp(later, table[:, 0], table[:, column]) for column in (2, 3))
    seen = np.concatenate([moved[k] for k in test])
    places = ndtr((seen - mean) / np.maximum(sd, 1e-9))
    everything = np.concatenate(ramps)
    steps = np.concatenate(moved)
    return RampResult(
        len(ramps), len(steps), float(everything.min()), float(everything.max()), tuple(rows),
        float(steps.mean()), float(np.sqrt(np.average(table[:, 3] ** 2, weights=table[:, 1]))),
        distance(places), 0.87 / float(np.sqrt(len(places))), len(places),
    )  # fmt: skip


def _ramps(path: Path, read_v: float) -> list[Floats]:
    if not (np.isfinite(read_v) and 0 < abs(read_v) <= 10):
        raise FileError(f"read at {read_v:g} V, not between 0 and 10", where=str(path))
    try:
        if path.stat().st_size > MOST_BYTES:
            raise FileError(f"over {MOST_BYTES >> 20} MiB", where=str(path))
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"no ramps of pulses: {error}", where=str(path)) from error
    width = len(lines[0].split(",")) if lines else 0
    columns: list[list[float]] = [[] for _ in range(width)]
    if not 0 < width <= MOST_COLUMNS:
        raise FileError(f"{width} columns, not from 1 to {MOST_COLUMNS}", where=str(path))
    for number, line in enumerate(lines[1:], 2):
        cells = line.split(",")
        if line.strip() and len(cells) > width:
            raise FileError(f"{len(cells)} values for {width} columns", where=f"{path}, line {number}")
        for column, text in zip(columns, cells, strict=False):
            column.append(_current(text.strip(), path, number))
    found = [np.abs(np.array(column) / read_v) * 1e6 for column in columns]
    found = [ramp[np.isfinite(ramp) & (ramp != 0)] for ramp in found]
    found = [ramp for ramp in found if len(ramp) > 1]
    if not found:
        raise FileError("no ramp of two pulses or more", where=str(path), hint="currents in A, one ramp a column")
    return found


def _current(text: str, path: Path, number: int) -> float:
    if not text or text.lower() == "nan":
        return float("nan")
    try:
        return float(text)
    except ValueError as error:
        raise FileError(f"{text[:40]!r} is not a current", where=f"{path}, line {number}") from error
