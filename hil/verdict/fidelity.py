"""Fidelity of simulated logits to the chip's: far more sensitive than accuracy, and never a verdict.

Logits are integer codes: measured (m, n, classes), simulated (S, n, classes), ideal (n, classes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Logits = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Share of the chip's departure from the ideal logits that the simulator explains."""

    explained: float | None  # η; None where nothing is left to explain or the mode has none
    explained_virtual_mean: float | None  # the same for each virtual chip against the others
    explained_virtual_sd: float | None
    distance_rank: int  # 1 = the chip is farther from the others than every virtual chip
    distance_p: float  # one-sided; with S = 20 only rank 1 rejects at 5 %
    read_variance: float | None  # ρ, squared codes
    same_answers: float | None  # share of images on which chip and virtual chip give the same class


def fidelity(
    measured: Logits, simulated: Logits, ideal: Logits, *, conditioned: bool, classes: bool = True
) -> Fidelity:
    """Explained share and distance rank of ``measured`` among the virtual chips.

    η = 1 − (‖z̄_chip − z̄_sim‖² − ρ/m) / (‖z̄_chip − z⁰‖² − ρ/m), mean squares over images and classes,
    ρ the read variance of the chip's logits. Unconditional virtual chips explain nothing of one
    chip's own errors, so η is None there. A virtual chip is read once and is taken to have the chip's ρ.
    ``classes``: the largest logit is the answer.
    """
    m, chips = len(measured), len(simulated)
    mean = _mean(measured)
    total = np.zeros(mean.shape)
    for z in simulated:
        total += z
    rho = _read_variance(measured, mean) if m > 1 else None

    explained, virtual = None, []
    if conditioned and rho is not None:
        explained = explained_share(mean, total / chips, ideal, rho / m)
        shares = (explained_share(z, (total - z) / (chips - 1), ideal, rho) for z in simulated)
        virtual = [share for share in shares if share is not None]

    own = _mean_square(measured[0] - total / chips)
    pool = total + measured[0]
    others = [_mean_square(z - (pool - z) / chips) for z in simulated]
    farther = sum(d >= own for d in others)
    return Fidelity(
        explained=explained,
        explained_virtual_mean=float(np.mean(virtual)) if virtual else None,
        explained_virtual_sd=float(np.std(virtual, ddof=1)) if len(virtual) > 1 else None,
        distance_rank=1 + farther,
        distance_p=(1 + farther) / (chips + 1),
        read_variance=rho,
        same_answers=same_answers(measured.argmax(axis=-1), simulated.argmax(axis=-1)) if classes else None,
    )


def explained_share(chip: Logits, simulated: Logits, ideal: Logits, noise: float) -> float | None:
    """η of mean responses with noise variance ``noise``; None when the chip is not farther from ideal than noise."""
    distance = _mean_square(np.asarray(chip, np.float64) - ideal) - noise
    if distance <= 0:
        return None
    return 1.0 - (_mean_square(np.asarray(chip, np.float64) - simulated) - noise) / distance


def same_answers(measured: NDArray[Any], simulated: NDArray[Any]) -> float:
    """Share of (image, repeat, virtual chip) with one and the same class; (m, n) and (S, n)."""
    return float(np.mean([(row == measured).mean() for row in simulated]))


def _mean(measured: Logits) -> Floats:
    mean: Floats = np.asarray(measured, np.float64).mean(axis=0)
    return mean


def _read_variance(measured: Logits, mean: Floats) -> float:
    return sum(_mean_square(z - mean) for z in measured) / (len(measured) - 1)


def _mean_square(x: Logits) -> float:
    return float(np.square(x, dtype=np.float64).mean())


@dataclass(frozen=True, slots=True)
class ReadbackShift:
    """Cells read before and after the run: has the chip moved more than reading error explains?"""

    cells: int
    shift_us: float  # mean of after − before
    spread_us: float  # standard deviation of after − before
    expected_spread_us: float  # from read noise alone
    p_value: float  # of shift and spread together (Bonferroni)
    drifted: bool
    text: str


def compare_readbacks(
    before_us: NDArray[Any],
    after_us: NDArray[Any],
    *,
    read_variance_us2: NDArray[Any] | float,
    reads_before: int,
    reads_after: int,
    lasting_variance_us2: NDArray[Any] | float = 0.0,
) -> ReadbackShift:
    """Compare two read-backs (same shape, NaN = not read); ``read_variance_us2`` is of one read of a cell,
    ``lasting_variance_us2`` what read noise that lasts adds to the difference of two, however often both are read.

    Drift is named when it is certain (p < 0.001) and matters: a shift above a tenth, or a spread
    1.1 times, of what read noise alone gives.
    """
    variance, lasting = (
        np.broadcast_to(np.asarray(v, np.float64), np.shape(before_us))
        for v in (read_variance_us2, lasting_variance_us2)
    )
    difference = np.asarray(after_us, np.float64) - np.asarray(before_us, np.float64)
    known = np.isfinite(difference)
    d, n = difference[known], int(known.sum())
    if n < 2:
        raise ValueError(f"only {n} cells were read both times; a comparison needs two")
    expected = float(np.sqrt(variance[known].mean() * (1 / reads_before + 1 / reads_after) + lasting[known].mean()))
    shift, spread = float(d.mean()), float(d.std(ddof=1))
    p_shift = 2 * float(stats.norm.sf(abs(shift) / max(spread, 1e-12) * np.sqrt(n)))
    p_spread = float(stats.chi2.sf((n - 1) * (spread / max(expected, 1e-12)) ** 2, n - 1))
    p = min(1.0, 2 * min(p_shift, p_spread))
    matters = abs(shift) > 0.1 * expected or spread > 1.1 * expected
    drifted = p < 0.001 and matters
    if drifted:
        text = (
            f"the cells moved during the run: {shift:+.3f} µS on average, spread {spread:.3f} µS "
            f"where reading explains {expected:.3f} µS"
        )
    else:
        text = f"the cells did not move more than reading explains ({shift:+.3f} µS, spread {spread:.3f} µS)"
    return ReadbackShift(n, shift, spread, expected, p, drifted, text)
