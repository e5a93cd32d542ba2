"""Latency, area, power and energy of one network on one MNSIM 2.0 configuration.

Power of a layer at work: what its tiles draw while a position is computed.

Per PE, with r = rows / demux and c = columns / mux, rounded up, and g groups:
    array p_array · polarity · g / (demux · mux), dac g r p, adc g c p, demux g r p, mux g c p,
    shift register g c p, input register g r p, output register g c p, adder (g − 1) c p, input buffer;
per tile: joint (n − 1) c p, output buffer. Layer = tiles · n PEs of the fullest tile.
Quirks: all layers are charged as if at work at once; element-wise layers and transfers between
tiles draw nothing. Source: MNSIM 2.0, Zhu et al., GLSVLSI 2020; numbers of the software of 2024-11-27.

Completion time of each output position of each layer.

A layer is a serial server over its output positions in raster order:
    begin_n = max(finish_{n−1}, ready_n), finish_n = begin_n + t_n
    ready: finish of the last input pixel needed, row min(max(q, 1) + s i, H) − 1, column likewise
With F_n = Σ_{j≤n} t_j this is finish_n = F_n + max_{j≤n} (ready_j − F_{j−1}), a cumulative sum and a running maximum.
A fully connected layer waits for all of its producer. Without the pipeline every layer waits for the end of its
producers. Quirks: element-wise layers follow their producers position by position in any case, buffers never fill, and
only one image is modelled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.cost.workload import Workload
from cim.mnsim.buffers import sram
from cim.mnsim.by_component import NOTHING, ByComponent, summed
from cim.mnsim.components import Components, adder_um2, array_read_w, components
from cim.mnsim.config import MnsimConfig
from cim.mnsim.latency import PositionTimes, position_times
from cim.mnsim.layers import CountedLayer, LayerKind, counted_layers
from cim.mnsim.mapping import ChipMapping, LayerMapping, map_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class MnsimLayerCost:
    """One layer. The module sums of ``latency_ns`` are over output positions and take no account of waiting.

    ``latency_ns.buffer_read`` contains the read that ``merge_ns`` contains too; ``busy_ns`` counts it once.
    """

    layer: CountedLayer
    mapping: LayerMapping
    begin_ns: float
    finish_ns: float
    latency_ns: ByComponent
    intra_tile_ns: float
    merge_ns: float
    transfer_ns: float
    busy_ns: float
    area_um2: ByComponent
    power_w: ByComponent
    energy_nj: ByComponent

    @property
    def area_total_um2(self) -> float:
        return self.area_um2.total

    @property
    def power_total_w(self) -> float:
        return self.power_w.total

    @property
    def energy_total_nj(self) -> float:
        """Quirk: the energy of adders is left out."""
        return self.energy_nj.total - self.energy_nj.adder


@dataclass(frozen=True, slots=True, kw_only=True)
class MnsimCost:
    """One image through the network. Parts are sums over layers and what all layers share.

    Quirk: what all layers share (global buffer, adders of element-wise layers) is in the parts, not in the totals.
    """

    workload: str
    layers: tuple[MnsimLayerCost, ...]
    tiles: int
    input_buffer_kb: float
    output_buffer_kb: float
    global_buffer_kb: float
    latency_ns: float
    area_um2: ByComponent
    power_w: ByComponent
    energy_nj: ByComponent
    area_total_um2: float
    power_total_w: float
    energy_total_nj: float

    @property
    def edp_mj_ms(self) -> float:
        """Energy in mJ · latency in ms. Example: 4.45 mJ in 5.15 ms is 22.9."""
        return self.energy_total_nj * 1e-6 * self.latency_ns * 1e-6


def estimate_mnsim(workload: Workload, config: MnsimConfig) -> MnsimCost:
    """Cost of ``workload`` on ``config`` by MNSIM 2.0.

    Weight and activation bits are those of the workload's layers (MNSIM's own networks: 9 and 9).

    Args:
        workload: without tiles: MNSIM lays it out.
        config: of MNSIM.

    Returns:
        latency in ns, area in µm², power in W and energy in nJ, module by module.

    Raises:
        MnsimError: a network that MNSIM 2.0 cannot express on this configuration.

    Example:
        >>> round(estimate_mnsim(workload, load_mnsim()).energy_total_nj)
        89
    """
    layers = counted_layers(workload)
    mapping = map_layers(layers, config)
    parts = components(config, mapping)
    times = tuple(position_times(layer, own, parts, config) for layer, own in zip(layers, mapping.layers, strict=True))
    found = spans(layers, times, config.chip.pipeline)
    rows = tuple(
        _layer_cost(layer, own, t, span, parts.tile_area_um2 * own.tiles, layer_power_w(layer, own, parts, config))
        for layer, own, t, span in zip(layers, mapping.layers, times, found, strict=True)
    )
    shared = _shared(layers, mapping, config)
    return MnsimCost(
        workload=workload.name,
        layers=rows,
        tiles=mapping.tiles,
        input_buffer_kb=mapping.input_buffer_kb,
        output_buffer_kb=mapping.output_buffer_kb,
        global_buffer_kb=mapping.global_buffer_kb,
        latency_ns=max(row.finish_ns for row in rows),
        area_um2=summed((*(row.area_um2 for row in rows), shared.area_um2)),
        power_w=summed((*(row.power_w for row in rows), shared.power_w)),
        energy_nj=summed((*(row.energy_nj for row in rows), shared.energy_nj)),
        area_total_um2=sum(row.area_total_um2 for row in rows),
        power_total_w=sum(row.power_total_w for row in rows),
        energy_total_nj=sum(row.energy_total_nj for row in rows),
    )


def _layer_cost(
    layer: CountedLayer,
    own: LayerMapping,
    times: PositionTimes,
    span: Span,
    area_um2: ByComponent,
    power_w: ByComponent,
) -> MnsimLayerCost:
    latency_ns, n = times.summed_ns, times.positions
    intra, merge, transfer = (n * t for t in (times.intra_tile_ns, times.merge_ns, times.transfer_ns))
    return MnsimLayerCost(
        layer=layer,
        mapping=own,
        begin_ns=span.begin_ns,
        finish_ns=span.finish_ns,
        latency_ns=latency_ns,
        intra_tile_ns=intra,
        merge_ns=merge,
        transfer_ns=transfer,
        busy_ns=latency_ns.total - n * times.merge_read_ns + intra + merge + transfer,
        area_um2=area_um2,
        power_w=power_w,
        energy_nj=power_w.times(latency_ns),
    )


@dataclass(frozen=True, slots=True)
class _Shared:
    area_um2: ByComponent
    power_w: ByComponent
    energy_nj: ByComponent


def _shared(layers: tuple[CountedLayer, ...], mapping: ChipMapping, config: MnsimConfig) -> _Shared:
    """Global buffer and adders of element-wise layers, (operands − 1) · C · bits of adder.

    Quirks: the buffer has no energy; an adder's energy is power / frequency in MHz, once an image and in nJ.
    """
    buffer, bits = sram(mapping.global_buffer_kb, config), 0
    for layer in layers:
        if layer.kind is LayerKind.ELEMENT_WISE:
            bits += (layer.operands - 1) * layer.channels_in * layer.input_bits
    adders_w = config.digital.adder_w_per_bit * bits
    return _Shared(
        ByComponent(buffer=buffer.area_um2, adder=adder_um2(bits, config)),
        ByComponent(buffer_read=buffer.read_w, buffer_write=buffer.write_w, adder=adders_w),
        ByComponent(adder=adders_w / config.digital.frequency_mhz),
    )


def layer_power_w(layer: CountedLayer, own: LayerMapping, parts: Components, config: MnsimConfig) -> ByComponent:
    if layer.kind is LayerKind.ELEMENT_WISE:
        return NOTHING
    output_buffer = parts.output_buffer
    if layer.kind is LayerKind.POOLING:
        return ByComponent(
            pooling=parts.pooling_w, buffer_read=output_buffer.read_w, buffer_write=output_buffer.write_w
        )
    g, rows, columns = own.groups, math.ceil(own.rows / parts.demux), math.ceil(own.columns / parts.mux)
    arrays = config.pe.polarity * g / (parts.demux * parts.mux)
    a_pe = ByComponent(
        array=array_read_w(own.rows, own.columns, config) * arrays,
        dac=g * rows * parts.dac.power_w,
        adc=g * columns * parts.adc.power_w,
        input_register=g * rows * parts.register_w,
        output_register=g * columns * parts.register_w,
        input_demux=g * rows * parts.demux_w,
        output_mux=g * columns * parts.mux_w,
        shift_register=g * columns * parts.shift_register_w,
        adder=(g - 1) * columns * parts.adder_w,
        buffer_read=parts.input_buffer.read_w,
        buffer_write=parts.input_buffer.write_w,
    )
    a_tile = ByComponent(
        joint=(own.tile_pes - 1) * columns * parts.joint_w,
        buffer_read=output_buffer.read_w,
        buffer_write=output_buffer.write_w,
    )
    return summed((a_pe * own.tile_pes, a_tile)) * own.tiles


Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Span:
    """First begin and last finish of one layer."""

    begin_ns: float
    finish_ns: float


def spans(layers: tuple[CountedLayer, ...], times: tuple[PositionTimes, ...], pipeline: bool) -> tuple[Span, ...]:
    """Begin and end of every layer for one image that enters at 0."""
    finished: list[Times] = []
    found = []
    for layer, own in zip(layers, times, strict=True):
        each = own.map_ns(layer.height_out, layer.width_out)
        total = np.cumsum(each)
        before = total - each
        begin = _ready(layer, layers, finished, pipeline) - before
        done = total + np.maximum.accumulate(begin)
        finished.append(done)
        found.append(Span(float(begin[0]), float(done[-1])))
    return tuple(found)


def _ready(layer: CountedLayer, layers: tuple[CountedLayer, ...], finished: list[Times], pipeline: bool) -> Times:
    """Time at which the inputs of every position are there, shape (positions,)."""
    ready = np.zeros(layer.positions)
    for i in layer.producers:
        done, (height, width) = finished[i], (layers[i].height_out, layers[i].width_out)
        if layer.kind is LayerKind.FC or not (pipeline or layer.kind is LayerKind.ELEMENT_WISE):
            np.maximum(ready, done[-1], out=ready)
        else:
            need_rows = _needed(layer, layer.height_out, height)
            need_columns = _needed(layer, layer.width_out, width)
            np.maximum(ready, done.reshape(height, width)[need_rows[:, None], need_columns].ravel(), out=ready)
    return ready


def _needed(layer: CountedLayer, outputs: int, inputs: int) -> NDArray[np.int64]:
    steps = np.arange(outputs)
    if layer.kind is LayerKind.ELEMENT_WISE:
        return np.minimum(steps, inputs - 1)
    return np.minimum(max(layer.fresh, 1) + layer.stride * steps, inputs) - 1
