"""Chip files: each value has a source, and a wrong one is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cim.chip.file import (
    ChipFileError,
    NewerChipFile,
    chip_names,
    description_words,
    idealised,
    load_chip,
    parse_chip,
    render_chip,
)
from cim.chip.schema import OPTIONAL, OPTIONAL_SECTIONS, SECTIONS
from cim.chip.spec import Encoding, PairSubtraction
from cim.mnsim import load_mnsim

LAB = load_chip("lab-128").text


def wrong(text: str) -> ChipFileError:
    with pytest.raises(ChipFileError) as caught:
        parse_chip(text, "my.toml")
    return caught.value


def test_the_shipped_chips_load() -> None:
    shapes = {n: (load_chip(n).macro.rows, load_chip(n).macro.columns) for n in chip_names()}
    assert shapes == {
        "a111": (640, 128),
        "agrawal-2022": (1024, 256),
        "esserc-2024": (1024, 512),
        "falcone-2025": (64, 64),
        "hermes-2023": (256, 512),
        "joshi-2020": (512, 2048),
        "lab-128": (128, 128),
        "lemon-8": (1152, 128),
        "levy-c": (128, 256),
        "mnsim-256": (256, 512),
        "mnsim-256-levy": (256, 512),
        "neurram-256": (256, 256),
        "small-32": (32, 32),
        "tong-2025": (256, 256),
        "yao-2020": (128, 16),
    }


@pytest.mark.parametrize("name", ["mnsim-256", "mnsim-256-levy"])
def test_the_array_that_mnsim_prices_can_be_simulated(name: str) -> None:
    """Accuracy under errors and price are of one array."""
    spec, priced = load_chip(name), load_mnsim()
    macro, models = spec.macro, spec.models
    assert (len(macro.word_lines), macro.outputs) == (priced.array.rows, priced.array.columns)
    assert macro.adc.bits == priced.adc.chosen.bits == 6
    assert macro.adc.shared_by * priced.pe.adcs == priced.array.columns
    assert macro.rows_per_read == priced.pe.dacs
    assert macro.inputs.bits_per_cycle == priced.dac.chosen.bits == 1
    assert macro.paired
    assert priced.pe.polarity == 2
    assert macro.levels_us == tuple(1e6 / ohm for ohm in priced.device.resistance_ohm)
    assert models is not None
    assert (models.stuck_low_share, models.stuck_high_share) == (0.001, 0.001)


def test_lab_128_is_what_its_description_promises() -> None:
    spec = load_chip("lab-128")
    assert spec.macros == 64
    assert spec.macro.encoding is Encoding.DIFFERENTIAL_COLUMNS
    assert spec.macro.pair_subtraction is PairSubtraction.ANALOG
    assert (spec.macro.logical_rows, spec.macro.outputs, spec.macro.max_level) == (128, 64, 7)
    assert (spec.macro.adc.bits, spec.macro.adc.shared_by, spec.macro.inputs.bits) == (8, 8, 8)


def test_a111_keeps_its_bias_rows_and_interleaves_its_columns() -> None:
    macro = load_chip("a111").macro
    assert macro.word_lines[0] == (16, 17)
    assert macro.column_order[:3] == (0, 4, 8)
    assert sorted(macro.column_order) == list(range(128))


@pytest.mark.parametrize("name", chip_names())
def test_every_value_of_every_chip_has_a_source(name: str) -> None:
    spec = load_chip(name)
    held = [s for s in SECTIONS if s not in OPTIONAL_SECTIONS or getattr(spec, s) is not None]
    fields = {f"{s}.{k}" for s in held for k in SECTIONS[s]} - set(OPTIONAL)
    assert fields <= set(spec.provenance)


@pytest.mark.parametrize("name", chip_names())
def test_a_rendered_chip_reads_back_the_same(name: str) -> None:
    spec = load_chip(name)
    again = parse_chip(render_chip(spec), "again")
    assert again.digest == spec.digest
    assert dict(again.sample) == dict(spec.sample)
    assert again.models == spec.models, "with its ranges"


@pytest.mark.parametrize("name", chip_names())
def test_an_idealised_chip_reads_back_and_counts_in_level_steps(name: str) -> None:
    ideal = idealised(load_chip(name))
    assert parse_chip(ideal.text, "ideal").digest == ideal.digest
    assert ideal.macro.lsb_us(0) == ideal.macro.level_step_us
    assert not any(ideal.sample.values())


def test_the_macro_count_can_be_changed_and_changes_the_digest() -> None:
    assert load_chip("lab-128", macros=8).macros == 8
    assert load_chip("lab-128", macros=8).digest != load_chip("lab-128").digest


def test_the_digest_ignores_the_sample_and_comments() -> None:
    changed = LAB.replace("column_gain_sigma = { value = 0.05", "column_gain_sigma = { value = 0.1") + "# a remark\n"
    assert "column_gain_sigma = { value = 0.1" in changed
    assert parse_chip(changed, "x").digest == load_chip("lab-128").digest


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ("rows = { value = 128", "rows = { value = 0", "macro.rows", "whole number"),
        ('coding = { value = "bit_serial"', 'coding = { value = "morse"', "input.coding", "none of"),
        ("macros = { value = 64", "macros = { worth = 64", "chip.macros", "must be"),
        ('source = "assumed: first revision"', 'source = "I think"', "chip.revision", "must begin with"),
        ("set_stop_v = { value = 3.3", "set_stop_v = { value = 5.0", "write.set_stop_v", "limit 4.0 V"),
        ("bits_per_cycle = { value = 1", "bits_per_cycle = { value = 2", "input.bits_per_cycle", "bit_serial"),
        ("value = [2.0, 7.428571", "value = [2.0, 1.0", "cell.levels_us", "rise"),
        ("dead_rows = { value = []", "dead_rows = { value = [128]", "macro.dead_rows", "beyond 127"),
        ("max_pulses = { value = 200", "max_pulses = { value = 2000", "write.max_pulses", "1000"),
        ('transfer = { value = "linear"', 'transfer = { value = "table"', "adc.codes", "codes"),
        ('programming = { value = "wan-2022"', 'programming = { value = "wan"', "models.programming", "none of"),
        ("noise_codes = { value = 0.5", "noise_codes = { value = -1", "models.conversion_noise_codes", "number"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(old: str, new: str, field: str, words: str) -> None:
    assert old in LAB
    error = wrong(LAB.replace(old, new, 1))
    key = field.split(".")[1] + " ="
    line = next(n for n, text in enumerate(LAB.splitlines(), 1) if text.startswith(key) or old in text)
    assert (error.path, error.field) == ("my.toml", field)
    assert words in error.text
    assert error.line == line or field == "adc.codes"  # a missing field has no line of its own


@pytest.mark.parametrize(
    ("old", "new", "field", "other"),
    [
        ("\nrows = { value = 128", "\nrows = { value = 32", "macro.rows_per_read", "macro.rows"),
        ("columns = { value = 128", "columns = { value = 127", "macro.columns", "macro.encoding"),
        ("shared_by = { value = 8", "shared_by = { value = 65", "adc.shared_by", "macro.columns"),
        ("v_read_v = { value = 0.2", "v_read_v = { value = 0.5", "macro.v_read_v", "limits.read_v"),
        ("max_pulses = { value = 200", "max_pulses = { value = 2000", "write.max_pulses", "limits.pulses_per_cell"),
        ("set_stop_v = { value = 3.3", "set_stop_v = { value = 5.0", "write.set_stop_v", "limits.set_v"),
        ("mean_pulses = { value = 10.0", "mean_pulses = { value = 201.0", "cost.mean_pulses", "write.max_pulses"),
        ("mean_cell_us = { value = ", "mean_cell_us = { value = 9", "cost.mean_cell_us", "cell.levels_us"),
        ("bits_per_cycle = { value = 1", "bits_per_cycle = { value = 2", "input.bits_per_cycle", "input.coding"),
    ],
)
def test_values_that_contradict_each_other_are_both_named_with_their_lines(
    old: str, new: str, field: str, other: str
) -> None:
    assert LAB.count(old) >= 1
    text = LAB.replace(old, new, 1)
    error = wrong(text)
    assert error.field == field
    section, key = other.split(".")
    lines, here = text.splitlines(), ""
    for number, line in enumerate(lines, 1):
        here = line.strip("[]") if line.startswith("[") else here
        if here == section and line.startswith(f"{key} ="):
            assert f"{other} on line {number}" in error.text
            return
    raise AssertionError(other)


def test_a_missing_field_and_an_unknown_one_are_refused() -> None:
    without = "\n".join(x for x in LAB.splitlines() if not x.startswith("v_read_v"))
    assert wrong(without).field == "macro.v_read_v"
    assert wrong(LAB.replace("[cell]", '[cell]\ncolour = { value = 1, source = "assumed" }')).field == "cell.colour"


def test_broken_toml_names_the_line() -> None:
    assert wrong('format = "hil.chip"\nversion = \n').line == 2


def test_a_newer_major_version_is_told_apart() -> None:
    with pytest.raises(NewerChipFile):
        parse_chip(LAB.replace('version = "1.4"', 'version = "2.0"'), "x")
    parse_chip(LAB.replace('version = "1.4"', 'version = "1.7"'), "x")


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ChipFileError, match="lab-128"):
        load_chip("lab-129")
    with pytest.raises(ChipFileError, match="cannot be read"):
        load_chip(tmp_path / "none.toml")


def without_models(text: str) -> str:
    """The text as files of version 1.0 are: no [models], no [cost]."""
    start, end = text.index("[models]"), text.index("[sample]")
    return (text[:start] + text[end:]).replace('version = "1.4"', 'version = "1.0"')


def test_a_file_of_version_1_0_loads_and_keeps_its_digest() -> None:
    old = parse_chip(without_models(LAB), "old.toml")
    assert old.models is None
    assert old.digest == "c43c96b87d7f23a6c32489538e04033109355910ee788df1c95d3134a5dae7d3"
    assert parse_chip(render_chip(old), "again").digest == old.digest


def test_a_file_of_version_1_1_loads_without_prices_and_keeps_its_digest() -> None:
    start, end = LAB.index("[cost]"), LAB.index("[sample]")
    old = parse_chip((LAB[:start] + LAB[end:]).replace('version = "1.4"', 'version = "1.1"'), "old.toml")
    assert old.cost is None
    assert old.models is not None
    assert old.digest == load_chip("lab-128").digest


def test_the_digest_ignores_the_models_that_are_believed() -> None:
    changed = LAB.replace('programming = { value = "wan-2022"', 'programming = { value = "cmo-hfox"')
    assert parse_chip(changed, "x").digest == load_chip("lab-128").digest
    assert parse_chip(without_models(LAB), "x").digest == load_chip("lab-128").digest


def test_a_polynomial_needs_one_row_of_coefficients_an_age() -> None:
    own = LAB.replace('programming = { value = "wan-2022"', 'programming = { value = "polynomial"')
    assert wrong(own).field == "models.programming_ages_s"
    ages = own.replace("[models]", '[models]\nprogramming_ages_s = { value = [1.0, 10.0], source = "assumed" }')
    assert wrong(ages).field == "models.programming_sigma_us"
    rows = ages.replace("[models]", '[models]\nprogramming_sigma_us = { value = [[1.0]], source = "assumed" }')
    assert "1 rows of coefficients for 2 ages" in wrong(rows).text
    whole = rows.replace("[[1.0]]", "[[1.0], [2.0]]")
    models = parse_chip(whole, "x").models
    assert models is not None
    assert models.programming_sigma_us == ((1.0,), (2.0,))
    assert parse_chip(render_chip(parse_chip(whole, "x")), "y").models == models


def test_a_published_model_takes_no_coefficients_from_the_file() -> None:
    more = LAB.replace("[models]", '[models]\nprogramming_ages_s = { value = [1.0], source = "assumed" }')
    assert wrong(more).field == "models.programming_ages_s"


def ranged(text: str, ends: str, key: str = "wire_ohm = { value = 1.0") -> str:
    """The text with a range beside the first value of [models] of this name."""
    at = text.index(key, text.index("[models]")) + len(key)
    return text[:at] + f", range = {ends}" + text[at:]


def test_a_value_of_the_models_may_have_a_range_and_keeps_it() -> None:
    spec = parse_chip(ranged(LAB, "[0.5, 2.0]"), "x")
    assert spec.models is not None
    assert spec.models.ranges == {"wire_ohm": (0.5, 2.0)}
    assert spec.models.wire_ohm == 1.0
    assert parse_chip(render_chip(spec), "again").models == spec.models
    assert spec.digest == load_chip("lab-128").digest


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        ("[2.0, 3.0]", "does not hold the value 1"),
        ("[1.0, 1.0]", "or is empty"),
        ("[0.5]", "not a lowest and a highest number"),
        ("[-1.0, 2.0]", "is not a number from 0 to 1000"),
        ('["a", 2.0]', "is not a number"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_with_its_line(ends: str, reason: str) -> None:
    found = wrong(ranged(LAB, ends))
    assert found.field == "models.wire_ohm"
    assert reason in found.text


def test_only_values_of_the_models_have_ranges() -> None:
    text = LAB.replace("rows_per_read = { value = 128", "rows_per_read = { value = 128, range = [64, 128]")
    assert text != LAB
    assert wrong(text).field == "macro.rows_per_read"
    key = 'programming = { value = "wan-2022"'
    assert wrong(ranged(LAB, "[0, 1]", key)).field == "models.programming"


def test_the_same_file_with_other_macros_is_known_by_their_number() -> None:
    here, there = load_chip("lab-128", macros=64), load_chip("lab-128", macros=16)
    assert description_words(there.digest, here) == "lab-128 with 16 macros"
    assert description_words(here.digest, here) == "lab-128 with 64 macros"


def test_another_file_is_said_to_be_one() -> None:
    assert "another file" in description_words("ab" * 32, load_chip("lab-128", macros=64))
