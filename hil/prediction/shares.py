"""Causes of a prediction's spread: differences between chips, and uncertain values of the chip file.

A score of virtual chips, each drawn at a point of the ranges of its chip file, is regressed on the points,

    y = ȳ + Σ_i (a_i P₁(t_i) + b_i P₂(t_i)) + chip,    t_i from −1, the lowest value, to 1; P₂ where chips are enough

P Legendre's polynomials. One more chip is a point of the ranges and a chip at it: where curves were fitted, its
95 % interval is that of the fitted surface over all of the ranges with the residuals of chips near each place, as
lopsided as they are. The share of value i is the growth of the squared residuals without it, less that of as many
columns of noise; the unexplained rest is the spread between chips of one kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.record.ignorance import BeliefPoints, MeasuredValue
from hil.pages.summary import Fact, SummaryItem
from hil.pages.tables import Table
from hil.verdict.metric import Metric

LEAST_FREEDOM = 8  # chips beyond the coefficients: fewer give no shares
CURVED_CHIPS = 6  # chips for each coefficient from which on curves are fitted too
POINTS = 20_000  # of the ranges that an interval is read from
NEAR = 30  # chips whose residuals a place of the ranges may have


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the variance of a score: of ``chips``, and of each value of the chip file, (p,), largest matters most.

    ``error``: approximate standard error of a share. ``one_chip``: 95 % interval of a further chip; None: no fit.
    """

    points: BeliefPoints
    chips: float
    of_values: NDArray[np.float64]
    error: float
    sd: float  # of the score, over chips
    one_chip: tuple[float, float] | None = None

    @property
    def ignorance(self) -> float:
        return 1.0 - self.chips

    def largest_first(self) -> Iterator[tuple[str, float, float, float]]:
        """Each uncertain value with its range and its share of the spread, largest share first."""
        for i in np.argsort(-self.of_values, kind="stable"):
            yield self.points.names[i], float(self.points.low[i]), float(self.points.high[i]), float(self.of_values[i])

    def parts(self, metric: Metric) -> list[SummaryItem]:
        """Lines for the screen: the causes of the spread, and which values to measure first."""
        chips, unknown = (metric.factor * self.sd * float(np.sqrt(share)) for share in (self.chips, self.ignorance))
        text = (
            f"{self.ignorance:.0%} is not knowing what chips of this kind are like (sd {unknown:.2f} {metric.unit}), "
            f"{self.chips:.0%} chips that differ (sd {chips:.2f})"
        )
        rows, left = [], 1.0
        for name, low, high, share in self.largest_first():
            left = max(left - share, 0.0)
            sd_left = metric.factor * self.sd * float(np.sqrt(left))
            rows.append((name, f"{low:g} … {high:g}", f"{share:.0%}", f"{sd_left:.2f}"))
        columns = ("value", "range of the chip file", "share of variance", f"sd left, {metric.unit}")
        note = "sd left: of one chip, once this value and those above it are measured."
        return [Fact("Of it", text, f"± {self.error:.0%}"), Table("Measure first", columns, tuple(rows), note)]

    def to_json(self) -> dict[str, Any]:
        values = [
            {"value": name, "low": low, "high": high, "share": share} for name, low, high, share in self.largest_first()
        ]
        return {"chips": self.chips, "ignorance": self.ignorance, "error": self.error, "values": values}


MEASURED_BY = {  # steps of hil calibrate
    "cell_error_factor": "relaxation",
    "column_gain_sigma": "transfer",
    "column_offset_codes": "transfer",
    "conversion_noise_codes": "bench offset",
    "inl_codes": "transfer",
    "product_error": "network-like products",
    "read_variance_us2": "read noise",
    "stuck_high_share": "stuck map",
    "stuck_low_share": "stuck map",
    "unreached_share": "level programming",
    "wire_ohm": "near and far rows",
}


@dataclass(frozen=True, slots=True)
class Moves:
    """Change of one virtual chip's score from the lowest to the highest value of each range, others in the middle.

    ``of_values`` and their standard errors ``errors``, (p,): the same chip and images at both ends.
    """

    points: BeliefPoints
    of_values: NDArray[np.float64]
    errors: NDArray[np.float64]
    images: int

    def parts(self, metric: Metric) -> list[SummaryItem]:
        """The values whose change of the score exceeds half of its 95 % interval, largest first."""
        p, rows, halves = self.points, [], metric.factor * 1.96 * self.errors
        for i in np.argsort(-np.abs(self.of_values), kind="stable"):
            move = metric.factor * float(self.of_values[i])
            if abs(move) > halves[i]:
                name, ends = p.names[i], f"{p.low[i]:g} … {p.high[i]:g}"
                rows.append((name, ends, f"{move:+.1f} ± {halves[i]:.1f}", MEASURED_BY.get(name, "")))
        on = f"one chip and {self.images:,} images, each of {len(p.names)} values alone at both ends of its range"
        if not rows:
            text = f"nothing moves by more than its error (± {halves.max():.1f} {metric.unit} or less; {on})"
            return [Fact("Measure first", text)]
        columns = ("value", "range of the chip file", f"moves, {metric.unit}", "step of hil calibrate")
        note = f"By {on}; those left out do not move it. A hundred chips give shares of the variance."
        return [Table("Measure first", columns, tuple(rows), note)]

    def to_json(self) -> list[dict[str, Any]]:
        every = zip(self.points.names, self.of_values.tolist(), self.errors.tolist(), strict=True)
        return [{"value": name, "move": move, "se": error} for name, move, error in every]


def shares(points: BeliefPoints, scores: NDArray[np.float64]) -> Shares | None:
    """Shares of the variance of ``scores`` (chips,); None: too few chips, or scores that are all the same."""
    chips, count = points.places.shape
    squares = float(((scores - scores.mean()) ** 2).sum())
    degrees = 2 if chips >= CURVED_CHIPS * (1 + 2 * count) else 1
    freedom = chips - 1 - degrees * count
    if not count or freedom < LEAST_FREEDOM or squares == 0.0:
        return None
    t = 2.0 * points.places - 1.0
    shapes = _shapes(t)[:, :, :degrees]

    def left(kept: list[int]) -> float:
        columns = np.column_stack([np.ones(chips), shapes[:, kept].reshape(chips, -1)])
        return float(((scores - columns @ np.linalg.lstsq(columns, scores, rcond=None)[0]) ** 2).sum())

    every = list(range(count))
    rest = left(every)
    noise = rest / freedom
    total = squares / (chips - 1)
    taken = np.array([left([j for j in every if j != i]) - rest - degrees * noise for i in every])
    chips_share = min(1.0, noise / total)
    of_values = np.maximum(taken, 0.0)
    scale = (1.0 - chips_share) / of_values.sum() if of_values.sum() else 0.0
    error = float(2.0 * np.sqrt(max(chips_share * (1.0 - chips_share), 1.0 / chips) / chips))
    one_chip = _one_chip(shapes, scores) if degrees == 2 and chips >= NEAR else None
    return Shares(points, chips_share, of_values * scale, error, float(np.sqrt(total)), one_chip)


def _shapes(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """P₁ and P₂ of places (n, p) from −1 to 1, (n, p, 2)."""
    return np.stack([t, 1.5 * t**2 - 0.5], 2)


def _one_chip(shapes: NDArray[np.float64], scores: NDArray[np.float64]) -> tuple[float, float]:
    """2.5 and 97.5 % of the fitted surface over all of the ranges, each place with the residual of a chip near it.

    Near is by fitted score: kinds of chips that lose much also differ more among themselves, so that residuals of all
    chips together make the interval too short on the bad side. e_i / √(1 − h_i), h the leverage, is as large as if
    chip i had not been fitted.
    """
    chips, count, _ = shapes.shape
    columns = np.column_stack([np.ones(chips), shapes.reshape(chips, -1)])
    inverse = np.linalg.pinv(columns)
    fit, leverage = inverse @ scores, (columns * inverse.T).sum(1)
    at_chips = columns @ fit
    away = (scores - at_chips) / np.sqrt(np.maximum(1.0 - leverage, 1.0 / chips))
    rng, order = np.random.default_rng(0), np.argsort(at_chips)
    anywhere = fit[0] + _shapes(2.0 * rng.random((POINTS, count)) - 1.0).reshape(POINTS, -1) @ fit[1:]
    first = np.clip(np.searchsorted(at_chips[order], anywhere) - NEAR // 2, 0, chips - NEAR)
    found = anywhere + away[order][first + rng.integers(0, NEAR, POINTS)]
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Shrunk:
    """Ranges of a chip file's values, their measurement on one chip, and the interval predicted before.

    ``before``: 95 % interval of one chip of the file alone, ``measured`` by the names of ``ranges``.
    """

    ranges: Mapping[str, tuple[float, float]]
    measured: Mapping[str, MeasuredValue]
    before: tuple[float, float]

    @property
    def outside(self) -> tuple[str, ...]:
        """Values that lie outside their range, beyond the error of their measurement."""
        return tuple(name for name in self.ranges if name in self.measured and self._outside(name))

    def _outside(self, name: str) -> bool:
        low, high = self.ranges[name]
        found = self.measured[name]
        within = 2.0 * (found.se or 0.0)
        return not low - within <= found.value <= high + within

    def parts(self) -> list[SummaryItem]:
        rows = []
        for name, (low, high) in self.ranges.items():
            found = self.measured.get(name)
            error = "" if found is None or found.se is None else f" ± {found.se:.2g}"
            words = "not measured" if found is None else f"{found.value:.3g}{error}"
            rows.append((name, f"{low:g} … {high:g}", words, "outside" if name in self.outside else ""))
        note = "The chip file does not describe this chip where a value lies outside." if self.outside else ""
        return [Table("Values measured", ("value", "range of the chip file", "measured", ""), tuple(rows), note)]

    def to_json(self) -> dict[str, Any]:
        return {
            "before": list(self.before),
            "outside": list(self.outside),
            "values": {
                name: {
                    "low": low,
                    "high": high,
                    "measured": None if name not in self.measured else self.measured[name].value,
                    "se": None if name not in self.measured else self.measured[name].se,
                }
                for name, (low, high) in self.ranges.items()
            },
        }
