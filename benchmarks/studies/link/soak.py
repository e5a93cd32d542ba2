"""A long run over a bad line by the clock on the wall: are all answers right, and does memory stay flat?

The driver asks the native C firmware for reads and products, 16 different ones again and again, through a line that
loses, doubles, delays and damages frames, loses and inserts bytes, and stands still now and then. Every answer is
compared with the first one, which came over a clean line. Before, the driver waits for an answer that a silent line
holds back, which says what an idle one costs. A JSON line at the end; exit code 1 when an answer is wrong, memory of
either end grew by more than a tenth from the second to the last quarter, or the idle driver takes more than 1 % of a
processor.

    python benchmarks/studies.py soak [--minutes 10] [--seed 0]          # an hour: --minutes 60
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cim.chip.file import load_chip
from firmware_protocols.messages import Returns, TileAddress
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect
from hil.driver.reconnection import Reconnection
from hil.server.firmware_launch import running_firmware
from hil.server.firmware_targets import FirmwareTarget
from hil.transports import open_transport
from hil.transports.base import CHUNK, Transport
from tests.line_simulation.direction import LineDirection
from tests.line_simulation.faults import Counts, LineFaults

SPEC = load_chip("lab-128", macros=1)
BAD = LineFaults(
    loss=0.02, duplicate=0.02, corrupt=0.005, truncate=0.005, reorder=0.02, late=0.01, bit_errors=1e-5, drop=1e-5,
    insert=1e-5, delay_s=0.002, late_s=0.05, bytes_per_s=92_160.0,
)  # fmt: skip
CLEAN = LineFaults(delay_s=0.002, bytes_per_s=92_160.0)
DIFFERENT, EVERY_S = 16, 0.02  # requests, and the pause between two
STALL_EVERY_S, STALL_S, IDLE_S = 60.0, 1.5, 20.0
MOST_GROWTH, MOST_IDLE_SHARE = 1.1, 0.01


class BadLine:
    """A transport behind a line with faults, both ways."""

    def __init__(self, inner: Transport, seed: int) -> None:
        self._inner, self.counts, self._rest = inner, Counts(), b""
        self.to_chip, self.to_host = (
            LineDirection(CLEAN, random.Random(f"{seed}/{way}"), self.counts) for way in range(2)
        )
        self.address, self.max_payload = inner.address, inner.max_payload

    def change(self, faults: LineFaults) -> None:
        self.to_chip.change(faults)
        self.to_host.change(faults)

    def stall(self, seconds: float) -> None:
        for way in (self.to_chip, self.to_host):
            way.stall(time.monotonic() + seconds, deaf=True)

    def write(self, data: bytes) -> None:
        self.to_chip.put(data, time.monotonic())
        self._move(0.0)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        end_s = time.monotonic() + timeout_s
        while True:
            now_s = time.monotonic()
            data = b"".join(piece.data for piece in self.to_host.take(now_s))
            if data or now_s >= end_s:
                return data
            times = [end_s, *(way.next_s for way in (self.to_chip, self.to_host) if way.next_s is not None)]
            self._move(max(0.0, min(times) - now_s))

    def _move(self, wait_s: float) -> None:
        for piece in self.to_chip.take(time.monotonic()):
            self._inner.write(piece.data)
        whole, zero, self._rest = (self._rest + self._inner.read(CHUNK, wait_s)).rpartition(b"\0")
        self.to_host.put(whole + zero, time.monotonic())

    def close(self) -> None:
        self._inner.close()


def resident_kib(process: str) -> int:
    """Memory of a process that is in use, KiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1])
    return 4 * pages


def firmware_process() -> str:
    """The one child of this process that runs the firmware."""
    children = Path("/proc/self/task").glob("*/children")
    (child,) = {word for path in children for word in path.read_text("ascii").split()}
    return child


def idle_share(driver: ChipDriver, line: BadLine) -> float:
    """Of a processor, while the driver waits for an answer that a silent line holds back."""
    line.stall(IDLE_S)
    used_s, began_s = time.process_time(), time.monotonic()
    driver.status()
    return (time.process_time() - used_s) / (time.monotonic() - began_s)


def asked(driver: ChipDriver, number: int) -> NDArray[np.generic]:
    """The answer to one of the requests."""
    if number % 4 == 0:
        return driver.read_cells(0, sample=number)
    tile = TileAddress(0, 0, 64, 0, 16)
    codes = np.random.default_rng(number).integers(0, 256, (4 + number, 64)).astype(np.int16)
    return driver.mvm(tile, codes, range_code=0, sample=number, returns=Returns.SUMS).values


def grown(sizes: list[int]) -> float:
    """Largest of the last quarter over largest of the second."""
    quarter = max(len(sizes) // 4, 1)
    return max(sizes[-quarter:]) / max(sizes[quarter : 2 * quarter] or sizes)


def soak(driver: ChipDriver, line: BadLine, minutes: float, say: Callable[[str], None]) -> dict[str, object]:
    wanted = [asked(driver, number) for number in range(DIFFERENT)]
    line.change(BAD)
    firmware, end_s = firmware_process(), time.monotonic() + 60 * minutes
    sizes: dict[str, list[int]] = {"self": [], firmware: []}
    wrong = requests = 0
    look_s = stall_s = time.monotonic()
    while time.monotonic() < end_s:
        number = requests % DIFFERENT
        wrong += not np.array_equal(asked(driver, number), wanted[number])
        requests += 1
        if time.monotonic() >= look_s:
            look_s += 5.0
            for process, found in sizes.items():
                found.append(resident_kib(process))
        if time.monotonic() >= stall_s + STALL_EVERY_S:
            stall_s = time.monotonic()
            line.stall(STALL_S)
            say(f"{requests:,} requests, {wrong} wrong, {sizes['self'][-1]:,} KiB")
        time.sleep(EVERY_S)
    line.change(CLEAN)
    return {
        "requests": requests,
        "wrong": wrong,
        "faults": {kind.value: times for kind, times in line.counts.items()},
        "driver_kib": [sizes["self"][0], max(sizes["self"]), sizes["self"][-1]],
        "firmware_kib": [sizes[firmware][0], max(sizes[firmware]), sizes[firmware][-1]],
        "growth": round(max(map(grown, sizes.values())), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with running_firmware(FirmwareTarget.NATIVE, SPEC, seed=given.seed, where="127.0.0.1:0") as address:
        line = BadLine(open_transport(address), given.seed)
        with connect(line, chip=SPEC, reconnection=Reconnection(120.0, None)) as driver:
            idle = idle_share(driver, line)
            found = soak(driver, line, given.minutes, lambda text: print(text, file=sys.stderr, flush=True))
    result = {"minutes": given.minutes, "seed": given.seed, **found, "idle_cpu_share": round(idle, 5)}
    print(json.dumps(result))
    return int(bool(found["wrong"]) or float(str(found["growth"])) > MOST_GROWTH or idle > MOST_IDLE_SHARE)


if __name__ == "__main__":
    sys.exit(main())
