"""Outcomes of injections under a set of detectors, and criticality by kind, layer and bit with Wilson intervals."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cim.intervals import wilson
from hil.payload.radiation.faults import REGISTERS
from hil.payload.settings import FaultKind, Mitigation


@dataclass(frozen=True, slots=True)
class InjectionResult:
    """One injection. Counts are of judged images: logits changed, answers changed, range alarms.
    ``ecc_mended``: it struck a stored word, and the code corrected it."""

    number: int
    kind: str
    step: str
    tile: int
    place: int
    bit: int
    refused: bool
    hung: bool
    logits: int
    answers: int
    range_alarms: int
    golden_alarm: bool
    scrubbed: bool
    ecc_mended: bool

    @property
    def harmful(self) -> bool:
        """Whether an answer changed or never came, compared with the same chip and noise without the fault."""
        return self.answers > 0 or self.hung

    @classmethod
    def of_row(cls, row: Any) -> InjectionResult:
        """The result in a row of ``injections.json``; raises ValueError for another row."""
        fields = dataclasses.fields(cls)
        kinds = {"int": int, "str": str, "bool": bool}
        if not isinstance(row, list) or len(row) != len(fields):
            raise ValueError("a row of another length")
        for field, value in zip(fields, row, strict=True):
            if type(value) is not kinds[str(field.type)]:
                raise ValueError(f"{field.name} is {value!r:.60}")
        return cls(*row)


class FaultOutcome(enum.StrEnum):
    """Effect of one injected fault on the answers."""

    MASKED = "masked"  # no logit changed
    DEGRADED = "degraded"  # logits changed, no answer did
    SILENT = "silent wrong answer"
    DETECTED = "detected"
    HANG = "hang"


def _catches(*kinds: FaultKind) -> Callable[[InjectionResult], bool]:
    """A detector that notices every single upset of these kinds, by construction of its code."""
    return lambda result: result.kind in kinds and not result.hung


DETECTORS: dict[str, Callable[[InjectionResult], bool]] = {
    "loader": lambda result: result.refused,  # refuses what cannot be, whatever else is switched on
    Mitigation.TIMER: lambda result: result.hung,
    Mitigation.RANGE: lambda result: result.range_alarms > 0,
    Mitigation.SCRUB: lambda result: result.scrubbed,
    Mitigation.GOLDEN: lambda result: result.golden_alarm,
    Mitigation.PARITY: _catches(FaultKind.ACTIVATION),
    Mitigation.ECC: lambda result: result.ecc_mended,
    Mitigation.REGISTERS: _catches(*REGISTERS),
    Mitigation.SIGNATURE: _catches(FaultKind.SEQUENCER),
}
"""Whether the loader or a mitigation notices an injection; triple copies outvote it, and re-tuning notices none."""


def outcome_of(result: InjectionResult, detectors: Collection[str] = ()) -> FaultOutcome:
    if any(DETECTORS[name](result) for name in ("loader", *detectors)):
        return FaultOutcome.DETECTED
    if result.hung:
        return FaultOutcome.HANG
    if not result.logits:
        return FaultOutcome.MASKED
    return FaultOutcome.SILENT if result.answers else FaultOutcome.DEGRADED


@dataclass(frozen=True, slots=True)
class Share:
    """A count out of a number, with its Wilson interval (95 %)."""

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


def shares(
    results: Sequence[InjectionResult],
    key: Callable[[InjectionResult], str] = lambda result: result.kind,
    counted: Callable[[InjectionResult], bool] = lambda result: result.harmful,
) -> dict[str, Share]:
    """Share of counted injections (by default the harmful ones) in each group, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for result in results:
        counts = groups.setdefault(key(result), [0, 0])
        counts[0] += counted(result)
        counts[1] += 1
    return {name: Share(*counts) for name, counts in groups.items()}


@dataclass(frozen=True, slots=True)
class WeightedShare:
    """A share averaged over kinds of faults, weighted by their upsets a day. ``error``: stratified standard error."""

    share: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        return max(0.0, self.share - 1.96 * self.error), min(1.0, self.share + 1.96 * self.error)

    def needed(self, injections: int) -> int:
        """Injections at which the interval reaches at most half of the share to each side, after so many of them; the
        error falls with their root."""
        likely = self.share or self.error  # none was harmful: a share of about the error is not refuted
        return math.ceil(injections * (1.96 * self.error / (0.5 * likely)) ** 2) if likely else injections

    def to_json(self) -> dict[str, Any]:
        return {"share": self.share, "low": self.interval[0], "high": self.interval[1]}


def weighted(parts: Mapping[str, Share], weights: Mapping[str, float]) -> WeightedShare:
    """Σ w p and √Σ w² p (1 − p) / n, the weights of kinds with injections summing to 1.

    Shares of 0 or 1 count as (k + ½) / (n + 1) in the error, so that no kind is certain.
    """
    known = {name: share for name, share in parts.items() if share.of}
    total = sum(weights[name] for name in known)
    if total <= 0:
        return WeightedShare(0.0, 0.0)
    mean = sum(weights[name] * share.share for name, share in known.items()) / total
    variance = 0.0
    for name, share in known.items():
        p = (share.count + 0.5) / (share.of + 1)
        variance += (weights[name] / total) ** 2 * p * (1 - p) / share.of
    return WeightedShare(mean, math.sqrt(variance))
