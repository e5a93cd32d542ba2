"""A prediction of virtual chips in words and as plain data: one age with its distribution, or a table of ages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.intervals import one_more_half_width, wilson
from cim.record.ignorance import BeliefPoints
from hil.pages.summary import Fact, Headline, NextStep, Scale, ScaleRow, Summary, SummaryItem, Tone
from hil.pages.tables import Table, duration
from hil.prediction.shares import Moves, Shares, Shrunk, shares
from hil.verdict.metric import ACCURACY, Metric
from hil.verdict.survival import lost_on_virtual_chips
from mapping.network.task import TaskKind


@dataclass(frozen=True, slots=True, repr=False)
class Prediction:
    """Accuracies, or another metric, of virtual chips on the same images, at one age or several; (ages, S)."""

    ideal: float
    accuracies: NDArray[np.float64]
    images: int
    ages_s: tuple[float, ...]
    temperature_c: float
    mode: str  # exact or fast
    source: str
    notes: tuple[str, ...] = ()
    target: float | None = None
    task: TaskKind = TaskKind.CLASSIFY
    metric: Metric = ACCURACY
    points: BeliefPoints | None = None  # what each virtual chip is like, where a chip file says it by ranges
    shrunk: Shrunk | None = None  # what measuring did to a belief by ranges
    moves: Moves | None = None  # where chips are too few for shares
    float_score: float | None = None  # of the float network, where it is at hand
    answers: str = ""  # chips that have each image right at the first age, in run order, base 36; "" above 35 chips

    def __repr__(self) -> str:
        one = self.at(0)
        spread = f"{self.metric.value(one.mean)} ± {self._spread(one.sd)} {self.metric.unit}"
        return f"<Prediction {spread} on {len(self.chips)} virtual chips; {self.source}>"

    @property
    def chips(self) -> NDArray[np.float64]:
        """Accuracies (S,) of all chips at the first age."""
        first: NDArray[np.float64] = self.accuracies[0]
        return first

    @property
    def age_s(self) -> float:
        return self.ages_s[0]

    def at(self, age: int) -> Distribution:
        return Distribution(self.accuracies[age], self.images, self.metric)

    def _spread(self, sd: float) -> str:
        return f"{100 * sd:.2f}" if self.metric.share else f"{sd:.3g}"

    def reached(self, age: int) -> Yield | None:
        return None if self.target is None else Yield.of(self.accuracies[age], self.target)

    def summary(self, name: str = "network", steps: tuple[NextStep, ...] = ()) -> Summary:
        """What ``hil simulate`` prints: one chip of the kind, the ages on one scale, yield, spread."""
        count, one, m = self.accuracies.shape[1], self.at(0), self.metric
        low, high = self.one_chip(0)
        title = f"{name} on {count} virtual chips"
        text = f"one chip is expected in {m.value(low)} … {m.value(high)} (95 %), {_written(self.age_s)}"
        reached = self.reached(0)
        headline = Headline(_tone(reached), m.value(one.mean), text)
        alone = len(self.ages_s) == 1
        shown: list[SummaryItem] = [
            *([Fact("Lost on the chips", self.loses, tone=Tone.BAD)] if self.loses else []),
            self._scale(),
        ]
        if not alone:
            shown.append(self._table())
        elif reached:
            shown.append(Fact("Yield", reached.words(), tone=_tone(reached)))
        if alone:
            spread = f"{self._spread(one.sd)} {m.unit} between chips (standard deviation)"
            shown += [Fact("Spread", spread), *self._shares(), *self._shrunk()]
        return Summary(
            title,
            "SIMULATED · no chip answered",
            headline,
            (
                *shown,
                *([] if m == ACCURACY else [Fact("Scored by", f"{m.title} of {self.task}")]),
                Fact("Rests on", f"{self.source}; {self.mode} simulation at {self.temperature_c:g} °C"),
                *(Fact("Mind", note, soft=True) for note in self.notes),
            ),
            steps,
        )

    @property
    def loses(self) -> str:
        """A sentence on the accuracy loss of the chips at the first age, if it is large; else ""."""
        share = self.metric.share and self.metric.greater
        return lost_on_virtual_chips(self.ideal, self.at(0).mean) if share else ""

    def _shares(self) -> list[SummaryItem]:
        """Lines on the causes of the spread, and what to measure first."""
        found = self.shares_at(0)
        first = found or self.moves
        return [] if first is None else first.parts(self.metric)

    def one_chip(self, age: int) -> tuple[float, float]:
        """95 % interval of one further chip; with ranges in the chip file and enough chips, from ``shares``."""
        found = self.shares_at(age)
        if found is None or found.one_chip is None:
            return self.at(age).one_chip
        low, high = found.one_chip
        return (max(0.0, low), min(1.0, high)) if self.metric.share else (low, high)

    def shares_at(self, age: int) -> Shares | None:
        """Causes of the spread at one age; None: the chip file has no ranges, or chips are too few."""
        return None if self.points is None else shares(self.points, self.accuracies[age])

    def _shrunk(self) -> list[SummaryItem]:
        if self.shrunk is None:
            return []
        low, high = self.shrunk.before
        text = f"{self.metric.value(low)} … {self.metric.value(high)} by the chip file alone (fast simulation)"
        return [Fact("Before", text), *self.shrunk.parts()]

    def _scale(self) -> Scale:
        """Float and quantised network, and the mean of the chips at each age with the interval of one of them."""
        m, count, exact = self.metric, self.accuracies.shape[1], self.float_score
        rows = [] if exact is None else [ScaleRow("float", self.metric.value(exact), m.factor * exact)]
        rows.append(ScaleRow("quantised", self.metric.value(self.ideal), m.factor * self.ideal, note="a perfect chip"))
        for k, age in enumerate(self.ages_s):
            one = self.at(k)
            low, high = (m.factor * end for end in self.one_chip(k))
            note = f"{self.images:,} images, {count} chips" if k == 0 else ""
            rows.append(
                ScaleRow(f"at {duration(age)}", self.metric.value(one.mean), m.factor * one.mean, low, high, note)
            )
        return Scale(m.title, "%" if m.share else m.unit, tuple(rows))

    def _table(self) -> Table:
        """Predicted accuracy and yield, one row for each age."""
        header: tuple[str, ...] = ("age", "mean", "sd", "one chip, 95 %", "median")
        header += () if self.target is None else (f"yield at {self.target:.1%}",)
        rows = []
        for k, age in enumerate(self.ages_s):
            one, reached = self.at(k), self.reached(k)
            low, high = self.one_chip(k)
            row = [duration(age), self.metric.value(one.mean), self._spread(one.sd)]
            row += [
                f"{self.metric.value(low)} … {self.metric.value(high)}",
                self.metric.value(float(np.median(one.chips))),
            ]
            if reached:
                row.append(f"{reached.reached / reached.chips:.0%} ({reached.low:.0%} … {reached.high:.0%})")
            rows.append(tuple(row))
        return Table("Ages", header, tuple(rows))

    def to_json(self) -> dict[str, Any]:
        ages = []
        for k, age in enumerate(self.ages_s):
            reached = self.reached(k)
            found = self.shares_at(k)
            parts = {} if found is None else {"shares": found.to_json()}
            share = {"yield": reached.to_json() if reached else None}
            low, high = self.one_chip(k)
            ages.append({"age_s": age, **self.at(k).to_json(), "low": low, "high": high, **share, **parts})
        return {
            "source": self.source,
            "notes": list(self.notes),
            "engine": str(self.mode),
            "temperature_c": self.temperature_c,
            "task": self.task.value,
            "metric": self.metric.name,
            "accuracy": {
                "float": self.float_score,
                "ideal": self.ideal,
                "simulated": {k: v for k, v in ages[0].items() if k not in ("age_s", "yield", "shares")},
            },
            "images": self.images,
            "answers": self.answers,
            "age_s": self.age_s,
            "ages": ages,
            **({} if self.shrunk is None else {"measured": self.shrunk.to_json()}),
            **({} if self.moves is None else {"moves": self.moves.to_json()}),
        }


def _tone(reached: Yield | None) -> Tone | None:
    """Colour for the share of chips that reach a target: good where the interval says that most chips of the kind
    do."""
    if reached is None:
        return None
    return Tone.GOOD if reached.low >= 0.5 else Tone.BAD if reached.high < 0.5 else Tone.OPEN


def _written(age_s: float) -> str:
    return f"{duration(age_s)} after writing"


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Yield:
    """Share of virtual chips that reach ``target``, with its Wilson interval; all fractions.

    Example: 93 of 100 chips → 93 %, 95 % interval 86.3 to 96.6 %.
    """

    target: float
    reached: int
    chips: int
    low: float
    high: float

    @classmethod
    def of(cls, accuracies: NDArray[np.float64], target: float) -> Yield:
        reached = int((accuracies >= target - 1e-12).sum())
        return cls(target, reached, len(accuracies), *wilson(reached, len(accuracies)))

    def words(self) -> str:
        return (
            f"{self.reached} of {self.chips} chips reach {100 * self.target:.2f} %: "
            f"{100 * self.reached / self.chips:.1f} %, 95 % interval {100 * self.low:.1f} … {100 * self.high:.1f} %"
        )

    def to_json(self) -> dict[str, Any]:
        share = self.reached / self.chips
        return {"target": self.target, "share": share, "low": self.low, "high": self.high, "reached": self.reached}


@dataclass(frozen=True, slots=True)
class Distribution:
    """Accuracies (or another metric) of virtual chips on one set of images, as fractions (or scores)."""

    chips: NDArray[np.float64]  # (S,)
    images: int
    metric: Metric = ACCURACY

    @property
    def mean(self) -> float:
        return float(self.chips.mean())

    @property
    def sd(self) -> float:
        """Standard deviation between chips; at least half an image, the resolution of ``images``."""
        return max(float(self.chips.std(ddof=1)), 0.5 / self.images if self.metric.binary else 0.0)

    @property
    def one_chip(self) -> tuple[float, float]:
        """95 % prediction interval of one more chip: mean ± t(S − 1) · sd · √(1 + 1/S), within 0 and 1.

        Example: 20 chips, mean 90 %, sd 0.5 points → 88.93 to 91.07 %.
        """
        half = one_more_half_width(len(self.chips), self.sd)
        low, high = self.mean - half, self.mean + half
        return (max(0.0, low), min(1.0, high)) if self.metric.share else (low, high)

    def quantiles(self) -> NDArray[np.float64]:
        return np.asarray(np.quantile(self.chips, QUANTILES))

    def to_json(self) -> dict[str, Any]:
        low, high = self.one_chip
        return {
            "mean": self.mean,
            "sd": self.sd,
            "low": low,
            "high": high,
            "interval": "prediction, one chip, 95 %",
            "quantiles": dict(zip(map(str, QUANTILES), self.quantiles().tolist(), strict=True)),
            "chips": self.chips.tolist(),
        }
