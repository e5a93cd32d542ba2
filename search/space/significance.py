"""Significance: one number for each choice of each gene, and combinations of such numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.space.genes import Genome

Floats = NDArray[np.float64]
Genomes = NDArray[np.int64]


def one_hot(choices: Sequence[int], genomes: Genomes) -> Floats:
    """Choices of each network, 0 or 1, (networks, Σ choices)."""
    starts = np.cumsum([0, *choices[:-1]])
    hot = np.zeros((len(genomes), sum(choices)))
    hot[np.arange(len(genomes))[:, None], starts + genomes] = 1.0
    return hot


@dataclass(frozen=True, slots=True, eq=False)
class Significance:
    """Higher is better. ``values`` has one array a gene, one number a choice."""

    values: tuple[Floats, ...]

    @classmethod
    def of(cls, choices: Sequence[int], flat: Floats) -> Significance:
        """Significance from ``flat``, the numbers of all choices of all genes in a row."""
        return cls(tuple(np.split(np.asarray(flat, np.float64), np.cumsum(choices)[:-1])))

    @property
    def choices(self) -> tuple[int, ...]:
        return tuple(len(v) for v in self.values)

    @property
    def flat(self) -> Floats:
        return np.concatenate(self.values)

    def score(self, genomes: Genomes) -> Floats:
        """Significance of the choices of each network, summed over its genes, (networks,)."""
        return np.asarray(one_hot(self.choices, genomes) @ self.flat)

    def best(self) -> Genome:
        """The choice with the largest value of each gene, the first of equals."""
        return tuple(int(v.argmax()) for v in self.values)

    def normalised(self, *, by_gene: bool = False) -> Significance:
        """Centred by gene and divided by the spread of all values; ``by_gene``: to 0..1, each gene for itself.

        The second reading takes away how much a gene matters; it is there for comparison.
        """
        if by_gene:
            return Significance(tuple((v - v.min()) / (np.ptp(v) or 1.0) for v in self.values))
        centred = [v - v.mean() for v in self.values]
        spread = float(np.concatenate(centred).std()) or 1.0
        return Significance(tuple(v / spread for v in centred))

    def draw(self, rng: np.random.Generator, temperature: float) -> Genome:
        """A genome whose choices have probability ∝ exp(value / temperature)."""
        drawn = []
        for v in self.values:
            weight = np.exp((v - v.max()) / temperature)
            drawn.append(int(rng.choice(len(v), p=weight / weight.sum())))
        return tuple(drawn)


def combined(task: Significance, hardware: Significance, alpha: float, *, by_gene: bool = False) -> Significance:
    """S = α T̂ + (1 − α) Ĥ, both normalised.

    Args:
        by_gene: normalise each gene by itself, not all together.
    """
    t, h = task.normalised(by_gene=by_gene), hardware.normalised(by_gene=by_gene)
    return Significance(tuple(alpha * a + (1 - alpha) * b for a, b in zip(t.values, h.values, strict=True)))
