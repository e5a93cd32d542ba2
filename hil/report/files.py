"""A run written down: report.json, report.md, report.html and data.h5, and its short form for the screen."""

from __future__ import annotations

import json
from pathlib import Path

from hil.atomic import write_text
from hil.pages.tables import Table, as_lines, as_markdown, labelled, markdown, percent
from hil.report.causes import causes_line, causes_table, layer_causes_table
from hil.report.page import FILES, page
from hil.report.run_data import RunData, write_run
from hil.report.tables import age_words, doubts, every_table, unit_words, writing_words
from hil.verdict.agreement import AgreementReport, interval_words
from hil.verdict.metric import ACCURACY
from mapping.program.file import load_program


def write_report(folder: str | Path, report: AgreementReport, data: RunData | None) -> None:
    """Write the four files of a run into ``folder``; each appears whole or not at all. Without data there are three.

    A program.h5 that lies there already gives the page its graph of the network.

    Raises:
        FileError: program.h5 is damaged.
        OutputError: disk full, no permission.
    """
    folder = Path(folder)
    files = [
        name
        for name in FILES
        if name.startswith("report.") or (name == "data.h5" and data is not None) or (folder / name).exists()
    ]
    held = folder / "program.h5"
    program = load_program(held) if held.exists() else None
    if data is not None:
        write_run(folder / "data.h5", data)
    write_text(folder / "report.md", report_markdown(report))
    write_text(folder / "report.html", page(report, data, files, program))
    write_text(folder / "report.json", report_text(report))


def report_text(report: AgreementReport) -> str:
    return json.dumps(report.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def report_markdown(report: AgreementReport) -> str:
    j, chip, survival = report.decisive, report.chip, report.survival
    lines = [f"# {as_markdown(f'{report.network.name} on {chip.name} {chip.serial}')}", ""]
    if chip.mark:
        lines += [f"> **{chip.mark}**: {as_markdown(chip.reservation)}", ""]
    if survival is not None:
        steps = (f"* try {as_markdown(step)}" for step in survival.help)
        lines += [f"**{as_markdown(survival.text)}**", "", *steps, ""]
    lines += [line for text in doubts(report) for line in (f"**WARNING**: {as_markdown(text)}", "")]
    lines += [f"**{j.verdict.value}**: {as_markdown(j.text)}.", ""]
    lines += [line for name, text in calibration_lines(report) for line in (f"**{name}**: {as_markdown(text)}.", "")]
    lines += [f"* {as_markdown(note)}" for note in (*j.flags, *report.notes)]
    every = list(every_table(report))
    if report.causes is not None:
        every[2:2] = [causes_table(report.causes), layer_causes_table(report.causes)]
    return "\n".join([*lines, "", *(markdown(table) for table in every)])


def tuning_lines(report: AgreementReport) -> list[tuple[str, str]]:
    """The tune, and the accuracies without and with it, of the same images."""
    before, after, tune = report.untuned, report.tuned_alike, report.tune
    if before is None or tune is None:
        return []
    m, words = before.metric, report.backend_words
    without = f"simulated {m.value(before.simulated.mean)} and {words} {m.value(before.measured.mean)}"
    if after is None:  # reports of before
        return [("tuning", f"{tune.images} training images; without it {without} on {before.n:,} images")]
    tuned = f"{m.value(after.simulated.mean)} and {m.value(after.measured.mean)}"
    same = f"on the same {before.n:,} images without it {without}, with it {tuned}"
    return [("tuning", f"{tune.images} training images; {same}")]


def calibration_lines(report: AgreementReport) -> list[tuple[str, str]]:
    """What a tune took away of a chip that is not as it was calibrated, what tells of it, and what to do; none of one
    that is."""
    found = report.as_calibrated
    if found is None or found.holds:
        return []
    told = [("because", text) for text in found.evidence]
    return [
        ("calibration", report.headline),
        *told,
        ("try", "hil deploy --recalibrate: a record of the chip as it is now"),
    ]


def summary_lines(report: AgreementReport) -> list[str]:
    """The summary table as plain lines of text."""
    return as_lines([summary_table(report)])


def summary_table(report: AgreementReport) -> Table:
    """What ``hil show --all`` begins with: a line for the chip, the network, each accuracy, the verdict."""
    chip, net, c, j = report.chip, report.network, report.cells, report.decisive
    words, m = report.backend_words, report.decisive.metric
    place = f"{chip.kind} {unit_words(chip)}"
    temperature = "" if chip.temperature_c is None else f", {chip.temperature_c:.1f} °C"
    size = f"{net.layers} layers, {net.weights:,} weights, W{net.weight_bits}A{net.activation_bits}"
    macros = f"{chip.macros_used} of {chip.macros} macros of {chip.rows} × {chip.columns}"
    answers = (
        ("float", m.value(report.float_accuracy), ""),
        ("ideal", m.value(j.ideal.mean), ""),
        ("simulated", m.value(j.simulated.mean), f"one chip is expected in {interval_words(j.simulated, m)}"),
        (words, m.value(j.measured.mean), f"95 % interval over images {interval_words(j.measured, m)}"),
        ("difference", m.difference(j.difference), f"90 % interval {m.span(j.interval90)}"),
    )
    fate = report.survival
    lines = [
        *(("WARNING", text) for text in doubts(report)),
        *(() if fate is None else (("LOST", fate.text), *(("try", step) for step in fate.help))),
        ("chip", f"{place}{temperature}{f'      {chip.mark}' if chip.mark else ''}"),
        ("network", f"{net.name}   {size}"),
        ("mapping", f"{macros}, {percent(c.used_share, 0)} of their cells used"),
        *(() if chip.told_by else (("programming", writing_words(c)),)),
        ("inference", f"{j.n:,} images × {j.repeats} repeats, {age_words(report)}"),
        *(() if m == ACCURACY else (("task", f"{report.task}, scored by {m.title}, unit {m.unit}"),)),
        *((name, f"{value}   {more}".rstrip()) for name, value, more in answers),
    ]
    if j.fidelity is not None and j.fidelity.same_answers is not None:
        lines.append(("", f"same answer on {percent(j.fidelity.same_answers, 1)} of images"))
    lines += tuning_lines(report)
    if report.causes is not None:
        lines.append(("causes", causes_line(report)))
    if report.readback is not None and report.readback.drifted:
        lines.append(("drift", report.readback.text))
    if report.this_chip is not None and report.other_chips is not None:
        lines.append(("other chips", f"{report.other_chips.verdict.value}: {report.other_chips.text}"))
    question = "this chip" if report.this_chip is not None else "other chips"
    lines.append(("verdict", f"{j.verdict.value.upper()} ({question}): {j.text}"))
    lines += calibration_lines(report)
    lines += [("note", note) for note in (*j.flags, *report.notes)]
    return labelled("Run", *lines)
