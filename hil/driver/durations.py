"""Longest duration of a request by the chip file: signs of progress do not prolong a wait beyond it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from cim.chip.converters import conversions, input_cycles, input_planes
from cim.chip.spec import ChipSpec
from cim.chip.windows import Window
from firmware_protocols.messages import Mvm, ProgramTile, Pulse, ReadCells, Request, Sweep, TileAddress, Wait
from firmware_protocols.plans.messages import RunPlan
from hil.driver.loaded import Loaded


def longest_s(spec: ChipSpec, request: Request[Any], loaded: Loaded | None = None) -> float:
    """Chip time of a request, s, by the chip file's [timing]: each cell takes all of its pulses, nothing overlaps.

    Args:
        loaded: layers and plan that an ``Mvm`` or ``Sweep`` without a tile, or a ``RunPlan``, runs.

    Example: 128 x 128 cells of lab-128, at most 500 pulses of 1.5 µs each with one verify of 1 µs: 20.5 s.
    """
    timing = spec.timing
    match request:
        case ProgramTile():
            turn_ns = timing.pulse_ns + request.verify_reads * timing.verify_ns
            return request.targets.size * (request.max_pulses + 1) * turn_ns * 1e-9
        case Pulse():
            return request.millivolts.size * max(timing.pulse_ns, float(request.width_ns)) * 1e-9
        case ReadCells():
            return request.cells.rows * request.cells.columns * request.reads * timing.cell_read_ns * 1e-9
        case Mvm() | Sweep():
            layer = loaded.of(request) if loaded is not None else None
            tiles = [(t.address, t.reads) for t in layer.tiles] if layer is not None else []
            if request.tile is not None:
                tiles = [(request.tile, request.reads)]
            return vectors_of(request) * _vector_s(spec, request.input_bits, request.input_signed, tiles)
        case RunPlan():
            return sum(
                vectors
                * _vector_s(
                    spec, product.input_bits, bool(product.input_signed), [(t.address, t.reads) for t in layer.tiles]
                )
                for product, layer, vectors in (loaded or Loaded()).products(request)
            )
        case Wait():
            return request.duration_ns * 1e-9
        case _:
            return 0.0


def _vector_s(spec: ChipSpec, bits: int, signed: bool, tiles: Sequence[tuple[TileAddress, int]]) -> float:
    """Chip time of one vector on tiles that are read so many times each, one after the other, s."""
    inputs, timing, reads_ns = spec.macro.inputs, spec.timing, 0.0
    for tile, reads in tiles:
        converted_ns = conversions(spec.macro, tile.outputs) * timing.conversion_ns
        for plane in input_planes(inputs, bits, signed):
            cycles_ns = input_cycles(inputs, plane) * timing.input_cycle_ns
            reads_ns += reads * (timing.row_setup_ns + cycles_ns + converted_ns)
    return reads_ns * 1e-9


def vectors_of(request: Mvm | Sweep) -> int:
    """Vectors that a product multiplies, those of kernel windows included."""
    if isinstance(request, Mvm):
        return len(request.codes)
    return len(request.codes) * Window(**dataclasses.asdict(request.window)).positions
