"""The number that a run is judged by: its name, its unit, and how it reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``factor`` is units by 1 of the score: 100 for a share in percent, 1 for others.

    ``greater``: greater is better. ``paired``: every sample has a score of its own and the metric is their mean;
    otherwise the metric is of the whole set (mAP, AUC). ``binary``: a sample's score is 0 or 1.
    """

    name: str
    title: str  # as a heading of a column
    unit: str  # of differences: points, or the score's own
    factor: float = 100.0
    greater: bool = True
    paired: bool = True
    binary: bool = False

    @property
    def share(self) -> bool:
        """A share of something, from 0 to 1."""
        return self.factor == 100.0

    def value(self, score: float | None, digits: int = 2) -> str:
        """88.30 %, or 0.01234 of a score with a unit of its own."""
        if score is None:
            return "—"
        return f"{_signed(100 * score, digits)} %" if self.share else _minus(f"{score:.4g}")

    def amount(self, score: float, digits: int = 2) -> str:
        """A size with its unit: 0.31 points."""
        return f"{100 * score:.{digits}f} {self.unit}" if self.share else f"{score:.3g} {self.unit}"

    def change(self, score: float) -> str:
        """A difference with its sign, without its unit: −0.25."""
        return _minus(f"{round(100 * score, 2) + 0.0:+.2f}" if self.share else f"{score:+.3g}")

    def difference(self, score: float) -> str:
        """A difference with sign and unit: −0.25 points."""
        return f"{self.change(score)} {self.unit}"

    def span(self, ends: tuple[float, float]) -> str:
        return f"{self.change(ends[0])} … {self.change(ends[1])}"

    def limit(self, score: float) -> str:
        """A tolerance: 1 point, 0.5 points, 0.002 squared units."""
        if not self.share:
            return f"{score:g} {self.unit}"
        return f"{100 * score:g} point{'' if score == 0.01 else 's'}"


ACCURACY = Metric("accuracy", "accuracy", "points", binary=True)


def _signed(value: float, digits: int) -> str:
    return _minus(f"{round(value, digits) + 0.0:.{digits}f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")
