"""Chip files from answers, and doubts about the values of a file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cim.chip.doubts import beliefs, doubts
from cim.chip.file import load_chip, parse_chip
from cim.chip.spec import Encoding, InputCoding
from cim.errors import CimUsageError
from cim.new_chip import RANGED, new_chip
from hil.driver.chip_text import unlikely


@pytest.mark.parametrize("inputs", ["8:bit_serial", "4:ternary", "4:amplitude", "3:pulse_count"])
@pytest.mark.parametrize("encoding", list(Encoding))
def test_a_chip_of_any_encoding_and_coding_has_only_likely_values_and_ranges(encoding: str, inputs: str) -> None:
    text = new_chip("mine", {"rows": "24", "columns": "26", "encoding": encoding, "inputs": inputs, "converter": "5"})
    spec = parse_chip(text, "mine.toml")
    assert (spec.macro.rows, spec.macro.adc.bits, spec.macro.inputs.coding) == (24, 5, InputCoding(inputs[2:]))
    assert not doubts(spec)
    assert {one.split()[0] for one in beliefs(spec)["range"]} == set(RANGED)


def test_an_answer_is_the_value_and_its_source_and_ranges_scale_with_the_converter() -> None:
    answers = {"levels": "1,4,9", "converter": "4:5,20", "read_v": "0.1", "window": "0.5", "interface": "bench"}
    coarse = parse_chip(new_chip("mine", answers, "published: its data sheet"), "mine.toml")
    fine = parse_chip(new_chip("mine", answers | {"converter": "8:5,20"}), "mine.toml")
    assert (coarse.macro.levels_us, coarse.macro.adc.full_scales_us) == ((1.0, 4.0, 9.0), (50.0, 200.0))
    assert coarse.provenance["cell.levels_us"] == "published: its data sheet"
    assert coarse.provenance["macro.rows"].startswith("assumed")
    ends = [spec.models.ranges["conversion_noise_codes"] for spec in (coarse, fine) if spec.models]
    assert ends[1] == pytest.approx([16 * end for end in ends[0]])


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"row": "3"}, "row"), ({"rows": "x"}, "rows=x"), ({"columns": "999999999"}, "columns=9"),
        ({"encoding": "pairs"}, "encoding=pairs"), ({"window": "50"}, "tolerance_us"),
        ({"levels": "0:1:2"}, "levels=0:1"),
        ({"levels": "8:2"}, "levels=8:2"), ({"levels": "9,4"}, "levels=9,4"), ({"read_v": "0"}, "read_v=0"),
        ({"converter": "8:a"}, "converter=8:a"), ({"converter": "8:5,1"}, "full_scales_us"),
        ({"inputs": "99"}, "inputs=99"),
        ({"interface": "usb"}, "board, bench, sdk"),
    ],
)  # fmt: skip
def test_answers_that_make_no_chip_are_named(answers: dict[str, str], words: str) -> None:
    with pytest.raises(CimUsageError, match=words):
        new_chip("mine", answers)


def test_values_of_another_unit_and_noises_beyond_a_circuit_are_doubted() -> None:
    spec = load_chip("lemon-8")
    assert spec.models is not None
    micro = replace(spec.macro, levels_us=(0.0, 1e-6))
    amperes = replace(spec.macro, adc=replace(spec.macro.adc, full_scales_us=(1.0, 2.0)))
    line, codes = replace(spec.models, ranges={}, wire_ohm=300.0), replace(spec.models, ranges={}, inl_codes=2.0)
    for wrong, field in (
        (replace(spec, macro=micro), "cell.levels_us"), (replace(spec, macro=amperes), "adc.full_scales_us"),
        (replace(spec, models=line), "models.wire_ohm"), (replace(spec, models=codes), "models.inl_codes"),
        (replace(spec, models=None), "models"),
        (replace(spec, sample={**spec.sample, "wire_ohm": 4.0}), "sample.wire_ohm"),
        (replace(spec, timing=replace(spec.timing, pulse_ns=1e9)), "timing.pulse_ns"),
    ):  # fmt: skip
        assert field in [name for name, _ in unlikely(wrong)]
