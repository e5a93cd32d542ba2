"""What ``hil improve`` tried, as one self-contained page: what each technique gave, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hil.improvement.improve import Improvement, TrialResult
from hil.improvement.improvement_summary import improvement_summary
from hil.pages.figures import Figure, axis, dots, figure, line, shown
from hil.pages.shell import Marked, Plot, Section, SideBySide, page
from hil.pages.tables import Table, duration, number, percent, points, without_empty

PAGE = "improvement.html"
NOT_TRIED = "not tried"


def improvement_page(found: Improvement, name: str) -> str:
    """The whole page as text; ``name``: of the network."""
    summary = improvement_summary(found, name, ())
    tried = [result for result in found.trials if result.chips]
    accuracy = (
        "Accuracy on held-out training images; bars: standard deviation between virtual chips, small dots: single "
        "chips. Filled: kept. Open: let go."
    )
    kept = tuple(result.words for result in found.trials if result.kept)
    write = Plot("write", "Accuracy against the chip time that writing the cells takes.", _against(tried, "write_s"))
    macros = Plot("macros", "Accuracy against macros in use.", _against(tried, "macros"))
    minutes = Plot("minutes", "Accuracy against the minutes spent so far.", _against_minutes(tried))
    return page(
        replace(summary, parts=tuple(part for part in summary.parts if not isinstance(part, Table))),
        (
            Section(
                "Techniques",
                (Plot("trials", accuracy, trial_figure(tried)), Marked(trial_table(found.trials), rows=kept)),
            ),
            Section("Accuracy and its price", (SideBySide((write, macros)), minutes)),
        ),
    )


def trial_table(trials: Sequence[TrialResult]) -> Table:
    """Every technique in the order tried, with gain, wear, chip time and cost; techniques not tried say why."""
    rows = tuple(_row(result) for result in trials)
    header = (
        "technique", "held-out accuracy", "sd between chips", "gain, points", "", "macros", "pulses",
        "chip time to write", "energy an image", "latency", "minutes",
    )  # fmt: skip
    note = "Gain: against the techniques kept before, ± standard error. One that gives more than its error stays."
    return without_empty(Table("Techniques", header, rows, note), "the chip file has no model of energy and time")


def _row(result: TrialResult) -> tuple[str, ...]:
    if result.skipped:
        return (result.words, *("—",) * 3, f"{NOT_TRIED}: {result.skipped}", *("—",) * 6)
    return (
        result.words,
        percent(result.mean),
        f"{100 * result.sd:.2f} points",
        f"{points(result.gain)} ± {100 * result.gain_se:.2f}",
        "kept" if result.kept else "let go",
        f"{result.macros}",
        f"{result.pulses:,}",
        duration(result.write_s),
        "—" if result.energy_uj is None else f"{number(result.energy_uj)} µJ",
        "—" if result.latency_us is None else f"{number(result.latency_us, 1)} µs",
        f"{result.minutes:.1f}",
    )


def trial_figure(tried: Sequence[TrialResult]) -> Figure:
    """Accuracy (percent) after each technique, from the top; single virtual chips faint."""
    data: list[Figure] = []
    for result in tried:
        name = [shown(result.name)]
        faint = dots(
            [100 * a for a in result.chips], name * len(result.chips), "@simulated", "%{x:.2f} %", size=6, opacity=0.35
        )
        mark = dots(
            [100 * result.mean], name, "@simulated", f"{shown(result.words)}: %{{x:.2f}} %", symbol=_symbol(result)
        )
        reach = {"type": "data", "array": [100 * result.sd], "color": "@simulated", "thickness": 2, "width": 6}
        data += [faint, {**mark, "error_x": reach}]
    rows = {"type": "category", "autorange": "reversed"}
    return figure(data, 110 + 30 * len(tried), x=axis("accuracy, %"), y=rows, left=90)


def _against(tried: Sequence[TrialResult], field: str) -> Figure:
    titles = {"write_s": "chip time to write, s", "macros": "macros"}
    return _scatter(tried, [float(getattr(result, field)) for result in tried], titles[field])


def _against_minutes(tried: Sequence[TrialResult]) -> Figure:
    spent = np.cumsum([result.minutes for result in tried]).tolist()
    return _scatter(tried, spent, "minutes spent")


def _scatter(tried: Sequence[TrialResult], x: Sequence[float], title: str) -> Figure:
    """Accuracy over a price; a line joins the techniques that were kept."""
    y = [100 * result.mean for result in tried]
    kept = [k for k, result in enumerate(tried) if result.kept]
    path = line([x[k] for k in kept], [y[k] for k in kept], "@line", "")
    marks = dots(x, y, "@simulated", "%{text}: %{y:.2f} %, %{x:.4g}", symbol=[_symbol(result) for result in tried])
    reach = {"type": "data", "array": [100 * result.sd for result in tried], "color": "@simulated", "thickness": 1.2}
    named = {**marks, "text": [shown(result.name) for result in tried], "error_y": reach}
    return figure([{**path, "hoverinfo": "skip"}, named], 300, x=axis(title), y=axis("accuracy, %"))


def _symbol(result: TrialResult) -> str:
    return "circle" if result.kept else "circle-open"
