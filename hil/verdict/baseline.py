"""This run against an earlier one: has measured accuracy been lost?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hil.verdict.agreement import AgreementReport
from hil.verdict.statistics import image_variance


@dataclass(frozen=True, slots=True)
class BaselineChange:
    """Measured accuracy now minus then, fractions, with a 90 % interval."""

    now: float
    then: float
    change: float
    low: float
    high: float
    tolerance: float
    paired: bool  # over the same images in the same order
    regressed: bool  # lost more than the tolerance, and the interval excludes "no loss"
    detectable: float  # the smallest loss that would be called a regression with 95 % chance, a fraction
    text: str


def read_baseline(path: str | Path) -> AgreementReport:
    """The report of an earlier run, from its report.json or its run folder.

    Args:
        path: report.json, or the run folder that holds it.

    Returns:
        the report, of this or an earlier minor version.

    Raises:
        FileError: no such report, or a damaged one.
        MismatchError: its schema is of a later major version.

    Example:
        >>> read_baseline("runs/0001").network.name
        'Sequential'
    """
    return AgreementReport.read(Path(path))


def compare_reports(then: AgreementReport, now: AgreementReport) -> BaselineChange:
    """Paired over images where both runs scored the same ones in the same order, else as two samples.

    Args:
        then: the report of the earlier run.
        now: the report of the run that is compared with it.

    Returns:
        change of the accuracy with its interval, and whether it is a loss.

    Example:
        >>> compare_reports(read_baseline("runs/0001"), report).regressed
        False
    """
    a, b = now.decisive, then.decisive
    pair = _paired_answers(then, now)
    if pair is not None:
        d = pair[1] - pair[0]
        change, error = float(d.mean()), math.sqrt(image_variance(d) / len(d))
        accuracy_now, accuracy_then = float(pair[1].mean()), float(pair[0].mean())
    else:
        accuracy_now, accuracy_then = a.measured.mean, b.measured.mean
        change = accuracy_now - accuracy_then
        error = math.sqrt(sum(p * (1 - p) / n for p, n in ((accuracy_now, a.n), (accuracy_then, b.n))))
    half = float(stats.norm.ppf(0.95)) * error
    regressed = change < -a.tolerance and change + half < 0
    how = "same images" if pair is not None else "other images, two samples"
    word = "REGRESSED" if regressed else "no loss beyond the tolerance"
    detectable = max(a.tolerance, half) + float(stats.norm.ppf(0.95)) * error
    text = (
        f"baseline {100 * accuracy_then:.2f} %, now {100 * accuracy_now:.2f} %: {100 * change:+.2f} points "
        f"(90 % interval {100 * (change - half):+.2f} … {100 * (change + half):+.2f}, {how}); "
        f"tolerance {100 * a.tolerance:g}: {word}; a loss of {100 * detectable:.2f} points would be missed once in 20"
    )
    return BaselineChange(
        accuracy_now,
        accuracy_then,
        change,
        change - half,
        change + half,
        a.tolerance,
        pair is not None,
        regressed,
        detectable,
        text,
    )


def _paired_answers(
    then: AgreementReport, now: AgreementReport
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Share of right repeats of the images both runs scored, then and now; None where they cannot be paired."""
    shared = min(len(then.data.answers), len(now.data.answers))
    if shared < 2 or then.data.order_digest != now.data.order_digest:
        return None
    before, after = (
        np.array([int(digit, 36) for digit in r.data.answers[:shared]], np.float64) / r.decisive.repeats
        for r in (then, now)
    )
    return before, after
