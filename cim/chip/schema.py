"""Schema of a chip file: the check of each field, and the rules that join several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cim.chip.evidence import AT_CELLS, Quantity
from cim.chip.field_checks import Check, ascending, count, flag, list_of, number, one_of, text
from cim.chip.spec import (
    AdcTransfer,
    CellIv,
    CellModel,
    ChipSpec,
    Encoding,
    InputCoding,
    MacroSpec,
    ModelSpec,
    PairSubtraction,
    ReadPath,
    Sensing,
    SignedInput,
    WordLine,
)


def _order(value: Any) -> Any:
    return value if value == "linear" else list_of(count(0, 4095))(value)


VOLT = number(0, 20)
NS = number(0, 1e9)
SHARE = number(0, 1)
PJ = number(0, 1e9)
RATE = number(1e-6, 1e9)
UM2 = number(0, 1e9)
SECTIONS: Mapping[str, Mapping[str, Check]] = {
    "chip": {"name": text, "revision": text, "process": text, "technology": text, "macros": count(1, 65535)},
    "macro": {
        "rows": count(1, 4096),
        "columns": count(1, 4096),
        "encoding": one_of(Encoding),
        "pair_subtraction": one_of(PairSubtraction),
        "rows_per_read": count(1, 4096),
        "column_order": _order,
        "reserved_rows": list_of(count(0, 4095)),
        "dead_rows": list_of(count(0, 4095)),
        "read_path": one_of(ReadPath),
        "v_read_v": number(0.001, 2),
        "word_line": one_of(WordLine),
        "sensing": one_of(Sensing),
    },
    "cell": {
        "levels_us": ascending(0, 10_000, 2),
        "tolerance_us": number(0.001, 1000),
        "iv": one_of(CellIv),
        "iv_k_per_v2": list_of(number(-10, 100)),
    },
    "input": {
        "coding": one_of(InputCoding),
        "bits": count(2, 8),
        "bits_per_cycle": count(1, 8),
        "signed": one_of(SignedInput),
    },
    "adc": {
        "bits": count(2, 24),
        "full_scales_us": ascending(1e-3, 1e12, 1),
        "shared_by": count(1, 4096),
        "transfer": one_of(AdcTransfer),
        "codes": ascending(-(1 << 24), 1 << 24, 2),
    },
    "write": {
        **dict.fromkeys(("set_start_v", "set_step_v", "set_stop_v"), VOLT),
        **dict.fromkeys(("reset_start_v", "reset_step_v", "reset_stop_v"), VOLT),
        "pulse_width_ns": NS,
        "max_pulses": count(1, 65535),
        "verify_reads": count(1, 255),
    },
    "form": {
        "formed": flag,
        **dict.fromkeys(("start_v", "step_v", "stop_v"), VOLT),
        "pulse_width_ns": NS,
        "pulses": count(1, 65535),
        **dict.fromkeys(("target_us", "lost_us", "fresh_us"), number(0, 10_000)),
    },
    "limits": {
        "set_v": VOLT,
        "reset_v": VOLT,
        "read_v": VOLT,
        "pulse_width_ns": NS,
        "pulses_per_cell": count(1, 65535),
    },
    "timing": dict.fromkeys(
        ("pulse_ns", "verify_ns", "cell_read_ns", "row_setup_ns", "input_cycle_ns", "conversion_ns"), NS
    ),
    "sample": {
        **dict.fromkeys(("stuck_low_share", "stuck_high_share", "unreached_share"), SHARE),
        **dict.fromkeys(("column_gain_sigma", "sense_gain_sigma", "supply_droop", "column_crosstalk"), SHARE),
        "adc_offset_codes": number(0, 1000),
        "inl_lsb": number(0, 1000),
        "read_variance_us2": number(0, 1e6),
        "relaxation": number(0, 10),
        "wire_ohm": number(0, 1000),
        "verify_noise_us": number(0, 1e4),
        "pulse_step_us": number(0, 1e4),
        "pulse_sigma": number(0, 5),
        "temperature_c": number(-100, 300),
        "dac_inl": number(0, 100),
    },
    "models": {
        "programming": one_of(CellModel),
        "programming_ages_s": ascending(1e-9, 1e12, 1),
        "programming_sigma_us": list_of(list_of(number(-1e6, 1e6))),
        "programming_mean_us": list_of(list_of(number(-1e6, 1e6))),
        "read_variance_us2": number(0, 1e6),
        "conversion_noise_codes": number(0, 1000),
        "wire_ohm": number(0, 1000),
        **dict.fromkeys(("stuck_low_share", "stuck_high_share", "unreached_share"), SHARE),
        "unreached_us": list_of(number(-10_000, 10_000)),
        "cell_error_factor": number(0, 100),
        "product_error": SHARE,
        "column_gain_sigma": SHARE,
        **dict.fromkeys(("column_offset_codes", "inl_codes"), number(0, 1000)),
    },
    "cost": {
        "input_activity": SHARE,
        "mean_cell_us": number(0, 10_000),
        **dict.fromkeys(
            (
                "row_pj",
                "read_pj",
                "sample_hold_pj",
                "adc_fj_per_step",
                "shift_add_pj",
                "accumulate_pj",
                "activation_pj",
                "pool_pj",
            ),
            PJ,
        ),
        "partial_sum_bits": count(1, 64),
        "buffer_read_pj_per_bit": PJ,
        "buffer_write_pj_per_bit": PJ,
        "buffer_bits_per_ns": RATE,
        "digital_ops_per_ns": RATE,
        "hop_pj_per_bit": PJ,
        "link_bits_per_ns": RATE,
        "hop_ns": NS,
        "host_pj_per_bit": PJ,
        "host_bits_per_ns": RATE,
        "macro_leakage_uw": PJ,
        "buffer_leakage_nw_per_bit": PJ,
        "pulse_pj": PJ,
        "verify_pj": PJ,
        "mean_pulses": number(0, 65535),
        "endurance_cycles": number(1, 1e15),
        **dict.fromkeys(
            ("cell_um2", "row_um2", "column_um2", "adc_um2_per_bit", "macro_digital_um2", "activation_um2"), UM2
        ),
        "router_um2": UM2,
        "buffer_um2_per_bit": UM2,
        "multiply_pj": PJ,
    },
    "groups": {
        "size": count(2, 4096),
        "modes": list_of(list_of(count(1, 4096))),
        "joined": count(1, 4096),
    },
    "evidence": {
        "quantity": one_of(Quantity),
        "value": number(-1e9, 1e9),
        "error": number(1e-9, 1e9),
        "level_us": number(0, 10_000),
        "age_s": number(0, 1e12),
        "input_bits": count(0, 8),
        "input_signed": flag,
        "fitted": flag,
    },
}
OPTIONAL: Mapping[str, Any] = {
    "chip.technology": "",
    "macro.word_line": WordLine.GATE,
    "macro.sensing": Sensing.CURRENT,
    "cell.iv_k_per_v2": (),
    "adc.codes": (),
    "sample.dac_inl": 0.0,
    "models.programming_ages_s": (),
    "models.programming_sigma_us": (),
    "models.programming_mean_us": (),
    "models.unreached_us": (),
    "models.cell_error_factor": 1.0,
    "models.product_error": 0.0,
    "models.column_gain_sigma": 0.0,
    "models.column_offset_codes": 0.0,
    "models.inl_codes": 0.0,
    "cost.multiply_pj": None,
    "groups.joined": 1,
    "evidence.level_us": 0.0,
    "evidence.age_s": 0.0,
    "evidence.input_bits": 0,
    "evidence.input_signed": False,
    "evidence.fitted": False,
}
OPTIONAL_SECTIONS = ("form", "models", "cost", "groups", "evidence")
READINGS_END = 1.6  # times the highest level
RANGED_SECTION = "models"  # whose single numbers may have a range, of what is not known better

Rule = tuple[bool, str, str]  # holds, field and the others of the rule, text of the failure


def broken_rules(spec: ChipSpec) -> Iterator[tuple[str, str]]:
    """Fields, the wrong one first, and reason of every rule that the whole specification breaks."""
    for rules in (_macro_rules, _write_rules, _form_rules, _model_rules, _cost_rules, _group_rules, _evidence_rules):
        yield from ((field, reason) for holds, field, reason in rules(spec) if not holds)


def _macro_rules(spec: ChipSpec) -> tuple[Rule, ...]:
    m = spec.macro
    levels = len(m.levels_us)
    one_bit = m.inputs.coding not in (InputCoding.PULSE_COUNT, InputCoding.AMPLITUDE)
    signs_agree = (m.inputs.signed is SignedInput.TERNARY) == (
        m.inputs.coding in (InputCoding.TERNARY, InputCoding.UNARY)
    )
    rows_exist = all(r < m.rows for r in m.reserved_rows + m.dead_rows)
    span, apart = m.levels_us[-1] - m.levels_us[0], _told_apart(m)
    pairs, halved = m.encoding is Encoding.ROW_PAIRS, m.encoding is Encoding.DIFFERENTIAL_COLUMNS
    rows = m.rows // 2 if pairs else m.rows
    converted = m.columns // 2 if halved and m.pair_subtraction is PairSubtraction.ANALOG else m.columns
    return (
        (1 <= spec.macros <= 65535, "chip.macros", f"{spec.macros} is not from 1 to 65535"),
        (
            sorted(m.column_order) == list(range(m.columns)),
            "macro.column_order macro.columns",
            f"must name each of the {m.columns} bit lines once",
        ),
        (
            rows_exist,
            "macro.dead_rows macro.reserved_rows macro.rows",
            f"a dead or reserved row lies beyond {m.rows - 1}",
        ),
        (
            m.rows_per_read <= rows,
            "macro.rows_per_read macro.rows macro.encoding",
            f"{m.rows_per_read} is above the {rows} {'pairs of rows' if pairs else 'rows'} of the macro",
        ),
        (m.logical_rows >= 1, "macro.dead_rows macro.reserved_rows macro.rows", "no row is left in service"),
        (m.outputs >= 1, "macro.columns macro.encoding", "no output is left"),
        (not pairs or m.rows % 2 == 0, "macro.rows macro.encoding", f"{m.rows} rows do not make whole pairs"),
        (not halved or m.columns % 2 == 0, "macro.columns macro.encoding", f"{m.columns} columns make no whole pairs"),
        (
            m.adc.shared_by <= converted,
            "adc.shared_by macro.columns",
            f"{m.adc.shared_by} is above the {converted} that are converted",
        ),
        (apart, "cell.levels_us", "two levels are closer than 1/127 of their span, and levels are not even"),
        (
            not apart or m.max_level >= 1,
            "cell.levels_us macro.encoding",
            f"{levels} levels hold no signed weight in this encoding",
        ),
        (
            m.cell_iv is CellIv.LINEAR or len(m.cell_iv_k_per_v2) == levels,
            "cell.iv_k_per_v2 cell.iv cell.levels_us",
            f"a cubic cell needs one k for each of {levels} levels",
        ),
        (
            (m.adc.transfer is AdcTransfer.TABLE) == bool(m.adc.codes),
            "adc.codes adc.transfer",
            "a table transfer has codes, a linear one has none",
        ),
        (m.inputs.bits_per_cycle <= m.inputs.bits, "input.bits_per_cycle input.bits", "is more than input.bits"),
        (
            not one_bit or m.inputs.bits_per_cycle == 1,
            "input.bits_per_cycle input.coding",
            f"is 1 for {m.inputs.coding}",
        ),
        (signs_agree, "input.signed input.coding", "ternary signs go with ternary or unary coding"),
        (
            m.inputs.coding is not InputCoding.UNARY or m.inputs.bits <= 4,
            "input.bits input.coding",
            "is at most 4 of unary",
        ),
        (
            m.paired or m.pair_subtraction is PairSubtraction.DIGITAL,
            "macro.pair_subtraction macro.encoding",
            f"{m.encoding} subtracts digitally",
        ),
        (span > 2 * m.tolerance_us, "cell.tolerance_us cell.levels_us", "is wider than the levels are apart"),
    )


def _told_apart(m: MacroSpec) -> bool:
    """Whether the levels can be represented by distinct integers (``cim.chip.spec.level_values``)."""
    try:
        return len(m.values.values) == len(m.levels_us)
    except ValueError:
        return False


def _write_rules(spec: ChipSpec) -> tuple[Rule, ...]:
    w, limits = spec.write, spec.limits
    return (
        (
            w.set_start_v <= w.set_stop_v <= limits.set_v,
            "write.set_stop_v write.set_start_v limits.set_v",
            f"must lie between its start and the limit {limits.set_v} V",
        ),
        (
            w.reset_start_v <= w.reset_stop_v <= limits.reset_v,
            "write.reset_stop_v write.reset_start_v limits.reset_v",
            f"must lie between its start and the limit {limits.reset_v} V",
        ),
        (w.set_step_v > 0, "write.set_step_v", "must be above zero"),
        (w.reset_step_v > 0, "write.reset_step_v", "must be above zero"),
        (
            w.pulse_width_ns <= limits.pulse_width_ns,
            "write.pulse_width_ns limits.pulse_width_ns",
            f"is above {limits.pulse_width_ns} ns",
        ),
        (
            w.max_pulses <= limits.pulses_per_cell,
            "write.max_pulses limits.pulses_per_cell",
            f"is above {limits.pulses_per_cell}",
        ),
        (spec.macro.v_read_v <= limits.read_v, "macro.v_read_v limits.read_v", f"is above the limit {limits.read_v} V"),
    )


def _form_rules(spec: ChipSpec) -> tuple[Rule, ...]:
    f, limits = spec.form, spec.limits
    if f is None:
        return ()
    top_us = READINGS_END * spec.macro.levels_us[-1]
    return (
        (
            f.start_v <= f.stop_v <= limits.set_v,
            "form.stop_v form.start_v limits.set_v",
            f"must lie between its start and the limit {limits.set_v} V",
        ),
        (f.step_v > 0, "form.step_v", "must be above zero"),
        (
            1 <= f.pulse_width_ns <= limits.pulse_width_ns,
            "form.pulse_width_ns limits.pulse_width_ns",
            f"is not from 1 to {limits.pulse_width_ns} ns",
        ),
        (
            f.step_v == 0 or f.most_pulses <= limits.pulses_per_cell,
            "form.pulses limits.pulses_per_cell",
            f"makes more than {limits.pulses_per_cell} pulses of the whole staircase",
        ),
        (
            f.fresh_us < f.target_us < f.lost_us <= top_us,
            "form.target_us form.fresh_us form.lost_us cell.levels_us",
            f"must lie between fresh_us and lost_us, and that at most at {top_us:g} µS, where readings end",
        ),
    )


def _model_rules(spec: ChipSpec) -> tuple[Rule, ...]:
    m = spec.models
    if m is None:
        return ()
    own = m.programming is CellModel.POLYNOMIAL
    ages, rows, means = len(m.programming_ages_s), m.programming_sigma_us, m.programming_mean_us
    return (
        (
            own == bool(ages),
            "models.programming_ages_s models.programming",
            "a polynomial has ages, a published model its own",
        ),
        (
            own == bool(rows),
            "models.programming_sigma_us models.programming",
            "a polynomial has coefficients, a published model its own",
        ),
        (
            len(rows) == ages,
            "models.programming_sigma_us models.programming_ages_s",
            f"has {len(rows)} rows of coefficients for {ages} ages",
        ),
        (
            not means or (own and len(means) == ages and len({len(r) for r in means}) == 1 and len(means[0]) > 0),
            "models.programming_mean_us models.programming_ages_s",
            f"has {len(means)} rows of coefficients, not one of the same length for each of {ages} ages",
        ),
        (len({len(r) for r in rows}) <= 1, "models.programming_sigma_us", "has rows of different lengths"),
        (all(len(r) > 0 for r in rows), "models.programming_sigma_us", "has an empty row"),
        (
            _most(m, "stuck_low_share") + _most(m, "stuck_high_share") < 1,
            "models.stuck_low_share models.stuck_high_share",
            "leaves no cell",
        ),
    )


def _most(models: ModelSpec, name: str) -> float:
    return models.ranges.get(name, (0.0, float(getattr(models, name))))[1]


def _cost_rules(spec: ChipSpec) -> tuple[Rule, ...]:
    c = spec.cost
    if c is None:
        return ()
    most, top = spec.write.max_pulses, spec.macro.levels_us[-1]
    return (
        (c.mean_pulses <= most, "cost.mean_pulses write.max_pulses", f"is above the most pulses of a cell, {most}"),
        (c.mean_cell_us <= top, "cost.mean_cell_us cell.levels_us", f"is above the highest level, {top:g} µS"),
    )


def _group_rules(spec: ChipSpec) -> tuple[Rule, ...]:
    g = spec.groups
    if g is None:
        return ()
    return (
        (bool(g.modes), "groups.modes", "names no mode"),
        (
            all(sum(mode) == g.size for mode in g.modes),
            "groups.modes groups.size",
            f"has a mode that is not {g.size} macros",
        ),
        (g.size % g.joined == 0, "groups.joined groups.size", f"does not divide a group of {g.size}"),
        (
            all(n % g.joined == 0 for mode in g.modes for n in mode),
            "groups.modes groups.joined",
            f"cuts {g.joined} joined macros",
        ),
    )


def _evidence_rules(spec: ChipSpec) -> tuple[Rule, ...]:
    e = spec.evidence
    if e is None:
        return ()
    cells = e.quantity in AT_CELLS
    asked, lacking = ("models", spec.models is None) if cells else ("cost", spec.cost is None)
    return (
        (not lacking, "evidence.quantity", f"is computed from [{asked}], which this file lacks"),
        (
            cells == (e.level_us > 0 and e.age_s > 0),
            "evidence.level_us evidence.age_s evidence.quantity",
            "cells have a level and an age, others none",
        ),
        (
            e.input_bits <= spec.macro.inputs.bits,
            "evidence.input_bits input.bits",
            f"is above {spec.macro.inputs.bits}",
        ),
        (
            e.level_us <= spec.macro.levels_us[-1],
            "evidence.level_us cell.levels_us",
            f"is above the highest level, {spec.macro.levels_us[-1]:g} µS",
        ),
    )
