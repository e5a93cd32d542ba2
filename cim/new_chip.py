"""Chip files from answers to ten questions; [models] gets ranges over the values in shipped files of RRAM chips.

text = new_chip("mine", {"rows": "25", "columns": "25", "converter": "6:20"}, told="assumed: our data sheet")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cim.cells.programming_law import law_at
from cim.chip.doubts import OF_SCALE, TRUTHS
from cim.chip.file import ChipFileError, chip_names, load_chip, parse_chip, render_chip
from cim.chip.schema import SECTIONS
from cim.chip.spec import (
    AdcSpec,
    CellModel,
    ChipSpec,
    Encoding,
    InputCoding,
    InputSpec,
    MacroSpec,
    ModelSpec,
    PairSubtraction,
    ReadPath,
    SignedInput,
)
from cim.errors import CimUsageError
from cim.gallery import check_name
from cim.record.calibration import CalibrationRecord


@dataclass(frozen=True, slots=True)
class Question:
    """One fact of an array: its question, its default value, and the fields of a chip file that follow from it."""

    words: str
    usual: str
    read: Callable[[str], Any]  # raises ``ValueError`` for what is no answer
    fields: tuple[str, ...]


def _levels(text: str) -> tuple[float, ...]:
    count, low, high = text.split(":") if ":" in text else ("0", "0", "0")
    even = np.linspace(float(low), float(high), SIZE(int(count))).round(6).tolist() if ":" in text else None
    return tuple(SECTIONS["cell"]["levels_us"](even or [float(level) for level in text.split(",")]))


def _converter(text: str) -> tuple[int, tuple[float, ...]]:
    bits, _, currents = text.partition(":")
    return SECTIONS["adc"]["bits"](int(bits)), tuple(float(current) for current in currents.split(",") if current)


def _inputs(text: str) -> InputSpec:
    width, _, word = text.partition(":")
    bits, coding = SECTIONS["input"]["bits"](int(width)), InputCoding(word or InputCoding.BIT_SERIAL)
    several = coding in (InputCoding.AMPLITUDE, InputCoding.PULSE_COUNT)
    signed = SignedInput.TERNARY if coding in (InputCoding.TERNARY, InputCoding.UNARY) else SignedInput.PLANE
    return InputSpec(coding, bits, bits if several else 1, signed)


SIZE, READ_V = SECTIONS["macro"]["rows"], SECTIONS["macro"]["v_read_v"]  # checks
NEAREST = "small-32"  # gives what no answer and no range says: pulses, prices, times of the logic
NEXT = {  # by interface: the command that comes next, and what reads single cells
    "board": ("hil calibrate --port /dev/ttyUSB0", ReadPath.SENSE),
    "bench": ("hil calibrate --port bench:bench.toml", ReadPath.COLUMN_ADC),
    "sdk": ("hil help examples copy bridge.py, and hil calibrate --port tcp://127.0.0.1:5026", ReadPath.SENSE),
}
QUESTIONS: Mapping[str, Question] = {
    "rows": Question("word lines of an array", "32", lambda text: SIZE(int(text)), ("macro.rows",)),
    "columns": Question("bit lines of an array", "32", lambda text: SIZE(int(text)), ("macro.columns",)),
    "encoding": Question(
        f"cells of a signed weight: {', '.join(Encoding)}", "differential_columns", Encoding, ("macro.encoding",)
    ),
    "levels": Question("levels in µS, 2,15,27,40, or count:Gmin:Gmax, 8:2:40", "8:2:40", _levels, ("cell.levels_us",)),
    "converter": Question(
        "bits of the column converter, and its ranges in µA, 8 or 8:15,30,60", "8", _converter,
        ("adc.bits", "adc.full_scales_us"),
    ),
    "inputs": Question(
        f"bits of an input code and its coding: {', '.join(InputCoding)}", "8:bit_serial", _inputs,
        ("input.coding", "input.bits", "input.bits_per_cycle", "input.signed"),
    ),
    "read_v": Question("read voltage, V", "0.2", lambda text: READ_V(float(text)), ("macro.v_read_v",)),
    "window": Question("write window around a level, ± µS", "1", float, ("cell.tolerance_us",)),
    "reading": Question(
        "one reading of an array, ns", "1000", float,
        ("timing.input_cycle_ns", "timing.cell_read_ns", "timing.verify_ns"),
    ),
    "interface": Question(
        f"what reads the array: {', '.join(NEXT)}", "board", lambda text: NEXT[text][1], ("macro.read_path",)
    ),
}  # fmt: skip
RANGED = (*OF_SCALE, *TRUTHS, "cell_error_factor", "product_error")
STEPS = 16  # from the lowest range of a converter that nobody stated to the highest, as in the nearest file
DEGREE = 3  # of the sigma of measured cells over their conductance


def new_chip(
    name: str,
    answers: Mapping[str, str],
    told: str = "assumed: stated by its lab",
    cells: CalibrationRecord | None = None,
) -> str:
    """Text of a chip file from answers by the keys of ``QUESTIONS``.

    Args:
        told: source of the answers, as chip files state sources ("assumed: …").
        cells: record of measured cells (``hil chip fit``), which gives levels, programming errors and read noise.

    Raises:
        CimUsageError: an unknown key, or answers of which no valid chip file can be made.

    Example:
        >>> parse_chip(new_chip("mine", {"rows": "25", "columns": "24"}), "mine.toml").macro.outputs
        12
    """
    if unknown := [key for key in answers if key not in QUESTIONS]:
        raise CimUsageError(f"{unknown[0]!r:.40} is not a key of a new chip; there are {', '.join(QUESTIONS)}")
    check_name(name)
    given = {key: answers.get(key, one.usual) for key, one in QUESTIONS.items()}
    if cells is not None and "levels" not in answers:
        low, high = cells.programming.levels_us[[0, -1]]
        given["levels"] = f"8:{low:g}:{high:g}"
    facts: dict[str, Any] = {}
    for key, one in QUESTIONS.items():
        try:
            facts[key] = one.read(given[key])
        except (ValueError, KeyError) as error:
            raise CimUsageError(f"{key}={given[key]:.60}: expected {one.words} ({error!s:.80})") from None
    text = render_chip(_chip(name, facts, {key: told for key in answers}, cells))
    try:
        parse_chip(text, name)
    except ChipFileError as error:
        raise CimUsageError(f"the answers make no chip: {error.field}: {error.text}") from error
    return text


def _chip(name: str, facts: Mapping[str, Any], told: Mapping[str, str], cells: CalibrationRecord | None) -> ChipSpec:
    base = load_chip(NEAREST)
    macro = _macro(base.macro, facts)
    models, sources = _beliefs(base, macro)
    if cells is not None:
        models, measured = _measured(models, macro, cells)
        sources, told = {**sources, **measured}, {"levels": measured["programming"], **told}
    reading, (low, *_, top) = facts["reading"], macro.levels_us
    truths = {name: getattr(models, name) for name in TRUTHS} | {
        "adc_offset_codes": models.column_offset_codes, "inl_lsb": 2 * models.inl_codes,  # the largest, of an rms
    }  # fmt: skip
    provenance = dict(base.provenance)
    for key, one in QUESTIONS.items():
        provenance |= dict.fromkeys(one.fields, told.get(key, "assumed: not stated when the file was made"))
    if not facts["converter"][1]:
        provenance["adc.full_scales_us"] = "assumed: up to the largest sum of the rows"
    provenance |= {
        "adc.shared_by": "assumed: one converter for eight outputs or fewer",
        "chip.name": "assumed: name of this description", "chip.process": "assumed: not stated",
        "cost.mean_cell_us": "assumed: a seventh of the levels above the lowest",
        **{f"sample.{truth}": "assumed: as [models]" for truth in truths},
        **{f"models.{value}": source for value, source in sources.items()},
    }  # fmt: skip
    assert base.cost is not None
    return replace(
        base, name=name, process="RRAM", macro=macro, models=models, sample={**base.sample, **truths},
        provenance=provenance, evidence=None,
        timing=replace(base.timing, input_cycle_ns=reading, cell_read_ns=reading, verify_ns=reading),
        limits=replace(base.limits, read_v=max(base.limits.read_v, macro.v_read_v)),
        cost=replace(base.cost, mean_cell_us=round(low + (top - low) / 7, 6)),
    )  # fmt: skip


def _macro(base: MacroSpec, facts: Mapping[str, Any]) -> MacroSpec:
    rows, columns, levels, inputs = facts["rows"], facts["columns"], facts["levels"], facts["inputs"]
    paired = facts["encoding"] in (Encoding.DIFFERENTIAL_COLUMNS, Encoding.ROW_PAIRS)
    used = rows // 2 if facts["encoding"] is Encoding.ROW_PAIRS else rows
    bits, currents = facts["converter"]
    largest = used * ((1 << inputs.bits_per_cycle) - 1) * (levels[-1] - (levels[0] if paired else 0.0))
    scales = [ua / facts["read_v"] for ua in currents] or np.geomspace(largest / STEPS, largest, 8).round(6).tolist()
    return replace(
        base, rows=rows, columns=columns, encoding=facts["encoding"], rows_per_read=used, levels_us=levels,
        pair_subtraction=PairSubtraction.ANALOG if paired else PairSubtraction.DIGITAL,
        column_order=tuple(range(columns)), tolerance_us=facts["window"], v_read_v=facts["read_v"],
        read_path=facts["interface"], inputs=inputs, adc=AdcSpec(bits, tuple(scales), min(8, columns // 2 or 1)),
    )  # fmt: skip


def _unit(name: str, macro: MacroSpec) -> float:
    """Scale by which a value of [models] is normalised: the converter's scale, the squared level span, or 1."""
    span = macro.levels_us[-1] - macro.levels_us[0]
    return float(1 << macro.adc.bits) if name in OF_SCALE else span**2 if name == "read_variance_us2" else 1.0


def _beliefs(base: ChipSpec, macro: MacroSpec) -> tuple[ModelSpec, dict[str, str]]:
    """Values and ranges of [models]: median and extremes over shipped files of RRAM chips, scaled to this macro."""
    files = [spec for spec in map(load_chip, chip_names()) if spec.models and "RRAM" in spec.technology]
    values: dict[str, Any] = {}
    ranges, sources = dict[str, tuple[float, float]](), dict[str, str]()
    for name in RANGED:
        stated = [
            (getattr(m, name), *m.ranges.get(name, (getattr(m, name),) * 2), _unit(name, spec.macro))
            for spec in files if (m := spec.models) and f"models.{name}" in spec.provenance
        ]  # fmt: skip
        middle, low, high = (np.array([row[at] / row[3] for row in stated]) * _unit(name, macro) for at in range(3))
        values[name] = float(f"{np.median(middle):.4g}")
        ranges[name] = float(f"{low.min():.4g}"), float(f"{high.max():.4g}")
        scaled = ", as shares of the range" if name in OF_SCALE else ""
        sources[name] = f"borrowed from: median, least and most of {len(stated)} shipped files of RRAM chips{scaled}"
    assert base.models is not None
    return replace(base.models, **values, ranges=ranges), sources


def _measured(models: ModelSpec, macro: MacroSpec, cells: CalibrationRecord) -> tuple[ModelSpec, dict[str, str]]:
    """The models with programming errors and read noise of measured cells, and the sources of these."""
    law, levels, noise = cells.programming, np.array(macro.levels_us), float(np.mean(cells.read_noise.variance_us2))
    sigmas, means = list[tuple[float, ...]](), list[tuple[float, ...]]()
    for age_s in law.ages_s:
        low, middle, high = (law_at(law, levels, float(age_s)).quantile(np.full(levels.shape, z)) for z in (-1, 0, 1))
        for rows, values in ((sigmas, (high - low) / 2.0), (means, middle)):
            powers = np.polynomial.polynomial.polyfit(levels / levels[-1], values, min(DEGREE, len(levels) - 1))
            rows.append(tuple(powers.round(6).tolist()))
    known: dict[str, Any] = {
        "programming": CellModel.POLYNOMIAL, "programming_ages_s": tuple(map(float, law.ages_s)),
        "programming_sigma_us": tuple(sigmas), "programming_mean_us": tuple(means), "cell_error_factor": 1.0,
    } | ({"read_variance_us2": float(f"{noise:.4g}")} if noise else {})  # fmt: skip
    source = f"measured: {cells.chip_name:.60}, {law.tail.name} tails of hil chip fit as a normal spread"
    ranges = {name: ends for name, ends in models.ranges.items() if name not in known}
    return replace(models, **known, ranges=ranges), dict.fromkeys(known, source)
