"""Bits of the layers of a network, and of the codes between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cim.cost.workload import INPUT, WorkKind
from search.space.architecture import Architecture
from search.space.genes import Bits, Space
from search.space.operators import Layer


@dataclass(frozen=True, slots=True)
class Precision:
    """Bits of all layers; of those of a position, by its name; of those that read the image or give the logits.

    What no layer on cells takes, such as the terms of a sum, has codes of ``common``.
    """

    common: Bits
    edges: Bits | None = None
    positions: Mapping[str, Bits] = field(default_factory=dict)

    def of(self, layer: Layer) -> Bits:
        """Bits of weights and inputs of a layer that is computed by the array."""
        if self.edges is not None and (INPUT in layer.inputs or layer.kind is WorkKind.LINEAR):
            return self.edges
        return self.positions.get(".".join(layer.name.split(".")[:2]), self.common)

    def codes(self, layers: Iterable[Layer]) -> dict[str, int]:
        """Bits of every tensor: the most that a layer on cells takes from it, else those of ``common``."""
        bits: dict[str, int] = {}
        every = tuple(layers)
        for layer in every:
            for name in layer.inputs if layer.kind.on_cells else ():
                bits[name] = max(bits.get(name, 0), self.of(layer).activation)
        names = {name for layer in every for name in (layer.name, *layer.inputs)}
        return dict.fromkeys(names, self.common.activation) | bits


def precision(space: Space, architecture: Architecture) -> Precision:
    """``common`` has the most bits of any position: what is only added or averaged loses nothing."""
    weights, activations = architecture.weight_bits, architecture.activation_bits
    common = Bits(max(weights), max(activations))
    each = {place.name: space.bit_group(i) for i, place in enumerate(space.positions)}
    return Precision(common, space.edges, {name: Bits(weights[i], activations[i]) for name, i in each.items()})
