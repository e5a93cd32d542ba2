"""Answers from Python: the report of a run and a prediction, with frames and figures."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hil.pages.summary import Summary
from hil.pages.tables import duration
from hil.prediction.text import Prediction
from hil.python.shown import Shown, needed, new_axes
from hil.report.account import summary_of
from hil.verdict.agreement import AgreementReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True, slots=True)
class Accuracies:
    """Mean scores of one run, as fractions: float, ideal, simulated and measured, on the same images."""

    float: builtins.float | None  # None: the float network was not at hand
    ideal: builtins.float
    simulated: builtins.float
    chip: builtins.float


class Report(Shown, AgreementReport):
    """``hil.AgreementReport`` with data frames and figures for notebooks.

    Example:
        >>> report.chip.name, report.accuracy.chip > 0.5
        ('lab-128', True)
    """

    __slots__ = ()

    @property
    def accuracy(self) -> Accuracies:
        """Accuracies, or means of another metric, of float, ideal, simulated and the chip."""
        j = self.decisive
        return Accuracies(self.float_accuracy, j.ideal.mean, j.simulated.mean, j.measured.mean)

    def to_frame(self) -> DataFrame:
        """A row for each of float, ideal, simulated and chip: mean, low and high of the 95 % interval, images.

        Returns:
            a frame, shares from 0 to 1; NaN for a missing value.

        Raises:
            hil.UsageError: pandas is not installed.

        Example:
            >>> list(report.to_frame().columns)
            ['mean', 'low', 'high', 'images']
        """
        pandas = needed("pandas")
        j, nan = self.decisive, float("nan")
        rows: dict[str, tuple[float, float, float]] = {
            "float": (nan if self.float_accuracy is None else self.float_accuracy, nan, nan),
            "ideal": (j.ideal.mean, j.ideal.low, j.ideal.high),
            "simulated": (j.simulated.mean, j.simulated.low, j.simulated.high),
            "chip": (j.measured.mean, j.measured.low, j.measured.high),
        }
        frame: DataFrame = pandas.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high"])
        frame["images"] = self.data.images
        return frame

    def summary_shown(self) -> Summary:
        """The summary that ``hil deploy`` prints."""
        return summary_of(self)


class Simulation(Shown, Prediction):
    """``hil.Prediction`` with frames and figures.

    Example:
        >>> simulation.images, simulation.accuracies.shape
        (60, (2, 4))
    """

    __slots__ = ()

    def to_frame(self) -> DataFrame:
        """The score of each virtual chip (rows) at each age (columns, s); fractions of a share.

        Returns:
            a frame (chips, ages).

        Raises:
            hil.UsageError: pandas is not installed.

        Example:
            >>> list(simulation.to_frame().columns)
            [3600.0, 2592000.0]
        """
        frame: DataFrame = needed("pandas").DataFrame(self.accuracies.T, columns=list(self.ages_s))
        frame.index.name, frame.columns.name = "virtual chip", "age_s"
        return frame

    def plot(self) -> Figure:
        """The score of virtual chips over age: mean, the 95 % interval of one chip, float and quantised network.

        Returns:
            a matplotlib figure.

        Raises:
            hil.UsageError: matplotlib is not installed.

        Example:
            >>> figure = simulation.plot()
            >>> figure.savefig("ages.png")
            >>> [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
            ['1 h', '30 d']
        """
        (figure, axes), m = new_axes(), self.metric
        places = range(len(self.ages_s))
        means = [m.factor * self.at(k).mean for k in places]
        ends = [[m.factor * end for end in self.one_chip(k)] for k in places]
        below = [mean - low for mean, (low, _) in zip(means, ends, strict=True)]
        above = [high - mean for mean, (_, high) in zip(means, ends, strict=True)]
        chips = f"simulated, {self.accuracies.shape[1]} virtual chips (95 % of one)"
        axes.errorbar(list(places), means, yerr=[below, above], fmt="o-", capsize=4, label=chips)
        axes.axhline(m.factor * self.ideal, color="0.4", linestyle="--", label="quantised (a perfect chip)")
        if self.float_score is not None:
            axes.axhline(m.factor * self.float_score, color="0.4", linestyle=":", label="float")
        axes.set_xticks(list(places), [duration(age) for age in self.ages_s])
        axes.set_xlabel("age after writing")
        axes.set_ylabel(f"{m.title} in {'%' if m.share else m.unit}")
        axes.set_title(f"{self.images:,} images at {self.temperature_c:g} °C, simulated", fontsize="medium")
        axes.legend(fontsize="small")
        drawn: Figure = figure
        return drawn

    def summary_shown(self) -> Summary:
        """The summary that ``hil simulate`` prints."""
        return self.summary()
