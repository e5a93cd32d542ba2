"""Forms of a weight, permuted layers and swapped columns: what cells hold, and that integers stay exact."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cim.chip.encoding import LevelOutOfRange, WeightForm, encode_tile, form_cells
from cim.chip.file import load_chip
from mapping.compile import CannotMap, compile_network
from mapping.layout.place import macro_targets_us
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, program_digest, save_program

from ..permuted import ordered, swapped
from ..small_networks import every_node, network

LAB = load_chip("lab-128", macros=30)


@pytest.fixture(scope="module")
def plain() -> ConductanceProgram:
    rng = np.random.default_rng(3)
    return compile_network(network(every_node(rng), rng, images=8), LAB)


@pytest.fixture(scope="module")
def balanced() -> ConductanceProgram:
    rng = np.random.default_rng(3)
    return compile_network(network(every_node(rng), rng, images=8), LAB, weight_form=WeightForm.BALANCED)


# --- forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(WeightForm))
@pytest.mark.parametrize("top", [1, 2, 7, 8])
def test_the_two_cells_of_every_form_differ_by_the_level(form: WeightForm, top: int) -> None:
    k = np.arange(-top, top + 1, dtype=np.int8)[None]
    plus, minus = form_cells(k, form, top)
    assert np.array_equal(plus - minus, k)
    assert min(plus.min(), minus.min()) >= 0
    assert max(plus.max(), minus.max()) <= top
    assert np.array_equal(form_cells(-k, form, top), np.stack([minus, plus]))


def test_balanced_cells_lie_about_the_middle_and_sign_cells_at_the_ends() -> None:
    k = np.array([[3, -3, 0, 7, -7]], np.int8)
    assert form_cells(k, WeightForm.BALANCED, 7)[:, 0].tolist() == [[5, 2, 3, 7, 0], [2, 5, 3, 0, 7]]
    assert form_cells(k, WeightForm.SIGN, 7)[:, 0].tolist() == [[3, 0, 0, 7, 0], [0, 3, 0, 0, 7]]
    total = form_cells(np.arange(-7, 8, dtype=np.int8)[None], WeightForm.BALANCED, 7).sum(0)
    assert set(total.ravel().tolist()) <= {6, 7}


def test_cell_levels_become_the_conductances_of_the_table() -> None:
    levels, cells = np.array([[2]], np.int8), np.array([[[6]], [[4]]], np.int8)
    table = np.array(LAB.macro.levels_us, np.float32)
    assert encode_tile(levels, LAB.macro, 0, 0, cells).targets_us.tolist() == [[table[6], table[4]]]
    with pytest.raises(LevelOutOfRange, match="level 8 at row 0, output 0"):
        encode_tile(levels, LAB.macro, 0, 0, np.array([[[8]], [[4]]], np.int8))
    with pytest.raises(ValueError, match="cell levels"):
        encode_tile(levels, LAB.macro, 0, 0, cells[:1])


def test_a_balanced_program_means_the_same_and_writes_other_cells(
    plain: ConductanceProgram, balanced: ConductanceProgram
) -> None:
    images = plain.calibration_images
    assert np.array_equal(run(balanced, images, IdealMultiply(balanced)), run(plain, images, IdealMultiply(plain)))
    assert balanced.digest != plain.digest
    difference = []
    for program in (plain, balanced):
        targets = macro_targets_us(program, 0)
        order = np.array(LAB.macro.column_order)
        difference.append(targets[:, order[0::2]] - targets[:, order[1::2]])
    assert np.allclose(difference[0], difference[1], atol=1e-4, equal_nan=True)


def test_a_chip_without_pairs_has_no_balanced_form() -> None:
    from cim.chip.spec import Encoding

    rng = np.random.default_rng(3)
    lone = dataclasses.replace(LAB, macro=dataclasses.replace(LAB.macro, encoding=Encoding.SINGLE_ENDED))
    with pytest.raises(CannotMap, match="balanced weights need pairs of cells"):
        compile_network(network(every_node(rng), rng, images=4), lone, weight_form=WeightForm.BALANCED)


# --- orders --------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_any_permutation_of_places_gives_the_same_logits(plain: ConductanceProgram, seed: int) -> None:
    moved = ordered(plain, np.random.default_rng(seed))
    images = plain.calibration_images[:2]
    assert np.array_equal(run(moved, images, IdealMultiply(moved)), run(plain, images, IdealMultiply(plain)))


def test_a_tap_sees_codes_and_sums_in_the_order_of_places(plain: ConductanceProgram) -> None:
    moved = ordered(plain, np.random.default_rng(1))
    assert any(step.input_order is not None for step in moved.matrices)
    seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    plainly: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for program, kept in ((moved, seen), (plain, plainly)):
        run(
            program,
            plain.calibration_images[:2],
            IdealMultiply(program),
            tap=lambda step, codes, sums, kept=kept: kept.__setitem__(step.name, (codes, sums)),
        )
    for step in moved.matrices:
        codes, sums = plainly[step.name]
        if step.input_order is not None:
            assert np.array_equal(seen[step.name][0], codes[:, step.input_order])
        if step.output_order is not None:
            assert np.array_equal(seen[step.name][1], sums[:, step.output_order])


# --- files ---------------------------------------------------------------------------------


def test_cells_signs_orders_and_the_chips_serial_number_come_back(plain: ConductanceProgram, tmp_path: Path) -> None:
    moved = swapped(ordered(plain, np.random.default_rng(2)), np.random.default_rng(3))
    moved = dataclasses.replace(moved, adapted_to="LAB-7")
    moved = dataclasses.replace(moved, digest=program_digest(moved))
    save_program(moved, tmp_path / "program.h5")
    loaded = load_program(tmp_path / "program.h5")
    assert loaded.adapted_to == "LAB-7"
    assert loaded.digest == moved.digest
    for new, old in zip(loaded.matrices, moved.matrices, strict=True):
        for name in ("input_order", "output_order"):
            assert np.array_equal(getattr(new, name), getattr(old, name)), name
        for a, b in zip(new.group.tiles, old.group.tiles, strict=True):
            assert np.array_equal(a.cells, b.cells)
            assert np.array_equal(a.signs, b.signs)


def test_a_program_without_them_has_the_digest_of_version_1_0(plain: ConductanceProgram) -> None:
    from mapping.program.records import to_record

    record, arrays = to_record(plain)
    assert "adapted_to" not in record
    assert not [name for name in arrays if name.endswith(("/cells", "/signs", "_order"))]
    assert "input_order" not in record["steps"][0]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"input_order": np.zeros(3, np.int32)}, "order of inputs that is not a permutation"),
        ({"output_order": np.arange(1, 9, dtype=np.int32)}, "order of outputs that is not a permutation"),
    ],
)
def test_an_order_that_is_no_permutation_is_refused(
    plain: ConductanceProgram, change: dict[str, np.ndarray], text: str
) -> None:
    from mapping.operators.step import ProgramRecordError
    from mapping.program.checks import check_program

    first = plain.steps[0]
    assert isinstance(first, MatrixStep)
    broken = dataclasses.replace(plain, steps=(dataclasses.replace(first, **change), *plain.steps[1:]))
    with pytest.raises(ProgramRecordError, match=text):
        check_program(broken)
