"""The configuration file of the MNSIM 2.0 cost model: sources, errors with their line, changed options."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from cim.chip.file import ChipFileError, NewerChipFile, chip_names, load_chip
from cim.mnsim import load_mnsim, with_options
from cim.mnsim.configfile import DEFAULT, ONLY_DEFAULT, OPTIONS, WITHOUT_EFFECT, parse_mnsim
from cim.mnsim.schema import SECTIONS

TEXT = resources.files("cim").joinpath("chips", f"{DEFAULT}.toml").read_text("utf-8")
CONFIG = load_mnsim()


def wrong(text: str) -> ChipFileError:
    with pytest.raises(ChipFileError) as caught:
        parse_mnsim(text, "my.toml")
    return caught.value


def line_of(part: str) -> int:
    return next(n for n, line in enumerate(TEXT.splitlines(), 1) if line.startswith(part))


def test_every_value_has_a_source() -> None:
    assert set(CONFIG.provenance) == {f"{s}.{k}" for s, (_, checks) in SECTIONS.items() for k in checks}


def test_the_file_is_no_chip_and_says_what_it_is() -> None:
    assert DEFAULT not in chip_names()
    with pytest.raises(
        ChipFileError, match=r"mnsim-default\.toml:4: format: is a cost model \(mnsim2\) for `hil estimate`"
    ):
        load_chip(DEFAULT)


def test_a_chip_file_is_no_configuration() -> None:
    with pytest.raises(ChipFileError, match=r"lab-128\.toml:\d+: format: is 'hil\.chip'"):
        load_mnsim("lab-128")


def test_a_users_own_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace("choice = { value = 6,", "choice = { value = 7,"), "utf-8")
    assert load_mnsim(path).adc.chosen.bits == 4
    with pytest.raises(ChipFileError, match="cannot be read"):
        load_mnsim(tmp_path / "none.toml")
    with pytest.raises(ChipFileError, match="no such chip; there are mnsim-default,"):
        load_mnsim("../chips/mnsim-default")


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ("groups = ", "group = ", "pe.group", "unknown field"),
        ("groups = ", "# groups = ", "pe.groups", "is missing"),
        ("polarity = { value = 2,", "polarity = { value = 3,", "pe.polarity", "whole number from 1 to 2"),
        ("bus_bits = { value = 64,", "bus_bits = { value = 64.5,", "buffer.bus_bits", "not a whole number"),
        ("pipeline = { value = true,", "pipeline = { value = 1,", "chip.pipeline", "neither true nor false"),
        ('kind = { value = "nvm",', 'kind = { value = "dram",', "device.kind", "none of nvm, sram"),
        ("read_latency_ns = { value = 3.16, ", "read_latency_ns = { ", "device.read_latency_ns", "must be"),
        ('tile_rows = { value = 64, source = "published', 'tile_rows = { value = 64, source = "heard', "chip.tile_rows",
         "must begin with"),
        ("subarray_rows = { value = 256,", "subarray_rows = { value = 100,", "array.subarray_rows", "does not divide"),
        ("choice = { value = 6,", "choice = { value = 10,", "adc.choice", "1 to 9"),
        ("choice = { value = 6,", "choice = { value = -1,", "adc.own_bits", "above zero"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_line(old: str, new: str, field: str, words: str) -> None:
    error = wrong(TEXT.replace(old, new, 1))
    assert (error.path, error.field) == ("my.toml", field)
    assert words in error.text
    if field.rpartition(".")[2] in new and words != "is missing":
        assert new in TEXT.replace(old, new, 1).splitlines()[error.line - 1]


def test_wrong_headers_sections_and_toml_are_named() -> None:
    assert wrong(TEXT.replace('model = "mnsim2"', 'model = "mnsim1"')).field == "model"
    assert wrong(TEXT.replace("[pooling]", "[pools]")).text.startswith("unknown section")
    assert wrong("format = 3").field == "format"
    assert wrong(TEXT + "\n[").field == "toml"
    newer = wrong(TEXT.replace('version = "1.0"', 'version = "2.0"'))
    assert isinstance(newer, NewerChipFile)
    assert newer.line == line_of("version")


def test_options_have_mnsims_names_and_change_a_copy() -> None:
    changed = with_options(
        CONFIG,
        {"Crossbar level/Xbar_Size": "128,64", "Subarray_Size": 128, "Device_Resistance": "1e6,1e5,1e4",
         "Tile_Connection": 3, "tile.pe_rows": 4, "Device_Level": 4, "NoC_enable": 0},
    )  # fmt: skip
    assert (changed.array.rows, changed.array.columns, changed.array.subarray_rows) == (128, 64, 128)
    assert changed.device.resistance_ohm == (1e6, 1e5, 1e4)
    assert (str(changed.chip.tile_connection), changed.tile.pes) == ("zigzag", 8)
    assert changed.provenance["array.rows"] == "assumed: option Crossbar level/Xbar_Size"
    assert load_mnsim() == CONFIG


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("Xbar_size", "128,128", "is none of MNSIM's"),
        ("array.row", 128, "no such field"),
        ("Xbar_Size", "128", "is not 2 values"),
        ("Xbar_Size", "0,128", "whole number from 1"),
        ("DAC_Num", 0, "whole number from 1"),
        ("ADC_Choice", 12, "1 to 9"),
        ("NoC_enable", 1, "only at its default 0"),
        ("Device_Type", "DRAM", "none of NVM, SRAM"),
        ("Group_Num", "two", "could not convert"),
        ("Read_Voltage", "0", "list of 2"),
    ],
)
def test_a_wrong_option_is_named(option: str, value: object, words: str) -> None:
    with pytest.raises(ChipFileError, match=r"mnsim-default\.toml: .*" + option) as caught:
        with_options(CONFIG, {option: value})
    assert words in str(caught.value)


def test_a_field_is_set_by_the_text_of_a_command_line_as_by_its_value() -> None:
    texts = {
        "array.rows": "128",
        "array.subarray_rows": "128",
        "device.resistance_ohm": "[1e6, 1e5, 1e4]",
        "array.cell": "0T1R",
    }
    values = {
        "array.rows": 128,
        "array.subarray_rows": 128,
        "device.resistance_ohm": [1e6, 1e5, 1e4],
        "array.cell": "0T1R",
    }
    assert with_options(CONFIG, {**texts, "Device_Level": 4}) == with_options(CONFIG, {**values, "Device_Level": 4})


def test_no_option_is_listed_twice_and_all_fields_exist() -> None:
    assert len({*OPTIONS, *ONLY_DEFAULT, *WITHOUT_EFFECT}) == len(OPTIONS) + len(ONLY_DEFAULT) + len(WITHOUT_EFFECT)
    for fields, _ in OPTIONS.values():
        for field in fields:
            section, _, key = field.partition(".")
            assert key in SECTIONS[section][1]
