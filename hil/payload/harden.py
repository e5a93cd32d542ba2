"""The cheapest set of mitigations that meets a mission: every set judged from one campaign, the Pareto front, a choice.

Each injection of the campaign holds what every detector saw, so that a set is judged without injecting again. Detection
is the share of harmful faults that are noticed or outvoted, each kind weighted with its harmful upsets a day. Accuracy
is the lower end of the band at the end of the mission, of the best simulated scenario whose mitigations are all in the
set (``hil.payload.radiation.timeline.MITIGATIONS``): *scrubbed* needs scrubbing, ECC and register read-back together,
*scrubbed and tuned* re-tuning too; without the scenarios of single mitigations, any other set counts as *without*.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hil.errors import UsageError
from hil.pages.summary import Fact, Headline, NextStep, Summary, Tone
from hil.pages.tables import Table
from hil.payload.mitigation import DETECTORS, OUTVOTED, Mitigation, Price, total
from hil.payload.radiation.block import InjectionResult
from hil.payload.radiation.detectors import Detector
from hil.payload.radiation.kinds import FaultKind
from hil.payload.radiation.outcomes import Share, WeightedShare, criticality, fired, harmful, weighted
from hil.payload.radiation.timeline import MITIGATIONS
from hil.payload.scrub_plan import ScrubPlan
from hil.payload.settings import MAIN, MitigationScenario

FORMAT = "hil.hardening/1.0"
MOST_ALARMS = 1e-3  # share of fault-free images with an alarm, beyond which guards and checksums are not taken
MOST_LINES = 12  # of the front on the screen
GUARDS = frozenset((Mitigation.RANGE, Mitigation.CHECKSUM))
RELOADED = MITIGATIONS[MitigationScenario.SCRUBBED]
MITIGATED = MITIGATIONS[MitigationScenario.TUNED]


@dataclass(frozen=True, slots=True)
class HardenedSet:
    """One set: what it reaches and what it costs."""

    mitigations: frozenset[Mitigation]
    accuracy: float  # lower end of the band at the end of the mission, a fraction
    detection: WeightedShare
    price: Price

    def to_json(self) -> dict[str, Any]:
        return {
            "mitigations": sorted(self.mitigations),
            "accuracy_low": self.accuracy,
            "detection": self.detection.to_json(),
            "energy_j": self.price.energy_j,
            "seconds": self.price.seconds,
            "cells": self.price.cells,
            "host_bytes": self.price.host_bytes,
        }


@dataclass(frozen=True)
class Hardening:
    """Front and choice; ``chosen`` is None where no set meets the floor and the detection that were asked for."""

    front: tuple[HardenedSet, ...]
    chosen: HardenedSet | None
    bare: HardenedSet
    best: HardenedSet  # most accurate, then most detection
    floor: float
    wanted: float
    tripled: str
    by_kind: Mapping[str, Share]  # detection of the chosen set (else of the best)
    lost_after_scrub: float  # mean accuracy of the first year minus that after a scrub at the end, a fraction
    prices: Mapping[Mitigation, Price]
    alarms: Share
    scrub: ScrubPlan | None = None

    @property
    def shown(self) -> tuple[HardenedSet, ...]:
        """The chosen set, then the front from the highest accuracy and detection down."""
        best = sorted(self.front, key=lambda one: (-one.accuracy, -one.detection.share, one.price.energy_j))
        chosen = () if self.chosen is None else (self.chosen,)
        return (*chosen, *(one for one in best if one != self.chosen))

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "accuracy_floor": self.floor,
            "detection_wanted": self.wanted,
            "tripled_layer": self.tripled,
            "false_alarms": self.alarms.to_json(),
            "chosen": None if self.chosen is None else self.chosen.to_json(),
            "bare": self.bare.to_json(),
            "best": self.best.to_json(),
            "lost_after_scrub": self.lost_after_scrub,
            "scrub_plan": None if self.scrub is None else self.scrub.to_json(),
            "detection_by_kind": {kind: share.to_json() for kind, share in self.by_kind.items()},
            "front": [one.to_json() for one in self.front],
            "prices": {
                str(name): {
                    "energy_j": price.energy_j,
                    "seconds": price.seconds,
                    "cells": price.cells,
                    "host_bytes": price.host_bytes,
                    "counted": price.counted,
                }
                for name, price in self.prices.items()
            },
        }

    def summary(self, steps: tuple[NextStep, ...] = ()) -> Summary:
        """The choice, its prices, and the front."""
        shown = self.chosen or self.best
        names = ", ".join(sorted(shown.mitigations)) or "none"
        reach = f"accuracy {100 * shown.accuracy:.1f} % at the end, {100 * shown.detection.share:.2f} % noticed"
        text = f"{names}: {reach}" if self.chosen else f"no set reaches both; the best, {names}, has {reach}"
        loud = "; more than 1 in 1,000, so no set has them" if self.alarms.share > MOST_ALARMS else ""
        alarms = f"{self.alarms.count} of {self.alarms.of} fault-free images by range guards and checksums{loud}"
        kinds = tuple(
            (kind, f"{share.count} of {share.of}", f"{100 * share.interval[0]:.1f} … {100 * share.interval[1]:.1f} %")
            for kind, share in self.by_kind.items()
        )
        return Summary(
            f"mitigations for {100 * self.floor:g} % at the end and {100 * self.wanted:g} % of harmful faults noticed",
            "SIMULATED",
            Headline(Tone.GOOD if self.chosen else Tone.BAD, "FOUND" if self.chosen else "NONE REACHES IT", text),
            (
                self._front(),
                Fact("False alarms", alarms),
                Fact(
                    "After a scrub", f"{100 * self.lost_after_scrub:+.2f} points lost at the end of the mission (mean)"
                ),
                *(() if self.scrub is None else (Fact("Scrub", self.scrub.text),)),
                Table("Noticed", ("kind", f"by {names}", "95 % interval"), kinds),
                self._prices(),
            ),
            steps,
        )

    def _front(self) -> Table:
        every = [*self.shown[:MOST_LINES], self.bare]
        rows = tuple((", ".join(sorted(one.mitigations)) or "none", *_row(one)) for one in every)
        marked = tuple(
            (f"{row[0]}{' (chosen)' if one == self.chosen else ''}", *row[1:])
            for one, row in zip(every, rows, strict=True)
        )
        return Table("Front", ("mitigations", "accuracy", "noticed", "energy", "cells", "host bytes"), marked)

    def _prices(self) -> Table:
        rows = tuple(
            (
                str(name),
                f"{1e6 * price.energy_j:.4g} µJ",
                f"{1e6 * price.seconds:.4g} µs",
                f"{price.cells:,}",
                f"{price.host_bytes:,}",
                price.counted,
            )
            for name, price in self.prices.items()
        )
        head = ("mitigation", "energy", "time", "cells", "host bytes", "counted")
        return Table("Prices", head, rows, "Prices are over the plain network.")


def harden(
    results: Sequence[InjectionResult],
    weights: Mapping[str, float],
    scenarios: Mapping[str, Sequence[Mapping[str, float]]],
    prices: Mapping[Mitigation, Price],
    alarms: Share,
    *,
    tripled: str,
    floor: float,
    detection: float = 0.99,
    always: Collection[Mitigation] = (),
    never: Collection[Mitigation] = (),
) -> Hardening:
    """Judge every set of mitigations.

    Args:
        weights: upsets of each kind in a day.
        scenarios: bands over the years of each scenario (``Timeline.to_json``).
        floor: accuracy at the end of the mission, a fraction.
        detection: share of harmful faults to be noticed.
        always: mitigations of every set, whether it needs them or not.
        never: those of no set.

    Raises:
        UsageError: the campaign has no harmful fault, or no accuracy over the years; one mitigation always and never.
    """
    if not 0.0 < detection <= 1.0:
        raise UsageError(f"detection of {100 * detection:g} %, not between 0 and 100")
    both = frozenset(always) & frozenset(never)
    if both:
        raise UsageError(f"{', '.join(sorted(both))}: with and without at once")
    if any(str(scenario) not in scenarios for scenario in MAIN):
        raise UsageError("the campaign holds no accuracy over the years", hint="hil campaign … --chips 20")
    harmed = [r for r in results if harmful(r)]
    rates = {kind: weights[kind] * share.share for kind, share in criticality(results, lambda r: r.kind).items()}
    if not harmed:
        raise UsageError("no injection of the campaign did harm", hint="hil campaign … with more injections")
    table = _Noticed(harmed, rates, tripled)
    ends = {
        scenario: float(scenarios[str(scenario)][-1]["low"])
        for scenario in MitigationScenario
        if str(scenario) in scenarios
    }
    reached = {
        chosen: max(low for scenario, low in ends.items() if MITIGATIONS[scenario] <= chosen)
        for chosen in _subsets(tuple(MITIGATED))
    }

    def judged(chosen: frozenset[Mitigation]) -> HardenedSet:
        return HardenedSet(chosen, reached[chosen & MITIGATED], table.share(chosen), total(chosen, dict(prices)))

    free = tuple(m for m in Mitigation if m not in always and m not in never)
    every = [chosen.union(always) for chosen in _subsets(free)]
    sets = [judged(chosen) for chosen in every if not chosen & GUARDS or alarms.share <= MOST_ALARMS]
    if not sets:
        raise UsageError(
            f"{', '.join(sorted(GUARDS & frozenset(always)))} in every set, but {alarms.count} of {alarms.of} "
            "fault-free images raised an alarm, more than 1 in 1,000"
        )
    meets = [s for s in sets if s.accuracy >= floor and s.detection.share >= detection]
    picked = min(meets, key=lambda s: (s.price.energy_j, s.price.cells, s.price.host_bytes), default=None)
    best = max(sets, key=lambda s: (s.accuracy, s.detection.share, -s.price.energy_j))
    shown = picked or best
    return Hardening(
        front=pareto(sets),
        chosen=picked,
        bare=judged(frozenset()),
        best=best,
        floor=floor,
        wanted=detection,
        tripled=tripled,
        by_kind=table.by_kind(shown.mitigations),
        lost_after_scrub=scenarios[MitigationScenario.WITHOUT][0]["mean"]
        - scenarios[MitigationScenario.SCRUBBED][-1]["mean"],
        prices=prices,
        alarms=alarms,
    )


def most_critical_layer(results: Sequence[InjectionResult], layers: Sequence[str]) -> str:
    """The layer whose faults of cells and converters do harm most often."""
    shares = criticality([r for r in results if FaultKind(r.kind) in OUTVOTED], lambda r: r.step)
    return max(layers, key=lambda name: shares[name].share if name in shares else -1.0)


def pareto(sets: Sequence[HardenedSet]) -> tuple[HardenedSet, ...]:
    """Sets that no other is as good as in everything and better in something: accuracy, detection, energy, cells, time.

    Ascending in energy; of several equal ones, the first.
    """
    costs = np.array(
        [(-s.accuracy, -s.detection.share, s.price.energy_j, s.price.cells, s.price.seconds) for s in sets]
    )
    _, first = np.unique(costs, axis=0, return_index=True)
    kept = []
    for index in first:
        as_good = (costs[first] <= costs[index]).all(axis=1) & (costs[first] < costs[index]).any(axis=1)
        if not as_good.any():
            kept.append(sets[index])
    return tuple(sorted(kept, key=lambda s: (s.price.energy_j, -s.detection.share)))


class _Noticed:
    """What each detector saw of each harmful fault, by kind; ``weights``: harmful upsets of each kind in a day."""

    def __init__(self, harmed: Sequence[InjectionResult], weights: Mapping[str, float], tripled: str) -> None:
        counts = {kind: sum(r.kind == kind for r in harmed) for kind in dict.fromkeys(r.kind for r in harmed)}
        self.kinds, self.of = list(counts), np.array(list(counts.values()))
        self.weights = {kind: weights[kind] for kind in self.kinds}
        self.kind = np.array([self.kinds.index(r.kind) for r in harmed])
        self.seen: dict[Mitigation | None, NDArray[np.bool_]] = {
            mitigation: np.array([fired(r, detector) for r in harmed]) for mitigation, detector in DETECTORS.items()
        }
        self.seen[None] = np.array([fired(r, Detector.LOADER) for r in harmed])
        self.seen[Mitigation.TRIPLE] = np.array([r.step == tripled and FaultKind(r.kind) in OUTVOTED for r in harmed])
        self.seen[Mitigation.TUNE] = np.zeros(len(harmed), np.bool_)

    def by_kind(self, chosen: frozenset[Mitigation]) -> dict[str, Share]:
        noticed = self.seen[None].copy()
        for mitigation in chosen:
            noticed |= self.seen[mitigation]
        caught = np.bincount(self.kind, weights=noticed, minlength=len(self.kinds))
        return {k: Share(int(c), int(n)) for k, c, n in zip(self.kinds, caught, self.of, strict=True)}

    def share(self, chosen: frozenset[Mitigation]) -> WeightedShare:
        return weighted(self.by_kind(chosen), self.weights)


def _subsets(items: Sequence[Mitigation]) -> list[frozenset[Mitigation]]:
    return [frozenset(c) for n in range(len(items) + 1) for c in itertools.combinations(items, n)]


def _row(one: HardenedSet) -> tuple[str, ...]:
    price = one.price
    return (
        f"{100 * one.accuracy:.2f} %",
        f"{100 * one.detection.share:.2f} %",
        f"{1e6 * price.energy_j:.3g} µJ",
        f"{price.cells:,}",
        f"{price.host_bytes:,}",
    )
