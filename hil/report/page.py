"""report.html: one self-contained page. Plotly is inlined once; its policy forbids loading anything else."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from html import escape

from hil.pages import shell
from hil.pages.figures import Figure
from hil.pages.shell import columns, contents, document, folded, section, table
from hil.pages.tables import Table, duration
from hil.report import figures, tables
from hil.report.answers import class_figure, class_table, confusion_figure, label_figure, telling_images
from hil.report.causes import causes_figure, causes_table, layer_causes_figure, layer_causes_table
from hil.report.run_data import RunData
from hil.report.tables import QUESTIONS
from hil.report.task_answers import task_answers
from hil.verdict.agreement import AgreementReport, Judgement, Verdict

Plot = Callable[..., str]

WORDS = {
    Verdict.AGREE: "The simulator predicts this chip within the tolerance.",
    Verdict.DISAGREE: "The simulator does not predict this chip.",
    Verdict.INCONCLUSIVE: "Not decided: the images do not suffice for a verdict.",
}
FAMILY = {
    Verdict.AGREE: "The chip is what the simulator predicts of such chips, within the tolerance.",
    Verdict.DISAGREE: "The chip is not what the simulator predicts of such chips.",
    Verdict.INCONCLUSIVE: "Not decided: the images do not suffice for a verdict on such chips.",
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


def page(report: AgreementReport, data: RunData, files: Collection[str] = ()) -> str:
    """The whole page as text (nearly all of it Plotly).

    Args:
        files: names of the files that lie beside it, of ``FILES``.
    """
    drawn: dict[str, Figure] = {}
    plot = functools.partial(shell.plot, drawn)
    parts: dict[str, tuple[str, ...]] = {
        _sentence_start(report.decisive.metric.title): _accuracy(report, plot),
        "The two questions": (
            plot("components", "Where the uncertainty comes from.", figures.components_figure(report)),
            folded("Every number that the verdict rests on", table(tables.questions(report))),
        ),
        **_causes(report, plot),
        "Layers": _layers(report, plot),
        "Answers": _answers(report, data, plot),
        "Cells": _cells(report, data, plot),
        "Link and time": (
            plot("timing", "Wall time of each part of the run.", figures.timing_figure(report)),
            folded("Times as numbers", table(tables.timing(report))),
            folded("Counters of the link", table(tables.link(report))),
        ),
        "Command and files": _origin(report, files),
    }
    title = f"{report.network.name} on {report.chip.name}: {report.verdict.value}"
    body = (section(title, *content) for title, content in parts.items())
    return document(title, [_header(report), contents(tuple(parts)), *body], drawn)


def _accuracy(report: AgreementReport, plot: Plot) -> tuple[str, ...]:
    tuned = () if report.tune is None else (folded("Tuning", table(tables.tuning(report, report.tune))),)
    return (
        columns(
            plot("accuracy", "Faint: single repeats, single virtual chips.", figures.accuracy_figure(report)),
            plot("difference", "Thick 90 %, thin 95 %; shaded: tolerance.", figures.difference_figure(report)),
        ),
        table(tables.accuracies(report)),
        *tuned,
    )


def _causes(report: AgreementReport, plot: Plot) -> dict[str, tuple[str, ...]]:
    """The split of the gap, when it was made."""
    split = report.causes
    if split is None:
        return {}
    whole, by_layer = causes_table(split), layer_causes_table(split)
    content = (
        plot(
            "causes",
            f"{_sentence_start(split.metric.unit)} lost between {split.start} and measured; bars: 95 %.",
            causes_figure(split),
        ),
        table(whole),
        plot("layercauses", "Error energy of each layer by cause.", layer_causes_figure(split)),
        folded(by_layer.title, table(by_layer)),
    )
    return {whole.title: content}


def _layers(report: AgreementReport, plot: Plot) -> tuple[str, ...]:
    worst = tables.worst_layers(report)
    words = f"Marked, for |z| of {tables.MARKED_Z:g} or more: {', '.join(worst)}." if worst else ""
    return (
        plot("layers", f"Noise of each layer on the chip and in the simulator. {words}", figures.layer_figure(report)),
        folded("Layers as numbers", table(tables.layers(report), worst)),
    )


def _answers(report: AgreementReport, data: RunData, plot: Plot) -> tuple[str, ...]:
    words = report.backend_words
    if data.task is not None:
        return task_answers(data, data.task, words, plot)
    return (
        plot("classes", "Accuracy of each class; bars: Wilson 95 % over its images.", class_figure(data, words)),
        folded("Accuracy by class as numbers", table(class_table(data, words))),
        plot("labels", "Answers of the chip against labels; % of a label's answers.", label_figure(data, words)),
        plot(
            "confusion",
            "Answers of the chip against those of the virtual chips; % of a row.",
            confusion_figure(data, words),
        ),
        telling_images(data),
    )


def _cells(report: AgreementReport, data: RunData, plot: Plot) -> tuple[str, ...]:
    wear = figures.wear_figure(data.macros)
    far = "How far the cells are from their targets; both ends collect the rest."
    return (
        columns(
            plot("errors", far, figures.error_figure(data.macros)),
            plot("wear", "Pulses that the cells took in this run.", wear) if wear else "",
        ),
        plot(
            "occupancy",
            "Macro occupancy: which layer holds which cells; above each macro its number.",
            figures.occupancy_figure(data),
        ),
        plot("conductance", "Conductance, read back before the run.", figures.conductance_figure(data)),
        plot("errormap", "Read-back minus target.", figures.error_map_figure(data)),
        folded("Cells as numbers", table(tables.cells(report))),
    )


def _origin(report: AgreementReport, files: Collection[str]) -> tuple[str, ...]:
    """The command, the files beside the page, and where everything comes from."""
    command = report.environment.get("command")
    named = tuple((name, words) for name, words in FILES.items() if name in files)
    return (
        f"<p>Made by <code>{escape(command)}</code></p>" if command else "",
        table(Table("Files", ("file", "what it holds"), named)) if named else "",
        folded("Provenance: chip, data, digests, seeds, versions", table(tables.provenance(report))),
    )


def _header(report: AgreementReport) -> str:
    """Title, banner, verdict in plain words and the numbers that a reader looks for first."""
    j, chip = report.decisive, report.chip
    banner = ""
    if not chip.silicon:
        text = f"An {escape(chip.kind)} chip answered; nothing here was measured on hardware."
        banner = f'<p class="banner"><strong>NOT SILICON</strong> {text}</p>'
    fate, lost = report.survival, ""
    if fate is not None:
        steps = "".join(f"<li>{escape(step)}</li>" for step in fate.help)
        lost = f'<p class="banner"><strong>LOST</strong> {escape(_sentence(fate.text))}</p><ol>{steps}</ol>'
    words = WORDS if report.this_chip is not None else FAMILY
    figures_ = (
        ("float", j.metric.value(report.float_accuracy)),
        ("ideal", j.metric.value(j.ideal.mean)),
        ("simulated", j.metric.value(j.simulated.mean)),
        (report.backend_words, j.metric.value(j.measured.mean)),
        ("difference", j.metric.difference(j.difference)),
    )
    tiles = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures_)
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*j.flags, *report.notes, *_drift(report)))
    return (
        f"<header><h1>{escape(report.network.name)} <span>on</span> {escape(chip.name)}</h1>"
        f'<p class="sub">serial {escape(chip.serial)}, firmware {escape(chip.firmware)}, {j.n:,} images × '
        f"{j.repeats} repeats, {duration(report.age_s)} after programming · {escape(report.created)}</p></header>"
        f'{banner}{lost}<section class="verdict {j.verdict.value}"><p class="word">{j.verdict.value}</p>'
        f"<div><p><strong>{escape(words[j.verdict])}</strong></p><p>{escape(_sentence(j.text))}</p>{_other(report, j)}"
        f"{f'<ul>{notes}</ul>' if notes else ''}</div></section>"
        f'<dl class="tiles">{tiles}</dl>'
    )


def _sentence_start(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _sentence(text: str) -> str:
    return f"{_sentence_start(text)}."


def _other(report: AgreementReport, decisive: Judgement) -> str:
    """The answer to the question that does not decide."""
    others = ((words, getattr(report, name)) for name, words in QUESTIONS.items())
    return "".join(
        f"<p>Asked of {escape(words)}: <strong>{j.verdict.value}</strong>. {escape(_sentence(j.text))}</p>"
        for words, j in others
        if j is not None and j is not decisive
    )


def _drift(report: AgreementReport) -> Sequence[str]:
    return (report.readback.text,) if report.readback is not None and report.readback.drifted else ()
