"""Outcomes of injections under a set of detectors, and criticality by kind, layer and bit with Wilson intervals."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cim.intervals import wilson
from hil.payload.radiation.block import InjectionResult
from hil.payload.radiation.detectors import BY_CONSTRUCTION, TWICE_CODES, Detector
from hil.payload.radiation.kinds import FaultKind


class FaultOutcome(enum.StrEnum):
    """Effect of one injected fault on the answers."""

    MASKED = "masked"  # no logit changed
    DEGRADED = "degraded"  # logits changed, no answer did
    SILENT = "silent wrong answer"
    DETECTED = "detected"
    HANG = "hang"


ALWAYS = (Detector.LOADER,)  # the loader checks what it loads, whatever else is switched on


def fired(result: InjectionResult, detector: Detector) -> bool:
    """Whether a detector notices an injection."""
    match detector:
        case Detector.LOADER:
            return result.refused
        case Detector.TIMER:
            return result.hung
        case Detector.RANGE:
            return result.range_alarms > 0
        case Detector.CHECKSUM:
            return result.checksum_alarms > 0
        case Detector.GOLDEN:
            return result.golden_alarm
        case Detector.SCRUB:
            return result.scrubbed
        case Detector.ECC:
            return result.ecc_mended
        case Detector.TWICE:
            return result.kind == FaultKind.CONVERSION and 1 << result.bit > TWICE_CODES
    return FaultKind(result.kind) in BY_CONSTRUCTION[detector] and not result.hung


def harmful(result: InjectionResult) -> bool:
    """Whether an answer changed or never came, compared with the same chip and noise without the fault."""
    return result.answers > 0 or result.hung


def outcome_of(result: InjectionResult, detectors: Collection[Detector]) -> FaultOutcome:
    if any(fired(result, detector) for detector in (*ALWAYS, *detectors)):
        return FaultOutcome.DETECTED
    if result.hung:
        return FaultOutcome.HANG
    if not result.logits:
        return FaultOutcome.MASKED
    return FaultOutcome.SILENT if result.answers else FaultOutcome.DEGRADED


@dataclass(frozen=True, slots=True)
class Share:
    """A count of a number with its Wilson interval (95 %)."""

    count: int
    of: int

    @property
    def share(self) -> float:
        return self.count / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.count, self.of) if self.of else (0.0, 1.0)

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval
        return {"count": self.count, "of": self.of, "share": self.share if self.of else None, "low": low, "high": high}


def criticality(results: Sequence[InjectionResult], key: Callable[[InjectionResult], str]) -> dict[str, Share]:
    """Share of harmful injections in each group, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for result in results:
        counts = groups.setdefault(key(result), [0, 0])
        counts[0] += harmful(result)
        counts[1] += 1
    return {name: Share(*counts) for name, counts in groups.items()}


@dataclass(frozen=True, slots=True)
class WeightedShare:
    """A share over kinds, each counting with its upsets a day. ``error``: stratified standard error."""

    share: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        return max(0.0, self.share - 1.96 * self.error), min(1.0, self.share + 1.96 * self.error)

    def to_json(self) -> dict[str, Any]:
        return {"share": self.share, "low": self.interval[0], "high": self.interval[1]}


def weighted(shares: Mapping[str, Share], weights: Mapping[str, float]) -> WeightedShare:
    """Σ w p and √Σ w² p (1 − p) / n, the weights of kinds with injections summing to 1.

    Shares of 0 or 1 count as (k + ½) / (n + 1) in the error, so that no kind is certain.
    """
    known = {name: share for name, share in shares.items() if share.of}
    total = sum(weights[name] for name in known)
    if total <= 0:
        return WeightedShare(0.0, 0.0)
    mean = sum(weights[name] * share.share for name, share in known.items()) / total
    variance = 0.0
    for name, share in known.items():
        p = (share.count + 0.5) / (share.of + 1)
        variance += (weights[name] / total) ** 2 * p * (1 - p) / share.of
    return WeightedShare(mean, math.sqrt(variance))
