"""Put a board with an SDK of its own behind the chip role, so that every hil command works on it.

python examples/bridge.py 127.0.0.1:5026 &
hil board info --port tcp://127.0.0.1:5026 --chip lab-128 --macros 1
"""

from __future__ import annotations

import contextlib
import sys

import numpy as np

import hil
from cim.chip.converters import code_limits, quantise_adc, split_planes
from cim.chip.encoding import cell_lines
from cim.chip.file import load_chip
from firmware_protocols import messages as wire
from firmware_protocols.handlers import Answer

SPEC = load_chip("lab-128", macros=1)  # describe your chip in a file of its own: hil chip show lab-128


class AcmeBoard:
    """A made-up SDK, with yours in its place: an exact array in memory, conductances in siemens."""

    def __init__(self, rows: int = SPEC.macro.rows, columns: int = SPEC.macro.columns) -> None:
        self.array_s = np.full((rows, columns), 2e-6)

    def pulse(self, row: int, column: int, volts: float) -> None:
        self.array_s[row, column] = np.clip(self.array_s[row, column] + 0.5e-6 * np.sign(volts), 0.0, 60e-6)

    def sense(self, row: int, column: int) -> float:
        return float(self.array_s[row, column])

    def bit_line_currents(self, row_volts: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return np.asarray(row_volts @ self.array_s[:, columns])

    def power(self, on: bool) -> None:
        self.powered = on


class AcmeChip(hil.Board):
    """The SDK as chip verbs."""

    capabilities = wire.Capability.PULSE | wire.Capability.RAW | wire.Capability.LAYER | wire.Capability.PLAN
    run_plan = hil.run_plan  # whole networks, by the products of tiles below

    def __init__(self, board: AcmeBoard) -> None:
        super().__init__(SPEC)
        self.board = board

    def describe(self) -> wire.Description:
        macro, digest, kind = SPEC.macro, bytes.fromhex(SPEC.digest), "emulated"  # "silicon" once a real board answers
        return wire.Description(
            SPEC.name, SPEC.revision, "ACME-1", "bridge 1", kind, 1, macro.rows, macro.columns, digest, bytes(32)
        )

    def switch_on(self) -> None:
        self.board.power(True)

    def pulse(self, request: wire.Pulse) -> Answer[wire.Done]:
        at, sign = request.cells, 1 if request.polarity is wire.Polarity.SET else -1
        for row, column in np.argwhere(request.millivolts):
            self.board.pulse(at.row0 + row, at.column0 + column, sign * int(request.millivolts[row, column]) / 1000)
            yield None  # after each call that may last: the chip answers other requests meanwhile
        return wire.Done()

    def read_cells(self, request: wire.ReadCells) -> Answer[wire.CellReadings]:
        at, sensed = request.cells, np.empty((request.cells.rows, request.cells.columns))
        for row in range(at.rows):
            sensed[row] = [self.board.sense(at.row0 + row, at.column0 + column) for column in range(at.columns)]
            yield None  # a row of calls, not each: every yield looks at the line
        return wire.CellReadings(request.unit_ns, np.rint(sensed * 1e9 / request.unit_ns).astype(np.uint16))

    def mvm(self, request: wire.Mvm) -> Answer[wire.MvmResult]:
        macro, tile, codes_in = SPEC.macro, request.tile, request.codes
        if tile is None:
            return hil.run_layer(self, request)
        rows, columns = cell_lines(macro, tile.row0, tile.rows, tile.output0, tile.outputs)
        volts, reads = np.zeros(macro.rows), []
        for units in split_planes(codes_in, macro.inputs, request.input_bits, request.input_signed).swapaxes(0, 1):
            for plane in units:  # one read of the array for each input bit
                volts[rows] = macro.v_read_v * plane
                current_a = self.board.bit_line_currents(volts, columns)
                reads.append((current_a[0::2] - current_a[1::2]) / macro.v_read_v * 1e6)  # pairs, in µS
        sums_us = np.array(reads).reshape(len(request.codes), -1, tile.outputs)
        codes = quantise_adc(sums_us, macro.lsb_us(request.range_code), macro.adc.bits, macro.adc_signed)
        at_an_end = np.isin(codes, code_limits(macro.adc.bits, macro.adc_signed))
        return wire.MvmResult(wire.Returns.RAW, int(at_an_end.sum()), codes.size, codes)

    def outputs_off(self) -> wire.Done:
        self.board.power(False)
        return wire.Done()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends it
        hil.serve_tcp(AcmeChip(AcmeBoard()), sys.argv[1], lambda address: print(address, flush=True))
