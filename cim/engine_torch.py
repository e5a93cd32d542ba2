"""The simulator on torch alone: any device, any input coding; slower than ``cim.engine_numba``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cim.converters import shift_add, split_planes
from cim.correction import apply_correction
from cim.windows import unfold
from cim.wire_law import GROUP

if TYPE_CHECKING:
    from cim.simulator import LayerSimulator, PreparedTile

CHUNK_VALUES = 1 << 21  # most float values of one intermediate tensor


def layer_sums(
    layer: LayerSimulator, codes: NDArray[np.int16], keys: NDArray[np.uint32]
) -> tuple[NDArray[np.int32], int]:
    """Level sums (n, outputs, positions) and the number of conversions at the end of the scale."""
    positions = 1 if layer.window is None else layer.window.positions
    sums = np.zeros((len(codes), layer.outputs, positions), np.int32)
    ends = 0
    tiles = [_TileOnDevice(layer, tile) for tile in layer.tiles]
    for image in range(len(codes)):
        # One image at a time: its noise must not depend on its neighbours in the batch.
        one = codes[image : image + 1]
        vectors = one[:, None, :] if layer.window is None else unfold(one, layer.window)
        driven = layer.driven(vectors[0].astype(np.int16))
        generator = torch.Generator(layer.device)
        generator.manual_seed(int(keys[image, 0]) << 31 | int(keys[image, 1]) >> 1)
        for tile in tiles:
            level, hit = tile.level_sums(driven, generator)
            part = tile.prepared.tile
            sums[image, part.outputs.start : part.outputs.stop] += part.multiplier * level.T
            ends += hit
    return sums, ends


class _TileOnDevice:
    """One tile's arrays as tensors."""

    def __init__(self, layer: LayerSimulator, prepared: PreparedTile) -> None:
        self.layer, self.prepared = layer, prepared
        self.conversions, self.groups = len(prepared.wire), len(prepared.lengths)
        self.wired = bool(prepared.wire.any())
        self.noisy = bool(prepared.variance.any() or prepared.tile.conversion_noise_codes.any())

        def tensor(values: NDArray[np.floating]) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(values, np.float32), device=layer.device)

        self.cells, self.variance = tensor(prepared.cells), tensor(prepared.mean_variance)
        self.lengths = tensor(prepared.lengths)
        self.wire = tensor(prepared.wire)
        tile = prepared.tile
        self.offset, self.noise2 = tensor(tile.offset_codes), tensor(tile.conversion_noise_codes**2)
        self.inl = tensor(tile.inl_codes)

    def level_sums(self, driven: NDArray[np.int16], generator: torch.Generator) -> tuple[NDArray[np.int32], int]:
        """Level sums (positions, outputs) of one image's driven codes (positions, inputs)."""
        layer, mine = self.layer, driven[:, self.prepared.order]
        step = max(1, CHUNK_VALUES // (len(layer.planes) * max(self.groups * GROUP, self.conversions)))
        parts, ends = [], 0
        for start in range(0, len(mine), step):
            units = split_planes(mine[start : start + step], layer.spec.inputs, layer.input_bits, layer.input_signed)
            codes = self._convert(
                torch.as_tensor(np.ascontiguousarray(units.transpose(1, 0, 2), np.float32)), generator
            )
            low, high = layer.limits
            ends += int((codes == high).sum()) + (int((codes == low).sum()) if low < 0 else 0)
            parts.append(codes.to("cpu", torch.int32).numpy())
        sums = shift_add(np.concatenate(parts), layer.spec, layer.planes)
        correction = self.prepared.tile.correction
        return apply_correction(sums, mine.sum(1, dtype=np.int64), correction), ends

    def _convert(self, units: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """ADC codes (positions, planes, conversions), float, of units (positions, planes, rows)."""
        positions, planes, rows = units.shape
        x = units.reshape(positions * planes, rows).to(self.layer.device)
        y = x @ self.cells
        if self.wired:
            # Σ_g ℓ_g n_g D_g, regrouped by row: each row's current meets the loads of its own group and all later ones.
            driven = torch.nn.functional.pad(x.abs(), (0, self.groups * GROUP - rows))
            loads = driven.reshape(-1, self.groups, GROUP).sum(2).cumsum(1) * self.lengths
            beyond = loads.flip(1).cumsum(1).flip(1).repeat_interleave(GROUP, 1)[:, :rows]
            count = driven.sum(1, keepdim=True)
            y = y - self.wire * ((x * beyond) @ self.cells) / (1.0 + self.prepared.bend * count)
        y = y + self.offset
        if self.noisy:
            spread = torch.addcmul(self.noise2, (x * x).sum(1, keepdim=True), self.variance).sqrt_()
            y += spread.mul_(torch.randn(y.shape, generator=generator, device=y.device))
        low, high = self.layer.limits
        place = ((y - low) / (high - low)).clamp(0.0, 1.0) * (self.inl.shape[1] - 1)
        node = place.floor().clamp(max=self.inl.shape[1] - 2)
        column = torch.arange(self.conversions, device=y.device)
        left, right = self.inl[column, node.long()], self.inl[column, node.long() + 1]
        y = y + left + (right - left) * (place - node)
        return (y + 0.5).floor().clamp(low, high).reshape(positions, planes, self.conversions)
