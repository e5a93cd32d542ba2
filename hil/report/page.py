"""report.html: what one run found, as one self-contained page (``hil/pages/templates/report.html``)."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from hil.pages.shell import Plot, render
from hil.pages.tables import Table
from hil.report import figures, tables
from hil.report.answers import class_figure, class_table, confusion_figure, label_figure, telling_images
from hil.report.causes import GAINED, causes_figure, causes_table, layer_causes_figure, layer_causes_table
from hil.report.image_cost import cost_words, layer_figure, part_figure
from hil.report.network_graph import CAPTION, draw_network
from hil.report.run_data import RunData
from hil.report.summary import summary_of
from hil.report.tables import QUESTIONS
from hil.report.task_answers import class_colours, pictures, task_plots
from hil.verdict.agreement import AgreementReport, Judgement, Verdict
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
EXPLAINED = {
    "float": "float", "ideal": "ideal", "simulated": "simulated", "measured": "measured", "emulated": "emulated",
    "virtual chip": "virtual chip", "virtual chips": "virtual chip", "tolerance": "tolerance",
    "Wilson": "Wilson interval", "prediction band": "prediction band", "prediction test T": "prediction test",
    "interim analysis": "interim analysis", "discordance": "discordance", "explained share": "explained share",
    "η": "explained share", "residual": "residual", "residual σ": "residual", "z": "distance of a layer",
    "R²": "coefficient of determination", "SNR": "signal-to-noise ratio", "saturated": "saturation",
    "programming": "programming error", "relaxation": "relaxation", "read noise": "read noise", "IR drop": "IR drop",
    "unexplained": "unexplained", "cause": "cause", "error energy": "error energy", "Error energy": "error energy",
    "not reached": "unreached", "stuck": "stuck low", "pulses": "pulses", "Pulses": "pulses",
    "read-back": "read-back", "Read-back": "read-back", "Conductance": "conductance", "macros": "macro",
    "Macro": "macro", "age": "age", "layer": "layer",
}  # fmt: skip
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
    j, words = report.decisive, report.backend_words
    drift = report.readback is not None and report.readback.drifted
    return render(
        "report.html",
        title=f"{report.network.name} on {report.chip.name}: {j.verdict.value}" + ", not as calibrated" * report.moved,
        plots=_plots(report, data),
        explained=EXPLAINED,
        report=report,
        decisive=j,
        subtitle=f"{tables.unit_words(report.chip)}, {j.n:,} images × {j.repeats} repeats, "
        f"{tables.age_words(report)} · {report.created}",
        verdict_words=(WORDS if report.this_chip is not None else FAMILY)[j.verdict],
        others=tuple(_others(report, j)),
        notes=(
            *tables.doubts(report),
            *j.flags,
            *report.notes,
            *((report.readback.text,) if report.readback and drift else ()),
        ),
        summary=summary_of(report),
        cost_words="" if report.cost is None else cost_words(report.cost),
        colours=class_colours(data.task) if data and data.task else (),
        tables=_tables(report, data, files),
        network=None if program is None else draw_network(program),
        network_caption=CAPTION,
        worst=tables.worst_layers(report),
        telling=telling_images(data) if data and data.task is None else (),
        task_plots=tuple(plot.name for plot in task_plots(data, data.task, words)) if data and data.task else (),
        pictures=pictures(data, data.task, words) if data and data.task else (),
        command=report.environment.get("command"),
    )


def _plots(report: AgreementReport, data: RunData | None) -> Iterator[Plot]:
    words, split = report.backend_words, report.causes
    worst = tables.worst_layers(report)
    marked = f" Marked, for |z| of {tables.MARKED_Z:g} or more: {', '.join(worst)}." if worst else ""
    yield Plot("accuracy", "Faint: single repeats, single virtual chips.", figures.accuracy_figure(report))
    yield Plot("difference", "Thick 90 %, thin 95 %; shaded: tolerance.", figures.difference_figure(report))
    yield Plot("components", "Where the uncertainty comes from.", figures.components_figure(report))
    if split is not None:
        unit = split.metric.unit
        lost = f"{unit[:1].upper()}{unit[1:]} lost between {split.start} and measured ({GAINED}); bars: 95 %."
        yield Plot("causes", lost, causes_figure(split))
        yield Plot("layercauses", "Error energy of each layer by cause.", layer_causes_figure(split))
    if report.cost is not None:
        yield Plot("costparts", "Energy of one image by part of the chip, estimated.", part_figure(report.cost))
        yield Plot("costlayers", "Energy and latency of one image by layer, estimated.", layer_figure(report.cost))
    if report.layers:
        noise = f"Noise of each layer on the chip and in the simulator.{marked}"
        yield Plot("layers", noise, figures.layer_figure(report))
    if data is not None:
        yield from class_plots(data, words) if data.task is None else task_plots(data, data.task, words)
    if data is not None and data.macros:
        yield from cell_plots(data)
    yield Plot("timing", "Wall time of each part of the run.", figures.timing_figure(report))


def cell_plots(data: RunData) -> Iterator[Plot]:
    far = "How far the cells are from their targets; both ends collect the rest."
    yield Plot("errors", far, figures.error_figure(data.macros))
    if (wear := figures.wear_figure(data.macros)) is not None:
        yield Plot("wear", "Pulses that the cells took in this run.", wear)
    occupancy = "Macro occupancy: which layer holds which cells; above each macro its number."
    yield Plot("occupancy", occupancy, figures.occupancy_figure(data))
    yield Plot("conductance", "Conductance, read back before the run.", figures.conductance_figure(data))
    yield Plot("errormap", "Read-back minus target.", figures.error_map_figure(data))


def class_plots(data: RunData, words: str) -> Iterator[Plot]:
    yield Plot("classes", "Accuracy of each class; bars: Wilson 95 % over its images.", class_figure(data, words))
    yield Plot("labels", "Answers of the chip against labels; % of a label's answers.", label_figure(data, words))
    confused = "Answers of the chip against those of the virtual chips; % of a row."
    yield Plot("confusion", confused, confusion_figure(data, words))


def _tables(report: AgreementReport, data: RunData | None, files: Collection[str]) -> dict[str, Table | None]:
    """Every table of the page; None where the run has nothing for it."""
    split = report.causes
    named = tuple((name, words) for name, words in FILES.items() if name in files)
    return {
        "accuracies": tables.accuracies(report),
        "tuning": None if report.tune is None else tables.tuning(report, report.tune),
        "questions": tables.questions(report),
        "causes": None if split is None else causes_table(split),
        "layer_causes": None if split is None else layer_causes_table(split),
        "layers": tables.layers(report),
        "classes": class_table(data, report.backend_words) if data and data.task is None else None,
        "cells": tables.cells(report),
        "timing": tables.timing(report),
        "link": tables.link(report),
        "files": Table("Files", ("file", "what it holds"), named),
        "provenance": tables.provenance(report),
    }


def _others(report: AgreementReport, decisive: Judgement) -> Iterator[tuple[str, Judgement]]:
    """The question that does not decide, where it was asked."""
    for name, words in QUESTIONS.items():
        judgement: Judgement | None = getattr(report, name)
        if judgement is not None and judgement is not decisive:
            yield words, judgement
