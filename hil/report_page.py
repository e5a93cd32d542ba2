"""report.html: one self-contained page. Plotly is inlined once; its policy forbids loading anything else."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from html import escape
from importlib import resources

from hil import report_figures as figures
from hil.agreement import AgreementReport, Judgement, Verdict
from hil.report_figures import Figure
from hil.report_tables import QUESTIONS, Table, duration, percent, points, tables
from hil.runfile import RunData

# 'unsafe-inline' is this file itself; nothing else is allowed, so the page works offline and tells nobody.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
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
    accuracy, questions, layers, cells, link, provenance = tables(report)
    drawn: dict[str, Figure] = {}

    def plot(name: str, caption: str, figure: Figure) -> str:
        drawn[name] = figure
        reduced = figure.pop("reduced", 1)
        if reduced > 1:
            caption = f"{caption} One point stands for {reduced} × {reduced} cells."
        return f'<figure><div id="plot-{name}" class="plot"></div><figcaption>{escape(caption)}</figcaption></figure>'

    sections = [
        _header(report),
        _section(
            "Accuracy",
            _columns(
                plot("accuracy", "Faint: single repeats, single virtual chips.", figures.accuracy_figure(report)),
                plot("difference", "Thick 90 %, thin 95 %; shaded: tolerance.", figures.difference_figure(report)),
            ),
            _table(accuracy),
        ),
        _section(
            questions.title,
            _table(questions),
            plot("components", "Where the uncertainty comes from.", figures.components_figure(report)),
        ),
        _section(
            layers.title,
            plot("layers", "Noise of each layer on the chip and in the simulator.", figures.layer_figure(report)),
            _table(layers),
        ),
        _section(
            cells.title,
            _columns(
                _table(cells),
                plot("errors", "How far the cells are from their targets.", figures.error_figure(data.macros)),
            ),
            plot("occupancy", "Macro occupancy: which layer holds which cells.", figures.occupancy_figure(data)),
            plot("conductance", "Conductance, read back before the run.", figures.conductance_figure(data)),
            plot("errormap", "Read-back minus target.", figures.error_map_figure(data)),
        ),
        _section(
            "Answers",
            plot(
                "confusion", "Answers of the chip against those of the virtual chips.", figures.confusion_figure(data)
            ),
        ),
        _section(link.title, _table(link)),
        _section(provenance.title, _table(provenance)),
    ]
    content = json.dumps(drawn, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")  # no markup in a script
    title = escape(f"{report.network.name} on {report.chip.name}: {report.verdict.value}")
    return "\n".join(
        (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<style>{_asset('page.css')}</style></head><body><main>",
            *sections,
            f'</main><script type="application/json" id="figures">{content}</script>',
            f"<script>{_plotly()}</script>",
            f"<script>{_asset('page.js')}</script></body></html>\n",
        )
    )


def _header(report: AgreementReport) -> str:
    """Title, banner, verdict in plain words and the numbers that a reader looks for first."""
    j, chip = report.decisive, report.chip
    banner = ""
    if not chip.silicon:
        text = f"An {escape(chip.kind)} chip answered; nothing here was measured on hardware."
        banner = f'<p class="banner"><strong>NOT SILICON</strong> {text}</p>'
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
        f'{banner}<section class="verdict {j.verdict.value}"><p class="word">{j.verdict.value}</p>'
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


def _columns(*content: str) -> str:
    return f'<div class="columns">{"".join(content)}</div>'


def _section(title: str, *content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(content)}</section>"


def _table(table: Table) -> str:
    named = any(table.header)
    head = f"<thead><tr>{''.join(f'<th>{escape(h)}</th>' for h in table.header)}</tr></thead>" if named else ""
    body = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>{note}'


@functools.cache
def _plotly() -> str:
    """plotly.js of the installed package, safe inside a script element."""
    script = resources.files("plotly").joinpath("package_data/plotly.min.js").read_text("utf-8")
    return script.replace("</script", "<\\/script")


def _asset(name: str) -> str:
    return resources.files("hil").joinpath(f"page/{name}").read_text("utf-8")
