"""Inputs of the word lines: activation codes as a chip takes them, each tile's share of them, and which are pixels."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import to_offset
from cim.chip.spec import MacroSpec, SignedInput
from cim.chip.windows import Window, unfold
from mapping.operators.node import INPUT
from mapping.program.conductance import ConductanceProgram, Tile, TileGroup


def driven_codes(
    group: TileGroup, spec: MacroSpec, codes: NDArray[np.int16]
) -> tuple[NDArray[np.int16], Window | None]:
    """Codes as the chip drives them, and the window that steps over them.

    An offset chip takes signed codes raised by 2^(bits−1); its padding must be the zero-point
    code too, so the map is padded here and the window pads no more.

    Args:
        codes: (images, channels, height, width) or (images, features).
    """
    window = group.window
    if not (group.input_signed and spec.inputs.signed is SignedInput.OFFSET):
        return codes, window
    if window is not None and any(window.padding):
        pad_h, pad_w = window.padding
        codes = np.pad(codes, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
        window = dataclasses.replace(
            window, height=window.height + 2 * pad_h, width=window.width + 2 * pad_w, padding=(0, 0)
        )
    return to_offset(codes, group.input_bits), window


def tile_channels(window: Window, tile: Tile) -> tuple[range, int]:
    """Channels that a tile's inputs lie in, and how many leading entries of their unfolded vector it skips."""
    area = window.kernel[0] * window.kernel[1]
    channels = range(tile.inputs.start // area, -(-tile.inputs.stop // area))
    return channels, tile.inputs.start - channels.start * area


def input_sums(codes: NDArray[np.int16], window: Window | None, tile: Tile) -> NDArray[np.int64]:
    """Σ of the codes that drive a tile: (images, positions), positions 1 for a vector input."""
    if window is None:
        return np.asarray(codes[:, tile.inputs.start : tile.inputs.stop].sum(1, dtype=np.int64)[:, None])
    channels, skip = tile_channels(window, tile)
    part = dataclasses.replace(window, channels=len(channels))
    vectors = unfold(codes[:, channels.start : channels.stop], part)
    return np.asarray(vectors[:, :, skip : skip + len(tile.inputs)].sum(2, dtype=np.int64))


def tile_vectors(codes: NDArray[np.int16], window: Window | None, tile: Tile, most: int) -> NDArray[np.int16]:
    """Input vectors of a tile, (vectors, rows): at most about ``most``, evenly spaced over images and positions."""
    if window is None:
        return codes[:, tile.inputs.start : tile.inputs.stop]
    channels, skip = tile_channels(window, tile)
    part = dataclasses.replace(window, channels=len(channels))
    vectors = unfold(codes[: vector_images(window, len(codes), most), channels.start : channels.stop], part).reshape(
        -1, part.rows
    )
    step = max(1, len(vectors) // most)
    return np.ascontiguousarray(vectors[::step, skip : skip + len(tile.inputs)]).astype(np.int16)


def vector_images(window: Window | None, images: int, most: int) -> int:
    """Number of images, of ``images``, from which ``tile_vectors`` takes vectors: few where each has many positions."""
    return images if window is None else max(1, min(images, most // max(1, min(window.positions, 128))))


def picture_layers(program: ConductanceProgram) -> frozenset[str]:
    """Convolutions over the network's input, also behind digital steps: neighbouring rows have similar inputs."""
    pixels = {INPUT}
    for step in program.steps:
        if program.product_of(step) is None and pixels.issuperset(step.inputs):
            pixels.add(step.name)
    return frozenset(m.name for m in program.matrices if m.group.window is not None and pixels.issuperset(m.inputs))
