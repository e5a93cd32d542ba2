"""A gap shared out among its causes: Shapley shares of a game whose players are the parts of a chip's error.

The value of a coalition is what is lost with the parts in it switched on and all others off. A
part's share is what it adds to the loss, averaged over every order in which parts can be switched on
(Shapley 1953, doi:10.1515/9781400881970-018). Shares sum to the loss with everything on; what the
chip loses beyond that is *unexplained*.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.verdict.metric import ACCURACY, Metric

Floats = NDArray[np.float64]

DRAWS = 1000  # of the bootstrap
TAIL = 0.025  # on either side of an interval
QUANTISATION, UNEXPLAINED = "quantisation", "unexplained"
CAUSES = 0xCA5E  # purpose tag of the bootstrap's seed


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause and what is lost to it: of accuracy, a fraction (0.01 is one point), with its 95 % interval."""

    name: str
    loss: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LayerCauses:
    """Mean square error of a layer's level sums for exact input codes, by cause; unit: squared levels.

    ``parts``, "unexplained" among them, sum to ``energy``, that of the chip; ``signal`` is the mean
    square of the exact sums. A part can be negative: what it adds may cancel against another part.
    """

    layer: str
    energy: float
    signal: float
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CauseSplit:
    """Causes of the gap between ``start`` ("float", or "ideal" without a float network) and measured accuracy.

    ``parts`` sum to ``gap`` = accuracy at the start − measured accuracy (below zero: gained), both on the first
    ``images`` of the run; the last part is "unexplained" = simulated − measured. Intervals are 95 %, by
    bootstrap over images and virtual chips.
    """

    start: str
    gap: float
    low: float
    high: float
    images: int
    repeats: int
    chips: int  # virtual chips whose mean is the simulated accuracy
    chips_per_coalition: int
    coalitions: int
    early_age_s: float | None  # mean age of the read-back after writing; None: there was none
    parts: tuple[Cause, ...]
    layers: tuple[LayerCauses, ...] = ()
    metric: Metric = ACCURACY  # whose losses these are; a loss is positive, whichever way is better

    def part(self, name: str) -> Cause:
        return next(p for p in self.parts if p.name == name)

    def __repr__(self) -> str:
        of, metric = self.metric.factor, self.metric
        lost = f"{of * self.gap:.1f} {metric.unit} of {metric.title} ({of * self.low:.1f} … {of * self.high:.1f})"
        parts = ", ".join(f"{part.name} {of * part.loss:+.1f}" for part in self.parts)
        return f"<CauseSplit: {lost} lost from {self.start} to the chip, {self.images} images: {parts}>"


def shapley(values: NDArray[Any]) -> Floats:
    """Shapley values of n players from the values of all 2^n coalitions, (2^n, …) -> (n, …).

        φ_i = Σ_(S without i) |S|! (n − |S| − 1)! / n! · (v(S ∪ i) − v(S))

    Coalition S is row Σ_(i in S) 2^i.

    Example: v = 0, 1, 2, 5 for {}, {0}, {1}, {0, 1} → φ = (1 + 3)/2, (2 + 4)/2 = 2, 3.
    """
    worth = np.asarray(values, np.float64)
    players = len(worth).bit_length() - 1
    if len(worth) != 1 << players:
        raise ValueError(f"{len(worth)} coalitions; a game of n players has 2^n")
    coalitions = np.arange(len(worth))
    size = np.array([int(c).bit_count() for c in coalitions])
    shares = np.zeros((players, *worth.shape[1:]))
    for i in range(players):
        without = coalitions[coalitions >> i & 1 == 0]
        weight = np.array([1.0 / (players * math.comb(players - 1, size[c])) for c in without])
        shares[i] = np.tensordot(weight, worth[without | 1 << i] - worth[without], axes=1)
    return shares


@dataclass(frozen=True, slots=True)
class CauseAnswers:
    """Right or wrong of each image, or its score (more is better), n images: what the split of a gap is made from.

    ``coalitions`` (2^p − 2 of them) hold (chips, n) for every coalition but the empty one, which is
    ``ideal``, and the full one, which is ``simulated`` (S, n) with the same chips first; coalitions
    without the last player, the calibration error, hold one chip: others would be equal to it.
    """

    start: NDArray[Any]  # (n,), of the float network or the ideal one
    ideal: NDArray[Any]  # (n,)
    measured: NDArray[Any]  # (m, n)
    simulated: NDArray[Any]  # (S, n)
    coalitions: Sequence[NDArray[Any]]


def split_losses(answers: CauseAnswers, players: Sequence[str], seed: int) -> tuple[Cause, tuple[Cause, ...]]:
    """The gap itself, and its parts: quantisation, each player, unexplained; they sum to the gap.

    The loss with everything on is that of all S virtual chips. Coalitions are run on the first few of
    them; the difference between those and all S is one of draws of the calibration error, and added to it.
    """
    n, all_chips = len(answers.ideal), len(answers.simulated)
    few = max((len(c) for c in answers.coalitions), default=all_chips)
    rng = np.random.default_rng(np.random.SeedSequence([seed, CAUSES]))
    images = np.vstack([np.full(n, 1.0 / n), rng.multinomial(n, np.full(n, 1.0 / n), DRAWS) / n]).T  # (n, draws)
    some, every = _chip_weights(few, rng), _chip_weights(all_chips, rng)

    def mean(right: NDArray[Any], chips: Floats | None = None) -> Floats:
        shares: Floats = np.asarray(right, np.float64) @ images  # (chips, draws)
        weighted: Floats = shares.mean(axis=0) if chips is None or len(right) == 1 else (shares * chips).sum(axis=0)
        return weighted

    start, ideal, measured = answers.start @ images, answers.ideal @ images, mean(answers.measured)
    simulated = mean(answers.simulated, every)
    worth = [np.zeros_like(ideal), *(ideal - mean(c, some) for c in answers.coalitions)]
    worth.append(ideal - mean(answers.simulated[:few], some))
    shares = shapley(np.stack(worth))
    shares[-1] += (ideal - simulated) - worth[-1]
    losses = [(QUANTISATION, start - ideal), *zip(players, shares, strict=True)]
    losses.append((UNEXPLAINED, simulated - measured))
    return cause("gap", start - measured), tuple(cause(name, loss) for name, loss in losses)


def split_energy(
    layer: str, signal: float, measured: float, simulated: Floats, coalitions: Sequence[Floats], players: Sequence[str]
) -> LayerCauses:
    """The same for the error energy of one layer.

    Args:
        measured: mean square error of the chip's sums; ``simulated`` (S,) of each virtual chip's.
        coalitions: (chips,) each, in the order of ``CauseAnswers.coalitions``.
    """
    few = max((len(c) for c in coalitions), default=len(simulated))
    worth = np.array([0.0, *(float(c.mean()) for c in coalitions), float(simulated[:few].mean())])
    shares = shapley(worth)
    everything = float(simulated.mean())
    shares[-1] += everything - worth[-1]
    parts = {**dict(zip(players, shares.tolist(), strict=True)), UNEXPLAINED: measured - everything}
    return LayerCauses(layer, measured, signal, parts)


def cause(name: str, loss: Floats) -> Cause:
    """A cause with the interval of its loss; ``loss`` is the estimate, followed by its bootstrap draws."""
    low, high = np.quantile(loss[1:], (TAIL, 1.0 - TAIL))
    return Cause(name, float(loss[0]), float(low), float(high))


def _chip_weights(chips: int, rng: np.random.Generator) -> Floats:
    """Weights of a mean over chips, (chips, 1 + draws): even ones, then bootstrap draws.

    Draws are stretched by √(k / (k − 1)): resampling k values shows their mean too small a variance by (k − 1) / k.
    """
    even = np.full(chips, 1.0 / chips)
    drawn = rng.multinomial(chips, even, DRAWS) / chips
    if chips > 1:
        drawn = even + math.sqrt(chips / (chips - 1)) * (drawn - even)
    return np.vstack([even, drawn]).T
