"""The account of a run: does it work, how much is lost, why, what does it cost, what now? Then every number.

Causes of the gap, as tables.

All of them show what ``CauseSplit`` and report.json hold, with its sign: what was lost, below zero what was gained.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from firmware_protocols.capability import COMPUTED_PRODUCTS
from hil.pages.account import Account, Bullets, Marked, Pictures, Plot, Section
from hil.pages.summary import Bar, Bars, Fact, Headline, Scale, ScaleRow, Summary, SummaryItem, Tone
from hil.pages.tables import Table, duration, number, percent, with_reason, without_empty
from hil.report import figures, tables
from hil.report.answers import class_table, confusion_figure, label_figure, telling_images
from hil.report.losses import lost_to
from hil.report.next_steps import next_steps
from hil.report.run_data import RunData
from hil.report.tables import age_words, doubts, image_words
from hil.verdict.agreement import AgreementReport
from hil.verdict.cause_split import CauseSplit, LayerCauses
from hil.verdict.image_cost import ImageCost
from hil.verdict.metric import ACCURACY, Metric
from hil.verdict.verdict import Interval, Judgement, Verdict

TONES = {Verdict.AGREE: Tone.GOOD, Verdict.DISAGREE: Tone.BAD, Verdict.INCONCLUSIVE: Tone.OPEN}
FINE_TOLERANCE = 0.005  # below it one digit of a point is too coarse
WORDS = {
    Verdict.AGREE: "The simulator predicts this chip within the tolerance.",
    Verdict.DISAGREE: "The simulator does not predict this chip.",
    Verdict.INCONCLUSIVE: "Not shown: that the simulator predicts this chip, or that it does not.",
}
FAMILY = {
    Verdict.AGREE: "The chip is what the simulator predicts of chips of this kind, within the tolerance.",
    Verdict.DISAGREE: "The chip is not what the simulator predicts of chips of this kind.",
    Verdict.INCONCLUSIVE: "Not shown: that the simulator predicts chips of this kind, or that it does not.",
}
FILES = {
    "report.html": "this page",
    "report.json": "every number of it, by a published schema",
    "report.md": "its tables as text",
    "data.h5": "every answer and reading of the run",
    "record.h5": "calibration record that the simulation rests on",
    "program.h5": "program as it stands on the chip",
    "wire.log": "all messages to and from the chip",
}


def account_of(report: AgreementReport, data: RunData | None = None, files: Collection[str] = ()) -> Account:
    """Everything that a run says; screen, page and Markdown show it.

    Args:
        data: answers and readings, for tables and figures of classes and cells.
        files: names of the files that lie beside the page, of ``FILES``.
    """
    j, chip = report.decisive, report.chip
    banners = [(chip.mark, chip.reservation)] if chip.mark else []
    if report.survival is not None:
        banners.append(("LOST", f"{report.survival.text}."))
    return Account(
        summary_of(report),
        tuple(_sections(report, data, files)),
        title=f"{report.network.name} on {chip.name}: {j.verdict.value}" + ", not as calibrated" * report.moved,
        subtitle=f"{tables.unit_words(chip)}, {j.n:,} images × {j.repeats} repeats, "
        f"{age_words(report)} · {report.created}",
        banners=tuple(banners),
        basis=(
            ("data", f"{report.data.name}, {report.data.split}", "accuracies are of other images"),
            ("images × repeats", f"{j.n:,} × {j.repeats}", "accuracies are of other images or passes"),
            ("age", age_words(report), "the chips were read at other ages"),
        ),
    )


def summary_of(report: AgreementReport) -> Summary:
    """What ``hil deploy``, ``hil judge`` and ``hil show`` print, the pages begin with and notebooks show."""
    j = report.decisive
    return Summary(
        title=f"{report.network.name or 'network'} on {report.chip.name}",
        mark=_mark(report),
        headline=Headline(Tone.BAD if report.moved else TONES[j.verdict], report.verdict_words.upper(), _apart(j)),
        parts=tuple(_parts(report)),
        steps=next_steps(report),
    )


def _mark(report: AgreementReport) -> str:
    chip = report.chip
    if chip.told_by:
        return "MEASURED ELSEWHERE, by its file on silicon" if chip.silicon else chip.mark
    return "measured on silicon" if chip.silicon else f"{chip.kind.upper()} · nothing was measured on silicon"


def _apart(j: Judgement) -> str:
    """simulator and chip 0.0 points apart (−0.7 … +0.7; tolerance ±1)."""
    m, digits = j.metric, _digits(j)
    apart = f"simulator and chip {_amount(abs(j.difference), m, digits)} apart"
    low, high = (_change(end, m, digits) for end in j.interval90)
    return f"{apart} ({low} … {high}; tolerance ±{m.factor * j.tolerance:g})"


def _parts(report: AgreementReport) -> Iterator[SummaryItem]:
    j, m = report.decisive, report.decisive.metric
    yield from (Fact("WARNING", text, tone=Tone.BAD) for text in doubts(report))
    if COMPUTED_PRODUCTS in report.chip.firmware:
        yield Fact("Measured", f"{COMPUTED_PRODUCTS}: not all rows of one are driven at once")
    yield from _calibration(report)
    yield _scale(report)
    if m != ACCURACY:
        yield Fact("Scored by", f"{m.title} of {report.task}, unit {m.unit}")
    if report.this_chip is None:
        yield Fact("Verdict on", "other chips of its kind, as its cells were not read")
    if j.verdict is Verdict.INCONCLUSIVE:
        yield Fact("Why not decided", _why_open(j))
    if report.layers and (j.verdict is Verdict.DISAGREE or report.moved):
        yield Fact("First layer off", tables.first_layer_off(report))
    yield from _lost(report)
    if report.this_chip is not None and report.other_chips is not None:
        such = report.other_chips
        more = "" if such.verdict is Verdict.AGREE else f": {_apart(such)}"
        more += f"; {_why_open(such)}" if such.verdict is Verdict.INCONCLUSIVE else ""
        some = "" if such.n == j.n else f", by the first {such.n:,} images"
        yield Fact("Other chips like it", f"{such.verdict.value}{more}{some}")
    if report.readback is not None and report.readback.drifted:
        yield Fact("Drift", report.readback.text)
    if report.cost is not None:
        cost, macros = report.cost, f"{report.chip.macros_used} of {report.chip.macros} macros"
        spent = f"{energy(cost.energy_j)}, {duration(cost.latency_s)}, {macros}"
        yield Fact("One image costs", spent, aside="estimated")
        if cost.as_compiled is not None:
            yield Fact("As compiled", _beside(cost, cost.as_compiled))
    flags = [flag for flag in j.flags if flag not in j.text]
    if flags:
        yield Fact("Mind", "; ".join(flags))
    if report.chip.told_by and report.notes:
        yield Fact("Rests on", "; ".join(report.notes), soft=True)
    yield Fact("report", f"{report.run}/report.html")


def _calibration(report: AgreementReport) -> Iterator[SummaryItem]:
    """Lines about a chip that is not as calibrated: by how much, the evidence, and what the tune did on the same
    images."""
    found, before, after = report.as_calibrated, report.untuned, report.tuned_alike
    if found is None or found.holds:
        return
    yield Fact("Not as calibrated", found.text.removeprefix("the chip is not as calibrated: "), tone=Tone.BAD)
    yield Fact("Because", "; ".join(found.evidence))
    if before is not None and after is not None:
        m, once = before.metric, f"{before.n:,} images"
        untuned, tuned = (
            f"{m.value(j.measured.mean, 1)} (simulated {m.value(j.simulated.mean, 1)})" for j in (before, after)
        )
        yield Fact("The tune", f"{untuned} without it, {tuned} with it, of the same {once}")


def _scale(report: AgreementReport) -> Scale:
    j = report.decisive
    m, digits = j.metric, 1
    inner = f"{j.n:,} images × {j.repeats}, {age_words(report).removesuffix(' programming')} writing"
    found = (
        ("float", report.float_accuracy, None, ""),
        ("quantised", j.ideal.mean, j.ideal, "a perfect chip"),
        ("simulated", j.simulated.mean, j.simulated, f"{j.chips} virtual chips"),
        ("chip", j.measured.mean, j.measured, inner),
    )
    rows = tuple(_estimate(name, mean, i, note, m, digits) for name, mean, i, note in found if mean is not None)
    return Scale(m.title, "%" if m.share else m.unit, rows, "" if j.n == report.data.images else image_words(report))


def _estimate(name: str, mean: float, i: Interval | None, note: str, m: Metric, digits: int) -> ScaleRow:
    low, high = (None, None) if i is None else (m.factor * i.low, m.factor * i.high)
    return ScaleRow(name, m.value(mean, digits), m.factor * mean, low, high, note)


def _why_open(j: Judgement) -> str:
    """The sentence of the verdict's text that its numbers do not show."""
    text = j.text.split("; ", 1)[-1] if j.text.startswith("not decided") else j.text.split(": ", 1)[-1]
    return text.split(" (difference", 1)[0]


def _lost(report: AgreementReport) -> Iterator[SummaryItem]:
    lost, m, words = lost_to(report), report.decisive.metric, report.survival
    span = f"chip − {lost.start} {_change(-lost.mean, m, 1)}, {_change(-lost.high, m, 1)} … {_change(-lost.low, m, 1)}"
    if not m.greater:
        span = f"{_amount(lost.mean, m, 1)} lost, {_change(lost.low, m, 1)} … {_change(lost.high, m, 1)}"
    some = "" if lost.images == report.decisive.n else f" on the first {lost.images:,} images"
    if not lost.seen:
        what = "nothing: the chip gains" if lost.high < 0 else f"nothing that {lost.images:,} images can show"
        yield Fact("Lost on the chip", f"{what} ({span})")
        return
    tone = None if words is None else Tone.BAD
    yield Fact("Lost on the chip", f"{_amount(lost.mean, m, 1)}{some} ({span})", tone=tone)
    if report.causes is not None:
        yield Bars(
            "Lost to",
            tuple(
                Bar(p.name, _change(p.loss, m, 1), p.loss, f"{_change(p.low, m, 1)} … {_change(p.high, m, 1)}")
                for p in lost.told
            ),
            f"not distinguishable from 0: {', '.join(p.name for p in lost.open)}" if lost.open else "",
        )


def energy(joules: float) -> str:
    """Energy with the unit that suits its size: "5.3 µJ"."""
    for unit, size in (("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6), ("nJ", 1e-9)):
        if joules >= size or unit == "nJ":
            return f"{joules / size:.3g} {unit}"
    raise ValueError(joules)


def _beside(cost: ImageCost, bare: ImageCost) -> str:
    times = cost.energy_j * cost.latency_s / (bare.energy_j * bare.latency_s)
    return f"{energy(bare.energy_j)}, {duration(bare.latency_s)}: the recipe takes {times:.3g} times its EDP"


def _digits(j: Judgement) -> int:
    """Decimal places of percentage points: one, or two where the tolerance is finer."""
    return 1 if j.tolerance >= FINE_TOLERANCE else 2


def _amount(score: float, m: Metric, digits: int) -> str:
    return f"{number(100 * score, digits)} points" if m.share else m.amount(score)


def _change(score: float, m: Metric, digits: int) -> str:
    if not m.share:
        return m.change(score)
    value = round(100 * score, digits) + 0.0
    return f"{value:+.{digits}f}".replace("-", "−")


# --- sections ---------------------------------------------------------------------------


def _sections(report: AgreementReport, data: RunData | None, files: Collection[str]) -> Iterator[Section]:
    title, split, worst = report.decisive.metric.title, report.causes, tables.worst_layers(report)
    decided, *more = _verdicts(report)
    yield Section(
        f"{title[:1].upper()}{title[1:]}",
        (
            *more,
            Bullets(notes) if (notes := _notes(report)) else None,
            tables.accuracies(report),
            None if report.tune is None else Marked(tables.tuning(report, report.tune), "Tuning"),
        ),
        decided,
    )
    yield Section("The two questions", (tables.questions(report),), "Every number that the verdict rests on.")
    if split is not None:
        whole, layers = causes_table(split), layer_causes_table(split)
        points = ", ".join(" ".join(row[:2]) for row in whole.rows)
        yield Section(whole.title, (whole, Marked(layers, layers.title)), f"Points: {points}.")
    if (cost := report.cost) is not None:
        said = f"Estimated, as by hil estimate program.h5: {energy(cost.energy_j)} and {duration(cost.latency_s)}."
        yield Section("Cost of an image", (tables.cost_by_part(cost), tables.cost_by_layer(cost)), said)
    if report.layers:
        marked = f"|z| of {tables.MARKED_Z:g} or more: {', '.join(worst) or 'no layer'}"
        noise = f"Noise on the chip and in the simulator; {marked}."
        plot = Plot("layers", noise, figures.layer_figure(report))
        yield Section("Layers", (Marked(tables.layers(report), rows=worst), plot), noise)
    if data is not None and data.task is None:
        shown = "Accuracy of each class, confusions and the most telling images."
        yield Section("Answers", tuple(_answers(data)), shown)
    if not report.chip.told_by:
        maps = cell_plots(data) if data is not None and data.macros else ()
        yield Section(
            "Cells", (tables.cells(report), *maps), f"{report.cells.total:,} cells, and how they were written."
        )
    counters = Marked(tables.link(report), "Counters of the link") if report.link else None
    yield Section(
        "Link and time" if report.link else "Time", (tables.timing(report), counters), "What each stage took."
    )
    command = report.environment.get("command")
    beside = tuple((name, words) for name, words in FILES.items() if name in files)
    yield Section(
        "Command and files",
        (
            Table("Files", ("file", "what it holds"), beside) if beside else None,
            Marked(tables.provenance(report), "Provenance: chip, data, digests, seeds, versions"),
        ),
        f"Made by {command}" if command else "Chip, data, digests, seeds and versions.",
    )


def _verdicts(report: AgreementReport) -> Iterator[str]:
    """Meaning of the verdict, and the verdict on the other question, if it was judged."""
    decisive = report.decisive
    words = WORDS if report.this_chip is not None else FAMILY
    yield f"{words[decisive.verdict]} {decisive.text[:1].upper()}{decisive.text[1:]}."
    for name, asked in tables.QUESTIONS.items():
        other: Judgement | None = getattr(report, name)
        if other is not None and other is not decisive:
            yield f"On {asked}: {other.verdict.value}. {other.text[:1].upper()}{other.text[1:]}."


def _notes(report: AgreementReport) -> list[str]:
    drift = [report.readback.text] if report.readback is not None and report.readback.drifted else []
    return [*doubts(report), *report.decisive.flags, *report.notes, *drift]


def _answers(data: RunData) -> Iterator[Plot | Marked | Pictures | None]:
    yield Marked(class_table(data), "Accuracy by class")
    yield Plot("labels", "Answers of the chip against labels; % of a label's answers.", label_figure(data))
    confused = "Answers of the chip against those of the virtual chips; % of a row."
    yield Plot("confusion", confused, confusion_figure(data))
    yield telling_images(data)


def cell_plots(data: RunData) -> Iterator[Plot]:
    far = "How far the cells are from their targets; both ends collect the rest."
    yield Plot("errors", far, figures.error_figure(data.macros))
    occupancy = "Macro occupancy: which layer holds which cells; above each macro its number."
    yield Plot("occupancy", occupancy, figures.occupancy_figure(data))
    yield Plot("conductance", "Conductance, read back before the run.", figures.conductance_figure(data))
    yield Plot("errormap", "Read-back minus target.", figures.error_map_figure(data))


GAINED = "below zero: gained"


def causes_table(split: CauseSplit) -> Table:
    """Loss to every cause with its interval, and the sum."""
    m, unit = split.metric, split.metric.unit
    rows = [(p.name, m.change(p.loss), m.span((p.low, p.high)), _of_gap(p.loss, split)) for p in split.parts]
    rows.append(("sum", m.change(split.gap), m.span((split.low, split.high)), _of_gap(split.gap, split)))
    early = (
        "the chip held the program already, so that nothing separates programming from relaxation"
        if split.early_age_s is None
        else f"programming: cells as read {duration(split.early_age_s)} after they were written, on average"
    )
    shares = f"Shapley shares of {split.coalitions} combinations of simulated parts"
    if split.coalitions == 2:
        shares = "The interval of the sum holds 0, so no cause was switched off and on"
    note = (
        f"{unit[:1].upper()}{unit[1:]} lost from {split.start.replace('ideal', 'quantised')} to chip, {GAINED}; "
        f"on the first {split.images:,} images of the run, {split.repeats} repeats. {shares}; "
        f"intervals 95 %, over images and virtual chips; {early}. "
        "Unexplained is what the chip lost beyond the mean of its virtual chips."
    )
    header = ("cause", f"lost, {unit}", "95 % interval", "of the gap")
    whole = Table("Where the gap comes from", header, tuple(rows), note)
    return without_empty(whole, "the gap may be zero, so that it has no shares")


def layer_causes_table(split: CauseSplit) -> Table:
    """Error energy of each layer, and the share of each cause in it."""
    names = _layer_names(split)
    rows = tuple(
        (layer.layer, f"{np.sqrt(layer.energy):,.1f}", _relative(layer), *(_share(layer, name) for name in names))
        for layer in split.layers
    )
    note = (
        "Level sums for the exact input codes of each layer, so that no error of an earlier layer counts: "
        "rms error in levels, relative to the rms of the exact sums, and shares of its square."
    )
    whole = Table("Causes by layer", ("layer", "rms error", "relative", *names), rows, note)
    return with_reason(whole, "the layer has no error to share out")


def _of_gap(loss: float, split: CauseSplit) -> str:
    """Share of the gap, where the gap is certain enough to share out."""
    return percent(loss / split.gap, 0) if split.low > 0 else "—"


def _relative(layer: LayerCauses) -> str:
    return percent(float(np.sqrt(layer.energy / layer.signal)) if layer.signal else None, 1)


def _share(layer: LayerCauses, name: str) -> str:
    return percent(layer.parts[name] / layer.energy, 1) if layer.energy else "—"


def _layer_names(split: CauseSplit) -> tuple[str, ...]:
    return tuple(split.layers[0].parts) if split.layers else ()
