"""Signed inputs of a layer in two halves without signs: the same layer, read with less noise, where there is room."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cim.chip.file import idealised, load_chip
from hil.deployment.options import DeployOptions, usual_recipe
from hil.prediction.predict import record_or_nominal
from hil.simulation.virtual_chips import VirtualChips
from mapping.compile import compile_network, plan
from mapping.errors import CannotMap
from mapping.layout.lay_out import LayoutOptions
from mapping.layout.place import Placement
from mapping.network.file import NetworkFile
from mapping.network.float_run import float_logits
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.activations import Relu
from mapping.operators.joins import Add
from mapping.operators.pools import GlobalAvgPool
from mapping.operators.products import Linear
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import correction_inputs, training_inputs

from ..small_networks import conv, network

LAB = load_chip("lab-128", macros=64)
WHOLE = LayoutOptions(halves=False)


def bottleneck() -> NetworkFile:
    """A wide layer behind a narrow linear one, as in MobileNetV2, and a sum that reads the narrow one, too."""
    rng = np.random.default_rng(5)
    nodes = (
        conv(rng, "wide0", "input", (24, 3, 3, 3), padding=(1, 1)),
        Relu(name="relu0", inputs=("wide0",)),
        conv(rng, "narrow", "relu0", (12, 24, 1, 1)),
        conv(rng, "wide", "narrow", (48, 12, 1, 1)),
        Relu(name="relu", inputs=("wide",)),
        conv(rng, "back", "relu", (12, 48, 1, 1)),
        Add(name="sum", inputs=("narrow", "back")),
        GlobalAvgPool(name="mean", inputs=("sum",)),
        Linear(name="fc", inputs=("mean",), weight=rng.normal(0, 0.4, (4, 12)).astype(np.float32)),
    )
    graph = NetworkGraph((3, 8, 8), nodes, Preprocess((0.5, 0.4, 0.45), (0.25, 0.25, 0.2)), ("a", "b", "c", "d"))
    return network(graph, rng, weight_bits=4, images=64)


def tall_bottleneck() -> NetworkFile:
    """The same with a wide layer of 108 rows, whose halves take two tiles."""
    made = bottleneck()
    tall = conv(np.random.default_rng(6), "wide", "narrow", (48, 12, 3, 3), padding=(1, 1))
    nodes = tuple(tall if node.name == tall.name else node for node in made.graph.nodes)
    return replace(made, graph=replace(made.graph, nodes=nodes))


def lost(program: ConductanceProgram, layer: str) -> float:
    """Share of the power of a layer's sums that a virtual chip loses."""
    record, _, _ = record_or_nominal(program, None)
    recipe = DeployOptions(recipe=usual_recipe(without=["tune", "aims"])).recipe_of(program)
    chip = VirtualChips(program, record, recipe, 2, 0, inputs=correction_inputs(program), mode="fast").chip(0)
    step, codes = program.layers[layer], training_inputs(program)[layer]
    ideal = IdealMultiply(program).sums(step, codes, 0).astype(float)
    error = chip.sums(step, codes, 0) - ideal
    return float((error**2).mean() / ideal.var(axis=(0, 2, 3)).mean())


def test_a_layer_of_small_signed_inputs_loses_less_than_half_as_much_in_two_halves() -> None:
    made = bottleneck()
    plain, halved = compile_network(made, LAB, options=WHOLE), compile_network(made, LAB)
    before, after = plain.layers["wide"].group, halved.layers["wide"].group
    assert (before.input_signed, before.input_bits, before.inputs) == (True, 8, 12)
    assert (after.input_signed, after.input_bits, after.inputs) == (False, 7, 24)
    assert lost(halved, "wide") < 0.5 * lost(plain, "wide")
    assert [layer.layer for layer in plan(halved).layers if layer.halves] == ["wide", "fc"]
    assert any("signed inputs of wide, fc in halves" in line for line in plan(halved).lines())


def test_the_network_in_halves_gives_what_it_gave() -> None:
    made = bottleneck()
    exact = float_logits(made.graph, made.calibration_images)
    errors = []
    for halves in (False, True):
        program = compile_network(replace(made, weight_bits=8), LAB, options=LayoutOptions(halves=halves))
        given = run(program, made.calibration_images, IdealMultiply(program)) * program.logit_scale
        errors.append(float(((given - exact) ** 2).mean() / exact.var(axis=0).mean()))
    assert errors[1] < 1.5 * errors[0] + 1e-4


def test_the_halves_are_what_lies_above_and_below_zero() -> None:
    program = compile_network(bottleneck(), LAB)
    below, halves = (step for step in program.steps if step.name in ("wide.input.below", "wide.input"))
    codes = np.array([-128, -127, -3, 0, 5, 127], np.int16).reshape(1, 6, 1, 1)
    given = halves.run([codes, below.run([codes])])
    assert given.ravel().tolist() == [0, 0, 0, 0, 5, 127, 127, 127, 3, 0, 0, 0]


def test_inputs_stay_whole_on_a_chip_that_reads_without_noise() -> None:
    assert compile_network(bottleneck(), idealised(LAB)).layers["wide"].group.input_signed


@pytest.mark.parametrize(("macros", "signed"), [(2, True), (3, False)])
def test_inputs_stay_whole_where_the_chip_has_no_room_for_halves(macros: int, signed: bool) -> None:
    made = tall_bottleneck()
    assert compile_network(made, load_chip("lab-128", macros=macros)).layers["wide"].group.input_signed is signed


def test_pixels_stay_whole() -> None:
    assert compile_network(bottleneck(), LAB).layers["wide0"].group.input_signed


def test_inputs_stay_whole_where_residual_slices_take_the_room_and_the_network_is_quantised_once() -> None:
    """Halves of a single slice would fit, and not their copies; the last layer's take no further tile."""
    made, options = tall_bottleneck(), LayoutOptions(residual=4, placement=Placement.PACKED)
    whole = compile_network(made, LAB, options=replace(options, halves=False))
    tight = load_chip("lab-128", macros=len(whole.macros))
    assert len(compile_network(made, LAB, options=options).macros) > tight.macros
    begun: list[str] = []
    program = compile_network(
        made, tight, options=options, progress=lambda done, total, what: begun.extend([what] * (done == total))
    )
    assert [layer.layer for layer in plan(program).layers if layer.halves] == ["fc"]
    assert len(begun) == len(set(begun))


def test_residual_copies_without_room_are_refused_before_anything_is_quantised() -> None:
    begun: list[str] = []
    small = load_chip("lab-128", macros=3)
    options = LayoutOptions(residual=4, placement=Placement.PACKED)
    with pytest.raises(CannotMap, match=r"4 copies of the highest slices take \d+ macros, lab-128 has 3"):
        compile_network(tall_bottleneck(), small, options=options, progress=lambda d, t, what: begun.append(what))
    assert not begun


def test_rows_stand_several_times_in_one_array_and_their_errors_make_up_for_each_other() -> None:
    file = bottleneck()
    floats = float_logits(file.graph, file.calibration_images)

    def error(program: ConductanceProgram) -> float:
        ideal = run(program, file.calibration_images, IdealMultiply(program)) * program.logit_scale
        return float(((ideal - floats) ** 2).mean())

    once, more = (compile_network(file, LAB, options=LayoutOptions(halves=False, repeat=n)) for n in (1, 4))
    rows = [m.group.inputs for m in once.matrices]
    assert [m.group.inputs for m in more.matrices] == [min(4, LAB.macro.logical_rows // n) * n for n in rows]
    assert len(more.macros) == len(once.macros)
    assert error(more) < 0.8 * error(once)


def test_rows_are_repeated_only_where_the_chip_has_room_for_them() -> None:
    few = LayoutOptions(halves=False, placement=Placement.PACKED)
    full = compile_network(bottleneck(), replace(LAB, macros=1), options=replace(few, repeat=64))
    assert full.macros == (0,)
    assert full.rounds == 1
    assert plan(full).utilisation > 2 * plan(compile_network(bottleneck(), LAB, options=few)).utilisation
