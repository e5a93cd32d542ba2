"""A campaign in numbers: JSON for programs, a summary for people, and the page of both."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from hil.pages.account import Account, Bullets, Plot, Section
from hil.pages.figures import Figure, axis, dots, figure
from hil.pages.shell import page
from hil.pages.summary import Fact, Headline, Summary, SummaryItem
from hil.pages.tables import Table
from hil.payload.orbit import OrbitFile
from hil.payload.radiation.detectors import Guards
from hil.payload.radiation.faults import FAULTS, FaultSpace, exposures
from hil.payload.radiation.outcomes import DETECTORS, FaultOutcome, InjectionResult, Share, outcome_of, shares, weighted
from hil.payload.settings import SCENARIOS, SCRUBBED, TUNED, WITHOUT, FaultKind, Mitigation

FORMAT = "hil.radiation-report/5.0"
BY_BIT = (  # kinds whose harm depends on the bit
    *(FaultKind.CONVERTER_TRIM, FaultKind.CONVERTER_RANGE, FaultKind.CONVERSION, FaultKind.ACCUMULATOR),
    *(FaultKind.ACTIVATION, FaultKind.IMAGE_LEVEL, FaultKind.IMAGE_TABLE),
)
EXTRAPOLATED = "Every point past 1e5 s (1.2 days) after writing extrapolates the laws of relaxation."
COLOURS = {WITHOUT: "@layer3", SCRUBBED: "@simulated", TUNED: "@measured"}


@dataclass(frozen=True)
class CampaignResult:
    """Injections in order, with the detectors and settings that judged them."""

    results: list[InjectionResult]
    space: FaultSpace
    guards: Guards
    alarms: Share  # fault-free images with an alarm of a range guard
    healthy: Share  # right answers of the chip without a fault, on the judged images
    settings: dict[str, Any]

    @property
    def margin(self) -> float:
        """Margin of error for the number of injections made: the inverse of ``injections_needed``."""
        population, injections = self.space.population, len(self.results)
        t = float(stats.norm.ppf(0.5 + self.settings["confidence"] / 2))
        return t * math.sqrt(0.25 / injections * ((population - injections) / max(population - 1, 1)))


def campaign_json(found: CampaignResult, orbit: OrbitFile, busy_share: float | None) -> dict[str, Any]:
    """The report: outcomes, criticality by kind, layer and bit, detection by detector, rates a day.

    Args:
        busy_share: of the time in which images are worked on (``hil.payload.budget.busy_share``); None: no mission is
            known, and all of it counts, which is an upper bound.
    """
    exposed = exposures(1.0 if busy_share is None else busy_share)
    kinds_of = [FaultKind(name) for name in found.settings["kinds"]]
    weights = {str(kind): found.space.per_day(kind, orbit.upsets, exposed[kind]) for kind in kinds_of}
    by_kind = shares(found.results)
    share, upsets = weighted(by_kind, weights), sum(weights.values())
    of_kind = {kind: [r for r in found.results if r.kind == kind] for kind in by_kind}
    harmed = [r for r in found.results if r.harmful]
    bits = {
        kind: dict(sorted(shares(own, lambda r: str(r.bit)).items(), key=lambda item: int(item[0])))
        for kind, own in of_kind.items()
        if FaultKind(kind) in BY_BIT
    }
    kinds = {}
    for kind, of_it in by_kind.items():
        row = FAULTS[FaultKind(kind)]
        kinds[kind] = {
            "sites": found.space.sites(FaultKind(kind)),
            "upsets_per_day": weights[kind],
            "exposure": exposed[FaultKind(kind)],
            "rate_source": orbit.sources[f"upsets.{row.rate}"],
            "harmful": of_it.to_json(),
            "outcomes": dict(sorted(Counter(str(outcome_of(r)) for r in of_kind[kind]).items())),
        }
    return {
        "format": FORMAT,
        "settings": found.settings,
        "population": found.space.population,
        "margin": found.margin,
        "accuracy_without_fault": found.healthy.to_json(),
        "outcomes": dict(sorted(Counter(str(outcome_of(r)) for r in found.results).items())),
        "harmful": share.to_json(),
        "busy_share": busy_share,
        "upsets_per_day": upsets,
        "harmful_per_day": upsets * share.share,
        "harmful_per_day_interval": [upsets * end for end in share.interval],
        "injections_needed": share.needed(len(found.results)),
        "kinds": kinds,
        "layers": _json(shares(found.results, lambda r: r.step)),
        "bits": {kind: _json(own) for kind, own in bits.items()},
        "detectors": {name: _json(shares(harmed, counted=notices)) for name, notices in DETECTORS.items()},
        "false_alarms": found.alarms.to_json(),
        "guard_width": found.guards.width,
        "assumed": [f"{name}: {orbit.sources[name]}" for name in orbit.assumed],
    }


def _json(found: Mapping[str, Share]) -> dict[str, Any]:
    return {name: share.to_json() for name, share in found.items()}


def campaign_summary(report: dict[str, Any], page: str = "") -> Summary:
    """Findings first: how often an upset is harmful, and the accuracy at the end with and without mitigation."""
    settings, accuracy, alarms = report["settings"], report["accuracy_without_fault"], report["false_alarms"]
    timeline = report.get("timeline")
    low, high = report["harmful_per_day_interval"]
    text = (
        f"{report['harmful_per_day']:.3g} of {report['upsets_per_day']:.3g} upsets a day change an answer "
        f"({_span(report['harmful'])}, 95 %), {settings['orbit']}"
    )
    needed, busy = report["injections_needed"], report["busy_share"]
    word = f"{low:.3g} … {high:.3g} A DAY"
    if needed > settings["injections"]:
        word, text = "NOT ENOUGH INJECTIONS", f"{needed:,} would do; {text}"
    exposure = (
        "no mission was named (hil campaign --mission), so sums and codes count as if images were worked on all day: "
        "an upper bound"
        if busy is None
        else f"images are worked on in {100 * busy:.3g} % of the time; conversions, sums, codes and the step number "
        "count only then"
    )
    parts: list[SummaryItem] = [
        Fact("Without an injection", f"{accuracy['count']} of {accuracy['of']} images right on {settings['chip']}"),
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
        Fact("Exposure", exposure),
        Fact("Rests on", str(report.get("belief", "")), soft=True),
        Fact("Assumed", f"{len(report['assumed'])} figures of the orbit, listed on the page", soft=True),
        *([Fact("page", page)] if page else []),
    ]
    return Summary(
        f"upsets of {settings['orbit']} in {settings['chip']}",
        "SIMULATED · no chip was irradiated",
        Headline(None, word, text),
        tuple(parts),
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


def years_table(timeline: dict[str, Any]) -> Table:
    """Mean and 5th to 95th percentile of chips for each scenario and year."""
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
    return Table("Years", ("years", *map(contents, timeline["scenarios"])), rows, EXTRAPOLATED)


def contents(scenario: str) -> str:
    """A scenario named by its mitigations: "ECC + read-back + scrubbing"; "no mitigation"."""
    named = {
        Mitigation.ECC: "ECC",
        Mitigation.REGISTERS: "read-back",
        Mitigation.SCRUB: "scrubbing",
        Mitigation.TUNE: "tuning",
    }
    return " + ".join(word for one, word in named.items() if one in SCENARIOS[scenario]) or "no mitigation"


def _span(share: dict[str, Any]) -> str:
    return f"{100 * share['low']:.1f} … {100 * share['high']:.1f} %"


# --- the page ---------------------------------------------------------------------------


def campaign_page(report: Mapping[str, Any], summary: Summary) -> str:
    """One self-contained page of a report, its summary first."""
    settings = report["settings"]
    title = f"Radiation campaign: {settings['chip']} in {settings['orbit']}"
    return page(Account(summary, (*campaign_sections(report), assumptions(report["assumed"])), title=title))


def assumptions(assumed: Sequence[str]) -> Section:
    return Section(f"Open assumptions: {len(assumed)}", (Bullets(assumed, "What is taken for granted"),))


def campaign_sections(report: Mapping[str, Any]) -> Iterator[Section]:
    """Page sections of a campaign: accuracy over the years, and criticality."""
    if "timeline" in report:
        words = f"Mean and 5 … 95 % of virtual chips. {EXTRAPOLATED}"
        yield Section("Years", (Plot("years", words, _course(report["timeline"])),))
    changed = "Share of faults that change at least one answer, with 95 % Wilson intervals."
    yield Section(
        "Criticality",
        (
            Plot("layers", f"{changed} By layer or step, over all kinds.", _rows(report["layers"])),
            Plot("bits", "The same by bit.", _bits(report["bits"])),
        ),
    )


def _rows(found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Plot of shares with intervals, one row each."""
    drawn = dots([100 * (s["share"] or 0.0) for s in found.values()], found, "@simulated", "%{y}: %{x:.1f} %", size=8)
    return figure(
        [{**drawn, "error_x": _intervals(list(found.values()), "share")}],
        100 + 22 * len(found),
        x=axis("harmful, %"),
        y={"type": "category", "autorange": "reversed"},
        left=30 + 7 * max(map(len, found), default=0),
    )


def _bits(bits: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Plot of shares by bit position, one trace for each kind."""
    data = []
    for number, (kind, own) in enumerate(bits.items()):
        drawn = dots(map(int, own), [100 * s["share"] for s in own.values()], f"@layer{number % 6}", "%{x}: %{y:.1f} %")
        data.append({**drawn, "name": kind, "error_y": _intervals(list(own.values()), "share")})
    return figure(data, 380, x=axis("bit"), y=axis("harmful, %"), showlegend=True)


def _course(timeline: Mapping[str, Any]) -> Figure:
    """Plot of mean and band of the main scenarios over the years."""
    data: list[Figure] = []
    for scenario, colour in COLOURS.items():
        bands, name = timeline["scenarios"][scenario], contents(scenario)
        mean = [100 * b["mean"] for b in bands]
        drawn = dots(timeline["years"], mean, colour, f"{name}: %{{y:.2f}} % after %{{x}} years", size=8)
        lines = {"name": name, "mode": "lines+markers", "line": {"color": colour}}
        data.append({**drawn, **lines, "error_y": _intervals(bands, "mean")})
    return figure(data, 380, x=axis("years in orbit"), y=axis("accuracy, %"), showlegend=True)


def _intervals(found: Sequence[Mapping[str, Any]], middle: str) -> Figure:
    """Error bars of shares or bands, in percent."""
    up, down = ([100 * abs(one[end] - (one[middle] or 0.0)) for one in found] for end in ("high", "low"))
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1}
