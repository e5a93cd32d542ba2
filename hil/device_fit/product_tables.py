"""Products of an array beside what they should be: two tables of numbers, a row a product and a column an output.

Such tables are published of chips whose cells nobody else can read. For column j, with e split by products whose ideal
outputs are all the same,

    y_ij = a_j + b_j x_ij + e_ij,    e_ij = standing (the same whenever these inputs come) + new in every product

Lines are fitted to a part of the products and judged on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr

from cim.fit.goodness_of_fit import distance
from hil.errors import FileError
from hil.pages.tables import Table, labelled

MOST_BYTES = 256 << 20
LEAST_PRODUCTS, LEAST_REPEATS = 8, 2
TAILS = (3.0, 4.0, 6.0, 10.0, 30.0)  # degrees of freedom of a Student law that are tried
ROBUST = 1.4826
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ProductResult:
    """Lines of columns and what stays about them, in the unit of the tables.

    ``standing`` and ``new`` are None where no inputs come twice. ``distances``: of held-out products, by law.
    """

    products: int
    held_out: int
    columns: int
    gain: float
    gain_sigma: float
    offset_sigma: float
    spread: float
    residual: float
    new: float | None
    standing: float | None
    repeats: int
    freedom: float
    distances: dict[str, float]
    floor: float
    record: None = None

    def lines(self) -> list[str | Table]:
        """The fit in words."""
        new = "not known: no inputs come twice to separate standing from new"
        if self.new is not None and self.standing is not None:
            share = self.standing**2 / max(self.standing**2 + self.new**2, 1e-300)
            new = (
                f"new in every product {self.new:.3g}, the same in every one {self.standing:.3g} ({share:.0%} of the "
                f"variance), by {self.repeats} products of inputs that come again"
            )
        gain = f"gain {self.gain:.3f}, from column to column ± {self.gain_sigma / abs(self.gain):.1%}"
        about = f"about the line of its column, {self.residual / self.spread:.1%} of the spread of ideal products"
        found = labelled(
            "Products",
            ("products", f"{self.products} fitted, {self.held_out} held out, of {self.columns} columns"),
            ("columns", f"{gain}; offset ± {self.offset_sigma:.3g}"),
            ("residual", f"{self.residual:.3g} {about}"),
            ("of it", new),
            ("note", "products hold no cells: no record"),
        )
        title = "held-out products: Kolmogorov-Smirnov distance (0 is perfect; floor: a perfect law)"
        distances = ((name, f"{value:.3f}") for name, value in {**self.distances, "floor": self.floor}.items())
        return [found, "", title, labelled(title, *distances)]

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "record"}


def fit_products(measured: Path, ideal: Path) -> ProductResult:
    """Fit two tables of the same shape.

    Raises:
        FileError: no tables of numbers, of different shapes, or too few products.
    """
    y, x = _matrix(measured), _matrix(ideal)
    if y.shape != x.shape:
        raise FileError(f"products of {y.shape}, ideal ones of {x.shape}", where=f"{measured}, {ideal}")
    if len(y) < LEAST_PRODUCTS:
        raise FileError(f"{len(y)} products, fewer than {LEAST_PRODUCTS}", where=str(measured))
    _, group = np.unique(x, axis=0, return_inverse=True)
    test = np.arange(len(y)) % 4 == 3
    gain, offset = _lines(x[~test], y[~test])
    away = y - (offset + gain * x)
    freedom = max(1 - 2 / (~test).sum(), 0.1)
    residual = float(np.sqrt((away[~test] ** 2).mean() / freedom))
    new, repeats = _new(away, np.asarray(group).ravel())
    standing = None if new is None else float(np.sqrt(max(residual**2 - new**2, 0.0)))
    scale = np.maximum(np.sqrt((away[~test] ** 2).mean(0) / freedom), 1e-12)
    nu, laws = _laws((away[~test] / scale).ravel())
    places = {name: distance(law((away[test] / scale).ravel())) for name, law in laws.items()}
    return ProductResult(
        int((~test).sum()), int(test.sum()), y.shape[1],
        float(gain.mean()), float(gain.std(ddof=1)) if len(gain) > 1 else 0.0,
        float((offset / gain.mean()).std(ddof=1)) if len(offset) > 1 else 0.0,
        float(x.std()), residual, new, standing, repeats, nu, places, 0.87 / float(np.sqrt(test.sum() * y.shape[1])),
    )  # fmt: skip


def _lines(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Gain and offset of each column; one whose ideal outputs are all the same has the gain of the others."""
    away = x - x.mean(0)
    squares = (away**2).sum(0)
    moving = squares > 1e-9 * max(float(squares.max()), 1e-300)
    if not moving.any():
        raise FileError("every column has the same ideal output in every product", where="ideal products")
    gain = np.where(moving, (away * y).sum(0) / np.where(moving, squares, 1.0), 0.0)
    gain = np.where(moving, gain, float(gain[moving].mean()))
    return gain, y.mean(0) - gain * x.mean(0)


def _new(away: Floats, group: NDArray[np.intp]) -> tuple[float | None, int]:
    """Standard deviation of the noise that each product draws anew, from the scatter of products with the same inputs;
    and the number of those products."""
    squares, freedom, products = 0.0, 0, 0
    for number in np.flatnonzero(np.bincount(group) >= LEAST_REPEATS):
        same = away[group == number]
        squares += float(((same - same.mean(0)) ** 2).sum())
        freedom += (len(same) - 1) * same.shape[1]
        products += len(same)
    return (float(np.sqrt(squares / freedom)), products) if freedom else (None, 0)


def _laws(scaled: Floats) -> tuple[float, dict[str, Any]]:
    """A Gaussian, and the Student law of the freedom that fits best, both of these residuals' own size."""
    size = float(np.sqrt((scaled**2).mean()))
    middle = ROBUST * float(np.median(np.abs(scaled)))
    quartile = {nu: float(np.interp(0.75, stdtr(nu, grid := np.linspace(0, 3, 3001)), grid)) for nu in TAILS}

    def student(nu: float) -> Any:
        return lambda values: stdtr(nu, values / (middle / ROBUST / quartile[nu]))

    best = min(TAILS, key=lambda nu: distance(student(nu)(scaled)))
    return best, {"Gaussian": lambda values: ndtr(values / size), f"Student {best:g}": student(best)}


def _matrix(path: Path) -> Floats:
    """Numbers of a CSV without names of columns."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise FileError(f"over {MOST_BYTES >> 20} MiB", where=str(path))
        found = np.loadtxt(path, delimiter=",", ndmin=2, comments=None)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise FileError(f"no table of numbers: {str(error)[:120]}", where=str(path)) from error
    if not np.isfinite(found).all() or not found.size:
        raise FileError("numbers that are not finite, or none", where=str(path))
    return found
