"""ONNX files with one operation that real files have: each gives what ONNX's own reference gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

from .test_import_onnx import check, ending  # noqa: E402

FUNCTIONS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    **{
        kind: ([helper.make_node(kind, ["t"], ["z"])], {})
        for kind in (
            *("Ceil", "Sign", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Atanh"),
            *("LogSoftmax", "Shrink", "ThresholdedRelu"),
        )
    },
    "Acosh": ([helper.make_node("Exp", ["t"], ["e"]), helper.make_node("Acosh", ["f"], ["z"])], {}),
    "Mod": ([helper.make_node("Mod", ["t", "d"], ["z"], fmod=1)], {"d": np.float32(0.3)}),
    "Or, Xor, And, Equal": (
        [
            helper.make_node("Greater", ["t", "d"], ["a"]),
            helper.make_node("Less", ["t", "e"], ["b"]),
            helper.make_node("Relu", ["t"], ["r"]),
            helper.make_node("Equal", ["r", "o"], ["f"]),
            helper.make_node("Or", ["a", "b"], ["g"]),
            helper.make_node("Xor", ["g", "f"], ["h"]),
            helper.make_node("And", ["h", "a"], ["i"]),
            helper.make_node("Cast", ["i"], ["z"], to=TensorProto.FLOAT),
        ],
        {"d": np.float32(0.3), "e": np.float32(-0.3), "o": np.float32(0)},
    ),
}
FUNCTIONS["Acosh"][0].insert(1, helper.make_node("Add", ["e", "one"], ["f"]))
FUNCTIONS["Acosh"][1]["one"] = np.float32(1)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_single_elements_gives_what_onnx_gives(name: str, tmp_path: Path) -> None:
    ops, constants = FUNCTIONS[name]
    tail, more = ending("z", 4)
    check([helper.make_node("Tanh", ["x"], ["t"]), *ops, *tail], {**constants, **more}, tmp_path)
