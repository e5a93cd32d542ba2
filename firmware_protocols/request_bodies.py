"""Bodies of the requests, one writer and one reader each; tables of the fields are in docs/file-formats.md."""

from __future__ import annotations

from typing import Any

import numpy as np

from firmware_protocols.errors import LocalProtocolError, MalformedMessage
from firmware_protocols.layouts import layout
from firmware_protocols.messages import (
    MOST_READS,
    CellBlock,
    Hello,
    KernelWindow,
    LayerTile,
    LoadLayer,
    Mvm,
    Polarity,
    ProgramTile,
    Pulse,
    ReadCells,
    Returns,
    Sweep,
    TileAddress,
)
from firmware_protocols.packing import BodyReader, BodyWriter

_HELLO = layout("hello")
_CELLS = layout("cells")  # of a block of cells or of a tile
_PROGRAM = layout("program")
_PULSE = layout("pulse")
_READ = layout("read_cells")
_COMPUTE = layout("compute")
_MVM = layout("mvm")
_SWEEP = layout("sweep")
_LAYER = layout("load_layer")
_LAYER_TILE = layout("layer_tile")

MAX_UNFOLDED = 1 << 28  # input codes of one sweep: the chip may refuse less, never needs to take more
SIGNED, HAS_TILE = 1, 2  # flags of a compute request


def write_block(w: BodyWriter, cells: CellBlock) -> tuple[int, int]:
    w.fields(_CELLS, cells.macro, cells.row0, cells.rows, cells.column0, cells.columns)
    return cells.rows, cells.columns


def read_block(r: BodyReader) -> CellBlock:
    cells = CellBlock(*r.fields(_CELLS))
    if not (cells.rows and cells.columns):
        raise MalformedMessage(f"a block of {cells.rows} x {cells.columns} cells holds none")
    return cells


def write_tile(w: BodyWriter, tile: TileAddress | None) -> None:
    at = (0, 0, 0, 0, 0) if tile is None else (tile.macro, tile.row0, tile.rows, tile.output0, tile.outputs)
    w.fields(_CELLS, *at)


def write_compute(w: BodyWriter, m: Mvm | Sweep) -> None:
    flags = (SIGNED if m.input_signed else 0) | (HAS_TILE if m.tile is not None else 0)
    w.fields(_COMPUTE, m.returns, flags, m.range_code, m.input_bits, m.layer, reads_written(m.reads), m.sample)
    write_tile(w, m.tile)


def read_compute(r: BodyReader) -> dict[str, Any]:
    returns, flags, range_code, input_bits, layer, reads, sample = r.fields(_COMPUTE)
    tile = TileAddress(*r.fields(_CELLS))
    if flags & HAS_TILE and not (tile.rows and tile.outputs):
        raise MalformedMessage(f"a tile of {tile.rows} x {tile.outputs} holds nothing")
    if not flags & HAS_TILE and Returns(returns) is not Returns.LAYER:
        raise MalformedMessage("a tile address is needed unless a loaded layer is run")
    reads = reads_of(reads)
    if reads > 1 and Returns(returns) is not Returns.SUMS:
        raise MalformedMessage(f"{reads} reads are added up as SUMS only")
    return {
        "returns": Returns(returns),
        "tile": tile if flags & HAS_TILE else None,
        "layer": layer,
        "range_code": range_code,
        "input_bits": input_bits,
        "input_signed": bool(flags & SIGNED),
        "sample": sample,
        "reads": reads,
    }


def reads_written(reads: int) -> int:
    """The field of a number of reads: one read is 0, as it was before the field had a meaning."""
    return reads if reads > 1 else 0


def reads_of(field: int) -> int:
    if field > MOST_READS:
        raise MalformedMessage(f"{field} reads of one product, at most {MOST_READS} are allowed")
    return max(field, 1)


def write_hello(w: BodyWriter, m: Hello) -> None:
    w.fields(_HELLO, m.version_min, m.version_max, m.max_payload, m.window, m.nonce)


def read_hello(r: BodyReader) -> Hello:
    return Hello(*r.fields(_HELLO))


def write_program(w: BodyWriter, m: ProgramTile) -> None:
    shape = write_block(w, m.cells)
    w.fields(
        _PROGRAM, m.unit_ns, m.tolerance, m.max_pulses, m.verify_reads, m.set_start_mv, m.set_step_mv, m.set_stop_mv,
        m.reset_start_mv, m.reset_step_mv, m.reset_stop_mv, m.pulse_width_ns, m.sample,
    )  # fmt: skip
    w.counts(m.targets, shape)


def read_program(r: BodyReader) -> ProgramTile:
    cells = read_block(r)
    unit_ns, tolerance, pulses, reads, s0, s1, s2, r0, r1, r2, width_ns, sample = r.fields(_PROGRAM)
    targets = r.counts((cells.rows, cells.columns))
    return ProgramTile(cells, unit_ns, tolerance, pulses, reads, s0, s1, s2, r0, r1, r2, width_ns, sample, targets)


def write_pulse(w: BodyWriter, m: Pulse) -> None:
    shape = write_block(w, m.cells)
    w.fields(_PULSE, m.polarity, 0, m.width_ns, m.sample)
    w.counts(m.millivolts, shape)


def read_pulse(r: BodyReader) -> Pulse:
    cells = read_block(r)
    polarity, _, width_ns, sample = r.fields(_PULSE)
    return Pulse(cells, Polarity(polarity), width_ns, sample, r.counts((cells.rows, cells.columns)))


def write_read_cells(w: BodyWriter, m: ReadCells) -> None:
    write_block(w, m.cells)
    w.fields(_READ, m.unit_ns, m.reads, m.sample)


def read_read_cells(r: BodyReader) -> ReadCells:
    return ReadCells(read_block(r), *r.fields(_READ))


def write_mvm(w: BodyWriter, m: Mvm) -> None:
    if m.codes.ndim != 2:
        raise LocalProtocolError(f"codes of an Mvm are (vectors, rows), not {m.codes.shape}")
    write_compute(w, m)
    w.fields(_MVM, m.vectors_per_sample, m.first_vector, *m.codes.shape)
    w.ints(m.codes, m.codes.shape, np.int16)


def read_mvm(r: BodyReader) -> Mvm:
    common = read_compute(r)
    per_sample, first, vectors, rows = r.fields(_MVM)
    if per_sample < 1:
        raise MalformedMessage("vectors_per_sample is 0")
    codes = r.ints((vectors, rows), np.int16)
    return Mvm(**common, vectors_per_sample=per_sample, first_vector=first, codes=codes)


def unfolded_codes(images: int, window: KernelWindow) -> int:
    """Input codes of a whole sweep, padded or unfolded, whichever is more."""
    (kh, kw), (sh, sw), (dh, dw) = window.kernel, window.stride, window.dilation
    height, width = window.height + 2 * window.padding[0], window.width + 2 * window.padding[1]
    across, down = (width - dw * (kw - 1) - 1) // sw + 1, (height - dh * (kh - 1) - 1) // sh + 1
    return images * window.channels * max(height * width, down * across * kh * kw)


def write_sweep(w: BodyWriter, m: Sweep) -> None:
    v = m.window
    if m.codes.ndim != 4:
        raise LocalProtocolError(f"codes of a Sweep are (images, channels, height, width), not {m.codes.shape}")
    write_compute(w, m)
    w.fields(
        _SWEEP, m.row_skip, m.codes.shape[0], v.channels, v.height, v.width,
        *v.kernel, *v.stride, *v.padding, *v.dilation,
    )  # fmt: skip
    w.ints(m.codes, (m.codes.shape[0], v.channels, v.height, v.width), np.int16)


def read_sweep(r: BodyReader) -> Sweep:
    common = read_compute(r)
    row_skip, images, channels, height, width, kh, kw, sh, sw, ph, pw, dh, dw = r.fields(_SWEEP)
    if 0 in (kh, kw, sh, sw, dh, dw):
        raise MalformedMessage("kernel, stride and dilation of a window must be at least 1")
    if dh * (kh - 1) + 1 > height + 2 * ph or dw * (kw - 1) + 1 > width + 2 * pw:
        raise MalformedMessage(f"kernel {kh} x {kw} does not fit the padded map of {height} x {width}")
    window = KernelWindow(channels, height, width, (kh, kw), (sh, sw), (ph, pw), (dh, dw))
    size = unfolded_codes(images, window)
    if size > MAX_UNFOLDED:
        raise MalformedMessage(f"the sweep unfolds to {size} input codes, at most {MAX_UNFOLDED} are allowed")
    codes = r.ints((images, channels, height, width), np.int16)
    return Sweep(**common, window=window, row_skip=row_skip, codes=codes)


def write_load_layer(w: BodyWriter, m: LoadLayer) -> None:
    w.fields(_LAYER, m.layer, len(m.tiles), m.inputs, m.outputs, m.low, m.high)
    for values in (m.bias, m.multiplier, m.shift):
        w.ints(values, (m.outputs,), np.int32)
    for tile in m.tiles:
        write_tile(w, tile.address)
        reads = reads_written(tile.reads)
        w.fields(_LAYER_TILE, tile.first_input, tile.first_output, tile.multiplier, tile.shift, reads)
        w.ints(tile.gain, (tile.address.outputs,), np.int32)
        w.ints(tile.offset, (tile.address.outputs,), np.int64)
        w.ints(tile.input_gain, (tile.address.outputs,), np.int32)


def read_load_layer(r: BodyReader) -> LoadLayer:
    layer, count, inputs, outputs, low, high = r.fields(_LAYER)
    bias, multiplier, shift = (r.ints((outputs,), np.int32) for _ in range(3))
    tiles = tuple(read_layer_tile(r) for _ in range(count))
    most = max((tile.reads for tile in tiles), default=1)
    if any(most % tile.reads for tile in tiles):
        raise MalformedMessage(f"reads of tiles that do not divide the most, {most}")
    return LoadLayer(layer, inputs, outputs, low, high, bias, multiplier, shift, tiles)


def read_layer_tile(r: BodyReader) -> LayerTile:
    address = TileAddress(*r.fields(_CELLS))
    first_input, first_output, multiplier, shift, reads = r.fields(_LAYER_TILE)
    columns = (address.outputs,)
    gain, offset, input_gain = r.ints(columns, np.int32), r.ints(columns, np.int64), r.ints(columns, np.int32)
    return LayerTile(address, first_input, first_output, multiplier, shift, gain, offset, input_gain, reads_of(reads))
