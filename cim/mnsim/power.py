"""Power of a layer at work: what its tiles draw while a position is computed.

Per PE, with r = rows / demux and c = columns / mux, rounded up, and g groups:
    array p_array · polarity · g / (demux · mux), dac g r p, adc g c p, demux g r p, mux g c p,
    shift register g c p, input register g r p, output register g c p, adder (g − 1) c p, input buffer;
per tile: joint (n − 1) c p, output buffer. Layer = tiles · n PEs of the fullest tile.
Quirks: all layers are charged as if at work at once; element-wise layers and transfers between
tiles draw nothing. Source: MNSIM 2.0, Zhu et al., GLSVLSI 2020; numbers of the software of 2024-11-27.
"""

from __future__ import annotations

import math

from cim.mnsim.by_component import NOTHING, ByComponent, summed
from cim.mnsim.components import Components, array_read_w
from cim.mnsim.config import MnsimConfig
from cim.mnsim.layers import CountedLayer, LayerKind
from cim.mnsim.mapping import LayerMapping


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
