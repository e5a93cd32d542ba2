"""ONNX files: every operation gives what ONNX's own reference gives; the rest is refused by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mapping.network.capture import UnsupportedOperation
from mapping.network.file_check import NetworkFileError
from mapping.network.float_run import forward
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.network.importers import import_graph
from mapping.network.onnx_import import MissingExtra
from mapping.operators.activations import Grid, Unary
from mapping.operators.pools import AvgPool, GlobalAvgPool
from mapping.operators.products import Conv

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

CLASSES = ("a", "b", "c")
SHAPE = (4, 8, 8)
RNG = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def model(ops: list[Any], constants: dict[str, Any], opset: int = 18) -> Any:
    tensors = [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()]
    graph = helper.make_graph(
        ops,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def ending(source: str, channels: int) -> tuple[list[Any], dict[str, Any]]:
    ops = [
        helper.make_node("GlobalAveragePool", [source], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    return ops, {"fc.weight": array(3, channels), "fc.bias": array(3)}


def read(made: Any, folder: Path) -> NetworkGraph:
    path = folder / "net.onnx"
    path.write_bytes(made.SerializeToString())
    return import_graph(path, classes=CLASSES, preprocess=Preprocess((0.0,) * 4, (1.0,) * 4))


def check(ops: list[Any], constants: dict[str, Any], folder: Path, opset: int = 18) -> NetworkGraph:
    made = model(ops, constants, opset)
    graph = read(made, folder)
    x = array(2, *SHAPE)
    expected = ReferenceEvaluator(made).run(None, {"x": x})[0]
    seen = forward(graph, torch.from_numpy(x))[graph.nodes[-1].name]
    np.testing.assert_allclose(seen.numpy(), expected, atol=1e-4)
    return graph


INT = np.int64


def test_names_come_from_the_weights(tmp_path: Path) -> None:
    tail, more = ending("z", 5)
    ops = [helper.make_node("Conv", ["x", "layer1.0.conv.weight"], ["z"], name="/layer1/Conv"), *tail]
    graph = check(ops, {"layer1.0.conv.weight": array(5, 4, 1, 1), **more}, tmp_path)
    assert [node.name for node in graph.nodes] == ["layer1.0.conv", "global_avg_pool", "fc"]


def test_product_and_bias_in_two_operations_become_one_linear_layer(tmp_path: Path) -> None:
    ops = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["y"]),
    ]
    graph = check(ops, {"axes": np.array([2, 3], INT), "w": array(4, 3), "b": array(3)}, tmp_path)
    assert len(graph.nodes) == 2


def test_reshape_with_a_constant_node_flattens_maps(tmp_path: Path) -> None:
    ops = [
        helper.make_node("Constant", [], ["to"], value=numpy_helper.from_array(np.array([-1, 256], INT))),
        helper.make_node("Reshape", ["x", "to"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    assert [node.name for node in check(ops, {"w": array(256, 3)}, tmp_path).nodes] == ["flatten", "linear"]


def test_a_pooled_map_that_is_convolved_again_stays_a_map(tmp_path: Path) -> None:
    tail, more = ending("z", 5)
    ops = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["z"]),
        *tail,
    ]
    graph = check(ops, {"w": array(5, 4, 1, 1), **more}, tmp_path)
    assert [type(node) for node in graph.nodes[::2]] == [AvgPool, GlobalAvgPool]


def test_functions_that_a_file_writes_in_parts_become_one(tmp_path: Path) -> None:
    """x · (1 + erf(x / √2)) / 2, x · hard sigmoid(x) and x · sigmoid(x), one behind the other."""
    tail, more = ending("z", 4)
    constants = {"root": np.float32(np.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5), **more}
    ops = [
        helper.make_node("Div", ["x", "root"], ["a"]),
        helper.make_node("Erf", ["a"], ["b"]),
        helper.make_node("Add", ["b", "one"], ["c"]),
        helper.make_node("Mul", ["x", "c"], ["d"]),
        helper.make_node("Mul", ["d", "half"], ["e"]),
        helper.make_node("HardSigmoid", ["e"], ["f"], alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", ["f", "e"], ["g"]),
        helper.make_node("Sigmoid", ["g"], ["h"]),
        helper.make_node("Mul", ["g", "h"], ["z"]),
        *tail,
    ]
    graph = check(ops, constants, tmp_path)
    assert [n.function for n in graph.nodes if isinstance(n, Unary)] == ["gelu", "hard_swish", "silu"]


def test_codes_that_a_file_chose_are_kept(tmp_path: Path) -> None:
    """QuantizeLinear and DequantizeLinear around a convolution: weights at the values of their codes."""
    tail, more = ending("z", 5)
    codes = RNG.integers(-127, 128, (5, 4, 1, 1)).astype(np.int8)
    constants = {"xs": np.float32(0.02), "xz": np.uint8(120), "w": codes}
    constants |= {"ws": np.abs(array(5)) / 100, "wz": np.zeros(5, np.int8)}
    ops = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "xs", "xz"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["dw"], axis=0),
        helper.make_node("Conv", ["d", "dw"], ["z"]),
        *tail,
    ]
    graph = check(ops, {**constants, **more}, tmp_path, opset=21)
    assert isinstance(graph.nodes[0], Grid)
    assert (graph.nodes[0].low, graph.nodes[0].high) == (-120, 135)


@pytest.mark.parametrize("scale", [(), (1,)])
@pytest.mark.parametrize("zero", [(), (1,), None])
def test_one_scale_and_one_zero_are_read_however_their_shapes_are_written(
    zero: tuple[int, ...] | None, scale: tuple[int, ...], tmp_path: Path
) -> None:
    """Weights by tensor with an int32 bias, as static quantisation writes them: scales (1,) beside zeros ()."""
    rng = np.random.default_rng(0)
    w, b = rng.integers(-127, 128, (5, 4, 1, 1)).astype(np.int8), rng.integers(-900, 900, 5).astype(np.int32)
    constants = {"xs": np.full(scale, 0.02, np.float32), "w": w, "ws": np.full(scale, 0.01, np.float32), "b": b}
    constants |= {"bs": np.full(scale, 0.0002, np.float32)}
    zeros = {} if zero is None else {"xz": np.full(zero, 120, np.uint8), "wz": np.full(zero, 3, np.int8)}
    zeros |= {} if zero is None else {"bz": np.zeros(zero, np.int32)}
    ops = [
        helper.make_node(kind, [x, f"{name}s", *([f"{name}z"] if zeros else [])], [y])
        for kind, x, name, y in (
            ("QuantizeLinear", "x", "x", "q"),
            ("DequantizeLinear", "q", "x", "d"),
            ("DequantizeLinear", "w", "w", "dw"),
            ("DequantizeLinear", "b", "b", "db"),
        )
    ]
    tail, more = ending("z", 5)
    graph = read(
        model([*ops, helper.make_node("Conv", ["d", "dw", "db"], ["z"]), *tail], {**constants, **zeros, **more}),
        tmp_path,
    )
    conv = next(node for node in graph.nodes if isinstance(node, Conv))
    np.testing.assert_allclose(conv.weight, 0.01 * (w.astype(float) - (3 if zeros else 0)), rtol=1e-6)
    np.testing.assert_allclose(conv.bias, 0.0002 * b, rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "words"),
    [
        (helper.make_node("TopK", ["x", "x"], ["z", "i"], name="best"), r"TopK in best: .*\n  try  "),
        (helper.make_node("Relu", ["x"], ["z"], domain="com.example"), "Relu in z: there is no node for it of com.ex"),
        (helper.make_node("Transpose", ["x"], ["z"], perm=[0, 0, 3, 2]), "order"),
        (helper.make_node("ReduceMean", ["x"], ["z"], axes=[0]), "along the batch"),
        (helper.make_node("Conv", ["x", "x"], ["z"]), "computed"),
        (helper.make_node("Relu", ["nowhere"], ["z"]), "nowhere"),
    ],
)
def test_unsupported_operations_are_named(op: Any, words: str, tmp_path: Path) -> None:
    tail, more = ending("z", 4)
    with pytest.raises(UnsupportedOperation, match=words):
        read(model([op, *tail], more), tmp_path)


def spoiled(change: Any) -> Any:
    tail, more = ending("x", 4)
    made = model(tail, more)
    change(made.graph)
    return made


def computed(*ops: Any, **constants: Any) -> Any:
    """A model whose operations stand before the ending, which reads ``z``."""
    tail, more = ending("z", 4)
    return lambda: model([*ops, *tail], {**constants, **more})


def nested(depth: int) -> Any:
    """Conditions within conditions."""
    ends = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["r"])], "leaf", [], ends)
    for _ in range(depth):
        op = helper.make_node("If", ["yes"], ["r"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([op], "branch", [], ends)
    return helper.make_node("If", ["yes"], ["z"], then_branch=graph, else_branch=graph)


HUGE = np.array([2**40], INT)
HOSTILE: dict[str, tuple[Any, str]] = {
    "a constant too large to fill": (
        computed(helper.make_node("ConstantOfShape", ["n"], ["z"]), n=HUGE),
        "more than",
    ),
    "a range without end": (
        computed(helper.make_node("Range", ["a", "b", "c"], ["z"]), a=np.int64(0), b=np.int64(2**60), c=np.int64(1)),
        "more than",
    ),
    "constants repeated without end": (computed(helper.make_node("Tile", ["n", "n"], ["z"]), n=HUGE), "more than"),
    "a sum of constants that broadcast": (
        computed(helper.make_node("Add", ["a", "b"], ["z"]), a=np.zeros((1, 2**16)), b=np.zeros((2**16, 1))),
        "more than",
    ),
    **{
        f"a {kind} of constants that broadcast": (
            computed(helper.make_node(kind, ["a", "b"], ["z"]), a=np.zeros((1, 2**16)), b=np.zeros((2**16, 1))),
            "more than",
        )
        for kind in ("Sum", "Mean", "PRelu", "Clip", "LayerNormalization")
    },
    "a map repeated without end": (
        computed(helper.make_node("Expand", ["x", "n"], ["z"]), n=np.array([2**40, 1, 4, 8, 8], INT)),
        "elements, more than",
    ),
    "a map tiled without end": (
        computed(helper.make_node("Tile", ["x", "n"], ["z"]), n=np.array([1, 1, 2**40, 1], INT)),
        "elements, more than",
    ),
    "padding without end": (
        computed(helper.make_node("Pad", ["x", "n"], ["z"], mode="edge"), n=np.array([0, 0, 2**40, 0] * 2, INT)),
        "elements, more than",
    ),
    "a map enlarged without end": (
        computed(helper.make_node("Resize", ["x", "", "s"], ["z"]), s=np.array([1, 1, 1e9, 1e9], np.float32)),
        "elements, more than",
    ),
    "a transposed stride without end": (
        computed(helper.make_node("ConvTranspose", ["x", "w"], ["z"], strides=[2**20, 2**20]), w=array(4, 4, 1, 1)),
        "elements, more than",
    ),
    "blocks of no places": (computed(helper.make_node("DepthToSpace", ["x"], ["z"], blocksize=0)), "not a valid"),
    "a shape that does not fit": (
        computed(helper.make_node("Reshape", ["x", "n"], ["z"]), n=np.array([-1, -1], INT)),
        "a shape",
    ),
    "conditions in conditions": (computed(nested(9), yes=np.array(True)), "there is no node"),
    "two inputs": (
        lambda: spoiled(lambda g: g.input.append(helper.make_tensor_value_info("q", 1, [1]))),
        "open sizes beyond the batch",
    ),
    "too many nodes": (lambda: spoiled(lambda g: g.node.extend(list(g.node[:1]) * 5000)), "more than 4096"),
    "node without inputs": (lambda: spoiled(lambda g: g.node[0].ClearField("input")), "not a valid network"),
    "node without outputs": (lambda: spoiled(lambda g: g.node[0].ClearField("output")), "not a valid network"),
    "weight of another shape": (
        lambda: spoiled(lambda g: g.initializer[0].CopyFrom(numpy_helper.from_array(array(3, 9), "fc.weight"))),
        "not a valid network",
    ),
    "old opset": (lambda: model(*ending("x", 4), opset=6), "opset 6"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_onnx_files_are_refused(name: str, tmp_path: Path) -> None:
    make, words = HOSTILE[name]
    with pytest.raises((NetworkFileError, UnsupportedOperation), match=words):
        read(make(), tmp_path)


def test_without_the_package_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    (tmp_path / "net.onnx").write_bytes(b"anything")
    with pytest.raises(MissingExtra, match=r"rram-hil\[onnx\]"):
        import_graph(tmp_path / "net.onnx", classes=CLASSES, preprocess=Preprocess((0.0,), (1.0,)))
