"""report.html: what one run found, as one self-contained page."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from hil.pages import shell
from hil.pages.shell import Bullets, Marked, Plot, Section, SideBySide
from hil.pages.tables import Table
from hil.report import figures, tables
from hil.report.answers import class_figure, class_table, confusion_figure, label_figure, telling_images
from hil.report.causes import GAINED, causes_figure, causes_table, layer_causes_figure, layer_causes_table
from hil.report.image_cost import cost_words, layer_figure, part_figure
from hil.report.network_graph import draw_network
from hil.report.run_data import RunData
from hil.report.summary import summary_of
from hil.report.task_answers import pictures, task_plots
from hil.verdict.agreement import AgreementReport, Judgement, Verdict
from hil.verdict.cause_split import CauseSplit
from mapping.program.conductance import ConductanceProgram

WORDS = {
    Verdict.AGREE: "The simulator predicts this chip within the tolerance.",
    Verdict.DISAGREE: "The simulator does not predict this chip.",
    Verdict.INCONCLUSIVE: "Not decided: the images do not suffice for a verdict.",
}
FAMILY = {
    Verdict.AGREE: "The chip is what the simulator predicts of chips of this kind, within the tolerance.",
    Verdict.DISAGREE: "The chip is not what the simulator predicts of chips of this kind.",
    Verdict.INCONCLUSIVE: "Not decided: the images do not suffice for a verdict on chips of this kind.",
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


def page(
    report: AgreementReport,
    data: RunData | None,
    files: Collection[str] = (),
    program: ConductanceProgram | None = None,
) -> str:
    """The whole page as text (nearly all of it Plotly).

    Args:
        files: names of the files that lie beside it, of ``FILES``.
        program: as it stands on the chip, for the graph of the network; None: no graph.
    """
    j, chip = report.decisive, report.chip
    banners = [(chip.mark, chip.reservation)] if chip.mark else []
    if report.survival is not None:
        banners.append(("LOST", f"{report.survival.text}."))
    return shell.page(
        summary_of(report),
        _sections(report, data, files, program),
        title=f"{report.network.name} on {chip.name}: {j.verdict.value}" + ", not as calibrated" * report.moved,
        subtitle=f"{tables.unit_words(chip)}, {j.n:,} images × {j.repeats} repeats, "
        f"{tables.age_words(report)} · {report.created}",
        banners=banners,
    )


def _sections(
    report: AgreementReport, data: RunData | None, files: Collection[str], program: ConductanceProgram | None
) -> Iterator[Section]:
    title, split, worst = report.decisive.metric.title, report.causes, tables.worst_layers(report)
    marked = f" Marked, for |z| of {tables.MARKED_Z:g} or more: {', '.join(worst)}." if worst else ""
    accuracy = Plot("accuracy", "Faint: single repeats, single virtual chips.", figures.accuracy_figure(report))
    difference = Plot("difference", "Thick 90 %, thin 95 %; shaded: tolerance.", figures.difference_figure(report))
    tuned = None if report.tune is None else Marked(tables.tuning(report, report.tune), "Tuning")
    yield Section(
        f"{title[:1].upper()}{title[1:]}",
        (
            *_verdicts(report),
            Bullets(notes) if (notes := _notes(report)) else None,
            SideBySide((accuracy, difference)),
            tables.accuracies(report),
            tuned,
        ),
    )
    spread = Plot("components", "Where the uncertainty comes from.", figures.components_figure(report))
    every = "Every number that the verdict rests on"
    yield Section("The two questions", (spread, Marked(tables.questions(report), every)))
    if split is not None:
        yield _lost(split)
    if (cost := report.cost) is not None:
        parts = Plot("costparts", "Energy of one image by part of the chip, estimated.", part_figure(cost))
        layers = Plot("costlayers", "Energy and latency of one image by layer, estimated.", layer_figure(cost))
        said = f"Estimated, as by hil estimate program.h5: {cost_words(cost)}."
        yield Section("Cost of an image", (said, SideBySide((parts, layers))))
    if program is not None:
        yield Section("Network", (draw_network(program),))
    if report.layers:
        noise = f"Noise of each layer on the chip and in the simulator.{marked}"
        numbers = Marked(tables.layers(report), "Layers as numbers", worst)
        yield Section("Layers", (Plot("layers", noise, figures.layer_figure(report)), numbers))
    if data is not None:
        yield Section("Answers", tuple(_answers(data, report.backend_words)))
        if data.macros:
            yield Section("Cells", (*cell_plots(data), Marked(tables.cells(report), "Cells as numbers")))
    wall = Plot("timing", "Wall time of each part of the run.", figures.timing_figure(report))
    counters = Marked(tables.link(report), "Counters of the link") if report.link else None
    times = Marked(tables.timing(report), "Times as numbers")
    yield Section("Link and time" if report.link else "Time", (wall, times, counters))
    command = report.environment.get("command")
    beside = tuple((name, words) for name, words in FILES.items() if name in files)
    yield Section(
        "Command and files",
        (
            f"Made by {command}" if command else None,
            Table("Files", ("file", "what it holds"), beside) if beside else None,
            Marked(tables.provenance(report), "Provenance: chip, data, digests, seeds, versions"),
        ),
    )


def _verdicts(report: AgreementReport) -> Iterator[str]:
    """What the verdict means, and the question that does not decide, where it was asked."""
    decisive = report.decisive
    words = WORDS if report.this_chip is not None else FAMILY
    yield f"{words[decisive.verdict]} {decisive.text[:1].upper()}{decisive.text[1:]}."
    for name, asked in tables.QUESTIONS.items():
        other: Judgement | None = getattr(report, name)
        if other is not None and other is not decisive:
            yield f"On {asked}: {other.verdict.value}. {other.text[:1].upper()}{other.text[1:]}."


def _notes(report: AgreementReport) -> list[str]:
    drift = report.readback is not None and report.readback.drifted
    more = [report.readback.text] if report.readback and drift else []
    return [*tables.doubts(report), *report.decisive.flags, *report.notes, *more]


def _lost(split: CauseSplit) -> Section:
    """What the accuracy was lost to, whole and by layer."""
    unit, table = split.metric.unit, causes_table(split)
    lost = f"{unit[:1].upper()}{unit[1:]} lost between {split.start} and measured ({GAINED}); bars: 95 %."
    layers = layer_causes_table(split)
    whole = Plot("causes", lost, causes_figure(split))
    each = Plot("layercauses", "Error energy of each layer by cause.", layer_causes_figure(split))
    return Section(table.title, (whole, table, each, Marked(layers, layers.title)))


def _answers(data: RunData, words: str) -> Iterator[Any]:
    if data.task is not None:
        yield from task_plots(data, data.task, words)
        yield pictures(data, data.task, words)
        return
    accuracy = "Accuracy of each class; bars: Wilson 95 % over its images."
    yield Plot("classes", accuracy, class_figure(data, words))
    yield Marked(class_table(data, words), "Accuracy by class as numbers")
    yield Plot("labels", "Answers of the chip against labels; % of a label's answers.", label_figure(data, words))
    confused = "Answers of the chip against those of the virtual chips; % of a row."
    yield Plot("confusion", confused, confusion_figure(data, words))
    yield telling_images(data)


def cell_plots(data: RunData) -> Iterator[Plot | SideBySide]:
    far = "How far the cells are from their targets; both ends collect the rest."
    errors, wear = Plot("errors", far, figures.error_figure(data.macros)), figures.wear_figure(data.macros)
    worn = () if wear is None else (Plot("wear", "Pulses that the cells took in this run.", wear),)
    yield SideBySide((errors, *worn))
    occupancy = "Macro occupancy: which layer holds which cells; above each macro its number."
    yield Plot("occupancy", occupancy, figures.occupancy_figure(data))
    yield Plot("conductance", "Conductance, read back before the run.", figures.conductance_figure(data))
    yield Plot("errormap", "Read-back minus target.", figures.error_map_figure(data))
