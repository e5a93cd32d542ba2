"""A campaign in numbers: JSON for programs, lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from hil.mission.orbit import OrbitFile
from hil.mission.radiation.campaign import CampaignResult
from hil.mission.radiation.detectors import Detector
from hil.mission.radiation.kinds import KINDS, FaultKind, rate_per_day
from hil.mission.radiation.outcomes import FaultOutcome, Share, criticality, fired, harmful, outcome_of, weighted
from hil.mission.radiation.sampling import margin_of

FORMAT = "hil.radiation-report/1.0"


def kind_weights(found: CampaignResult, orbit: OrbitFile) -> dict[str, float]:
    """Upsets of each kind in a day."""
    kinds = [FaultKind(name) for name in found.settings["kinds"]]
    return {str(kind): rate_per_day(kind, orbit.upsets) * found.space.units[kind] for kind in kinds}


def detection(found: CampaignResult, detectors: Collection[Detector]) -> dict[str, Share]:
    """Share of harmful injections that some detectors notice, by kind."""
    counts: dict[str, list[int]] = {}
    for result in found.results:
        if harmful(result):
            one = counts.setdefault(result.kind, [0, 0])
            one[0] += outcome_of(result, detectors) is FaultOutcome.DETECTED
            one[1] += 1
    return {kind: Share(*pair) for kind, pair in counts.items()}


def campaign_json(found: CampaignResult, orbit: OrbitFile) -> dict[str, Any]:
    """The report: outcomes, criticality by kind, layer and bit, detection by detector, rates a day."""
    weights = kind_weights(found, orbit)
    by_kind = criticality(found.results, lambda r: r.kind)
    outcomes = Counter(str(outcome_of(r, ())) for r in found.results)
    per_kind = {kind: Counter(str(outcome_of(r, ())) for r in found.results if r.kind == kind) for kind in by_kind}
    bits: dict[str, dict[str, Any]] = {}
    for kind in by_kind:
        if KINDS[FaultKind(kind)].place in ("accumulators", "activations", "converters", "program image"):
            own = criticality([r for r in found.results if r.kind == kind], lambda r: str(r.bit))
            bits[kind] = {bit: share.to_json() for bit, share in sorted(own.items(), key=lambda item: int(item[0]))}
    share = weighted(by_kind, weights)
    harm_per_day = sum(weights[k] * s.share for k, s in by_kind.items())
    return {
        "format": FORMAT,
        "settings": found.settings,
        "population": found.space.population,
        "margin": margin_of(len(found.results), found.space.population, found.settings["confidence"]),
        "accuracy_without_fault": found.healthy.to_json(),
        "outcomes": dict(sorted(outcomes.items())),
        "harmful": share.to_json(),
        "upsets_per_day": sum(weights.values()),
        "harmful_per_day": harm_per_day,
        "kinds": {
            kind: {
                "place": KINDS[FaultKind(kind)].place,
                "site": KINDS[FaultKind(kind)].sites,
                "sites": found.space.sites(FaultKind(kind)),
                "upsets_per_day": weights[kind],
                "rate_source": orbit.sources[f"upsets.{KINDS[FaultKind(kind)].rate}"],
                "harmful": share_of.to_json(),
                "outcomes": dict(sorted(per_kind[kind].items())),
            }
            for kind, share_of in by_kind.items()
        },
        "layers": {name: s.to_json() for name, s in criticality(found.results, lambda r: r.step).items()},
        "bits": bits,
        "detectors": {
            str(detector): {kind: s.to_json() for kind, s in _by_detector(found, detector).items()}
            for detector in Detector
        },
        "false_alarms": found.alarms.to_json(),
        "guard_widths": {"range": found.guards.widths[0], "checksum": found.guards.widths[1]},
        "checksum_cells": found.checked.cells,
        "checksum_reads_share": found.checked.reads_share,
        "layers_without_checksum": list(found.checked.unchecked),
        "assumed": [f"{name}: {orbit.sources[name]}" for name in orbit.assumed],
    }


def campaign_lines(report: dict[str, Any]) -> list[str]:
    """The report in words."""
    settings, accuracy, alarms = report["settings"], report["accuracy_without_fault"], report["false_alarms"]
    lines = [
        f"campaign       {settings['injections']:,} injections of {report['population']:,} sites, "
        f"{settings['images']} images each; margin {100 * report['margin']:.2f} % at {settings['confidence']:.0%}",
        f"chip           {settings['chip']}, {accuracy['count']} of {accuracy['of']} images right without a fault",
        f"orbit          {settings['orbit']}: {report['upsets_per_day']:.3g} upsets a day, "
        f"{report['harmful_per_day']:.3g} of them harmful; {len(report['assumed'])} figures assumed",
        "outcomes       " + ", ".join(f"{count} {name}" for name, count in report["outcomes"].items()),
        "",
        f"{'kind':<16} {'upsets/day':>10}  {'harmful':>8}  {'95 % interval':<15}  "
        "masked  degraded  silent  refused  hang",
    ]
    for kind, about in report["kinds"].items():
        share, outcomes = about["harmful"], about["outcomes"]
        counts = "  ".join(
            f"{outcomes.get(str(name), 0):>{width}}"
            for name, width in zip(
                (
                    FaultOutcome.MASKED,
                    FaultOutcome.DEGRADED,
                    FaultOutcome.SILENT,
                    FaultOutcome.DETECTED,
                    FaultOutcome.HANG,
                ),
                (6, 8, 6, 7, 4),
                strict=True,
            )
        )
        span = f"{100 * share['low']:.1f} – {100 * share['high']:.1f} %"
        lines.append(
            f"{kind:<16} {about['upsets_per_day']:>10.2e}  {100 * share['share']:>6.1f} %  {span:<15}  {counts}"
        )
    lines += [
        "",
        f"false alarms   {alarms['count']} of {alarms['of']} fault-free images "
        f"(95 %: at most {100 * alarms['high']:.2f} %)",
    ]
    return lines


def _by_detector(found: CampaignResult, detector: Detector) -> dict[str, Share]:
    counts: dict[str, list[int]] = {}
    for result in found.results:
        if harmful(result):
            one = counts.setdefault(result.kind, [0, 0])
            one[0] += fired(result, detector)
            one[1] += 1
    return {kind: Share(*pair) for kind, pair in counts.items()}
