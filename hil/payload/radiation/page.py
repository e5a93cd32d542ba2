"""The page of a campaign: outcomes, criticality by kind, layer and bit with intervals, accuracy over the years."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hil.pages.account import Account, Bullets, Plot, Section
from hil.pages.figures import Figure, axis, dots, figure
from hil.pages.shell import page
from hil.pages.summary import Summary
from hil.payload.radiation.outcomes import FaultOutcome
from hil.payload.radiation.summary import contents
from hil.payload.radiation.timeline import EACH
from hil.payload.settings import MitigationScenario

COLOURS = {
    MitigationScenario.WITHOUT: "@layer3",
    MitigationScenario.SCRUBBED: "@simulated",
    MitigationScenario.TUNED: "@measured",
}
OUTCOME_COLOURS = {
    FaultOutcome.MASKED: "@layer0",
    FaultOutcome.DEGRADED: "@layer1",
    FaultOutcome.DETECTED: "@layer2",
    FaultOutcome.SILENT: "@layer3",
    FaultOutcome.HANG: "@layer4",
}


def campaign_page(report: Mapping[str, Any], summary: Summary) -> str:
    """One self-contained page of a report, its summary first (``hil.payload.radiation.summary``)."""
    settings = report["settings"]
    title = f"Radiation campaign: {settings['chip']} in {settings['orbit']}"
    return page(Account(summary, (*campaign_sections(report), assumptions(report["assumed"])), title=title))


def assumptions(assumed: Sequence[str]) -> Section:
    return Section(f"Open assumptions: {len(assumed)}", (Bullets(assumed, "What is taken for granted"),))


def campaign_sections(report: Mapping[str, Any]) -> Iterator[Section]:
    """Years, outcomes and criticality."""
    if "timeline" in report:
        yield Section("Years", tuple(_years(report["timeline"])))
    by_kind = "By kind of fault, without any mitigation but the loader."
    yield Section("Outcomes", (Plot("outcomes", by_kind, outcomes_figure(report)),))
    changed = "Share of faults that change at least one answer, with 95 % Wilson intervals."
    harmful = {kind: about["harmful"] for kind, about in report["kinds"].items()}
    yield Section(
        "Criticality",
        (
            Plot("kinds", changed, shares_figure(harmful)),
            Plot("layers", "The same by layer or step, over all kinds.", shares_figure(report["layers"])),
            Plot("bits", "The same by bit.", bits_figure(report["bits"])),
        ),
    )


def _years(timeline: Mapping[str, Any]) -> Iterator[Plot]:
    extrapolated = (
        "Mean of virtual chips and the band from 5 to 95 %. Every point past 1e5 s (1.2 days) is an extrapolation "
        "of relaxation."
    )
    yield Plot("years", extrapolated, years_figure(timeline, COLOURS))
    for mitigation, (alone, without) in EACH.items():
        if {str(alone), str(without)} <= timeline["scenarios"].keys():
            colours = {
                MitigationScenario.WITHOUT: "@layer3",
                alone: "@layer1",
                without: "@layer2",
                MitigationScenario.TUNED: "@measured",
            }
            words = f"{str(mitigation).capitalize()}: no mitigation, it alone, all four without it, and all four."
            yield Plot(f"years-{mitigation}", words, years_figure(timeline, colours))


def outcomes_figure(report: Mapping[str, Any]) -> Figure:
    """Stacked bars of outcomes by kind, shares."""
    kinds = list(report["kinds"])
    data = []
    for outcome, colour in OUTCOME_COLOURS.items():
        shares = []
        for kind in kinds:
            counts = report["kinds"][kind]["outcomes"]
            shares.append(100 * counts.get(str(outcome), 0) / max(1, sum(counts.values())))
        bar: Figure = {"type": "bar", "orientation": "h", "name": str(outcome), "x": shares, "y": kinds}
        hover = f"%{{y}}: {outcome} %{{x:.1f}} %<extra></extra>"
        data.append({**bar, "marker": {"color": colour}, "hovertemplate": hover})
    rows = {"type": "category", "autorange": "reversed"}
    x = axis("share of injections, %")
    return figure(data, 100 + 26 * len(kinds), x=x, y=rows, left=140, barmode="stack", showlegend=True)


def shares_figure(shares: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Points with intervals, one a row."""
    names = list(shares)
    rows = {"type": "category", "autorange": "reversed"}
    return figure(
        [_points(names, [shares[n] for n in names], "@simulated", horizontal=True)],
        100 + 22 * len(names),
        x=axis("harmful, %"),
        y=rows,
        left=30 + 7 * max(map(len, names), default=0),
    )


def bits_figure(bits: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Points by bit, one trace a kind."""
    data = []
    for number, (kind, shares) in enumerate(bits.items()):
        trace = _points([int(b) for b in shares], list(shares.values()), f"@layer{number % 6}", horizontal=False)
        data.append({**trace, "name": kind})
    return figure(data, 380, x=axis("bit"), y=axis("harmful, %"), showlegend=True)


def years_figure(timeline: Mapping[str, Any], colours: Mapping[MitigationScenario, str]) -> Figure:
    """Mean and band of some scenarios."""
    data: list[Figure] = []
    years = timeline["years"]
    for scenario, colour in colours.items():
        bands = timeline["scenarios"][scenario]
        mean = [100 * b["mean"] for b in bands]
        drawn = dots(years, mean, colour, f"{contents(scenario)}: %{{y:.2f}} % after %{{x}} years", size=8)
        bars = {
            "type": "data",
            "symmetric": False,
            "array": [100 * (b["high"] - b["mean"]) for b in bands],
            "arrayminus": [100 * (b["mean"] - b["low"]) for b in bands],
            "thickness": 1,
        }
        data.append(
            {**drawn, "name": contents(scenario), "mode": "lines+markers", "line": {"color": colour}, "error_y": bars}
        )
    return figure(data, 380, x=axis("years in orbit"), y=axis("accuracy, %"), showlegend=True)


def _points(places: Sequence[Any], shares: Sequence[Mapping[str, Any]], colour: str, *, horizontal: bool) -> Figure:
    values = [100 * (share["share"] or 0.0) for share in shares]
    up = [100 * share["high"] - v for share, v in zip(shares, values, strict=True)]
    down = [v - 100 * share["low"] for share, v in zip(shares, values, strict=True)]
    bars = {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "thickness": 1}
    x, y = (values, places) if horizontal else (places, values)
    value, place = ("x", "y") if horizontal else ("y", "x")
    drawn = dots(x, y, colour, f"%{{{place}}}: %{{{value}:.1f}} %", size=8)
    return {**drawn, f"error_{value}": bars}
