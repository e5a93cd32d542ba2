"""Share of a line's byte rate that carries input codes, on clean and bad lines at 921,600 baud and 18 ms round trip.

In virtual time, or with ``--real`` over a pseudo-terminal whose far side paces bytes and makes the faults by the clock
on the wall. Prints a line a cell and a JSON line at the end; exit code 1 when the mean of a cell is under its gate.

    python benchmarks/studies.py goodput [--seeds 5] [--seconds 20] [--write docs/explanation/reliability.md]
    python benchmarks/studies.py goodput --real [--seconds 20]          # two cells: clean, 1 % of frames lost
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import sys
import threading
import time
import tty
from dataclasses import replace
from pathlib import Path

import numpy as np
from link_rate import code_bytes_per_s

from firmware_protocols.chip import ChipServer
from hil.driver.open_chip import connect
from hil.emulator.address import chip_from_address
from hil.transports.serial_port import SerialTransport
from tests.line_simulation.direction import LineDirection
from tests.line_simulation.faults import LineFaults
from tests.line_simulation.goodput import LIMITS, virtual_goodput

BYTES_PER_S, DELAY_S = 92_160, 0.009
CELLS = (
    ("clean", {}, 0.90),
    ("0.1 % of frames lost", {"loss": 0.001}, 0.88),
    ("1 % of frames lost", {"loss": 0.01}, 0.85),
    ("5 % of frames lost", {"loss": 0.05}, 0.72),
    ("20 % of frames lost", {"loss": 0.2}, 0.45),
    ("bit errors 1e-6", {"bit_errors": 1e-6}, 0.85),
    ("bit errors 1e-5", {"bit_errors": 1e-5}, 0.72),
    ("bit errors 1e-4", {"bit_errors": 1e-4}, 0.40),
    ("bit errors 3e-4", {"bit_errors": 3e-4}, 0.25),
)
REAL = ("clean", "1 % of frames lost")
BLOCK = re.compile(
    r"(<!-- goodput: made by benchmarks/studies/link/goodput.py -->\n).*?(<!-- end of goodput -->)", re.DOTALL
)
CLEAN = LineFaults(delay_s=DELAY_S, bytes_per_s=BYTES_PER_S)


class PacedLine(threading.Thread):
    """Chip role behind the master of a pseudo-terminal; every byte takes its time, and some their leave."""

    def __init__(self, master: int, faults: LineFaults, seed: int) -> None:
        super().__init__(daemon=True)
        self.master, self.ended = master, threading.Event()
        rng = random.Random(seed)
        self.to_chip, self.to_host = (LineDirection(faults, rng, {}) for _ in range(2))
        self.server = ChipServer(chip_from_address("emulated:lab-128?seed=0"), boot_id=1, limits=LIMITS)

    def run(self) -> None:
        rest = b""
        os.set_blocking(self.master, False)
        while not self.ended.is_set():
            now_s = time.monotonic()
            with contextlib.suppress(OSError):  # nothing there, or not open yet
                rest += os.read(self.master, 65536)
            whole, zero, rest = rest.rpartition(b"\0")
            self.to_chip.put(whole + zero, now_s)
            for piece in self.to_chip.take(now_s):
                self.server.receive(piece.data, now_s)
            self.to_host.put(self.server.data_to_send(now_s), now_s)
            for piece in self.to_host.take(now_s):
                os.write(self.master, piece.data)
            time.sleep(0.001)


def real_share(faults: LineFaults, seconds: float, seed: int) -> float:
    """Of one cell, through the driver and a pseudo-terminal."""
    master, slave = os.openpty()
    tty.setraw(slave)
    line = PacedLine(master, faults, seed)
    line.start()
    try:
        with connect(SerialTransport(os.ttyname(slave), 921_600), silence_s=60.0) as driver:
            found = code_bytes_per_s(driver, seconds)
    finally:
        line.ended.set()
        line.join()
        os.close(master)
        os.close(slave)
    return found / BYTES_PER_S


def table(rows: list[tuple[str, float, list[float]]]) -> str:
    lines = ["| line | at least | mean | lowest, highest of seeds |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {100 * gate:.0f} % | {100 * np.mean(found):.1f} % "
        f"| {100 * min(found):.1f}, {100 * max(found):.1f} % |"
        for name, gate, found in rows
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the line at its full rate, each cell")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--write", type=Path, help="page whose table is written anew")
    asked = parser.parse_args()
    rows = []
    for name, chances, gate in CELLS:
        faults = replace(CLEAN, **chances)
        if asked.real:
            if name not in REAL:
                continue
            found = [real_share(faults, asked.seconds, seed=0)]
        else:
            found = [virtual_goodput(faults, seconds=asked.seconds, seed=s).share for s in range(asked.seeds)]
        rows.append((name, gate, found))
        print(f"{name:<22} at least {gate:.2f}: {', '.join(f'{share:.3f}' for share in found)}", flush=True)
    if asked.write:
        page = asked.write.read_text("utf-8")
        if not BLOCK.search(page):
            raise SystemExit(f"{asked.write} has no block for the table")
        asked.write.write_text(BLOCK.sub(lambda b: f"{b[1]}\n{table(rows)}\n\n{b[2]}", page), "utf-8")
    missed = [name for name, gate, found in rows if np.mean(found) < gate]
    means = {name: round(float(np.mean(found)), 4) for name, _, found in rows}
    print(json.dumps({"real": asked.real, "cells": means, "missed": missed}))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
