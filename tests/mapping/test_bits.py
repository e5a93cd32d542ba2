"""Layers with bits of their own: what is asked, what is compiled, what is stored."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from mapping.bits import DIGITAL_BITS, BitWidths, LayerBits, parse_layer_bits
from mapping.compile import CannotMap, LayoutOptions, compile_network, plan
from mapping.network.file import load_network, save_network
from mapping.operators.activations import RescaleStep
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, save_program
from mapping.quantise.lower import lower
from mapping.quantise.widths import code_widths

from .small_networks import every_node, network, slow_run

LAB = load_chip("lab-128", macros=400)
ASKED = {"conv1": LayerBits(8), "depthwise": LayerBits(activation=4), "fc": LayerBits(8, 8)}


def compiled(**options: object) -> ConductanceProgram:
    rng = np.random.default_rng(3)
    return compile_network(network(every_node(rng), rng, weight_bits=4, images=8), LAB, **options)  # type: ignore[arg-type]


def test_bits_are_read_layer_by_layer() -> None:
    found = parse_layer_bits("conv1=8, layer1.0.conv2=W6,fc=W8A6,head=A4")
    assert found == {
        "conv1": LayerBits(8),
        "layer1.0.conv2": LayerBits(6),
        "fc": LayerBits(8, 6),
        "head": LayerBits(activation=4),
    }


@pytest.mark.parametrize("text", ["conv1", "conv1=", "=8", "conv1=x", "conv1=9", "conv1=W1", "a=8,a=4", "conv1=A8W4"])
def test_bits_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"LAYER=BITS|must be 2 to 8"):
        parse_layer_bits(text)


def test_a_layer_has_its_own_weights_slices_and_inputs() -> None:
    program = compiled(layer_bits=ASKED)
    rows = {layer.layer: layer for layer in plan(program).layers}
    assert (rows["conv1"].weight_bits, rows["conv1"].slices) == (8, 3)
    assert (rows["conv2"].weight_bits, rows["conv2"].slices) == (4, 1)
    assert (rows["depthwise"].input_bits, rows["grouped"].input_bits) == (4, 8)
    assert rows["conv1"].input_bits == 8
    assert rows["depthwise"].weight_bits == 4
    group = program.matrices[0].group
    matrix = sum(t.multiplier * t.levels.astype(int)[0, 0] for t in group.tiles if 0 in t.inputs and 0 in t.outputs)
    assert abs(matrix) <= 127
    assert max(abs(int(t.levels.max())) for t in group.tiles) <= 7


def test_the_integer_path_stays_exact() -> None:
    program = compiled(layer_bits=ASKED)
    images = program.calibration_images[:2]
    assert run(program, images, IdealMultiply(program)).tolist() == [slow_run(program, image) for image in images]


def test_a_tensor_with_other_readers_is_narrowed_only_for_the_layer_that_asks() -> None:
    program = compiled(layer_bits=ASKED)
    step = next(s for s in program.steps if s.name == "depthwise.input")  # relu1 is also read by an addition
    assert isinstance(step, RescaleStep)
    assert (step.requantise.low, step.requantise.high) == (0, 15)
    alone = compiled(
        options=LayoutOptions(halves=False), layer_bits={"conv2": LayerBits(activation=4)}
    )  # the join before it has no other reader
    assert not any(s.name == "conv2.input" for s in alone.steps)
    assert next(m for m in alone.matrices if m.name == "conv2").group.input_bits == 4


def test_a_tensor_is_as_wide_as_the_widest_that_is_read_of_it() -> None:
    ops = lower(every_node(np.random.default_rng(0)))
    widths = code_widths(ops, BitWidths(4, 4, {"conv2": LayerBits(activation=8), "conv1": LayerBits(activation=6)}))
    assert widths["input"] == 6
    assert widths["concat"] == 8
    assert widths["conv1"] == widths["add"] == DIGITAL_BITS  # a norm reads the sum of it
    assert widths["fc"] == 4


def test_the_fewer_bits_the_larger_the_error_of_the_layer() -> None:
    exact = compiled()

    def difference(bits: int) -> float:
        program = compiled(layer_bits={"depthwise": LayerBits(activation=bits)})
        images = program.calibration_images
        a, b = (run(p, images, IdealMultiply(p)) * p.scales["fc"] for p in (program, exact))
        return float(np.abs(a - b).mean())

    assert difference(2) > difference(6) > 0


def test_bits_for_no_layer_and_more_bits_than_the_chip_drives_are_refused() -> None:
    with pytest.raises(CannotMap, match="bits for nothing, but the network has no such layer"):
        compiled(layer_bits={"nothing": LayerBits(8)})
    narrow = dataclasses.replace(LAB.macro, inputs=dataclasses.replace(LAB.macro.inputs, bits=4))
    rng = np.random.default_rng(3)
    file = network(every_node(rng), rng, images=8)
    with pytest.raises(CannotMap, match="6-bit activations of fc, but lab-128 drives at most 4"):
        compile_network(
            file,
            dataclasses.replace(LAB, macro=narrow),
            activation_bits=4,
            layer_bits={"fc": LayerBits(activation=6)},
        )


def test_the_network_file_keeps_bits_of_layers_and_a_request_overrides_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    plain = network(every_node(rng), rng, weight_bits=4, images=8)
    file = dataclasses.replace(plain, layer_bits=ASKED)
    assert file.digest != plain.digest
    save_network(file, tmp_path / "net.pt")
    loaded = load_network(tmp_path / "net.pt")
    assert (loaded.layer_bits, loaded.digest) == (ASKED, file.digest)
    program = compile_network(loaded, LAB, layer_bits={"conv1": LayerBits(6)})
    assert program.layer_weight_bits == {"conv1": 6, "fc": 8}
    with pytest.raises(ValueError, match="no such layer"):
        dataclasses.replace(plain, layer_bits={"nothing": LayerBits(8)})


def test_the_program_file_keeps_bits_of_layers(tmp_path: Path) -> None:
    program = compiled(layer_bits=ASKED)
    save_program(program, tmp_path / "program.h5")
    loaded = load_program(tmp_path / "program.h5")
    assert loaded.layer_weight_bits == {"conv1": 8, "fc": 8}
    assert (loaded.weight_bits_of("conv1"), loaded.weight_bits_of("conv2")) == (8, 4)
    assert loaded.digest == program.digest
