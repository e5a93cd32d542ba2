"""One ONNX operation with its inputs and attributes, as the rules see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mapping.network.compose.composer import Composer
from mapping.network.compose.refusal import BROKEN, refuse
from mapping.network.compose.values import Constant, Operand, Value, activation
from mapping.network.operations.call import Call, Form
from mapping.operators.node import Array


@dataclass(frozen=True, slots=True)
class OnnxCall:
    """``inputs`` in order, None where one is left out; ``keys``: names of those that are stored tensors."""

    kind: str
    inputs: Sequence[Operand | None]
    keys: Sequence[str]
    attributes: Mapping[str, Any]
    opset: int
    outputs: int

    def __getitem__(self, name: str) -> Any:
        return self.attributes[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def text(self, name: str, default: str) -> str:
        found = self.attributes.get(name, default)
        return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)

    def given(self, index: int) -> Operand | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def operand(self, index: int) -> Operand:
        found = self.given(index)
        if found is None:
            refuse(f"input {index} is missing", BROKEN)
        return found

    @property
    def x(self) -> Operand:
        return self.operand(0)

    @property
    def value(self) -> Value:
        return activation(self.x)

    def constant(self, index: int) -> Constant | None:
        found = self.given(index)
        if isinstance(found, Value):
            refuse(f"input {index} is computed, not stored", "a stored tensor (an initializer) in its place")
        return found

    def weights(self, index: int) -> Array | None:
        found = self.constant(index)
        return None if found is None else np.ascontiguousarray(found, np.float32)

    def needed(self, index: int) -> Array:
        found = self.weights(index)
        if found is None:
            refuse(f"input {index} is missing", BROKEN)
        return found

    def integers(self, index: int, attribute: Any = None) -> list[int] | None:
        """Integers from constant input ``index`` (later opsets) or from an attribute (earlier ones)."""
        found = self.constant(index)
        chosen = attribute if found is None else found.ravel().tolist()
        return None if chosen is None else [int(v) for v in chosen]

    def number(self, index: int, attribute: Any = None) -> float | None:
        found = self.constant(index)
        return attribute if found is None or found.size == 0 else float(found.ravel()[0])

    def owner(self, index: int) -> str:
        """``layer1.0.conv1`` for the stored tensor ``layer1.0.conv1.weight``."""
        key = self.keys[index] if index < len(self.keys) else ""
        return key.removesuffix(".weight") if key.endswith(".weight") else ""


OnnxRule = Callable[[Composer, OnnxCall], Any]


def by_name(form: Form) -> OnnxRule:
    """The rule of an operation of the table, whose arguments have the names that its form gives them."""

    def rule(c: Composer, a: OnnxCall) -> Any:
        keys = zip(form.inputs, a.keys, strict=False)
        owners = {name: key.removesuffix(".weight") for name, key in keys if key.endswith(".weight")}
        given = form.arguments(a.inputs, a.attributes)
        return form.rule(c, Call(given, owners=owners, outputs=a.outputs, opset=a.opset))

    return rule
