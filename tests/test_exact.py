"""With every non-ideality off, measured equals ideal bit for bit through the wire.

A selection; ``benchmarks/studies/networks/exact_matrix.py`` runs every architecture on five chip files, and its
committed table is checked here.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cim.chip.encoding import WeightForm
from cim.chip.file import chip_names, idealised, load_chip, render_chip
from cim.chip.spec import ChipSpec, Encoding, InputCoding, InputSpec, PairSubtraction, SignedInput
from firmware_protocols.messages import TileAddress
from hil.driver.open_chip import connect, open_chip
from hil.emulator.chip import EmulatedChip
from hil.transports.in_process import InProcessTransport
from mapping.compile import compile_network
from mapping.network.architectures import ARCHITECTURES
from mapping.network.file import NetworkFile

from .mapping.permuted import ordered, swapped
from .mapping.small_networks import every_node, network, pooled_logits
from .scripts import benchmark

exact = benchmark("exact_matrix")


# --- built-in architectures and chip files -------------------------------------------------


@pytest.mark.parametrize("chip", chip_names())
def test_a_small_network_on_every_chip(chip: str) -> None:
    """Dense, depthwise and linear layers; ``lenet5``, with balanced weights, is on every chip below."""
    row = exact.measure("mobilenet_v2_tiny", chip, raw=True, width=0.25, depth=1)
    assert row.equal, row.differs
    assert row.modes == "layer+sums+raw"
    assert row.signed_layers >= 1


@pytest.mark.parametrize("architecture", ["fmnist_cnn5x5", "cifar_resnet8_a", "cifar_resnet8_b"])
def test_more_architectures_on_the_default_chip(architecture: str) -> None:
    row = exact.measure(architecture, "lab-128", raw=False)
    assert row.equal, row.differs


def test_a_chip_that_is_not_ideal_is_told_apart() -> None:
    file = exact.random_network(exact.build("lenet5", classes=("a", "b"), rng=np.random.default_rng(1)), 2)
    program = compile_network(file, idealised(load_chip("lab-128")))
    address = "emulated:lab-128?ideal=1&column_gain_sigma=0.02"
    result = exact.compare(program, file.calibration_images[:1], address, raw=True)
    assert not result["equal"]
    assert result["differs"] == "layer conv1"


def test_the_committed_table_holds_every_architecture_on_its_chips_and_all_are_equal() -> None:
    rows = exact.read_table()
    assert [(r["architecture"], r["chip"]) for r in rows if r["equal"] != "True"] == []
    have = sorted((r["architecture"], r["chip"]) for r in rows)
    assert have == sorted((a, c) for a in ARCHITECTURES for c in exact.CHIPS)
    assert exact.TABLE.read_text().startswith("# python benchmarks/studies.py exact-matrix")


# --- chips of a user's own -----------------------------------------------------------------


def chip(*, rows: int = 48, columns: int = 32, **changes: object) -> ChipSpec:
    """A small chip of a user's own, from the default one."""
    lab = load_chip("lab-128", macros=120)
    order = tuple(np.random.default_rng(8).permutation(columns).tolist())
    macro = dataclasses.replace(
        lab.macro, rows=rows, columns=columns, column_order=order, rows_per_read=rows // 2, reserved_rows=(0, 5, 6)
    )
    return dataclasses.replace(lab, name="mine", macro=dataclasses.replace(macro, **changes))  # type: ignore[arg-type]


def inputs(coding: InputCoding, bits_per_cycle: int, signed: SignedInput) -> InputSpec:
    return InputSpec(coding, 8, bits_per_cycle, signed)


DIGITAL = {"pair_subtraction": PairSubtraction.DIGITAL}
CHIPS = {
    "offset column": chip(encoding=Encoding.OFFSET_COLUMN, **DIGITAL),
    "offset column, offset inputs": chip(
        encoding=Encoding.OFFSET_COLUMN, inputs=inputs(InputCoding.PULSE_COUNT, 3, SignedInput.OFFSET), **DIGITAL
    ),
    "offset column, ternary inputs": chip(
        encoding=Encoding.OFFSET_COLUMN, inputs=inputs(InputCoding.TERNARY, 1, SignedInput.TERNARY), **DIGITAL
    ),
    "single-ended": chip(encoding=Encoding.SINGLE_ENDED, **DIGITAL),
    "single-ended, offset inputs": chip(
        encoding=Encoding.SINGLE_ENDED, inputs=inputs(InputCoding.BIT_SERIAL, 1, SignedInput.OFFSET), **DIGITAL
    ),
    "column pairs subtracted digitally": chip(**DIGITAL),
    "row pairs subtracted digitally": chip(encoding=Encoding.ROW_PAIRS, **DIGITAL),
    "row pairs, amplitudes": chip(
        encoding=Encoding.ROW_PAIRS, inputs=inputs(InputCoding.AMPLITUDE, 4, SignedInput.PLANE)
    ),
    "two levels": chip(levels_us=(2.0, 20.0)),
}


@pytest.mark.parametrize("weight_bits", [4, 8])
@pytest.mark.parametrize("kind", CHIPS)
def test_every_kind_of_node_on_chips_of_a_users_own(kind: str, weight_bits: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    check(network(every_node(rng), rng, weight_bits, images=8), CHIPS[kind], tmp_path)


@pytest.mark.parametrize("kind", ["offset column", "single-ended, offset inputs", "row pairs subtracted digitally"])
def test_logits_that_are_a_mean(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    check(network(pooled_logits(rng), rng, images=8), CHIPS[kind], tmp_path)


def check(file: NetworkFile, described: ChipSpec, folder: Path, form: WeightForm = WeightForm.SIGN) -> None:
    """Write the chip's file, compile for its ideal, run 3 images in every mode."""
    path = folder / "mine.toml"
    path.write_text(render_chip(described))
    spec = idealised(load_chip(path, macros=described.macros))
    program = compile_network(file, spec, weight_form=form)
    address = f"emulated:{path}?ideal=1&macros={described.macros}"
    result = exact.compare(program, file.calibration_images[:3], address, raw=True)
    assert result["equal"], result["differs"]


# --- other cells for the same weights ------------------------------------------------------


def cells_network() -> NetworkFile:
    return exact.random_network(exact.build("lenet5", classes=("a", "b", "c"), rng=np.random.default_rng(1)), 2)


@pytest.mark.parametrize("name", chip_names())
def test_balanced_weights_are_exact_on_every_chip(name: str) -> None:
    file = cells_network()
    macros = exact.large_enough(file, name)
    spec = idealised(load_chip(name, macros=macros))
    program = compile_network(file, spec, weight_form=WeightForm.BALANCED)
    images = file.calibration_images[:1]
    result = exact.compare(program, images, f"emulated:{name}?ideal=1&macros={macros}", raw=True)
    assert result["equal"], result["differs"]


@pytest.mark.parametrize("name", ["lab-128", "a111"])  # inputs as planes with a sign, and with an offset
@pytest.mark.parametrize("form", list(WeightForm))
def test_channels_in_another_order_and_swapped_columns_are_exact(name: str, form: WeightForm) -> None:
    file, rng = cells_network(), np.random.default_rng(6)
    macros = exact.large_enough(file, name)
    plain = compile_network(file, idealised(load_chip(name, macros=macros)))
    program = swapped(ordered(plain, rng), rng, form)
    images = file.calibration_images[:2]
    assert np.array_equal(exact.ideal_answers(program, images).logits, exact.ideal_answers(plain, images).logits)
    result = exact.compare(program, images, f"emulated:{name}?ideal=1&macros={macros}", raw=True)
    assert result["equal"], result["differs"]


@pytest.mark.parametrize("kind", ["column pairs subtracted digitally", "row pairs, amplitudes"])
def test_balanced_weights_are_exact_on_chips_of_a_users_own(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    check(network(every_node(rng), rng, 4, images=8), CHIPS[kind], tmp_path, WeightForm.BALANCED)


# --- the ends of the scale -----------------------------------------------------------------


@pytest.mark.parametrize("name", chip_names())
def test_the_largest_sums_there_are(name: str) -> None:
    spec = idealised(load_chip(name, macros=1))
    macro = spec.macro
    tile = TileAddress(0, 0, macro.logical_rows, 0, min(4, macro.outputs))
    levels = np.full((tile.rows, tile.outputs), macro.max_level, np.int8)
    levels[:, 1::2] *= -1
    codes = np.full((2, tile.rows), (1 << macro.inputs.bits) - 1, np.int16)
    with open_chip(f"emulated:{name}?ideal=1&macros=1", chip=spec) as driver:
        driver.program_tile(tile, levels)
        result = driver.mvm(tile, codes)
    assert result.saturated == 0
    np.testing.assert_array_equal(result.values, codes @ levels.astype(np.int32))


def test_ten_bits_and_a_sign_are_enough_for_128_rows_of_seven_levels() -> None:
    tile = TileAddress(0, 0, 128, 0, 4)
    levels = np.array([7, -7, 7, -7], np.int8) * np.ones((128, 1), np.int8)
    codes = np.full((1, 128), 255, np.int16)
    saturated = []
    for bits in (10, 11):
        spec = idealised(load_chip("lab-128", macros=1), adc_bits=bits)
        with connect(InProcessTransport(EmulatedChip(spec, 0), "ideal"), chip=spec) as driver:
            driver.program_tile(tile, levels)
            result = driver.mvm(tile, codes)
            saturated.append(result.saturated)
    assert saturated == [32, 0]
    np.testing.assert_array_equal(result.values, codes @ levels.astype(np.int32))
