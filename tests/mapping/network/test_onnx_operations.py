"""ONNX files with one operation that real files have: each gives what ONNX's own reference gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mapping.network.compose.refusal import UnsupportedOperation
from mapping.network.file_check import NetworkFileError
from mapping.network.float_run import forward
from mapping.network.graph import Preprocess
from mapping.network.importers import import_graph
from mapping.operators.products import Linear

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from .test_import_onnx import array, ending, model, read  # noqa: E402

INT = np.int64
PLACES: dict[str, tuple[list[Any], dict[str, Any], int]] = {
    "dropout and identity": (
        [helper.make_node("Dropout", ["x"], ["d"]), helper.make_node("Identity", ["d"], ["z"])],
        {},
        4,
    ),
    "hyperbolic functions": (
        [
            helper.make_node(kind, [source], [kind if kind != "Atanh" else "z"])
            for source, kind in zip(
                ("x", "Tanh", "Sinh", "Cosh", "Acosh", "Asinh", "Sin"),
                ("Tanh", "Sinh", "Cosh", "Acosh", "Asinh", "Sin", "Atanh"),
                strict=True,
            )
        ],
        {},
        4,
    ),
    "shrunk": ([helper.make_node("Shrink", ["x"], ["z"])], {}, 4),
    "relu above a threshold": ([helper.make_node("ThresholdedRelu", ["x"], ["z"])], {}, 4),
    "local response norm": ([helper.make_node("LRN", ["x"], ["z"], size=3, alpha=0.5, beta=0.7, bias=1.5)], {}, 4),
    "a norm and functions of constants": (
        [
            helper.make_node("LayerNormalization", ["p", "s"], ["q"]),
            helper.make_node("Gelu", ["q"], ["g"]),
            helper.make_node("Mul", ["x", "zero"], ["none"]),
            helper.make_node("Add", ["none", "g"], ["h"]),
            helper.make_node("Mul", ["x", "h"], ["z"]),
        ],
        {"p": array(4, 8, 8), "s": array(8), "zero": np.float32(0)},
        4,
    ),
    "operations out of order": (
        [helper.make_node("Relu", ["t"], ["z"]), helper.make_node("Tanh", ["x"], ["t"])],
        {},
        4,
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_an_operation_gives_what_onnx_gives(name: str, tmp_path: Path) -> None:
    ops, constants, channels = PLACES[name]
    tail, more = ending("z", channels)
    made = model([*ops, *tail], {**constants, **more}, 20)
    graph = read(made, tmp_path)
    if name == "operations out of order":  # the reference wants them in order
        made = model([ops[1], ops[0], *tail], {**constants, **more}, 20)
    x = array(4 if name == "local response norm" else 2, 4, 8, 8)  # of which ONNX's reference does as many channels
    expected = ReferenceEvaluator(made).run(None, {"x": x})[0]
    seen = forward(graph, torch.from_numpy(x))[graph.nodes[-1].name]
    np.testing.assert_allclose(seen.numpy(), expected, atol=1e-4)


def test_operations_that_need_each_other_are_refused(tmp_path: Path) -> None:
    tail, more = ending("z", 4)
    ops = [helper.make_node("Add", ["x", "b"], ["z"]), helper.make_node("Relu", ["z"], ["b"])]
    with pytest.raises(NetworkFileError, match="needs itself"):
        read(model([*ops, *tail], more), tmp_path)


@pytest.mark.parametrize("flat", [True, False])
def test_attention_as_one_operation_gives_what_torch_gives(flat: bool, tmp_path: Path) -> None:
    """Opset 23: two heads that share keys, masked by truth values."""
    mask = np.tril(np.ones((8, 8), bool), 1)
    shape = [0, 8, 32] if flat else [0, 2, 8, 16]
    heads = {"q_num_heads": 2, "kv_num_heads": 2} if flat else {}
    ops = [
        helper.make_node("Reshape", ["x", "to"], ["t"]),
        helper.make_node("Attention", ["t", "t", "t", "mask"], ["a"], **heads),
        helper.make_node("Reshape", ["a", "back"], ["z"]),
    ]
    tail, more = ending("z", 4)
    constants = {"to": np.array(shape, INT), "back": np.array([0, 4, 8, 8], INT), "mask": mask, **more}
    graph = read(model([*ops, *tail], constants, 23), tmp_path)
    x = torch.from_numpy(array(2, 4, 8, 8))
    t = x.reshape(2, 8, 2, 16).transpose(1, 2) if flat else x.reshape(2, 2, 8, 16)
    z = torch.nn.functional.scaled_dot_product_attention(t, t, t, attn_mask=torch.from_numpy(mask))
    z = (z.transpose(1, 2) if flat else z).reshape(2, 4, 8, 8)
    expected = z.mean((2, 3)) @ torch.from_numpy(more["fc.weight"]).T + torch.from_numpy(more["fc.bias"])
    torch.testing.assert_close(forward(graph, x)[graph.nodes[-1].name], expected, atol=1e-4, rtol=1e-4)


def quantised(x: Any, scale: float, zero: int) -> Any:
    return ((x / scale).round().clip(-zero, 255 - zero) * scale).astype(np.float32)


def test_a_file_of_codes_runs_at_the_values_of_its_codes(tmp_path: Path) -> None:
    """QuantizeLinear, QLinearConv, QLinearAdd, QLinearGlobalAveragePool, QGemm and DequantizeLinear in a row."""
    rng = np.random.default_rng(0)
    w, v = rng.integers(-90, 90, (4, 4, 1, 1)).astype(np.int8), rng.integers(-90, 90, (3, 4)).astype(np.int8)
    scales = np.array([0.01, 0.02, 0.015, 0.005], np.float32)
    bias = rng.integers(-900, 900, 4).astype(np.int32)
    constants = {
        **{
            f"{name}s": np.float32(s)
            for name, s in (("x", 0.02), ("y", 0.0311), ("a", 0.0417), ("p", 0.0213), ("o", 0.02))
        },
        **{f"{name}z": np.uint8(z) for name, z in (("x", 120), ("y", 100), ("a", 110), ("p", 90), ("o", 128))},
        "w": w,
        "ws": scales,
        "wz": np.zeros(4, np.int8),
        "b": bias,
        "v": v,
        "vs": np.float32(0.01),
        "vz": np.int8(0),
        "c": rng.integers(-90, 90, 3).astype(np.int32),
    }
    ms = {"domain": "com.microsoft"}
    ops = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("QLinearConv", ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["k"]),
        helper.make_node("QLinearAdd", ["k", "ys", "yz", "q", "xs", "xz", "as", "az"], ["s"], **ms),
        helper.make_node("QLinearGlobalAveragePool", ["s", "as", "az", "ps", "pz"], ["g"], **ms),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("QGemm", ["f", "ps", "pz", "v", "vs", "vz", "c", "os", "oz"], ["o"], transB=1, **ms),
        helper.make_node("DequantizeLinear", ["o", "os", "oz"], ["y"]),
    ]
    graph = read(model(ops, constants, 21), tmp_path)
    x = array(16, 4, 8, 8)
    q = quantised(x, 0.02, 120)
    k = np.einsum("bchw,oc->bohw", q, w[:, :, 0, 0] * scales[:, None]) + (bias * 0.02 * scales)[:, None, None]
    p = quantised(quantised(quantised(k, 0.0311, 100) + q, 0.0417, 110).mean((2, 3)), 0.0213, 90)
    expected = quantised(p @ (v * 0.01).T + constants["c"] * 0.000213, 0.02, 128)
    seen = forward(graph, torch.from_numpy(x))[graph.nodes[-1].name].numpy()
    assert (np.abs(seen - expected) < 1e-5).mean() > 0.95  # the others: ties of rounding
    assert np.abs(seen - expected).max() <= 0.0201


def test_a_dynamically_quantised_file_keeps_its_weights(tmp_path: Path) -> None:
    w = np.random.default_rng(0).integers(0, 255, (256, 3)).astype(np.uint8)
    ops = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("DynamicQuantizeLinear", ["f"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        helper.make_node("Cast", ["i"], ["r"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["both"]),
        helper.make_node("Mul", ["r", "both"], ["y"]),
    ]
    graph = read(model(ops, {"w": w, "wz": np.uint8(128), "ws": np.float32(0.01)}), tmp_path)
    x = array(2, 4, 8, 8)
    expected = x.reshape(2, -1) @ ((w.astype(np.float32) - 128) * 0.01)
    seen = forward(graph, torch.from_numpy(x))[graph.nodes[-1].name].numpy()
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "params"), [("Relu", []), ("LeakyRelu", [0.2]), ("Clip", [-0.1, 0.4])])
def test_a_convolution_with_its_activation_in_one_operation(kind: str, params: list[float], tmp_path: Path) -> None:
    w, b = array(4, 4, 3, 3), array(4)
    op = helper.make_node(
        "FusedConv", ["x", "w", "b"], ["z"], pads=[1] * 4, activation=kind,
        domain="com.microsoft", **({"activation_params": params} if params else {}),
    )  # fmt: skip
    tail, more = ending("z", 4)
    graph = read(model([op, *tail], {"w": w, "b": b, **more}), tmp_path)
    x = torch.from_numpy(array(2, 4, 8, 8))
    z = torch.nn.functional.conv2d(x, torch.from_numpy(w), torch.from_numpy(b), padding=1)
    of = {"Relu": torch.relu, "LeakyRelu": lambda v: torch.nn.functional.leaky_relu(v, 0.2)}
    z = of.get(kind, lambda v: v.clamp(-0.1, 0.4))(z)
    expected = z.mean((2, 3)) @ torch.from_numpy(more["fc.weight"]).T + torch.from_numpy(more["fc.bias"])
    torch.testing.assert_close(forward(graph, x)[graph.nodes[-1].name], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("means", [1, 3])
def test_a_file_that_takes_channels_last_is_read_as_images(means: int, tmp_path: Path) -> None:
    tail, more = ending("z", 3)
    made = model([helper.make_node("Transpose", ["x"], ["z"], perm=[0, 3, 1, 2]), *tail], more)
    dims = made.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims[1:], (8, 6, 3), strict=True):
        dim.dim_value = size
    path = tmp_path / "net.onnx"
    path.write_bytes(made.SerializeToString())
    graph = import_graph(path, classes=("a", "b", "c"), preprocess=Preprocess((0.5,) * means, (0.25,) * means))
    assert graph.input_shape == (3, 8, 6)
    assert graph.preprocess == Preprocess((0.5,) * 3, (0.25,) * 3)
    x = torch.randn(2, 3, 8, 6)
    expected = x.mean((2, 3)) @ torch.from_numpy(more["fc.weight"]).T + torch.from_numpy(more["fc.bias"])
    torch.testing.assert_close(forward(graph, x)[graph.nodes[-1].name], expected, atol=1e-5, rtol=1e-4)


def beside(folder: Path, **said: str) -> Any:
    """A model whose weights are in ``weights.bin`` beside it."""
    tail, more = ending("x", 4)
    made = model(tail, more)
    tensor = made.graph.initializer[0]
    (folder / "weights.bin").write_bytes(b"head" + tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", "offset": "4", "length": "48", **said}.items():
        tensor.external_data.add(key=key, value=value)
    return made, more


def test_weights_beside_a_file_are_read(tmp_path: Path) -> None:
    made, more = beside(tmp_path)
    graph = read(made, tmp_path)
    layer = graph.nodes[-1]
    assert isinstance(layer, Linear)
    np.testing.assert_array_equal(layer.weight, more["fc.weight"])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"location": "nowhere.bin"}, "another file"),
        ({"location": "../weights.bin"}, "outside of its folder"),
        ({"location": "/etc/passwd"}, "outside of its folder"),
        ({"location": "link"}, "outside of its folder"),
        ({"location": "."}, "another file"),
        ({"offset": "8"}, "48 bytes"),
        ({"offset": "-4"}, "48 bytes"),
        ({"length": "4000000000000"}, "48 bytes"),
        ({"length": "much"}, "cannot be read"),
    ],
)
def test_weights_beside_a_file_that_are_elsewhere_or_of_another_size_are_refused(
    said: dict[str, str], words: str, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    made, _ = beside(tmp_path, **said)
    with pytest.raises(NetworkFileError, match=words):
        read(made, tmp_path)


def test_what_onnx_runtime_makes_of_several_operations_is_read(tmp_path: Path) -> None:
    """x W with an activation, a scaled product with a turned matrix, GELUs, and the norm of a sum with its sum."""
    w, b, turned, scale, shift = array(8, 256), array(8), array(3, 8), array(3), array(3)
    own = {"domain": "com.microsoft"}
    ops = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node(
            "FusedGemm", ["f", "w", "b"], ["g"], transB=1, activation="LeakyRelu", activation_alpha=0.1, **own
        ),
        helper.make_node("FusedMatMul", ["g", "t"], ["p"], transB=1, alpha=0.5, **own),
        helper.make_node("QuickGelu", ["p"], ["q"], alpha=1.5, **own),
        helper.make_node("BiasGelu", ["p", "v"], ["e"], **own),
        helper.make_node(
            "SkipLayerNormalization", ["q", "e", "s", "v", "v"], ["n", "", "", "sum"], epsilon=1e-5, **own
        ),
        helper.make_node("Add", ["n", "sum"], ["y"]),
    ]
    graph = read(model(ops, {"w": w, "b": b, "t": turned, "s": scale, "v": shift}), tmp_path)
    x = torch.from_numpy(array(2, 4, 8, 8))
    w, b, turned, scale, shift = map(torch.from_numpy, (w, b, turned, scale, shift))
    p = 0.5 * torch.nn.functional.leaky_relu(x.flatten(1) @ w.T + b, 0.1) @ turned.T
    total = p * torch.sigmoid(1.5 * p) + torch.nn.functional.gelu(p + shift) + shift
    expected = torch.nn.functional.layer_norm(total, (3,), scale, shift) + total
    torch.testing.assert_close(forward(graph, x)[graph.nodes[-1].name], expected, atol=1e-4, rtol=1e-4)


def test_a_file_optimised_for_one_processor_is_refused_with_what_to_write(tmp_path: Path) -> None:
    ops = [helper.make_node("Conv", ["x", "w"], ["y"], domain="com.microsoft.nchwc")]
    with pytest.raises(UnsupportedOperation, match="ORT_ENABLE_EXTENDED"):
        read(model(ops, {"w": array(4, 4, 3, 3)}), tmp_path)
