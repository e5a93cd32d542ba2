"""A campaign in numbers: JSON for programs, lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from hil.pages.summary import Fact, Headline, NextStep, Scale, ScaleRow, Summary, SummaryItem
from hil.pages.tables import Table
from hil.payload.mitigation import Mitigation
from hil.payload.orbit import OrbitFile
from hil.payload.radiation.campaign import CampaignResult
from hil.payload.radiation.detectors import Detector
from hil.payload.radiation.kinds import KINDS, FaultKind, rate_per_day
from hil.payload.radiation.outcomes import FaultOutcome, Share, criticality, fired, harmful, outcome_of, weighted
from hil.payload.radiation.sampling import margin_of
from hil.payload.radiation.timeline import MITIGATIONS
from hil.payload.settings import MitigationScenario

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


def campaign_summary(report: dict[str, Any], steps: tuple[NextStep, ...] = (), page: str = "") -> Summary:
    """Findings first: how often an upset does harm, and the accuracy at the end with and without mending."""
    settings, accuracy, alarms = report["settings"], report["accuracy_without_fault"], report["false_alarms"]
    harmful = report["harmful"]
    timeline = report.get("timeline")
    text = (
        f"of {report['upsets_per_day']:.3g} upsets a day change an answer ({_span(harmful)}, 95 %), {settings['orbit']}"
    )
    parts: list[SummaryItem] = []
    if timeline is not None:
        parts.append(years_scale(timeline))
    parts += [
        Fact("Without a fault", f"{accuracy['count']} of {accuracy['of']} images right on {settings['chip']}"),
        Fact("Outcomes", ", ".join(f"{count:,} {name}" for name, count in report["outcomes"].items())),
        kinds_table(report),
        *([years_table(timeline)] if timeline is not None else []),
        Fact(
            "False alarms",
            f"{alarms['count']} of {alarms['of']} fault-free images, at most {100 * alarms['high']:.2f} %",
        ),
        Fact(
            "Injected",
            f"{settings['injections']:,} of {report['population']:,} sites, {settings['images']} images each, "
            f"margin {100 * report['margin']:.2f} % at {100 * settings['confidence']:g} %",
        ),
        Fact("Rests on", str(report.get("belief", "")), soft=True),
        Fact("Assumed", f"{len(report['assumed'])} figures of the orbit, listed on the page", soft=True),
        *([Fact("page", page)] if page else []),
    ]
    word = f"{report['harmful_per_day']:.3g} A DAY"
    return Summary(
        f"upsets of {settings['orbit']} in {settings['chip']}",
        "SIMULATED · no chip was irradiated",
        Headline(None, word, text),
        tuple(parts),
        steps,
    )


def kinds_table(report: dict[str, Any]) -> Table:
    """Upsets and their harm by kind, the most harmful first."""
    names = [str(n) for n in (FaultOutcome.MASKED, FaultOutcome.DEGRADED, FaultOutcome.SILENT, FaultOutcome.DETECTED)]
    kinds = sorted(report["kinds"].items(), key=lambda item: -item[1]["upsets_per_day"] * item[1]["harmful"]["share"])
    rows = tuple(
        (
            kind,
            f"{about['upsets_per_day']:.2e}",
            f"{100 * about['harmful']['share']:.1f} %",
            _span(about["harmful"]),
            *(f"{about['outcomes'].get(name, 0)}" for name in names),
        )
        for kind, about in kinds
    )
    return Table("Kinds", ("kind", "upsets a day", "harmful", "95 % interval", *names), rows)


def years_scale(timeline: dict[str, Any]) -> Scale:
    """Accuracy at the end of the mission by mitigation scenario."""
    rows = []
    for scenario, bands in timeline["scenarios"].items():
        low, mean, high = (100 * bands[-1][k] for k in ("low", "mean", "high"))
        rows.append(ScaleRow(contents(scenario), f"{mean:.1f} %", mean, low, high))
    note = (
        f"after {timeline['years'][-1]:g} years; 5 … 95 % of {timeline['chips']} chips, {timeline['images']:,} images"
    )
    return Scale("accuracy", "%", tuple(rows), note)


def years_table(timeline: dict[str, Any]) -> Table:
    """Mean and 5 … 95 % of chips for each scenario and year."""
    rows = tuple(
        (
            f"{year:g}",
            *(
                f"{100 * b[k]['mean']:.1f} ({100 * b[k]['low']:.1f} … {100 * b[k]['high']:.1f}) %"
                for b in timeline["scenarios"].values()
            ),
        )
        for k, year in enumerate(timeline["years"])
    )
    note = "Every point past 1e5 s after writing extrapolates the laws of relaxation."
    return Table("Years", ("years", *map(contents, timeline["scenarios"])), rows, note)


def contents(scenario: str) -> str:
    """A scenario by its mitigations: "ECC + register read-back + scrubbing"; "no mitigation"."""
    mitigations = MITIGATIONS[MitigationScenario(scenario)]
    named = {Mitigation.ECC: "ECC", Mitigation.REGISTERS: "read-back", Mitigation.SCRUB: "scrubbing"}
    words = [
        *(name for one, name in named.items() if one in mitigations),
        *(["tuning"] if Mitigation.TUNE in mitigations else []),
    ]
    return " + ".join(words) or "no mitigation"


def _span(share: dict[str, Any]) -> str:
    return f"{100 * share['low']:.1f} … {100 * share['high']:.1f} %"


def _by_detector(found: CampaignResult, detector: Detector) -> dict[str, Share]:
    counts: dict[str, list[int]] = {}
    for result in found.results:
        if harmful(result):
            one = counts.setdefault(result.kind, [0, 0])
            one[0] += fired(result, detector)
            one[1] += 1
    return {kind: Share(*pair) for kind, pair in counts.items()}
