"""Causes of the gap, as tables.

All of them show what ``CauseSplit`` and report.json hold, with its sign: what was lost, below zero what was gained.
"""

from __future__ import annotations

import numpy as np

from hil.pages.tables import Table, duration, percent, with_reason, without_empty
from hil.verdict.cause_split import CauseSplit, LayerCauses

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
