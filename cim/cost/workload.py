"""A network as the cost models see it: layers, shapes, bits and tiles, no weights and no graph.

``mapping.workload`` makes one from a graph or from a compiled program. ``tiles`` is None for a
model that maps layers by a rule of its own (``cim.mnsim``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, StrEnum

import numpy as np
from numpy.typing import NDArray

Shape3 = tuple[int, int, int]
Ints = NDArray[np.int64]

INPUT = "input"


class Executor(StrEnum):
    """The unit that runs a layer: memory cells, the digital logic of the chip, or the host computer."""

    ARRAY = "array"
    LOGIC = "chip logic"
    HOST = "host"


class WorkKind(Enum):
    """Kind of a layer. ``MOVE`` renames or moves codes (flatten, padding of channels, slices, permutations).

    ``TABLE`` looks codes up, ``ELEMENT`` multiplies and adds element by element, ``REDUCE`` sums over axes or takes the
    largest, ``RESAMPLE`` multiplies maps by fixed weights; ``MATMUL``, ``NORM`` and ``SOFTMAX`` work on activations.
    """

    CONV = "conv"
    LINEAR = "linear"
    MAX_POOL = "max_pool"
    AVG_POOL = "avg_pool"
    ADD = "add"
    CONCAT = "concat"
    CLAMP = "clamp"
    MOVE = "move"
    TABLE = "table"
    ELEMENT = "element"
    REDUCE = "reduce"
    RESAMPLE = "resample"
    MATMUL = "matmul"
    NORM = "norm"
    SOFTMAX = "softmax"

    @property
    def on_cells(self) -> bool:
        """Whether the layer is a product of weights in cells."""
        return self in (WorkKind.CONV, WorkKind.LINEAR)

    @property
    def multiplies(self) -> bool:
        """Whether the layer multiplies activations with each other, divides by them or takes roots of them."""
        return self in (WorkKind.MATMUL, WorkKind.NORM, WorkKind.SOFTMAX)


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """The tiles of one layer, arrays int64 (tiles,), in order of slice, outputs, inputs, copy after copy.

    A tile is a rectangle of the layer's matrix, inputs ``input0`` to ``input0 + rows`` and outputs ``output0`` to
    ``output0 + outputs``, on ``macro``. A layer with ``copies`` answers its output positions by all of them, each
    position by one. ``round`` numbers the rewriting of a chip that is too small for all layers at once. Each copy
    answers a block of the output positions (``mapping.program.copies``). ``reads``: how often each tile is read for one
    product.
    """

    macro: Ints
    input0: Ints
    rows: Ints
    output0: Ints
    outputs: Ints
    slice: Ints
    copy: Ints
    round: Ints
    reads: Ints

    def __post_init__(self) -> None:
        sizes = {len(getattr(self, name)) for name in self.__slots__}
        if sizes != {len(self.macro)} or not len(self.macro):
            raise ValueError(f"tiles: arrays of {sorted(sizes)} tiles; one size above 0 is needed")
        if (
            min(int(getattr(self, name).min()) for name in self.__slots__) < 0
            or min(self.rows.min(), self.outputs.min()) < 1
        ):
            raise ValueError("tiles: a number is negative, or a tile has no rows or outputs")

    @property
    def copies(self) -> int:
        return int(self.copy.max()) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWork:
    """One layer. Shapes are (channels, height, width), vectors (features, 1, 1); of more axes, those between the
    first and the last count as height.

    ``inputs`` name earlier layers or ``"input"``; ``in_shape`` is that of the first. ``weight_bits`` counts the sign;
    so does ``input_bits`` of signed inputs. ``operations``: look-ups, or multiplications and additions, of one image
    for the kinds from ``TABLE`` on; for the other kinds they follow from the shapes. ``shares``: the earlier layer
    whose cells and ``tiles`` this layer reads again. ``beyond_chip``: the chip has no operation for the layer, so the
    host runs it.
    """

    name: str
    kind: WorkKind
    inputs: tuple[str, ...]
    in_shape: Shape3
    out_shape: Shape3
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    weight_bits: int = 0
    input_bits: int
    output_bits: int
    input_signed: bool = False
    operations: int = 0
    shares: str | None = None
    beyond_chip: bool = False
    tiles: Tiles | None = None

    def __post_init__(self) -> None:
        if min(*self.in_shape, *self.out_shape, *self.kernel, *self.stride, *self.dilation, self.groups) < 1:
            raise ValueError(f"{self.name}: shapes, kernel, stride, dilation and groups must be at least 1")
        if self.kind.on_cells and (self.in_shape[0] % self.groups or self.out_shape[0] % self.groups):
            raise ValueError(
                f"{self.name}: {self.in_shape[0]} and {self.out_shape[0]} channels in {self.groups} groups"
            )
        if self.kind.on_cells and not 1 <= self.weight_bits <= 16:
            raise ValueError(f"{self.name}: {self.weight_bits}-bit weights; 1 to 16 are possible")
        if not min(self.input_bits, self.output_bits) >= 1 or max(self.input_bits, self.output_bits) > 32:
            raise ValueError(f"{self.name}: {self.input_bits}-bit inputs, {self.output_bits}-bit outputs; 1 to 32")

    @property
    def positions(self) -> int:
        """Output positions of one image."""
        return self.out_shape[1] * self.out_shape[2]

    @property
    def rows(self) -> int:
        """Inputs of one output: kernel · channels of a group."""
        return math.prod(self.kernel) * self.in_shape[0] // self.groups

    @property
    def weights(self) -> int:
        return self.rows * self.out_shape[0] if self.kind.on_cells else 0

    @property
    def macs(self) -> int:
        """Multiplications of one image."""
        return self.weights * self.positions


@dataclass(frozen=True, slots=True)
class Workload:
    """Layers in an order in which each follows its inputs; one image of ``input_shape`` goes through."""

    name: str
    input_shape: Shape3
    input_bits: int
    layers: tuple[LayerWork, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError(f"{self.name}: no layers")
        known = {INPUT}
        for layer in self.layers:
            missing = [name for name in layer.inputs if name not in known]
            if missing or layer.name in known or not layer.inputs:
                raise ValueError(
                    f"{layer.name}: inputs {layer.inputs} are not earlier layers, or the name is used twice"
                )
            known.add(layer.name)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def tiles(self) -> tuple[Tiles, ...]:
        """Tiles of every layer that has tiles."""
        return tuple(layer.tiles for layer in self.layers if layer.tiles is not None)

    @property
    def highest_macro(self) -> int:
        return max((int(t.macro.max()) for t in self.tiles), default=0)

    @property
    def input_data_bits(self) -> int:
        """Bits of one image."""
        return math.prod(self.input_shape) * self.input_bits

    @property
    def output_data_bits(self) -> int:
        """Bits of the logits of one image."""
        return math.prod(self.layers[-1].out_shape) * self.layers[-1].output_bits
