"""One operation with its arguments by name, as the rules see it, whichever format it came from."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mapping.network.compose.composer import Composer
from mapping.network.compose.refusal import BROKEN, refuse
from mapping.network.compose.values import Constant, Operand, Value, activation
from mapping.operators.family import NamedOperation
from mapping.operators.node import Array
from mapping.operators.step import Shape


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments by the names of ATen's schema: values, arrays, numbers.

    ``shape`` of its (first) result, where the format says it before; ``owners`` gives the module of an argument that
    is its parameter, ``booleans`` the arguments of truth values; ``outputs`` that are asked for; ``opset`` of ONNX.
    """

    arguments: Mapping[str, Any]
    shape: Shape = ()
    owners: Mapping[str, str] = field(default_factory=dict)
    booleans: frozenset[str] = frozenset()
    overload: str = ""
    outputs: int = 1
    opset: int = 99

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)

    def operand(self, name: str) -> Operand:
        """A tensor or number as a value or array."""
        found = self.arguments[name]
        return found if isinstance(found, Value) else np.asarray(found)

    def number(self, name: str, default: float) -> float:
        found = self.arguments.get(name)
        return default if found is None else float(np.ravel(found)[0])

    @property
    def x(self) -> Operand:
        """The first tensor, called self or input."""
        return self.operand("self" if "self" in self.arguments else "input")

    @property
    def value(self) -> Value:
        """The first tensor, which must be an activation."""
        return activation(self.x)

    def weight(self, name: str) -> Array:
        """A stored tensor as float32."""
        found = self.arguments.get(name)
        if found is None or isinstance(found, Value):
            refuse(f"its {name} is computed, not a stored tensor", "a layer with weights of its own")
        return np.ascontiguousarray(found, np.float32)

    def optional(self, name: str) -> Array | None:
        return None if self.arguments.get(name) is None else self.weight(name)

    def owner(self, name: str) -> str:
        return self.owners.get(name, "")

    def stored(self, name: str) -> Constant:
        """A stored tensor, unchanged."""
        found = self.arguments.get(name)
        if found is None:
            refuse(f"its {name} is missing", BROKEN)
        if isinstance(found, Value):
            refuse(f"its {name} is computed, not stored", "a stored tensor (an initializer) in its place")
        return np.asarray(found)

    def whole(self, name: str) -> list[int] | None:
        """A stored vector of whole numbers, as shapes and axes are; None where it is left out."""
        return None if self.arguments.get(name) is None else [int(v) for v in self.stored(name).ravel()]

    def integers(self, name: str, count: int) -> tuple[int, ...]:
        """``count`` integers of an argument that may give one for all."""
        found = self.arguments[name]
        values = [int(v) for v in (found if isinstance(found, Sequence) else [found])]
        return tuple(values if len(values) == count else values * count)


Rule = Callable[[Composer, Call], Any]


@dataclass(frozen=True, slots=True)
class Form:
    """How one name of a format reads: inputs in order, then attributes as (argument, attribute, default)."""

    name: str
    rule: Rule
    inputs: tuple[str, ...]
    attributes: tuple[tuple[str, str, Any], ...]

    def arguments(self, inputs: Sequence[Any], attributes: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for argument, attribute, default in (*((name, name, None) for name in self.inputs), *self.attributes):
            given = attributes.get(attribute, default)
            if given is not None:
                found[argument] = given.decode("utf-8", "replace") if isinstance(given, bytes) else given
        for place, argument in enumerate(self.inputs):
            if argument.startswith("*"):
                found[argument[1:]] = list(inputs[place:])
            elif place < len(inputs) and inputs[place] is not None:
                found[argument] = inputs[place]
        return found


def forms(operations: Iterable[NamedOperation], of: str) -> Iterator[Form]:
    """The names in a format (``onnx``, ``lite``) that operations have, and how each reads."""
    for operation in operations:
        for name, given in re.findall(r"([\w.]+(?::\w+)?)(\([^)]*\))?", getattr(operation, of)):
            inputs, _, attributes = (given or "(self)").strip("()").partition(";")
            named = re.findall(r"(\w+)(?::(\w+))?(?:=([^,]+))?", attributes)
            yield Form(
                name,
                operation.rule,
                tuple(re.findall(r"\*?\w+", inputs)),
                tuple((to, source or to, ast.literal_eval(value) if value else None) for to, source, value in named),
            )


def aten_rules(operations: Iterable[NamedOperation]) -> dict[str, Rule]:
    return {name: operation.rule for operation in operations for name in operation.aten.split()}
