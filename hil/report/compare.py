"""Two runs side by side: what ran, accuracies, causes, layers and costs, with the difference of each number."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hil.pages.beside import Compared, side_by_side, warnings
from hil.pages.tables import Table, number
from hil.report.tables import age_words
from hil.verdict.agreement import AgreementReport

APART = {
    "data": "accuracies are of other images",
    "images × repeats": "accuracies are of other images or passes",
    "age": "the chips were read at other ages",
}  # what a difference there means for the numbers
COLUMNS = ("float", "ideal", "simulated", "measured")


def run_facts(report: AgreementReport) -> tuple[Compared, ...]:
    """Everything that two runs are compared by, in reading order; numbers that are not finite are left out."""
    every = (*_identity(report), *_accuracies(report), *_lost_to_causes(report), *_layers(report), *_costs(report))
    return tuple(fact for fact in every if fact.value is None or math.isfinite(fact.value))


def comparison_tables(names: tuple[str, str], one: AgreementReport, other: AgreementReport) -> tuple[Table, ...]:
    """A table for each group of facts, what differs first."""
    return side_by_side(names, run_facts(one), run_facts(other))


def comparison_warnings(one: AgreementReport, other: AgreementReport) -> tuple[str, ...]:
    """Why accuracies of the two runs must not be compared as they stand."""
    return warnings(run_facts(one), run_facts(other))


def _identity(report: AgreementReport) -> Iterator[Compared]:
    chip, net, j = report.chip, report.network, report.decisive
    rows = (
        ("made", report.created[:16].replace("T", " ")),
        ("chip", f"{chip.name} {chip.serial}{f' ({chip.mark})' if chip.mark else ''}"),
        ("firmware", chip.firmware),
        ("network", net.name),
        ("bits", f"W{net.weight_bits}A{net.activation_bits}"),
        ("data", f"{report.data.name}, {report.data.split}"),
        ("images × repeats", f"{j.n:,} × {j.repeats}"),
        ("age", age_words(report)),
        ("temperature", "not measured" if chip.temperature_c is None else f"{chip.temperature_c:.1f} °C"),
        ("network digest", report.digests.get("network", "none")[:16]),
        ("verdict", j.verdict.value),
        ("command", report.environment.get("command", "not recorded")),
    )
    for label, words in rows:
        yield Compared("Runs", label, words, apart=APART.get(label, ""))


def _accuracies(report: AgreementReport) -> Iterator[Compared]:
    j = report.decisive
    m, digits = j.metric, 2 if j.metric.share else 4
    group = f"{m.title[:1].upper()}{m.title[1:]}"
    means = (report.float_accuracy, j.ideal.mean, j.simulated.mean, j.measured.mean)
    for name, mean in zip(COLUMNS, means, strict=True):
        if mean is not None:
            yield Compared(group, name, m.value(mean), m.factor * mean, digits, m.unit)
    gap = m.factor * j.difference
    yield Compared(group, "measured − simulated", m.difference(j.difference), gap, digits, m.unit)
    from_ideal = j.measured.mean - j.ideal.mean
    yield Compared(group, "measured − ideal", m.difference(from_ideal), m.factor * from_ideal, digits, m.unit)


def _lost_to_causes(report: AgreementReport) -> Iterator[Compared]:
    if report.causes is not None:
        m = report.causes.metric
        for part in report.causes.parts:
            lost, digits = m.factor * part.loss, 2 if m.share else 4
            yield Compared("Lost to causes", part.name, m.difference(part.loss), lost, digits, m.unit)


def _layers(report: AgreementReport) -> Iterator[Compared]:
    for s in report.layers:
        if s.residual_sigma is not None:
            words = f"{number(s.residual_sigma)} levels"
            yield Compared("Residual σ of layers", s.layer, words, s.residual_sigma, 2, "levels")


def _costs(report: AgreementReport) -> Iterator[Compared]:
    c, group = report.cells, "Cells and time"
    yield Compared(group, "macros in use", f"{report.chip.macros_used}", report.chip.macros_used, 0)
    yield Compared(group, "cells in use", f"{c.total:,}", c.total, 0)
    if c.unreached is not None:
        missed = 100 * c.unreached / max(c.total, 1)
        yield Compared(group, "cells not reached", f"{missed:.2f} %", missed, 2, "points")
    yield Compared(group, "pulses", f"{c.pulses:,}", c.pulses, 0)
    if c.error_sigma_us is not None:
        yield Compared(group, "read-back − target, σ", f"{c.error_sigma_us:.2f} µS", c.error_sigma_us, 2, "µS")
    if report.saturated_share is not None:
        saturated = 100 * report.saturated_share
        yield Compared(group, "saturated conversions", f"{saturated:.3f} %", saturated, 3, "points")
    for name, seconds in report.timing_s.items():
        yield Compared(group, f"wall time: {name}", f"{seconds:,.1f} s", seconds, 1, "s")
