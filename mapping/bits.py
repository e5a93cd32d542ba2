"""Bit widths of weights and activations: of a whole network, and of single layers that differ."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

LEAST, MOST = 2, 8
WEIGHT_BITS, ACTIVATION_BITS = 4, 8
"""Of a network that comes without bits of its own, unless others are asked for."""
OWN_CODES_BITS = 8
"""Of weights and activations of a network that comes with codes of its own."""
DIGITAL_BITS = 15
"""Codes that digital operations alone read; unsigned ones fit 16 bits too."""
TABLE_BITS = 12
"""Codes that a table is read with."""
FACTOR_BITS = 8
"""Codes of activations that are multiplied with each other as matrices."""


@dataclass(frozen=True, slots=True)
class LayerBits:
    """Bit widths of one layer; None takes the network's width.

    ``activation`` is the width of the codes that the layer takes.
    """

    weight: int | None = None
    activation: int | None = None

    def __post_init__(self) -> None:
        for name, bits in (("weight", self.weight), ("activation", self.activation)):
            if bits is not None and (type(bits) is not int or not LEAST <= bits <= MOST):
                raise ValueError(f"{name} bits must be {LEAST} to {MOST}, not {bits!r:.40}")


@dataclass(frozen=True, slots=True)
class BitWidths:
    """Bits of a network, ``layers`` being those that differ."""

    weight: int
    activation: int
    layers: Mapping[str, LayerBits] = field(default_factory=dict)

    def weights_of(self, layer: str) -> int:
        return self.layers.get(layer, LayerBits()).weight or self.weight

    def inputs_of(self, layer: str) -> int:
        """Bits of the codes that a layer takes."""
        return self.layers.get(layer, LayerBits()).activation or self.activation

    def different_weights(self) -> dict[str, int]:
        """Layers whose weights have another width than the network's."""
        return {name: self.weights_of(name) for name in self.layers if self.weights_of(name) != self.weight}


def parse_layer_bits(text: str) -> dict[str, LayerBits]:
    """Bits by layer from ``conv1=8,fc=W8A6,head=A6``; a bare number is weight bits. Raises ``ValueError``.

    Args:
        text: as the command line takes it.

    Returns:
        bits by the name of the layer.

    Example:
        >>> parse_layer_bits("conv1=8,fc=A6")["fc"]
        LayerBits(weight=None, activation=6)
    """
    found = {}
    for part in text.split(","):
        layer, _, bits = part.strip().rpartition("=")
        match = re.fullmatch(r"(?:W?(\d+))?(?:A(\d+))?", bits)
        if not layer or match is None or not bits or layer in found:
            raise ValueError(f"{part.strip()!r} is not LAYER=BITS, each layer once")
        weight, activation = (int(n) if n else None for n in match.groups())
        found[layer] = LayerBits(weight, activation)
    return found
