"""Shipped chip files: comparison with a published measurement (``[evidence]``), and copies under a new name.

    found(load_chip("hermes-2023")).text      # rate_tops 15.8 by this file, 16.1 ± 0.5 published

The number is predicted from the models and times of the file, never taken from ``[evidence]``.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from cim.cells.programming_law import law_at
from cim.chip.evidence import AT_CELLS, MeasuredNumber, Quantity
from cim.chip.file import chip_text, parse_chip
from cim.chip.spec import ChipSpec
from cim.cost.network_cost import estimate
from cim.cost.workload import INPUT, LayerWork, Tiles, WorkKind, Workload
from cim.errors import CimUsageError
from cim.record.published import nominal_record

DRAWS = 100_000  # cells: their spread is then known to 0.3 %
MIDDLE = (15.865, 84.135)  # percentiles one standard deviation of a normal to either side


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A published number, and the prediction of the same quantity from the chip file."""

    evidence: MeasuredNumber
    value: float

    @property
    def holds(self) -> bool:
        """Whether the file's number lies within the stated error of the published one."""
        return abs(self.value - self.evidence.value) <= self.evidence.error

    @property
    def text(self) -> str:
        e = self.evidence
        mark = "" if self.holds else ", NOT within it"
        kind = "; a fit: values of this file come from the same measurement" if e.fitted else ""
        return f"{e.quantity} {self.value:.3g} by this file, {e.value:g} ± {e.error:g} published{mark}{kind}"


def found(spec: ChipSpec) -> Reproduction | None:
    """Published number of a chip file beside the file's own prediction; None without ``[evidence]``."""
    if spec.evidence is None:
        return None
    value = _of_cells if spec.evidence.quantity in AT_CELLS else _of_product
    return Reproduction(spec.evidence, value(spec, spec.evidence))


def of_source(spec: ChipSpec, word: str) -> dict[str, tuple[int, int]]:
    """By section, how many values have a source that begins with ``word``, and how many values there are."""
    every, such = Counter[str](), Counter[str]()
    for field, source in spec.provenance.items():
        section = field.split(".")[0]
        every[section] += 1
        such[section] += source.startswith(word)
    return {section: (such[section], count) for section, count in every.items()}


def check_name(name: str) -> None:
    """Raise ``CimUsageError`` for a name that is not allowed for a chip."""
    if not re.fullmatch(r"[\w.-]{1,64}", name):
        raise CimUsageError(f"{name!r:.80} is not the name of a chip: letters, digits, dots and dashes, at most 64")


def own_copy(chip: str, name: str) -> str:
    """Text of a copy of ``chip``'s file under another ``name``.

    ``[evidence]`` is left out: it was measured on other chips.

    Raises:
        CimUsageError: the name is not allowed for a chip.
    """
    check_name(name)
    text, _ = chip_text(chip)
    text = re.sub(r"(?m)^(#[^\n]*\n)*\[evidence\]\n(?:(?!\[|#)[^\n]*\n?)*", "", text).rstrip() + "\n"
    named = f'name = {{ value = "{name}", source = "assumed: name of this description, begun as {chip}" }}'
    text, count = re.subn(r"(?m)^name = \{.*\}$", lambda _: named, text, count=1)
    assert count == 1, f"{chip} has a name"
    parse_chip(text, name)
    return text


def _of_cells(spec: ChipSpec, e: MeasuredNumber) -> float:
    law = nominal_record(spec, (0,)).programming
    errors = law_at(law, np.array(e.level_us), e.age_s).draw((DRAWS,), np.random.default_rng(0))
    cells = np.maximum(e.level_us + errors, 0.0)
    if e.quantity is Quantity.CELL_MEAN:
        return float(cells.mean() - e.level_us)
    low, high = np.percentile(cells, MIDDLE)
    return float(high - low) / 2.0


def _of_product(spec: ChipSpec, e: MeasuredNumber) -> float:
    macro = spec.macro
    rows, outputs, bits = macro.logical_rows, macro.outputs, e.input_bits or macro.inputs.bits
    whole = Tiles(*np.array([[0, 0, rows, 0, outputs, 0, 0, 0, 1]], np.int64).T)
    layer = LayerWork(
        name="product", kind=WorkKind.LINEAR, inputs=(INPUT,), in_shape=(rows, 1, 1), out_shape=(outputs, 1, 1),
        weight_bits=2, input_bits=bits, input_signed=e.input_signed, output_bits=8, tiles=whole,
    )  # fmt: skip
    ns = estimate(Workload("product", (rows, 1, 1), bits, (layer,)), spec).layers[0].chip_time_ns
    if e.quantity is Quantity.PRODUCT_TIME:
        return ns
    return 2e-3 * rows * outputs / ns * (spec.macros if e.quantity is Quantity.RATE else 1)
