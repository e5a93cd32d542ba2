"""One ATen operation with its arguments by name, as the rules see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mapping.network.compose.composer import Composer
from mapping.network.compose.refusal import refuse
from mapping.network.compose.values import Operand, Value, activation
from mapping.operators.node import Array
from mapping.operators.step import Shape


@dataclass(frozen=True, slots=True)
class Call:
    """Arguments by the names of the operation's schema: values, arrays, numbers; ``shape`` of its (first) result.

    ``owners`` gives the module of an argument that is its parameter, ``booleans`` the arguments of truth values.
    """

    composer: Composer
    overload: str
    arguments: Mapping[str, Any]
    shape: Shape
    owners: Mapping[str, str]
    booleans: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.arguments.get(name, default)

    def operand(self, name: str) -> Operand:
        """A tensor or number as a value or array."""
        found = self.arguments[name]
        return found if isinstance(found, Value) else np.asarray(found)

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
        found = self.arguments[name]
        if found is None or isinstance(found, Value):
            refuse(f"its {name} is computed, not a stored tensor", "a layer with weights of its own")
        return np.ascontiguousarray(found, np.float32)

    def optional(self, name: str) -> Array | None:
        return None if self.arguments.get(name) is None else self.weight(name)

    def owner(self, name: str) -> str:
        return self.owners.get(name, "")

    def integers(self, name: str, count: int) -> tuple[int, ...]:
        """``count`` integers of an argument that may give one for all."""
        found = self.arguments[name]
        values = [int(v) for v in (found if isinstance(found, Sequence) else [found])]
        return tuple(values if len(values) == count else values * count)


Rule = Callable[[Composer, Call], Any]
