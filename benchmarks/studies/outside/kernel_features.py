"""Random features of a kernel and a ridge classifier on them, as the HERMES runs had them (``kernel_runs``).

    z = W x + b,    φ = s^-½ (cos z, sin z)  of exp(−γ |x − y|²), γ = 0.05;    φ = √(2/s) [z > 0]  of 1 − angle(x, y)/π

W by sampler: normals cut at 3 (rff), chi-scaled rows of orthogonal blocks (orf), √p H D₁ H D₂ H D₃ of the next power
p of two (sorf); times √(2γ) for the first kernel, whose b is 2π N(0, 1), here less its whole turns. s = 2ⁿ d − n
features of d inputs (Rahimi 2007; Yu 2016, arXiv 1610.09072). The classifier has an intercept, a ridge of 0.5 on all
coefficients and targets 0 and 1; its answers are rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kernel_runs import Floats, read_table
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.stats import truncnorm

GAMMA, RIDGE, CUT = 0.05, 0.5, 3.0
ERROR_ROWS = 1000  # of the test set: the kernel's error is over their pairs
LETTERS = {"train": 12_000, "test": 6_000}  # of 20,000, as in the random-features literature


@dataclass(frozen=True)
class Split:
    """One random split: standardised inputs, and classes 0 and 1."""

    train: Floats
    test: Floats
    train_class: Floats
    test_class: Floats


def split(wheel: Path, task: str, rng: np.random.Generator) -> Split:
    """``letter``: A to O against P to Z, each part standardised by itself; ``magic``: halves, standardised before."""
    x, names = read_table(wheel, task)
    y = (names >= "P").astype(np.float64) if task == "letter" else (names == "g").astype(np.float64)
    order = rng.permutation(len(x))
    if task == "letter":
        first, second = order[: LETTERS["train"]], order[LETTERS["train"] :][: LETTERS["test"]]
        return Split(standard(x[first]), standard(x[second]), y[first], y[second])
    x = standard(x)
    first, second = order[: len(x) // 2], order[len(x) // 2 :]
    return Split(x[first], x[second], y[first], y[second])


def standard(x: Floats) -> Floats:
    return np.asarray((x - x.mean(0)) / x.std(0, ddof=1))


@dataclass(frozen=True)
class Sampled:
    """Weights (s, d) and biases (s,) of one draw of features."""

    kernel: str
    weight: Floats
    bias: Floats

    def of(self, z: Floats) -> Floats:
        """Features of projections (rows, s)."""
        s = z.shape[1]
        if self.kernel == "rbf":
            return np.asarray(np.concatenate([np.cos(z), np.sin(z)], 1) / np.sqrt(s))
        return np.sqrt(2.0 / s) * (z > 0)


def sampled(sampler: str, kernel: str, inputs: int, size: int, rng: np.random.Generator) -> Sampled:
    s = (2**size) * inputs - size
    weight = {"rff": _normals, "orf": _orthogonal, "sorf": _hadamard}[sampler](s, inputs, rng)
    if kernel == "rbf":
        turns = 2 * np.pi * rng.standard_normal(s)
        return Sampled(kernel, np.sqrt(2 * GAMMA) * weight, np.remainder(turns + np.pi, 2 * np.pi) - np.pi)
    return Sampled(kernel, weight, np.zeros(s))


def _normals(s: int, d: int, rng: np.random.Generator) -> Floats:
    return np.asarray(truncnorm.rvs(-CUT, CUT, size=(s, d), random_state=rng))


def _orthogonal(s: int, d: int, rng: np.random.Generator) -> Floats:
    blocks = [np.linalg.qr(_normals(d, d, rng))[0].T for _ in range(-(-s // d))]
    return np.asarray(np.vstack(blocks)[:s] * np.sqrt(rng.chisquare(d, s))[:, None])


def _hadamard(s: int, d: int, rng: np.random.Generator) -> Floats:
    p = 1 << (d - 1).bit_length()
    h = hadamard(p) / np.sqrt(p)
    blocks = []
    for _ in range(-(-s // d)):
        signs = rng.choice([-1.0, 1.0], (3, p))
        blocks.append(np.sqrt(p) * (h * signs[0]) @ (h * signs[1]) @ (h * signs[2]))
    return np.asarray(np.vstack(blocks)[:s, :d])


def kernel_of(kernel: str, x: Floats) -> Floats:
    """The kernel itself between all rows."""
    if kernel == "rbf":
        square = (x**2).sum(1)
        return np.asarray(np.exp(-GAMMA * (square[:, None] + square - 2 * x @ x.T)))
    length = np.linalg.norm(x, axis=1)
    return np.asarray(1 - np.arccos(np.clip(x @ x.T / np.outer(length, length), -1, 1)) / np.pi)


def kernel_error(exact: Floats, features: Floats) -> float:
    return float(np.linalg.norm(exact - features @ features.T) / np.linalg.norm(exact))


def ridge(features: Floats, classes: Floats) -> Floats:
    x = with_one(features)
    return np.asarray(np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ classes))


def right(features: Floats, weights: Floats, classes: Floats) -> NDArray[np.bool_]:
    return np.asarray(np.rint(np.clip(with_one(features) @ weights, 0, 1)) == classes)


def with_one(features: Floats) -> Floats:
    return np.concatenate([np.ones((len(features), 1)), features], 1)
