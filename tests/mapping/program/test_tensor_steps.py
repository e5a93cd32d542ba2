"""Steps that no array multiplies: golden vectors by exact fractions, memory layouts, and programs that are refused."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.chip.file import load_chip
from mapping.compile import LayoutOptions, compile_network
from mapping.network.graph import NetworkGraph
from mapping.operators.activations import RescaleStep, TableStep
from mapping.operators.affine import AffineStep
from mapping.operators.integer import digital_ops, tensor_ops
from mapping.operators.integer.requantise import Requantise
from mapping.operators.joins import AddStep, ConcatStep, Product, ProductStep
from mapping.operators.moves import Flatten, Permute, Reshape, Slice, TakeStep
from mapping.operators.norms import NormStep, SoftmaxStep
from mapping.operators.padding import PadChannels, PadMap
from mapping.operators.pools import AvgPoolStep, MaxPool, Reduce, ReduceStep
from mapping.operators.products import MatMulStep
from mapping.operators.registry import step_kinds
from mapping.operators.resampling import ResampleStep
from mapping.operators.step import ProgramRecordError, Step
from mapping.program.checks import check_program
from mapping.program.conductance import ConductanceProgram
from mapping.program.counts import tile_counts
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, save_program

from ..small_networks import network, slow_run
from ..tensor_networks import CLASSES, PIXELS, attention, conv, gated, recurrent, two_outputs

LAB = load_chip("lab-128", macros=400)
GOLDEN: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "golden" / "tensor_ops.json").read_text("utf-8")
)["cases"]
KINDS = {kind.__name__: kind for kind in step_kinds().values()}
ON_MAPS = (
    RescaleStep, AddStep, ConcatStep, MaxPool, AvgPoolStep, Flatten, PadChannels, PadMap, Slice,
)  # fmt: skip
"""Their vectors are in ``digital_ops.json``, or in test_digital_ops.py."""
GRAPHS = [gated, attention, two_outputs, recurrent]


def step_of(case: dict[str, Any]) -> Step:
    kind = KINDS[case["step"]]
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in case["fields"].items():
        if isinstance(value, dict):
            factors = (np.array(value[k], np.int32) for k in ("multiplier", "shift"))
            values[name] = Requantise(*factors, value["low"], value["high"])
        elif isinstance(value, list):
            values[name] = tuple(value) if typing.get_origin(hints[name]) is tuple else np.array(value, np.int32)
        else:
            values[name] = value
    made: Step = kind(name="step", inputs=("a", "b")[: len(case["inputs"])], **values)
    return made


def made(graph: Any) -> ConductanceProgram:
    rng = np.random.default_rng(3)
    return compile_network(network(graph(rng), rng), LAB, options=LayoutOptions(halves=False))


@pytest.mark.parametrize("numba", [True, False], ids=["numba", "numpy"])
@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["step"])
def test_steps_equal_the_golden_vectors(case: dict[str, Any], numba: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not numba:
        monkeypatch.setattr(digital_ops, "fused_kernels", lambda: None)
        monkeypatch.setattr(tensor_ops, "fused_kernels", lambda: None)
        monkeypatch.setattr(tensor_ops, "_kernels", lambda: None)
    images = [np.array([codes, codes[::-1]], np.int16) for codes in case["inputs"]]
    assert step_of(case).run(images)[0].tolist() == case["expected"]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (0, 2, 1, 3)], ids=["first", "last", "between"])
@pytest.mark.parametrize("shape", [(2, 37, 3, 5), (3, 16, 2, 2), (2, 5, 1, 7)])
def test_fused_loops_and_numpy_give_the_same_bits(
    shape: tuple[int, ...], order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever channels lie in memory, and for lengths that are no whole vectors."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(list(shape))

    def codes(*size: int) -> NDArray[np.int16]:
        return rng.integers(-(1 << 15) + 1, 1 << 15, size).astype(np.int16)

    maps = codes(*(shape[axis] for axis in order)).transpose(np.argsort(order))
    few, other = codes(*shape[:2], 1, 1), codes(*shape).transpose(0, 1, 3, 2) >> 4
    rules = [
        Requantise(np.array([m], np.int32), np.array([s], np.int32), -128, 127) for m, s in ((1, 0), (1 << 30, 51))
    ]
    one, entries = np.array([7], np.int32), rng.integers(-128, 128, 300).astype(np.int32)
    images = rng.integers(0, 256, (2, *shape[2:], 3)).astype(np.uint8)

    def every() -> list[NDArray[Any]]:
        found = [tensor_ops.product(a, b, r) for r in rules for a, b in ((few, maps), (maps, few), (maps, maps))]
        found += [tensor_ops.affine(maps, one, -one << 20, None, r) for r in rules]
        found += [tensor_ops.matmul(maps >> 4, other, shift, r) for r in rules for shift in (0, 3)]
        found += [tensor_ops.softmax(maps >> 8, axis, entries[:1] * 0 + (1 << 16), rules[0]) for axis in (0, 2)]
        return [*found, tensor_ops.table(maps >> 7, -150, entries), tensor_ops.pixel_codes(images, codes_of_pixels)]

    codes_of_pixels = codes(3, 256)
    fused = every()
    for module, name in ((digital_ops, "fused_kernels"), (tensor_ops, "fused_kernels"), (tensor_ops, "_kernels")):
        monkeypatch.setattr(module, name, lambda: None)
    for one_way, other_way in zip(fused, every(), strict=True):
        assert one_way.dtype == other_way.dtype
        np.testing.assert_array_equal(one_way, other_way)


@pytest.mark.parametrize(("rows", "inner", "columns"), [(4, 16, 64), (7, 5, 37), (1, 33, 3), (3, 2, 16)])
def test_attention_and_norms_in_lanes_give_the_bits_of_numpy(
    rows: int, inner: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, columns and sums of any number; halves among the results, and codes of every size."""
    pytest.importorskip("numba")
    rng = np.random.default_rng([rows, inner, columns])
    narrow = Requantise(np.array([1], np.int32), np.array([3], np.int32), -128, 127)
    rules = [
        narrow,
        dataclasses.replace(narrow, multiplier=np.array([(1 << 31) - 1], np.int32), shift=narrow.shift + 40),
    ]
    wide = dataclasses.replace(narrow, low=-(1 << 20), high=1 << 20)
    entries = np.round(65536 * np.exp(-np.arange(200) / 30)).astype(np.int32)

    def codes(bits: int, *size: int) -> NDArray[np.int16]:
        return rng.integers(-(1 << bits), 1 << bits, size).astype(np.int16)

    pairs = [(codes(bits, 2, 3, rows, inner), codes(bits, 2, 3, columns, inner)) for bits in (7, 15)]
    maps = [codes(bits, 2, rows, columns) >> by for bits, by in ((15, 0), (9, 0), (15, 15))]
    weight, offset, below = codes(14, 1, columns), codes(15, rows, 1), codes(14, rows, columns)

    def every() -> list[NDArray[Any]]:
        found = [tensor_ops.matmul(a, b.swapaxes(-1, -2), 0, r) for a, b in pairs for r in (*rules, wide)]
        for x in maps:
            found += [tensor_ops.softmax(x, axis, entries, r) for axis in (0, 1) for r in rules]
            for r in (*rules, wide):
                found += [
                    tensor_ops.norm(x, (1,), 8, eps, weight, offset, r, centre=c) for eps in (0, 9) for c in (0, 1)
                ]
                found += [tensor_ops.affine(x, weight, offset, b, r) for b in (None, below)]
                found += [digital_ops.add(x, x[::-1], (wide, r), narrow)]
        return found

    weight, offset, below = (values.astype(np.int32) for values in (weight, offset, below))
    lanes = every()
    for module, name in ((digital_ops, "fused_kernels"), (tensor_ops, "fused_kernels"), (tensor_ops, "_kernels")):
        monkeypatch.setattr(module, name, lambda: None)
    for one, other in zip(lanes, every(), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_every_kind_of_step_has_a_golden_vector() -> None:
    assert {case["step"] for case in GOLDEN} == KINDS.keys() - {kind.__name__ for kind in ON_MAPS}


def test_every_kind_of_step_has_its_row_in_the_table_of_rules() -> None:
    page = (Path(__file__).parents[3] / "docs" / "file-formats.md").read_text("utf-8")
    rows = [f"| `{name}` | {(kind.__doc__ or '').splitlines()[0]} |" for name, kind in step_kinds().items()]
    assert "\n".join(["| step | rule |", "|---|---|", *rows, ""]) in page


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["step"])
def test_results_do_not_depend_on_how_codes_lie_in_memory(case: dict[str, Any]) -> None:
    step = step_of(case)
    plain = [np.array([codes, codes[::-1]], np.int16) for codes in case["inputs"]]
    turned = [np.asfortranarray(codes) for codes in plain]
    strided = [np.repeat(codes, 2, -1)[..., ::2] for codes in plain]
    expected = step.run(plain)
    assert np.array_equal(step.run(turned), expected)
    assert np.array_equal(step.run(strided), expected)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("chip", ["lab-128", "neurram-256"])
def test_whole_networks_equal_plain_python_integers(graph: Any, chip: str) -> None:
    rng = np.random.default_rng(5)
    program = compile_network(network(graph(rng), rng), load_chip(chip, macros=400))
    images = program.calibration_images[:2]
    assert run(program, images, IdealMultiply(program)).tolist() == [slow_run(program, i) for i in images]


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_program_of_them_comes_back_as_it_was(graph: Any, tmp_path: Path) -> None:
    program = made(graph)
    save_program(program, tmp_path / "program.h5")
    back = load_program(tmp_path / "program.h5")
    assert back.digest == program.digest
    assert (back.outputs, back.width, back.classes) == (program.outputs, program.width, program.classes)
    images = program.calibration_images[:3]
    assert np.array_equal(run(back, images, IdealMultiply(back)), run(program, images, IdealMultiply(program)))


@pytest.fixture(scope="module")
def programs() -> dict[type[Step], tuple[ConductanceProgram, int]]:
    """By kind, a program that has such a step, and its place."""
    return {type(s): (p, i) for p in map(made, GRAPHS[:3]) for i, s in enumerate(p.steps)}


ONE = np.ones((1, 1, 1), np.int32)
BROKEN: list[tuple[type[Step], dict[str, Any], str]] = [
    (TableStep, {"table": np.zeros((2, 2), np.int32)}, "has a table of"),
    (TableStep, {"table": np.zeros(1 << 17, np.int32)}, "has a table of"),
    (TableStep, {"first": 1 << 20}, "has a table from code"),
    (TableStep, {"table": np.full(9, 1 << 20, np.int32)}, "takes codes of more than 16 bits"),
    (AffineStep, {"weight": ONE << 15}, "has weights beyond"),
    (AffineStep, {"offset": -ONE << 30 << 1}, "has weights beyond"),
    (AffineStep, {"weight": np.ones((1, 7), np.int32)}, "has weights"),
    (ProductStep, {"inputs": ("silu",)}, "takes 1 inputs"),
    (ProductStep, {"inputs": ("silu", "input")}, "takes"),
    (MatMulStep, {"inputs": ("q", "v")}, "multiplies"),
    (MatMulStep, {"shift": 63}, "shifts by 63"),
    (ReduceStep, {"axes": (0, 0)}, "has axes"),
    (ReduceStep, {"axes": (7,)}, "has axes"),
    (Reshape, {"shape": (5, 5)}, "has not the elements"),
    (Reshape, {"shape": ()}, "has not the elements"),
    (Permute, {"order": (0, 0)}, "order"),
    (TakeStep, {"index": np.array([99], np.int32)}, "takes places"),
    (TakeStep, {"index": np.zeros(0, np.int32)}, "takes"),
    (TakeStep, {"fill": 1 << 15}, "takes places"),
    (ResampleStep, {"rows": np.full((3, 5), (1 << 31) - 1, np.int32)}, "has sums beyond 53 bits"),
    (ResampleStep, {"rows": np.ones((3, 4), np.int32)}, "resamples"),
    (NormStep, {"fraction": 9}, "norms"),
    (NormStep, {"eps_shift": 40}, "norms"),
    (NormStep, {"axes": ()}, "has axes"),
    (SoftmaxStep, {"table": np.array([1, 2], np.int32)}, "has a table that does not fall"),
    (SoftmaxStep, {"axis": 3}, "has axes"),
    (AddStep, {"inputs": ("residual", "qkv")}, "takes"),
]


@pytest.mark.parametrize(("kind", "change", "text"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_step_that_does_not_fit_is_refused(
    programs: dict[type[Step], tuple[ConductanceProgram, int]], kind: type[Step], change: dict[str, Any], text: str
) -> None:
    program, at = programs[kind]
    steps = list(program.steps)
    steps[at] = dataclasses.replace(steps[at], **change)
    with pytest.raises(ProgramRecordError, match=text):
        check_program(dataclasses.replace(program, steps=tuple(steps)))


def test_a_file_cannot_ask_for_more_memory_than_a_network_may() -> None:
    program = made(gated)
    rule = Requantise(np.ones(1, np.int32), np.ones(1, np.int32), 0, 1)
    grown: list[Step] = [Reshape(name="tall", inputs=("input",), shape=(192, 1, 1))]
    for number, shape in enumerate([(1, 192, 1), (1, 1, 192)]):
        grown += [
            Reshape(name=f"flat{number}", inputs=("input",), shape=shape),
            ProductStep(name=f"grown{number}", inputs=(grown[-1].name, f"flat{number}"), requantise=rule),
        ]
    grown += [TakeStep(name="wide", inputs=("grown1",), index=np.zeros(1 << 16, np.int32), axis=0, fill=0)]
    with pytest.raises(ProgramRecordError, match="has the shape"):
        check_program(dataclasses.replace(program, steps=(*grown, *program.steps)))


def test_outputs_keep_their_own_precision_though_one_is_far_larger() -> None:
    from mapping.network.float_run import float_logits

    rng = np.random.default_rng(3)
    file = network(two_outputs(rng), rng)
    program = compile_network(file, LAB)
    codes = run(program, file.calibration_images, IdealMultiply(program))
    values = codes * program.scales["all"]
    wanted = float_logits(file.graph, file.calibration_images)
    error: NDArray[np.float64] = np.abs(values - wanted).max(0) / np.ptp(wanted, axis=0).max()
    assert values.shape == (len(codes), program.width) == (len(codes), 67)
    assert error[:64].max() < 0.01
    assert np.abs(values - wanted)[:, 64:].max() < 0.01


def test_codes_that_a_move_carries_to_a_layer_are_as_narrow_as_the_layer_takes_them() -> None:
    """The sum is read with 15 bits by a product and, turned, with 8 by a layer on cells."""
    rng = np.random.default_rng(4)
    nodes = (
        conv(rng, "conv", "input", (4, 3, 1, 1)),
        Permute(name="turned", inputs=("conv",), order=(0, 2, 1)),
        conv(rng, "conv2", "turned", (4, 4, 1, 1)),
        Product(name="product", inputs=("conv", "conv2")),
        Reduce(name="mean", inputs=("product",), operation="mean", axes=(1, 2)),
    )
    graph = NetworkGraph((3, 8, 8), nodes, PIXELS, CLASSES)
    program = compile_network(network(graph, rng), LAB)
    seen: list[int] = []
    images = program.calibration_images
    run(program, images, IdealMultiply(program), tap=lambda step, codes, sums: seen.append(int(np.abs(codes).max())))
    assert max(seen) <= 255


def test_equal_layers_stand_on_cells_once_and_are_read_once_a_use() -> None:
    program = made(recurrent)
    assert program.uses == {"given0": 4, "again1": 3, "head": 1}
    assert [m.name for m in program.matrices] == list(program.uses)
    first = {count.layer: count for count in tile_counts(program)}
    assert first["again1"].vectors == 3


@pytest.mark.parametrize(
    ("change", "text"),
    [({"layer": "head"}, "is no new use"), ({"turn": 1}, "is no new use"), ({"turn": 1 << 20}, "reads"),
     ({"inputs": ("input",)}, "takes 12 inputs")],
)  # fmt: skip
def test_a_use_that_does_not_fit_its_layer_is_refused(change: dict[str, Any], text: str) -> None:
    program = made(recurrent)
    steps = tuple(dataclasses.replace(s, **change) if s.name == "given3" else s for s in program.steps)
    with pytest.raises(ProgramRecordError, match=text):
        check_program(dataclasses.replace(program, steps=steps))
