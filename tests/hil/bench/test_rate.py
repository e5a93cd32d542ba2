"""Rows of cells a second over VISA on a socket, by processor time: what the machine does beside it does not matter."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from firmware_protocols.messages import CellBlock, ReadCells
from hil.emulator.chip import EmulatedChip
from hil.server.bench.bench_file import load_bench
from hil.server.bench.chip import BenchChip
from tests.hil.bench.benches import StillClock, free_ports, write_bench
from tests.hil.bench.served import bench_served

ROWS_PER_S = 1000.0


def test_a_thousand_rows_a_second_are_read_over_visa_in_processor_time_of_host_and_stand_in(tmp_path: Path) -> None:
    path = write_bench(tmp_path, port=f"visa:TCPIP0::127.0.0.1::{free_ports(1)[0]}::SOCKET")
    bench = load_bench(path)
    request = ReadCells(CellBlock(0, 0, 32, 0, 32), 1, 1, 1)
    rates = []
    with (
        bench_served(bench, EmulatedChip(bench.chip, 7), StillClock()),
        contextlib.closing(BenchChip(bench)) as chip,
    ):
        chip.switch_on()
        for _ in range(6):
            began_s = time.process_time()
            for _ in range(4):
                for _ in chip.read_cells(request):
                    pass
            rates.append(4 * 32 / (time.process_time() - began_s))
    assert max(rates) >= ROWS_PER_S
