"""A prediction of virtual chips in words and as plain data: one age with its distribution, or a table of ages."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.pages.tables import duration
from hil.verdict.metric import ACCURACY, Metric
from hil.verdict.yields import BETWEEN_CHIPS, QUANTILES, Distribution, Yield, histogram
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

    def __repr__(self) -> str:
        one = self.at(0)
        spread = f"{self._words(one.mean)} ± {self._spread(one.sd)} {self.metric.unit}"
        return f"<Prediction {spread} on {len(self.chips)} virtual chips; {self.source}>"

    def _repr_html_(self) -> str:
        """The lines of ``hil simulate``, for notebooks."""
        return f"<pre>{escape(chr(10).join(self.lines()))}</pre>"

    @property
    def chips(self) -> NDArray[np.float64]:
        """Accuracies (S,) at the first age."""
        first: NDArray[np.float64] = self.accuracies[0]
        return first

    @property
    def age_s(self) -> float:
        return self.ages_s[0]

    def at(self, age: int) -> Distribution:
        return Distribution(self.accuracies[age], self.images, self.metric)

    def _words(self, score: float) -> str:
        return f"{score:.2%}" if self.metric.share else f"{score:.4g}"

    def _spread(self, sd: float) -> str:
        return f"{100 * sd:.2f}" if self.metric.share else f"{sd:.3g}"

    def reached(self, age: int) -> Yield | None:
        return None if self.target is None else Yield.of(self.accuracies[age], self.target)

    def lines(self) -> list[str]:
        """The prediction in words."""
        count = self.accuracies.shape[1]
        lines = [
            f"source         {self.source}",
            *(f"note           {note}" for note in self.notes),
            *(() if self.metric == ACCURACY else (f"task           {self.task}, {self.metric.title}",)),
            f"ideal          {self._words(self.ideal)} of {self.images} images",
            f"chips          {count} virtual chips, each programmed again; {self.mode} simulation at "
            f"{self.temperature_c:g} °C",
        ]
        if len(self.ages_s) > 1:
            return [*lines, "", *self._table()]
        one, reached = self.at(0), self.reached(0)
        low, high = one.one_chip
        shown = " · ".join(f"{100 * q:g} % {self._words(v)}" for q, v in zip(QUANTILES, one.quantiles(), strict=True))
        lines += [
            f"simulated      {self._words(one.mean)} ± {self._spread(one.sd)} {self.metric.unit} (sd between chips), "
            f"{duration(self.age_s)} after programming",
            f"one chip       {self._words(low)} to {self._words(high)}, 95 % prediction interval",
            f"quantiles      {shown}",
        ]
        if reached:
            lines.append(f"yield          {reached.words()}")
        if count >= BETWEEN_CHIPS:
            lines += ["", *histogram(self.chips, self.images, self.metric)]
        return lines

    def _table(self) -> list[str]:
        """One line an age."""
        head = f"{'age':>8}  {'simulated':>9}  {'sd':>5}  {'one chip, 95 %':>18}  {'median':>7}"
        head += f"  {'yield at ' + format(self.target, '.1%'):>18}" if self.target is not None else ""
        lines = [head]
        for k, age in enumerate(self.ages_s):
            one, reached = self.at(k), self.reached(k)
            low, high = one.one_chip
            text = f"{duration(age):>8}  {self._words(one.mean):>9}  {self._spread(one.sd):>5}  {self._words(low):>8} "
            text += f"{self._words(high):>9}  {self._words(float(np.median(one.chips))):>7}"
            if reached:
                share = f"{reached.reached / reached.chips:.0%} ({reached.low:.0%}-{reached.high:.0%})"
                text += f"  {share:>18}"
            lines.append(text)
        return lines

    def to_json(self) -> dict[str, Any]:
        ages = []
        for k, age in enumerate(self.ages_s):
            reached = self.reached(k)
            ages.append({"age_s": age, **self.at(k).to_json(), "yield": reached.to_json() if reached else None})
        return {
            "source": self.source,
            "notes": list(self.notes),
            "engine": str(self.mode),
            "temperature_c": self.temperature_c,
            "task": self.task.value,
            "metric": self.metric.name,
            "accuracy": {"ideal": self.ideal, "simulated": self.at(0).to_json()},
            "images": self.images,
            "age_s": self.age_s,
            "ages": ages,
        }
