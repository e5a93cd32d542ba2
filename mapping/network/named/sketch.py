"""Nodes of a network written down one after the other, weights asked for by their names in a state dict."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mapping.network.compose.composer import Composer, ModulePlace
from mapping.operators.activations import Relu, Relu6
from mapping.operators.affine import BatchNorm
from mapping.operators.joins import Add
from mapping.operators.moves import Flatten
from mapping.operators.node import INPUT, Array, Node
from mapping.operators.pools import GlobalAvgPool, MaxPool
from mapping.operators.products import Conv, Linear
from mapping.operators.step import Shape


@dataclass(frozen=True, slots=True)
class WantedArray:
    """An array of a state dict: its ``key`` and ``shape``, and what it is before any training.

    ``fan_in`` inputs to each output of a layer, or every element is ``value`` where there are none.
    """

    key: str
    shape: Shape
    fan_in: int = 0
    value: float = 0.0


class Sketch:
    """A network in the making; each method gives the name of the node that it wrote.

    ``weights`` gives each array that is wanted. Names of nodes are those that capture gives a torch module of the same
    parts: of a layer its own, of a function that of the module around it and its kind.
    """

    def __init__(self, input_shape: Shape, weights: Callable[[WantedArray], Array]) -> None:
        self._composer = Composer(1)
        self._composer.start(input_shape)
        self._weights = weights

    def shape(self, node: str = INPUT) -> Shape:
        """The shape of a node of one image."""
        return self._composer.shape(node)

    def conv(
        self,
        x: str,
        name: str,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = False,
    ) -> str:
        shape = (outputs, self.shape(x)[0] // groups, kernel, kernel)
        fields: dict[str, Any] = {"stride": (stride, stride), "padding": (padding, padding), "groups": groups}
        return self._layer(Conv, x, name, shape, bias, **fields)

    def linear(self, x: str, name: str, outputs: int) -> str:
        return self._layer(Linear, x, name, (outputs, *self.shape(x)), True)

    def norm(self, x: str, name: str, eps: float = 1e-5) -> str:
        """Batch normalisation of the channels of ``x``."""
        channels = (self.shape(x)[0],)
        parts = {"scale": ("weight", 1), "shift": ("bias", 0), "mean": ("running_mean", 0)}
        parts["variance"] = ("running_var", 1)
        arrays = {
            field: self._weights(WantedArray(f"{name}.{key}", channels, value=value))
            for field, (key, value) in parts.items()
        }
        return self._composer.add(BatchNorm, [x], name=name, eps=eps, **arrays)

    def relu(self, x: str, place: str = "") -> str:
        return self.function(Relu, x, place)

    def relu6(self, x: str, module: str) -> str:
        return self.function(Relu6, x, module, own=True)

    def max_pool(self, x: str, size: int, stride: int, padding: int = 0, *, module: str = "") -> str:
        fields: dict[str, Any] = {"kernel": (size, size), "stride": (stride, stride), "padding": (padding, padding)}
        return self.function(MaxPool, x, module, own=bool(module), **fields)

    def mean_of_map(self, x: str, module: str = "") -> str:
        return self.function(GlobalAvgPool, x, module, own=bool(module))

    def flat(self, x: str, module: str = "") -> str:
        return self.function(Flatten, x, module, own=bool(module))

    def sum(self, x: str, y: str, place: str) -> str:
        return self.function(Add, x, place, more=(y,))

    def function(
        self, kind: type[Node], x: str, place: str, *, own: bool = False, more: tuple[str, ...] = (), **fields: Any
    ) -> str:
        """A node without weights, in the module ``place``; ``own`` if the module is nothing else."""
        self._composer.begin(ModulePlace(place, own))
        return self._composer.add(kind, [x, *more], **fields)

    def nodes(self, last: str) -> tuple[Node, ...]:
        """All that ``last`` needs, in order and by their names."""
        return self._composer.finish(last)

    def _layer(self, kind: type[Node], x: str, name: str, shape: Shape, bias: bool, **fields: Any) -> str:
        fan_in = math.prod(shape[1:])
        fields["weight"] = self._weights(WantedArray(f"{name}.weight", shape, fan_in))
        if bias:
            fields["bias"] = self._weights(WantedArray(f"{name}.bias", shape[:1], fan_in))
        return self._composer.add(kind, [x], name=name, **fields)
