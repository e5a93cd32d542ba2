"""Loss between the network and the chip: its size, whether it differs from 0, and its causes."""

from __future__ import annotations

from dataclasses import dataclass

from hil.verdict.agreement import AgreementReport
from hil.verdict.cause_split import UNEXPLAINED, Cause
from hil.verdict.metric import Metric


@dataclass(frozen=True, slots=True)
class Lost:
    """Loss from ``start`` ("float" or "quantised") to the chip on ``images``; in scores, negative for a gain.

    ``told``: causes whose interval excludes 0, largest first; ``open``: the others.
    """

    start: str
    mean: float
    low: float
    high: float
    images: int
    told: tuple[Cause, ...] = ()
    open: tuple[Cause, ...] = ()

    @property
    def seen(self) -> bool:
        """Whether the interval of the loss lies above 0."""
        return self.low > 0

    def words(self, metric: Metric) -> str:
        """ "2.3 points lost, most to relaxation (1.4 points)"."""
        if not self.seen:
            return f"nothing lost that {self.images:,} images can show, so no cause was switched off and on"
        most = f", most to {self.told[0].name} ({metric.amount(self.told[0].loss, 1)})" if self.told else ""
        return f"{metric.amount(self.mean, 1)} lost{most}"


def lost_to(report: AgreementReport) -> Lost:
    """The loss of accuracy by cause where the run looked for causes, else from quantised to chip alone."""
    split, j = report.causes, report.decisive
    if split is None:
        return Lost("quantised", j.lost.mean, j.lost.low, j.lost.high, j.n)
    named = [p for p in split.parts if (p.loss, p.low, p.high) != (0.0, 0.0, 0.0) or p.name == UNEXPLAINED]
    told = sorted((p for p in named if p.low > 0 or p.high < 0), key=lambda p: -abs(p.loss))
    return Lost(
        split.start.replace("ideal", "quantised"),
        split.gap,
        split.low,
        split.high,
        split.images,
        tuple(told),
        tuple(p for p in named if p not in told),
    )
