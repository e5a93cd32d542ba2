"""Predicted accuracy of the networks of a space, with an error: the interface of Pareto search, and a model of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from search.choice.additive import AdditiveModel, fit_additive, most_likely
from search.space.significance import Floats, Genomes, Significance, one_hot


class Accuracy(Protocol):
    """An estimate for every network of a space, percent."""

    def predict(self, genomes: Genomes) -> Floats:
        """Most likely accuracy, (networks,)."""

    def lower(self, genomes: Genomes, kappa: float = 1.0) -> Floats:
        """Lower bound, ``kappa`` standard errors below, (networks,)."""

    @property
    def significance(self) -> Significance:
        """Task significance of every choice."""


@dataclass(frozen=True, slots=True, eq=False)
class AdditiveAccuracy:
    """Accuracy in percent, additive in −ln(ceiling − accuracy): what helps a good network helps it by less.

    ``predict`` gives percent; the lower bound of a network is what ``lower(genomes, kappa)`` says.
    """

    additive: AdditiveModel
    ceiling: float

    def predict(self, genomes: Genomes) -> Floats:
        """Most likely accuracy, percent, (networks,)."""
        return self.ceiling - np.exp(-self.additive.predict(genomes)[0])

    def lower(self, genomes: Genomes, kappa: float = 1.0) -> Floats:
        """Accuracy ``kappa`` standard errors lower on the additive scale, percent, (networks,)."""
        mean, error = self.additive.predict(genomes)
        return self.ceiling - np.exp(-(mean - kappa * error))

    @property
    def significance(self) -> Significance:
        """Task significance, on the additive scale."""
        return self.additive.significance


def fit_accuracy(
    choices: Sequence[int],
    genomes: Genomes,
    accuracies: Floats,
    task: Significance | None = None,
    kinds: Floats | None = None,
    macs: Floats | None = None,
) -> AdditiveAccuracy:
    """Fit to the accuracies (percent) of trained networks; at least 4.

    The ceiling lies between the best of them and 100 %, where the accuracies are most likely (the
    likelihood of the transformed values times Π d(−ln(c − a))/da = Π 1/(c − a), as for Box-Cox).

    Args:
        task: significance of phase A. Then z = β T(g) + Σ w, β ≥ 0 by shrunk least squares beside ``macs``, and w by
            ridge from the rest. Where few networks were trained, operators are told apart by phase A.
            Standard errors are those of w.
        kinds: ``Space.kinds``: what is learnt of an operator in one place then holds in part for the others.
        macs: ``macs_column(space)``: what a larger network gains is then learnt from all of them together.

    Raises:
        ValueError: fewer than 4 accuracies, or some beyond 0 to 100 %.
    """
    y = np.asarray(accuracies, np.float64)
    if len(y) < 4 or not (np.isfinite(y).all() and y.min() >= 0 and y.max() < 100):
        raise ValueError(f"{len(y)} accuracies; at least 4 are needed, in percent, from 0 to below 100")
    room = 100.0 - float(y.max())
    ceilings = float(y.max()) + np.geomspace(min(0.2, room / 2), room, 12)
    hot = one_hot(choices, np.asarray(genomes))
    score = np.zeros(len(y)) if task is None else task.score(genomes)
    common = [group for group in (kinds, macs) if group is not None]
    beside = np.ones((len(y), 1)) if macs is None else np.column_stack([np.ones(len(y)), hot @ macs])

    def likelihood(ceiling: float) -> float:
        z = -np.log(ceiling - y)
        return most_likely(hot, z - _slope(score, z, beside) * score, common)[0] + float(z.sum())

    ceiling = float(max(ceilings, key=lambda c: likelihood(float(c))))
    z = -np.log(ceiling - y)
    slope = _slope(score, z, beside)
    model = fit_additive(choices, genomes, z - slope * score, common)
    if task is not None:
        model = replace(model, weights=model.weights + slope * task.flat)
    return AdditiveAccuracy(model, ceiling)


@dataclass(frozen=True, slots=True, eq=False)
class AccuracyOnChips:
    """An additive accuracy with one more gene, whether a network was measured; predictions are for measured ones."""

    both: AdditiveAccuracy

    def predict(self, genomes: Genomes) -> Floats:
        return self.both.predict(_marked(genomes, 1))

    def lower(self, genomes: Genomes, kappa: float = 1.0) -> Floats:
        return self.both.lower(_marked(genomes, 1), kappa)

    @property
    def significance(self) -> Significance:
        return Significance(self.both.significance.values[:-1])


def fit_measured(
    choices: Sequence[int],
    brief: tuple[Genomes, Floats],
    measured: tuple[Genomes, Floats],
    task: Significance | None = None,
    kinds: Floats | None = None,
    macs: Floats | None = None,
) -> AccuracyOnChips:
    """Fit to networks that were trained briefly and to some that were trained in full and measured on a chip.

    Both are (genomes, accuracies in percent). What training in full and the chip change alike for all is one
    more weight; the rest moves the weights of the choices, and so the ranking.
    """
    genomes = np.concatenate([_marked(brief[0], 0), _marked(measured[0], 1)])
    extended = None if task is None else Significance((*task.values, np.zeros(2)))
    alike, large = (None if g is None else np.concatenate([g, np.zeros((2, g.shape[1]))]) for g in (kinds, macs))
    accuracies = np.concatenate([brief[1], measured[1]])
    return AccuracyOnChips(fit_accuracy((*choices, 2), genomes, accuracies, extended, alike, large))


def _marked(genomes: Genomes, mark: int) -> Genomes:
    return np.column_stack([genomes, np.full(len(genomes), mark)])


def _slope(score: Floats, z: Floats, beside: Floats) -> float:
    """Least squares b of z on the score, beside other columns (n, k).

    Shrunk by 1 − se(b)² / b² and not below 0: none where it may be chance.
    """
    own, z = (v - beside @ np.linalg.lstsq(beside, v, rcond=None)[0] for v in (score, z))
    spread = float(own @ own)
    free = len(z) - beside.shape[1] - 1
    if spread <= 1e-12 or free < 1:
        return 0.0
    slope = float(own @ z) / spread
    rest = z - slope * own
    error2 = float(rest @ rest) / free / spread
    return slope - error2 / slope if slope > 0 and error2 < slope**2 else 0.0
