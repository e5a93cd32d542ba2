"""A compiled network: integer levels on macros, digital steps between them, and digests.

``program.h5`` alone is enough to run, simulate and cost a network; the float network is
needed only for the float column of a report. Writing and reading of the file is in
``mapping.program_file``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.spec import ChipSpec
from cim.windows import Window

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Tile:
    """One slice of a layer's weight matrix placed on one macro.

    ``rows`` are logical rows of the macro from ``row0``; ``outputs`` logical columns from
    ``output0``. ``inputs`` are the positions of the layer's unfolded input vector that
    drive those rows. ``multiplier`` is the weight of a bit slice (1 for a single slice).
    ``levels``: int8 (rows, outputs), each in −k_max..k_max.
    """

    macro: int
    row0: int
    output0: int
    inputs: range
    outputs: range
    multiplier: int
    levels: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class TileGroup:
    """All tiles of one layer: y = W x in integers, W being the tiles added at their places.

    ``window`` is None for a vector input. ``range_code`` selects the ADC range of every
    tile; ``saturated_share`` is the share of simulated conversions that hit its end.
    """

    layer: str
    window: Window | None
    inputs: int
    outputs: int
    input_bits: int
    input_signed: bool
    range_code: int
    saturated_share: float
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class Requantise:
    """q = clamp(round(acc · multiplier / 2^shift), low, high); round half away from zero.

    ``multiplier`` int32 and ``shift`` int32 per channel, (channels,) or (1,).
    """

    multiplier: Ints
    shift: Ints
    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One integer operation; ``name`` and ``inputs`` as in the graph."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixStep(Step):
    """acc = group(x) + bias (int32, (outputs,)); output = requantise(acc)."""

    group: TileGroup
    bias: Ints
    requantise: Requantise


@dataclass(frozen=True, slots=True, kw_only=True)
class RescaleStep(Step):
    """A lone activation: requantise(x) between scales."""

    requantise: Requantise


@dataclass(frozen=True, slots=True, kw_only=True)
class AddStep(Step):
    """Both inputs rescaled to the output scale in int32, added, then clamped (see docs/digital_ops.md)."""

    rescale: tuple[Requantise, Requantise]
    requantise: Requantise


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatStep(Step):
    rescale: tuple[Requantise, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPoolStep(Step):
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPoolStep(Step):
    """Integer sum over each window, then requantise (its multiplier holds 1 / window size)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    flatten: bool  # global pooling gives a vector
    requantise: Requantise


@dataclass(frozen=True, slots=True, kw_only=True)
class FlattenStep(Step):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class PadChannelsStep(Step):
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PadMapStep(Step):
    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceStep(Step):
    step: tuple[int, int]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class InputCodes:
    """Pixels to input codes: code = clamp(round(((pixel / 255 − mean) / std) / scale)), a table per channel.

    ``table``: int16 (channels, 256), so no float stands between pixels and logits.
    """

    shape: tuple[int, int, int]
    bits: int
    signed: bool
    table: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class ConductanceProgram:
    """Everything needed to run one network on one kind of chip.

    ``scales`` maps each step (and ``"input"``) to the float value of one code, for reports
    only. ``calibration_images`` are uint8 (n, height, width, channels) training images; the
    digests are SHA-256 hex.
    """

    spec: ChipSpec
    input: InputCodes
    steps: tuple[Step, ...]
    classes: tuple[str, ...]
    weight_bits: int
    activation_bits: int
    scales: Mapping[str, float]
    calibration_images: NDArray[np.uint8]
    calibration_digest: str
    network_digest: str
    digest: str

    @property
    def matrices(self) -> tuple[MatrixStep, ...]:
        return tuple(s for s in self.steps if isinstance(s, MatrixStep))

    @property
    def macros(self) -> tuple[int, ...]:
        """Macros in use, ascending."""
        return tuple(sorted({t.macro for m in self.matrices for t in m.group.tiles}))
