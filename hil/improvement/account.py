"""The account of an improvement: before and after, what each technique gave and cost, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hil.improvement.improve import Improvement, TrialResult
from hil.pages.account import Account, Marked, Plot, Section
from hil.pages.figures import Figure, axis, dots, figure, shown
from hil.pages.summary import Fact, Headline, NextStep, Scale, ScaleRow, Summary, Tone
from hil.pages.tables import Table, duration, number, percent, points, without_empty

NOT_TRIED = "not tried"
DRAWN = (
    "Accuracy on held-out training images; bars: standard deviation between virtual chips, small dots: single "
    "chips. Filled: kept. Open: let go."
)


def account_of(found: Improvement, name: str) -> Account:
    """Full account of an improvement of the network ``name``, with the whole table of techniques."""
    first = improvement_summary(found, name, ())
    kept = tuple(result.name for result in found.trials if result.kept)
    drawn = Plot("trials", DRAWN, trial_figure([result for result in found.trials if result.chips]))
    return Account(
        replace(first, parts=tuple(part for part in first.parts if not isinstance(part, Table))),
        (Section("Techniques", (drawn, Marked(trial_table(found.trials), rows=kept))),),
    )


def improvement_summary(found: Improvement, name: str, steps: tuple[NextStep, ...], page: str = "") -> Summary:
    """Summary of a finished improvement; its next steps name the files written."""
    tried = [result for result in found.trials if result.chips]
    first, last = tried[0], [result for result in tried if result.kept][-1]
    gain = last.mean - first.mean
    more = f"from {100 * first.mean:.1f} % to {100 * last.mean:.1f} % on {found.images:,} held-out training images"
    return Summary(
        f"{name} on {found.chips} virtual chips",
        "SIMULATED",
        Headline(Tone.GOOD if gain > 0 else Tone.OPEN, f"{points(gain)} points", more),
        (
            _scale(found, first, last),
            _table(found.trials),
            *_test(found),
            Fact("One image costs", *_cost(first, last)),
            Fact("Stopped", f"{found.stopped}, after {duration(60 * sum(r.minutes for r in found.trials))}"),
            Fact("Rests on", f"{found.source}, {duration(found.age_s)} after writing; scored by {found.metric}"),
            *([Fact("page", page)] if page else []),
        ),
        steps,
    )


def _scale(found: Improvement, first: TrialResult, last: TrialResult) -> Scale:
    rows = []
    for words, result in (("as compiled", first), ("at the end", last)):
        ends = (100 * min(result.chips), 100 * max(result.chips))
        note = "range of the chips" if result is first else ""
        rows.append(ScaleRow(words, f"{100 * result.mean:.1f} %", 100 * result.mean, *ends, note))
    return Scale(found.metric, "%", tuple(rows))


def _table(trials: Sequence[TrialResult]) -> Table:
    """The columns of the table of techniques that fit on a screen."""
    whole, shown_ones = trial_table(trials), (0, 1, 3, 4, 5, 7)
    header, *rows = (tuple(row[k] for k in shown_ones) for row in (whole.header, *whole.rows))
    return Table(whole.title, header, tuple(rows))


def _test(found: Improvement) -> list[Fact]:
    if found.test is None:
        return []
    aside = f"{found.test_images:,} test images and {found.test.chips} chips that chose nothing"
    return [Fact("Expected", f"{found.test.text}; a perfect chip {100 * found.test_ideal:.1f} %", aside=aside)]


def _cost(first: TrialResult, last: TrialResult) -> tuple[str, str]:
    if last.energy_uj is None or first.energy_uj is None:
        return "the chip file has no model of energy and time", ""
    now = f"{number(last.energy_uj)} µJ, {number(last.latency_us, 1)} µs, {last.macros} macros"
    return f"{now} ({number(first.energy_uj)} µJ as compiled)", "estimated"


# --- every technique ----------------------------------------------------------------------------


def trial_table(trials: Sequence[TrialResult]) -> Table:
    """Every technique in the order tried, with gain, wear, chip time and cost; techniques not tried say why."""
    rows = tuple(_whole_row(result) for result in trials)
    header = (
        "technique", "held-out accuracy", "sd between chips", "gain, points", "", "macros", "pulses",
        "chip time to write", "energy an image", "latency", "minutes",
    )  # fmt: skip
    note = "Gain: against the techniques kept before, ± standard error. One that gives more than its error stays."
    return without_empty(Table("Techniques", header, rows, note), "the chip file has no model of energy and time")


def _whole_row(result: TrialResult) -> tuple[str, ...]:
    if result.skipped:
        return (result.name, *("—",) * 3, f"{NOT_TRIED}: {result.skipped}", *("—",) * 6)
    return (
        result.name,
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
    """Plot the accuracy (%) after each technique, first at the top; faint points are single virtual chips."""
    data: list[Figure] = []
    for result in tried:
        name = [shown(result.name)]
        faint = dots(
            [100 * a for a in result.chips], name * len(result.chips), "@simulated", "%{x:.2f} %", size=6, opacity=0.35
        )
        mark = dots(
            [100 * result.mean],
            name,
            "@simulated",
            f"{shown(result.words)}: %{{x:.2f}} %",
            symbol="circle" if result.kept else "circle-open",
        )
        reach = {"type": "data", "array": [100 * result.sd], "color": "@simulated", "thickness": 2, "width": 6}
        data += [faint, {**mark, "error_x": reach}]
    rows = {"type": "category", "autorange": "reversed"}
    return figure(data, 110 + 30 * len(tried), x=axis("accuracy, %"), y=rows, left=90)
