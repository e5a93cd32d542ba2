"""Duration of one output position of a layer, module by module.

Symbols: T digital period; B = input bits / DAC bits, rounded up; a = ⌈rows / DACs⌉,
b = ⌈columns / ADCs⌉; **M = B a b** reads of the array; n PEs of the fullest tile; m = ⌈log2 n⌉.
    dac M t_dac, array M t_read, adc M t_adc, demux M t_demux, mux M t_mux, shift register M T,
    input register (a b + M) T, adder b ⌈log2 groups⌉ T, output register b T, joint m T,
    intra-tile (L (adc_bits + m) − m (m + 1) / 2) columns / BW_intra with L levels of the H-tree.
Nothing overlaps: the time of a position is the sum. Source: MNSIM 2.0, Zhu et al., GLSVLSI 2020;
numbers of the software of 2024-11-27.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.mnsim.buffers import access_ns
from cim.mnsim.by_component import ByComponent
from cim.mnsim.components import Components
from cim.mnsim.config import MnsimConfig
from cim.mnsim.layers import CountedLayer, LayerKind
from cim.mnsim.mapping import LayerMapping


@dataclass(frozen=True, slots=True)
class PositionTimes:
    """Times in ns of the output positions of one layer.

    Buffers differ by where the position lies: the first one, others of the first row, others of
    the first column, all others (``writes_ns``, ``reads_ns``, ``counts``); ``each_ns`` holds the
    modules that do not. ``merge_ns`` contains ``merge_read_ns``, the read that joins tiles.
    """

    each_ns: ByComponent
    writes_ns: tuple[float, ...]
    reads_ns: tuple[float, ...]
    counts: tuple[int, ...]
    intra_tile_ns: float
    merge_ns: float
    merge_read_ns: float
    transfer_ns: float

    @property
    def positions(self) -> int:
        return sum(self.counts)

    @property
    def summed_ns(self) -> ByComponent:
        """Σ over positions. Reads of the buffer contain the one of the merge."""
        writes = sum(n * t for n, t in zip(self.counts, self.writes_ns, strict=True))
        reads = sum(n * (t + self.merge_read_ns) for n, t in zip(self.counts, self.reads_ns, strict=True))
        return replace(self.each_ns * self.positions, buffer_read=reads, buffer_write=writes)

    def map_ns(self, height: int, width: int) -> NDArray[np.float64]:
        """Time of every position, raster order, shape (height · width,)."""
        fixed = self.each_ns.total + self.intra_tile_ns + self.merge_ns + self.transfer_ns
        first, row, column, rest = (fixed + w + r for w, r in zip(self.writes_ns, self.reads_ns, strict=True))
        times = np.full((height, width), rest)
        times[:, 0] = column
        times[0, :] = row
        times[0, 0] = first
        return times.ravel()


def position_times(layer: CountedLayer, own: LayerMapping, parts: Components, config: MnsimConfig) -> PositionTimes:
    if layer.kind is LayerKind.POOLING:
        return _pooling(layer, own, config)
    if layer.kind is LayerKind.ELEMENT_WISE:
        return _element_wise(layer, own, config)
    return _on_cells(layer, own, parts, config)


def _on_cells(layer: CountedLayer, own: LayerMapping, parts: Components, config: MnsimConfig) -> PositionTimes:
    """Times of a convolution or a fully connected layer, with the equations and symbols at the top of this module.

    Merging tiles takes the buffer read of columns · bits · n bits, and a transfer of as many, T + columns · n · bits /
    BW_inter, for each of the ``in_distance`` hops. The output buffer takes (adc_bits + m) · columns · n bits.
    """
    t = config.digital.period_ns
    a, b = math.ceil(own.rows / parts.dacs), math.ceil(own.columns / parts.adcs)
    reads = math.ceil(layer.input_bits / parts.dac.bits) * a * b
    pes, m = own.tile_pes, (own.tile_pes - 1).bit_length()
    each = ByComponent(
        array=reads * parts.array_ns,
        dac=reads * parts.dac.latency_ns,
        adc=reads * parts.adc.latency_ns,
        input_register=(a * b + reads) * t,
        shift_register=reads * t,
        input_demux=reads * parts.demux_ns,
        output_mux=reads * parts.mux_ns,
        adder=b * (config.pe.groups - 1).bit_length() * t,
        output_register=b * t,
        joint=m * t,
    )
    moved = config.tile.tree_levels * (parts.adc.bits + m) - m * (m + 1) / 2
    out_bits = own.columns * layer.output_bits * pes
    gather_ns = access_ns(out_bits, config)
    store_ns = access_ns((parts.adc.bits + m) * own.columns * pes, config)
    writes, loads = _input_ns(layer, own.rows, config)
    return PositionTimes(
        each_ns=each,
        writes_ns=tuple(w + store_ns for w in writes),
        reads_ns=loads,
        counts=_counts(layer),
        intra_tile_ns=moved * own.columns / config.tile.intra_tile_gbit_s,
        merge_ns=gather_ns + own.distances.within * (t + out_bits / config.chip.inter_tile_gbit_s),
        merge_read_ns=gather_ns,
        transfer_ns=_transfer_ns(layer, own, config),
    )


def _input_ns(layer: CountedLayer, rows: int, config: MnsimConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Write of new pixels and load of registers, by place of the position, for rows / k² channels.

    A load is all ``rows`` at the start of a line, else s k pixels.
    """
    if layer.kind is LayerKind.FC:
        whole = access_ns(rows * layer.input_bits, config)
        return (whole,) * 4, (whole,) * 4
    k, s = layer.kernel, layer.stride
    pixel_bits = rows / k**2 * layer.input_bits
    writes = tuple(access_ns(n * pixel_bits, config) for n in _new_pixels(layer, config.chip.pipeline))
    whole, step = access_ns(rows * layer.input_bits, config), access_ns(s * k * pixel_bits, config)
    return writes, (whole, step, whole, step)


def _new_pixels(layer: CountedLayer, pipeline: bool) -> tuple[int, int, int, int]:
    """Pixels written before the first position, others of the first row, of the first column, all others.

    With q = max(k − p, 0): q², s k, s q, s². Pooling has no case for the first row: s² there.
    Quirk: without the pipeline they are counted along the lines of the input (W wide) instead,
    W (q − 1) + q, s, W (s − 1) + q, s.
    """
    k, s, q = layer.kernel, layer.stride, layer.fresh
    if not pipeline:
        return max(layer.width_in * (q - 1) + q, 0), s, layer.width_in * (s - 1) + q, s
    return q * q, s * s if layer.kind is LayerKind.POOLING else s * k, s * q, s * s


def _pooling(layer: CountedLayer, own: LayerMapping, config: MnsimConfig) -> PositionTimes:
    """⌈C / units⌉ ⌈k² / window of a unit⌉ passes. Quirk: the output is read twice, once as merge."""
    pooling = config.pooling
    passes = math.ceil(layer.channels_in / pooling.units) * math.ceil(
        layer.kernel**2 / (pooling.rows * pooling.columns)
    )
    k, s, pixel_bits = layer.kernel, layer.stride, layer.channels_in * layer.input_bits
    out_ns = access_ns(layer.channels_out * layer.output_bits, config)
    whole, step = access_ns(k * k * pixel_bits, config), access_ns(s * k * pixel_bits, config)
    return PositionTimes(
        each_ns=ByComponent(pooling=passes * pooling.pass_ns),
        writes_ns=tuple(access_ns(n * pixel_bits, config) + out_ns for n in _new_pixels(layer, config.chip.pipeline)),
        reads_ns=tuple(r + out_ns for r in (whole, step, whole, step)),
        counts=_counts(layer),
        intra_tile_ns=0.0,
        merge_ns=out_ns,
        merge_read_ns=0.0,
        transfer_ns=_transfer_ns(layer, own, config),
    )


def _element_wise(layer: CountedLayer, own: LayerMapping, config: MnsimConfig) -> PositionTimes:
    """A fixed 10 ns, and read and write of all operands in the global buffer."""
    access = access_ns(layer.operands * layer.channels_in * layer.input_bits, config)
    return PositionTimes(
        each_ns=ByComponent(element_wise=config.chip.element_wise_ns),
        writes_ns=(access,) * 4,
        reads_ns=(access,) * 4,
        counts=_counts(layer),
        intra_tile_ns=0.0,
        merge_ns=0.0,
        merge_read_ns=0.0,
        transfer_ns=_transfer_ns(layer, own, config),
    )


def _transfer_ns(layer: CountedLayer, own: LayerMapping, config: MnsimConfig) -> float:
    """out_distance · C_out · bits / BW_inter."""
    return own.distances.onward * layer.channels_out * layer.output_bits / config.chip.inter_tile_gbit_s


def _counts(layer: CountedLayer) -> tuple[int, ...]:
    h, w = layer.height_out, layer.width_out
    return 1, w - 1, h - 1, (h - 1) * (w - 1)
