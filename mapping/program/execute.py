"""Run a whole compiled network, given something that multiplies.

Ideal, simulated and measured results come from this one function; only the ``Multiply``
differs: exact integers (``IdealMultiply``), the simulator, or a chip behind its driver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cim.chip.windows import Window
from mapping.program import digital_ops
from mapping.program.conductance import (
    AddStep,
    AvgPoolStep,
    ConcatStep,
    ConductanceProgram,
    FlattenStep,
    InputCodes,
    MatrixStep,
    MaxPoolStep,
    PadChannelsStep,
    PadMapStep,
    RescaleStep,
    SliceStep,
    Step,
    TileGroup,
)
from mapping.program.digital_ops import Codes

Tap = Callable[[MatrixStep, NDArray[np.int16], NDArray[np.int32]], None]

UNFOLD_BYTES = 8 << 20  # unfolded windows of one pass of the exact product; fits the cache of a core


class Multiply(Protocol):
    """Something that multiplies codes by the tiles of a layer."""

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        """Level sums without bias: (n, outputs, OH, OW) of maps, (n, outputs) of vectors.

        ``codes`` is (n, C, H, W) or (n, features); image i is sample ``sample + i``.
        """
        ...


@runtime_checkable
class RunsLayers(Protocol):
    """Something that also adds the bias and requantises by itself (a chip with layer support)."""

    def layer(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[Any]:
        """Output codes of the whole step."""
        ...


def run(
    program: ConductanceProgram,
    images: NDArray[np.uint8],
    multiply: Multiply | RunsLayers,
    *,
    sample: int = 0,
    tap: Tap | None = None,
    batch: int = 64,
) -> NDArray[np.int32]:
    """Give the logit codes of images, (n, classes).

    Args:
        images: uint8 (n, height, width, channels).
        sample: number of the first image; image i is ``sample + i``.
        tap: called after each product with the step, its input codes and its level sums, both in
            the order of the step's places (not for layers that ``multiply`` finishes by itself),
            once a batch.
        batch: images in flight together; results do not depend on it.

    Raises:
        ValueError: images are not of the program's shape.
    """
    height, width = program.input.shape[1:]
    if images.dtype != np.uint8 or images.shape[1:] != (height, width, program.input.shape[0]):
        raise ValueError(
            f"images are {images.dtype} {images.shape[1:]}, the network takes uint8 "
            f"{(height, width, program.input.shape[0])}"
        )
    if len(images) == 0:
        return np.zeros((0, len(program.classes)), np.int32)
    last_use = {name: i for i, step in enumerate(program.steps) for name in step.inputs}
    parts = []
    for first in range(0, len(images), batch):
        values: dict[str, Codes] = {"input": input_codes(images[first : first + batch], program.input)}
        for i, step in enumerate(program.steps):
            values[step.name] = apply(step, values, multiply, sample + first, tap)
            for name in step.inputs:
                if last_use[name] == i:
                    values.pop(name, None)
        parts.append(values[program.steps[-1].name].astype(np.int32))
    return np.concatenate(parts)


def input_codes(images: NDArray[np.uint8], rule: InputCodes) -> NDArray[np.int16]:
    """Pixels (n, height, width, channels) to codes (n, channels, height, width), by table."""
    channels = np.arange(rule.shape[0])[None, :, None, None]
    codes: NDArray[np.int16] = rule.table[channels, images.transpose(0, 3, 1, 2)]
    return codes


def apply(
    step: Step, values: Mapping[str, Codes], multiply: Multiply | RunsLayers, sample: int = 0, tap: Tap | None = None
) -> Codes:
    """Output codes of one step, from the codes of the steps before it."""
    codes = [values[name] for name in step.inputs]
    match step:
        case MatrixStep():
            return _matrix(step, codes[0].astype(np.int16, copy=False), multiply, sample, tap)
        case RescaleStep():
            return digital_ops.requantise(codes[0], step.requantise)
        case AddStep():
            return digital_ops.add(codes[0], codes[1], step.rescale, step.requantise)
        case ConcatStep():
            return digital_ops.concat(codes, step.rescale)
        case MaxPoolStep():
            return digital_ops.max_pool(codes[0], step.kernel, step.stride, step.padding)
        case AvgPoolStep():
            mean = digital_ops.avg_pool(codes[0], step.kernel, step.stride, step.padding, step.requantise)
            return digital_ops.flatten(mean) if step.flatten else mean
        case FlattenStep():
            return digital_ops.flatten(codes[0])
        case PadChannelsStep():
            return digital_ops.pad_channels(codes[0], step.before, step.after)
        case PadMapStep():
            return digital_ops.pad_map(codes[0], step.top, step.left, step.bottom, step.right)
        case SliceStep():
            return digital_ops.slice_map(codes[0], step.step, step.start, step.stop)
    raise TypeError(f"{step.name}: {type(step).__name__} is no step of a program")


def _matrix(
    step: MatrixStep, codes: NDArray[np.int16], multiply: Multiply | RunsLayers, sample: int, tap: Tap | None
) -> Codes:
    codes = in_places(step, codes)
    if isinstance(multiply, RunsLayers):
        output: Codes = multiply.layer(step, codes, sample).astype(digital_ops.code_type(step.requantise))
        return out_of_places(step, output)
    sums = multiply.sums(step, codes, sample)
    if tap is not None:
        tap(step, codes, sums)
    return out_of_places(step, digital_ops.finish(sums, step.bias, step.requantise))


def in_places(step: MatrixStep, codes: NDArray[np.int16]) -> NDArray[np.int16]:
    """Input codes of a matrix step in the order of its places (``input_order``)."""
    return codes if step.input_order is None else codes[:, step.input_order]


def out_of_places(step: MatrixStep, output: Codes) -> Codes:
    """Output codes of a matrix step, from the order of its places to that of the network (``output_order``)."""
    return output if step.output_order is None else output[:, np.argsort(step.output_order)]


class IdealMultiply:
    """The exact integer product of a program's own levels."""

    def __init__(self, program: ConductanceProgram) -> None:
        self._products = {m.name: ExactProduct(m.group) for m in program.matrices}

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        return self._products[step.name](codes)


@dataclass(frozen=True, slots=True)
class Block:
    """A dense part of a layer's matrix: ``weights`` (outputs, inputs), a float type that is exact here."""

    inputs: range
    outputs: range
    weights: NDArray[np.float32] | NDArray[np.float64]


class ExactProduct:
    """y = W x in integers, done by floating-point BLAS where every partial sum is exact.

    A sum of products is exact in any order while Σ|w|·max|x| stays below 2^24 (float32) or
    2^53 (float64); the bound of each block chooses the type.
    """

    def __init__(self, group: TileGroup) -> None:
        self.group = group
        self.blocks = dense_blocks(group)

    def __call__(self, codes: NDArray[np.int16]) -> NDArray[np.int32]:
        window = self.group.window
        if window is None:
            return self._multiply(codes[:, :, None])[:, :, 0]
        size = 4 * window.rows * window.positions
        step = max(1, UNFOLD_BYTES // size)
        parts = [self._multiply(unfold_columns(codes[i : i + step], window)) for i in range(0, len(codes), step)]
        sums = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return sums.reshape(len(codes), self.group.outputs, window.out_height, window.out_width)

    def _multiply(self, columns: NDArray[Any]) -> NDArray[np.int32]:
        """(n, inputs, positions) -> (n, outputs, positions)."""
        sums = np.zeros((columns.shape[0], self.group.outputs, columns.shape[2]), np.int32)
        for block in self.blocks:
            part = columns[:, block.inputs.start : block.inputs.stop].astype(block.weights.dtype, copy=False)
            sums[:, block.outputs.start : block.outputs.stop] += np.matmul(block.weights, part).astype(np.int32)
        return sums


def unfold_columns(codes: NDArray[np.int16], window: Window) -> NDArray[np.float32]:
    """Windows as columns: float32 (n, window.rows, window.positions), the transpose of ``cim.chip.windows.unfold``.

    Copies run along output rows, several times faster than gathering each window for itself.
    """
    (pad_h, pad_w), (step_h, step_w), (gap_h, gap_w) = window.padding, window.stride, window.dilation
    out_h, out_w = window.out_height, window.out_width
    shape = (len(codes), window.channels, window.height + 2 * pad_h, window.width + 2 * pad_w)
    padded = np.zeros(shape, np.float32)
    padded[:, :, pad_h : pad_h + window.height, pad_w : pad_w + window.width] = codes
    columns = np.empty((len(codes), window.channels, *window.kernel, out_h, out_w), np.float32)
    for y, x in np.ndindex(window.kernel):
        top, left = y * gap_h, x * gap_w
        columns[:, :, y, x] = padded[
            :, :, top : top + (out_h - 1) * step_h + 1 : step_h, left : left + (out_w - 1) * step_w + 1 : step_w
        ]
    return columns.reshape(len(codes), window.rows, window.positions)


def largest_sum(group: TileGroup) -> int:
    """A bound that no level sum of a layer exceeds: Σ |level| · multiplier · largest input code."""
    totals = np.zeros(group.outputs, np.int64)
    for tile in group.matrix_tiles:
        totals[tile.outputs.start : tile.outputs.stop] += tile.multiplier * np.abs(tile.levels.astype(np.int64)).sum(0)
    return int(totals.max()) << (group.input_bits - group.input_signed)


def dense_blocks(group: TileGroup) -> tuple[Block, ...]:
    """The layer's matrix as few dense blocks: tiles that share inputs or outputs are joined.

    A dense layer is one block; a depthwise layer one block a tile.
    """
    hulls: list[tuple[range, range]] = []
    for tile in group.matrix_tiles:
        inputs, outputs = tile.inputs, tile.outputs
        while touching := [h for h in hulls if _overlap(inputs, h[0]) or _overlap(outputs, h[1])]:
            hulls = [h for h in hulls if h not in touching]
            for other_in, other_out in touching:
                inputs, outputs = _hull(inputs, other_in), _hull(outputs, other_out)
        hulls.append((inputs, outputs))
    top = 1 << (group.input_bits - group.input_signed)
    return tuple(_block(group, inputs, outputs, top) for inputs, outputs in sorted(hulls, key=lambda h: h[1].start))


def _block(group: TileGroup, inputs: range, outputs: range, top: int) -> Block:
    matrix = np.zeros((len(outputs), len(inputs)), np.int64)
    for tile in group.matrix_tiles:
        if _overlap(tile.outputs, outputs) and _overlap(tile.inputs, inputs):
            rows = slice(tile.outputs.start - outputs.start, tile.outputs.stop - outputs.start)
            columns = slice(tile.inputs.start - inputs.start, tile.inputs.stop - inputs.start)
            matrix[rows, columns] += tile.multiplier * tile.levels.T.astype(np.int64)
    bound = int(np.abs(matrix).sum(axis=1).max()) * top
    if bound >= 1 << 31:
        raise ValueError(f"{group.layer}: sums up to {bound} do not fit 32 bits")
    return Block(inputs, outputs, matrix.astype(np.float32) if bound < 1 << 24 else matrix.astype(np.float64))


def _overlap(a: range, b: range) -> bool:
    return a.start < b.stop and b.start < a.stop


def _hull(a: range, b: range) -> range:
    return range(min(a.start, b.start), max(a.stop, b.stop))
