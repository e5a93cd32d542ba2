"""A workload as MNSIM 2.0 counts it: convolutions, fully connected, pooling and element-wise layers.

MNSIM 2.0 gives clamps, moves and concatenations no cost; their readers take the producers before them as inputs.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from cim.cost.workload import INPUT, LayerWork, WorkKind, Workload
from cim.mnsim.config import MnsimError


class LayerKind(enum.StrEnum):
    CONV = "conv"
    FC = "fc"
    POOLING = "pooling"
    ELEMENT_WISE = "element_wise"

    @property
    def on_cells(self) -> bool:
        return self in (LayerKind.CONV, LayerKind.FC)


KINDS = {
    WorkKind.CONV: LayerKind.CONV,
    WorkKind.LINEAR: LayerKind.FC,
    WorkKind.MAX_POOL: LayerKind.POOLING,
    WorkKind.AVG_POOL: LayerKind.POOLING,
    WorkKind.ADD: LayerKind.ELEMENT_WISE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedLayer:
    """One layer with its place in the list: ``producers`` and ``readers`` are indices of counted layers.

    ``channels_in`` of a fully connected layer counts all its inputs, which lie at one position.
    ``operands``: tensors that enter, the image included.
    """

    name: str
    kind: LayerKind
    producers: tuple[int, ...]
    readers: tuple[int, ...]
    operands: int
    channels_in: int
    channels_out: int
    width_in: int
    height_out: int
    width_out: int
    kernel: int
    stride: int
    padding: int
    input_bits: int
    weight_bits: int
    output_bits: int

    @property
    def positions(self) -> int:
        return self.height_out * self.width_out

    @property
    def fresh(self) -> int:
        """Rows (and columns) of input that the first output needs: max(k − p, 0)."""
        return max(self.kernel - self.padding, 0)


def counted_layers(workload: Workload) -> tuple[CountedLayer, ...]:
    """The layers that MNSIM 2.0 charges for, in order.

    Raises:
        MnsimError: no layer on cells, or a layer of a form that MNSIM 2.0 has no equation for.
    """
    if not any(layer.kind.on_cells for layer in workload.layers):
        raise MnsimError(f"{workload.name}: none of its {len(workload.layers)} layers is on cells")
    sources: dict[str, tuple[int, ...]] = {INPUT: ()}  # counted layers that a name stands for
    kept: list[tuple[LayerWork, tuple[int, ...]]] = []
    readers: list[list[int]] = []
    for layer in workload.layers:
        reads = tuple(sorted({i for name in layer.inputs for i in sources[name]}))
        if layer.kind not in KINDS:
            sources[layer.name] = reads
            continue
        for i in reads:
            readers[i].append(len(kept))
        sources[layer.name] = (len(kept),)
        kept.append((layer, reads))
        readers.append([])
    return tuple(_counted(layer, reads, tuple(readers[n])) for n, (layer, reads) in enumerate(kept))


def _counted(layer: LayerWork, producers: tuple[int, ...], readers: tuple[int, ...]) -> CountedLayer:
    kind = KINDS[layer.kind]
    _refuse_unlike_sides(layer)
    channels, _, width = layer.in_shape
    if kind is LayerKind.FC:
        if layer.out_shape[1:] != (1, 1):
            raise MnsimError(
                f"{layer.name}: a fully connected layer with {layer.positions} output positions; 1 is possible"
            )
        channels, width = math.prod(layer.in_shape), 1
    if kind is LayerKind.ELEMENT_WISE:
        channels, _, width = layer.out_shape
    return CountedLayer(
        name=layer.name,
        kind=kind,
        producers=producers,
        readers=readers,
        operands=len(layer.inputs),
        channels_in=channels,
        channels_out=layer.out_shape[0],
        width_in=width,
        height_out=layer.out_shape[1],
        width_out=layer.out_shape[2],
        kernel=layer.kernel[0],
        stride=layer.stride[0],
        padding=layer.padding[0],
        input_bits=layer.input_bits,
        weight_bits=layer.weight_bits,
        output_bits=layer.output_bits,
    )


def _refuse_unlike_sides(layer: LayerWork) -> None:
    for name in ("kernel", "stride", "padding"):
        down, across = getattr(layer, name)
        if down != across:
            raise MnsimError(f"{layer.name}: {name} {down} x {across}; MNSIM has square ones only")
    if layer.dilation != (1, 1):
        raise MnsimError(f"{layer.name}: dilation {layer.dilation[0]} x {layer.dilation[1]}; MNSIM has none")
