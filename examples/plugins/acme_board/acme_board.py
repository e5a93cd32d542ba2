"""Acme: a made-up board, an exact array in memory. Put the calls of your SDK where this one reads and writes it."""

from __future__ import annotations

import time

import numpy as np

from cim.chip.converters import quantise_adc, split_planes
from cim.chip.encoding import cell_lines
from cim.chip.file import load_chip
from firmware_protocols import messages as wire
from hil.server.board import Board
from hil.transports import open_transport

LEFT_ALONE = 0xFFFF  # a target
SPEC = load_chip("lab-128", macros=2)  # describe your chip in a file of its own: hil chip show lab-128


class AcmeBoard(Board):
    """``acme:NAME``: the board of that name."""

    capabilities = wire.Capability.PROGRAM_TILE | wire.Capability.RAW

    def __init__(self, name: str) -> None:
        super().__init__(SPEC)
        self.name, self.array_us = (
            name,
            np.full((SPEC.macros, SPEC.macro.rows, SPEC.macro.columns), SPEC.macro.levels_us[0]),
        )

    def describe(self) -> wire.Description:
        macro, digest, kind = SPEC.macro, bytes.fromhex(SPEC.digest), "emulated"  # "silicon" once a real board answers
        return wire.Description(
            SPEC.name, SPEC.revision, self.name, "acme 1", kind, 2, macro.rows, macro.columns, digest, bytes(32)
        )

    def program_tile(self, request: wire.ProgramTile) -> wire.TileProgrammed:
        at, wanted = request.cells, request.targets != LEFT_ALONE
        cells = self.array_us[at.macro, at.row0 : at.row0 + at.rows, at.column0 : at.column0 + at.columns]
        cells[wanted] = request.targets[wanted] * request.unit_ns * 1e-3
        readings = np.rint(cells * 1e3 / request.unit_ns).astype(np.uint16)
        return wire.TileProgrammed(request.unit_ns, readings, wanted.astype(np.uint16), np.ones_like(wanted))

    def read_cells(self, request: wire.ReadCells) -> wire.CellReadings:
        at = request.cells
        cells = self.array_us[at.macro, at.row0 : at.row0 + at.rows, at.column0 : at.column0 + at.columns]
        return wire.CellReadings(request.unit_ns, np.rint(cells * 1e3 / request.unit_ns).astype(np.uint16))

    def mvm(self, request: wire.Mvm) -> wire.MvmResult:
        macro, tile = SPEC.macro, request.tile
        assert tile is not None  # this board has no layers, and what has no tile is refused
        rows, columns = cell_lines(macro, tile.row0, tile.rows, tile.output0, tile.outputs)
        planes = split_planes(request.codes, macro.inputs, request.input_bits, request.input_signed)
        sums = planes @ self.array_us[tile.macro][np.ix_(rows, columns)]  # (planes, vectors, bit lines)
        codes = quantise_adc(
            (sums[..., 0::2] - sums[..., 1::2]).swapaxes(0, 1),
            macro.lsb_us(request.range_code),
            macro.adc.bits,
            macro.adc_signed,
        )
        return wire.MvmResult(wire.Returns.RAW, 0, codes.size, codes)

    def outputs_off(self) -> wire.Done:
        return wire.Done()


class PacedLine:
    """``paced:BAUD,ADDRESS``: the line of another address at the pace of a serial one, 10 bits a byte."""

    def __init__(self, rest: str, *, baud: int, timeout_s: float) -> None:
        pace, _, inner = rest.partition(",")
        self.address, self._byte_s = f"paced:{rest}", 10.0 / float(pace)
        self._line = open_transport(f"{inner}?baud={baud}", timeout_s=timeout_s)
        self.max_payload = self._line.max_payload

    def write(self, data: bytes) -> None:
        time.sleep(len(data) * self._byte_s)
        self._line.write(data)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        found = self._line.read(max_bytes, timeout_s)
        time.sleep(len(found) * self._byte_s)
        return found

    def close(self) -> None:
        self._line.close()
