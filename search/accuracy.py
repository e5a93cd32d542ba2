"""How accurate the networks of a space will be, with an error: what Pareto search asks, and a model that answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from search.additive import RATIOS, AdditiveModel, Evidence, fit_additive
from search.significance import Floats, Genomes, Significance, one_hot


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


def fit_accuracy(choices: Sequence[int], genomes: Genomes, accuracies: Floats) -> AdditiveAccuracy:
    """Fit to the accuracies (percent) of trained networks; at least 4.

    The ceiling lies between the best of them and 100 %, where the accuracies are most likely (the
    likelihood of the transformed values times Π d(−ln(c − a))/da = Π 1/(c − a), as for Box-Cox).
    """
    y = np.asarray(accuracies, np.float64)
    if len(y) < 4 or not (np.isfinite(y).all() and y.min() >= 0 and y.max() < 100):
        raise ValueError(f"{len(y)} accuracies; at least 4 are needed, in percent, from 0 to below 100")
    room = 100.0 - float(y.max())
    ceilings = float(y.max()) + np.geomspace(min(0.2, room / 2), room, 12)
    hot = one_hot(choices, np.asarray(genomes))

    def likelihood(ceiling: float) -> float:
        z = -np.log(ceiling - y)
        evidence = Evidence(hot, z)
        return max(evidence.at(ratio) for ratio in RATIOS) + float(z.sum())

    ceiling = float(max(ceilings, key=lambda c: likelihood(float(c))))
    return AdditiveAccuracy(fit_additive(choices, genomes, -np.log(ceiling - y)), ceiling)
