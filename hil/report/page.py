"""report.html: one self-contained page. Plotly is inlined once; its policy forbids loading anything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from hil.pages.figures import Figure
from hil.pages.shell import columns, document, section, table
from hil.pages.tables import duration, percent, points
from hil.report import figures
from hil.report.causes import causes_figure, causes_table, layer_causes_figure, layer_causes_table
from hil.report.run_data import RunData
from hil.report.tables import QUESTIONS, tables
from hil.verdict.agreement import AgreementReport, Judgement, Verdict

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


def page(report: AgreementReport, data: RunData) -> str:
    """The whole page as text (about 5 MB, nearly all of it Plotly)."""
    accuracy, *tuned, questions, layers, cells, link, provenance = tables(report)
    drawn: dict[str, Figure] = {}

    def plot(name: str, caption: str, figure: Figure) -> str:
        drawn[name] = figure
        reduced = figure.pop("reduced", 1)
        if reduced > 1:
            caption = f"{caption} One point stands for {reduced} × {reduced} cells."
        return f'<figure><div id="plot-{name}" class="plot"></div><figcaption>{escape(caption)}</figcaption></figure>'

    sections = [
        _header(report),
        section(
            "Accuracy",
            columns(
                plot("accuracy", "Faint: single repeats, single virtual chips.", figures.accuracy_figure(report)),
                plot("difference", "Thick 90 %, thin 95 %; shaded: tolerance.", figures.difference_figure(report)),
            ),
            table(accuracy),
            *map(table, tuned),
        ),
        section(
            questions.title,
            table(questions),
            plot("components", "Where the uncertainty comes from.", figures.components_figure(report)),
        ),
        *_causes(report, plot),
        section(
            layers.title,
            plot("layers", "Noise of each layer on the chip and in the simulator.", figures.layer_figure(report)),
            table(layers),
        ),
        section(
            cells.title,
            columns(
                table(cells),
                plot("errors", "How far the cells are from their targets.", figures.error_figure(data.macros)),
            ),
            plot("occupancy", "Macro occupancy: which layer holds which cells.", figures.occupancy_figure(data)),
            plot("conductance", "Conductance, read back before the run.", figures.conductance_figure(data)),
            plot("errormap", "Read-back minus target.", figures.error_map_figure(data)),
        ),
        section(
            "Answers",
            plot(
                "confusion", "Answers of the chip against those of the virtual chips.", figures.confusion_figure(data)
            ),
        ),
        section(link.title, table(link)),
        section(provenance.title, table(provenance)),
    ]
    title = f"{report.network.name} on {report.chip.name}: {report.verdict.value}"
    return document(title, sections, drawn)


def _causes(report: AgreementReport, plot: Callable[[str, str, Figure], str]) -> list[str]:
    """The split of the gap, when it was made."""
    split = report.causes
    if split is None:
        return []
    whole, by_layer = causes_table(split), layer_causes_table(split)
    return [
        section(
            whole.title,
            plot("causes", f"Points lost between {split.start} and measured; bars: 95 %.", causes_figure(split)),
            table(whole),
            plot("layercauses", "Error energy of each layer by cause.", layer_causes_figure(split)),
            table(by_layer),
        )
    ]


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
        ("float", percent(report.float_accuracy)),
        ("ideal", percent(j.ideal.mean)),
        ("simulated", percent(j.simulated.mean)),
        (report.backend_words, percent(j.measured.mean)),
        ("difference", f"{points(j.difference)} points"),
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


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


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
