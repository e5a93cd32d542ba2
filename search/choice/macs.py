"""Multiplications of a network, by the choice that causes them."""

from __future__ import annotations

import numpy as np

from search.choice.hardware_significance import draw_candidates
from search.space.candidate import workload
from search.space.genes import Space
from search.space.significance import Floats, one_hot

NETWORKS = 256  # a choice of the shipped spaces is in some 30 of them
SEED = 0x512E5


def macs_column(space: Space) -> Floats:
    """ln multiplications as a sum over choices, (Σ choices, 1).

    By least squares from networks drawn by chance; of unit variance among them.
    """
    genomes = draw_candidates(space, None, NETWORKS, np.random.default_rng(SEED))
    logs = np.log([float(workload(space, space.decode(genome)).macs) for genome in genomes])
    hot = one_hot(space.choices, genomes)
    hot -= hot.mean(0)
    column: Floats = np.linalg.lstsq(hot, logs - logs.mean(), rcond=None)[0]
    return (column / max(float((hot @ column).std()), 1e-12))[:, None]
