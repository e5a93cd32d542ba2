"""The ladder of ``hil improve`` as one self-contained page: what each lever gave, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hil.improvement.ladder import Improvement, Rung
from hil.pages.figures import Figure, axis, dots, figure, line, shown
from hil.pages.shell import Plot, render
from hil.pages.tables import Table, duration, number, percent, points, without_empty

PAGE = "ladder.html"
EXPLAINED = {
    "lever": "lever", "held-out training images": "held-out training images", "virtual chips": "virtual chip",
    "macros": "macro", "pulses": "pulses",
}  # fmt: skip
NOT_TRIED = "not tried"


def ladder_page(found: Improvement) -> str:
    """The whole page as text."""
    tried = [rung for rung in found.rungs if rung.chips]
    last = [rung for rung in tried if rung.kept][-1]
    facts = [
        ("as compiled", percent(tried[0].mean)),
        ("after the ladder", percent(last.mean)),
        ("gain", f"{points(last.mean - tried[0].mean)} points"),
        ("time spent", duration(60 * sum(rung.minutes for rung in found.rungs))),
    ]
    if found.test is not None:
        facts.append(("expected of one chip", found.test.text))
    return render(
        "ladder.html",
        title="Ladder of levers",
        plots=_plots(tried),
        explained=EXPLAINED,
        facts=facts,
        subtitle=f"{found.source} · {found.images:,} held-out training images, {found.chips} virtual chips, "
        f"{duration(found.age_s)} after programming · stopped: {found.stopped}",
        rungs=rung_table(found.rungs),
        kept=tuple(rung.words for rung in found.rungs if rung.kept),
        test_words=_test_words(found),
    )


def _plots(tried: Sequence[Rung]) -> Iterator[Plot]:
    accuracy = (
        "Accuracy on held-out training images; bars: standard deviation between virtual chips, small dots: single "
        "chips. Filled: kept. Open: let go."
    )
    yield Plot("rungs", accuracy, rung_figure(tried))
    yield Plot("write", "Accuracy against the chip time that writing the cells takes.", _against(tried, "write_s"))
    yield Plot("macros", "Accuracy against macros in use.", _against(tried, "macros"))
    yield Plot("minutes", "Accuracy against the minutes spent on the ladder so far.", _against_minutes(tried))


def rung_table(rungs: Sequence[Rung]) -> Table:
    """Every lever in the order tried, with gain, wear, chip time and cost; levers not tried say why."""
    rows = tuple(_row(rung) for rung in rungs)
    header = (
        "lever", "held-out accuracy", "sd between chips", "gain, points", "", "macros", "pulses", "chip time to write",
        "energy an image", "latency", "minutes",
    )  # fmt: skip
    note = "Gain: against the levers kept before, ± standard error. A lever stays that gives more than its error."
    return without_empty(Table("Levers", header, rows, note), "the chip file has no model of energy and time")


def _row(rung: Rung) -> tuple[str, ...]:
    if rung.skipped:
        return (rung.words, *("—",) * 3, f"{NOT_TRIED}: {rung.skipped}", *("—",) * 6)
    return (
        rung.words,
        percent(rung.mean),
        f"{100 * rung.sd:.2f} points",
        f"{points(rung.gain)} ± {100 * rung.gain_se:.2f}",
        "kept" if rung.kept else "let go",
        f"{rung.macros}",
        f"{rung.pulses:,}",
        duration(rung.write_s),
        "—" if rung.energy_uj is None else f"{number(rung.energy_uj)} µJ",
        "—" if rung.latency_us is None else f"{number(rung.latency_us, 1)} µs",
        f"{rung.minutes:.1f}",
    )


def rung_figure(tried: Sequence[Rung]) -> Figure:
    """Accuracy (percent) after each lever, from the top; single virtual chips faint."""
    data: list[Figure] = []
    for rung in tried:
        name = [shown(rung.lever)]
        faint = dots(
            [100 * a for a in rung.chips], name * len(rung.chips), "@simulated", "%{x:.2f} %", size=6, opacity=0.35
        )
        mark = dots([100 * rung.mean], name, "@simulated", f"{shown(rung.words)}: %{{x:.2f}} %", symbol=_symbol(rung))
        reach = {"type": "data", "array": [100 * rung.sd], "color": "@simulated", "thickness": 2, "width": 6}
        data += [faint, {**mark, "error_x": reach}]
    rows = {"type": "category", "autorange": "reversed"}
    return figure(data, 110 + 30 * len(tried), x=axis("accuracy, %"), y=rows, left=90)


def _against(tried: Sequence[Rung], field: str) -> Figure:
    titles = {"write_s": "chip time to write, s", "macros": "macros"}
    return _scatter(tried, [float(getattr(rung, field)) for rung in tried], titles[field])


def _against_minutes(tried: Sequence[Rung]) -> Figure:
    spent = np.cumsum([rung.minutes for rung in tried]).tolist()
    return _scatter(tried, spent, "minutes spent")


def _scatter(tried: Sequence[Rung], x: Sequence[float], title: str) -> Figure:
    """Accuracy over a price; a line joins the levers that were kept."""
    y = [100 * rung.mean for rung in tried]
    kept = [k for k, rung in enumerate(tried) if rung.kept]
    path = line([x[k] for k in kept], [y[k] for k in kept], "@line", "")
    marks = dots(x, y, "@simulated", "%{text}: %{y:.2f} %, %{x:.4g}", symbol=[_symbol(rung) for rung in tried])
    reach = {"type": "data", "array": [100 * rung.sd for rung in tried], "color": "@simulated", "thickness": 1.2}
    named = {**marks, "text": [shown(rung.lever) for rung in tried], "error_y": reach}
    return figure([{**path, "hoverinfo": "skip"}, named], 300, x=axis(title), y=axis("accuracy, %"))


def _symbol(rung: Rung) -> str:
    return "circle" if rung.kept else "circle-open"


def _test_words(found: Improvement) -> str:
    if found.test is None:
        return "no test images were asked for"
    return (
        f"a perfect chip {percent(found.test_ideal)}; expected {found.test.text}, over chips and images: "
        f"{found.test.chips} virtual chips that chose nothing, {found.test_images:,} test images, read once, for the "
        "finished program"
    )
