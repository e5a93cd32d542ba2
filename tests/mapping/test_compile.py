"""Compiling: layout on the chip, converter ranges, what does not fit and what would."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from cim.chip.encoding import tile_halves_us
from cim.chip.file import load_chip
from cim.chip.spec import AdcSpec
from mapping.bits import BitWidths
from mapping.compile import CannotMap, compile_network, lay_out, plan
from mapping.layout.place import macro_targets_us
from mapping.layout.tile import MatrixShape
from mapping.network.file import NetworkFile
from mapping.network.graph import NetworkGraph
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import IdealMultiply, run
from mapping.quantise.ranges import range_errors
from mapping.quantise.weight_scales import ScaleRule

from .small_networks import every_node, network

LAB = load_chip("lab-128", macros=400)
DATA = Path(os.environ.get("HIL_DATA", ""))
FASHION = Path("/usr/share/datasets/fashion-mnist")

RESNET20 = [
    MatrixShape("conv1", 27, 16, kernel=9),
    *(MatrixShape(f"layer1.{i}", 144, 16, kernel=9) for i in range(6)),
    MatrixShape("layer2.0", 144, 32, kernel=9),
    *(MatrixShape(f"layer2.{i}", 288, 32, kernel=9) for i in range(1, 6)),
    MatrixShape("layer3.0", 288, 64, kernel=9),
    *(MatrixShape(f"layer3.{i}", 576, 64, kernel=9) for i in range(1, 6)),
    MatrixShape("linear", 64, 10),
]


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    rng = np.random.default_rng(3)
    return compile_network(network(every_node(rng), rng, weight_bits=4), LAB)


def test_resnet20_takes_59_macros_of_lab_128() -> None:
    _, places = lay_out(RESNET20, load_chip("lab-128"), BitWidths(4, 8))
    assert [p.macro for layer in places.values() for p in layer] == list(range(59))


def test_a_network_too_large_says_by_how_much_and_what_would_fit() -> None:
    with pytest.raises(CannotMap) as caught:
        lay_out(RESNET20, load_chip("lab-128"), BitWidths(8, 8))
    error = caught.value
    assert (error.macros_available, error.chip) == (64, "lab-128")
    assert error.macros_needed > 64
    assert error.largest[0].layer == "layer3.1"
    assert error.largest[0].tiles == 15
    text = str(error)
    assert f"needs {error.macros_needed} macros at 8-bit weights, lab-128 has 64" in text
    assert "--weight-bits 4 (59 macros)" in text
    assert f"--macros {error.macros_needed}" in text
    again = load_chip("lab-128", macros=error.macros_needed)
    assert lay_out(RESNET20, again, BitWidths(8, 8))


def test_another_chip_is_named_when_it_would_do() -> None:
    with pytest.raises(CannotMap, match=r"--chip a111 \(\d+ of 48 macros\)"):
        lay_out(RESNET20, load_chip("yao-2020"), BitWidths(4, 8))


def test_wishes_that_no_chip_grants_are_refused_before_any_work() -> None:
    rng = np.random.default_rng(0)
    file = network(every_node(rng), rng)
    with pytest.raises(CannotMap, match="weight bits must be 2 to 8, not 9"):
        compile_network(file, LAB, weight_bits=9)
    narrow = dataclasses.replace(LAB.macro, inputs=dataclasses.replace(LAB.macro.inputs, bits=4))
    with pytest.raises(CannotMap, match="8-bit activations, but lab-128 drives at most 4-bit inputs"):
        compile_network(file, dataclasses.replace(LAB, macro=narrow), activation_bits=8)
    assert compile_network(file, dataclasses.replace(LAB, macro=narrow)).activation_bits == 4
    with pytest.raises(CannotMap, match="no calibration images"):
        compile_network(dataclasses.replace(file, calibration_images=file.calibration_images[:0]), LAB)


def test_compiling_twice_gives_the_same_program(program: ConductanceProgram) -> None:
    rng = np.random.default_rng(3)
    again = compile_network(network(every_node(rng), rng, weight_bits=4), LAB)
    assert again.digest == program.digest
    assert len(program.digest) == 64


def test_packed_and_spread_placements_compute_the_same(program: ConductanceProgram) -> None:
    rng = np.random.default_rng(3)
    packed = compile_network(network(every_node(rng), rng, weight_bits=4), dataclasses.replace(LAB, macros=2))
    assert len(packed.macros) <= 2 < len(program.macros)
    images = program.calibration_images[:8]
    assert np.array_equal(run(packed, images, IdealMultiply(packed)), run(program, images, IdealMultiply(program)))


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_every_weight_stands_on_its_macro(bits: int) -> None:
    rng = np.random.default_rng(9)
    program = compile_network(network(every_node(rng), rng, weight_bits=bits), dataclasses.replace(LAB, macros=8))
    spec = program.spec.macro
    targets = {m: macro_targets_us(program, m) for m in program.macros}
    for step in program.matrices:
        for tile in step.group.tiles:
            rows, outputs = tile.levels.shape
            halves = tile_halves_us(targets[tile.macro], spec, tile.row0, rows, tile.output0, outputs)
            found = (halves[0] - halves[1]) / spec.level_step_us
            assert np.allclose(found, tile.levels, atol=1e-4)


def test_cells_without_a_weight_are_left_alone(program: ConductanceProgram) -> None:
    targets = macro_targets_us(program, program.macros[0])
    tile = program.matrices[0].group.tiles[0]
    assert targets.shape == (128, 128)
    assert np.isfinite(targets).sum() == 2 * tile.levels.size
    assert np.isnan(macro_targets_us(program, 399)).all()


def test_the_plan_adds_up(program: ConductanceProgram) -> None:
    summary = plan(program)
    assert summary.tiles == sum(len(m.group.tiles) for m in program.matrices)
    assert summary.macros_used == len(program.macros)
    assert 0 < summary.utilisation <= 1
    lines = summary.lines()
    assert len(summary.layers) == len(program.matrices)
    assert f"{summary.tiles} tiles on {summary.macros_used} of 400 macros of lab-128" in lines[0]
    assert summary.to_json()["macros"] == {"used": summary.macros_used, "available": 400}


def test_progress_is_told_to_the_end() -> None:
    seen: list[tuple[int, int, str]] = []
    rng = np.random.default_rng(0)
    compile_network(network(every_node(rng), rng), LAB, progress=lambda *step: seen.append(step))
    assert all(0 < done <= total for done, total, _ in seen)
    assert seen[-1][0] == seen[-1][1]


def inputs_of(program: ConductanceProgram) -> dict[str, tuple[MatrixStep, np.ndarray]]:
    found = {}
    run(
        program,
        program.calibration_images,
        IdealMultiply(program),
        tap=lambda step, codes, sums: found.update({step.name: (step, codes)}),
    )
    return found


def test_the_range_weighs_clipping_against_rounding(program: ConductanceProgram) -> None:
    step, codes = inputs_of(program)["conv2"]
    spec = program.spec.macro
    errors = []
    for full_scale in spec.adc.full_scales_us:
        adc = dataclasses.replace(spec.adc, full_scales_us=(full_scale,))
        errors.append(range_errors(step.group, dataclasses.replace(spec, adc=adc), codes).best().error_us2)
    choice = range_errors(step.group, spec, codes).best()
    assert choice.range_code == int(np.argmin(errors)) == step.group.range_code
    assert choice.saturated_share == step.group.saturated_share


def test_a_converter_without_error_chooses_the_finest_range_that_holds_everything(program: ConductanceProgram) -> None:
    step, codes = inputs_of(program)["conv2"]
    spec = program.spec.macro
    scales = tuple(spec.level_step_us * 2**k for k in (2, 9, 12))
    tiny = dataclasses.replace(spec, adc=AdcSpec(10, scales, 8))
    choice = range_errors(step.group, tiny, codes).best()
    assert choice.range_code == 1
    assert choice.error_us2 < 1e-6
    assert choice.saturated_share == 0


def correct(graph: NetworkGraph, name: str, weight_bits: int, calibration: np.ndarray, test: tuple) -> int:
    file = NetworkFile(graph, weight_bits, 8, calibration)
    program = compile_network(file, load_chip("lab-128", macros=200), scale_rule=ScaleRule.ROUNDING)
    images, labels = test
    return int((run(program, images, IdealMultiply(program)).argmax(1) == labels).sum())


def weights_of(name: str) -> NetworkGraph:
    torch_file = pytest.importorskip("safetensors.torch")
    from mapping.network.architectures import build

    state = torch_file.load_file(DATA / "models" / f"{name}.safetensors")
    return build(name if name.startswith("fmnist") else "cifar_resnet20_a", classes=tuple("0123456789"), state=state)


@pytest.mark.skipif(
    not (DATA / "cifar10_train.h5").is_file() or not (DATA / "models").is_dir(),
    reason="HIL_DATA has no cifar10_train.h5 and models/",
)
@pytest.mark.parametrize(("weight_bits", "most_lost"), [(8, 5), (4, 25)])
def test_resnet20_keeps_its_accuracy(weight_bits: int, most_lost: int) -> None:
    import h5py

    with h5py.File(DATA / "cifar10_train.h5") as train, h5py.File(DATA / "cifar10_test.h5") as test:
        calibration = train["lossless/images"][()]
        scored = test["lossless/images"][()], test["lossless/labels"][()]
    right = correct(weights_of("cifar10_resnet20_a"), "resnet20", weight_bits, calibration, scored)
    assert abs(right - 915) <= most_lost


@pytest.mark.skipif(
    not FASHION.is_dir() or not (DATA / "models").is_dir(),
    reason="no dataset-fashion-mnist, or HIL_DATA has no models/",
)
@pytest.mark.parametrize(("weight_bits", "most_lost"), [(8, 10), (4, 50)])
def test_the_fashion_network_keeps_its_accuracy(weight_bits: int, most_lost: int) -> None:
    from hil.datasets.image_set import load_dataset
    from mapping.network.float_run import float_logits

    graph = weights_of("fmnist_cnn5x5")
    train, test = load_dataset("fashion-mnist", "train", limit=512), load_dataset("fashion-mnist", "test", limit=2000)
    wanted = int((float_logits(graph, test.images).argmax(1) == test.labels).sum())
    right = correct(graph, "fashion", weight_bits, train.images, (test.images, test.labels))
    assert abs(right - wanted) <= most_lost
