"""Bytes and seconds of one whole deployment on a serial line of 921,600 baud and 18 ms round trip, part by part.

In virtual time both ends compute in no time, so that every second is the line's. With ``--pty`` the same line is a
pseudo-terminal whose far side gives each byte its time by the clock on the wall; the line's seconds are those while
something was under way. The chip is emulated. Prints a line a part and a JSON line at the end.

    python benchmarks/studies.py deployment-on-a-line [NETWORK] [--data cifar10] [--samples 500] [--repeat 3] [--pty]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import sys
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stage_parts import StageParts

from firmware_protocols.chip import ChipServer
from firmware_protocols.connection import LinkLimits
from firmware_protocols.extensions.chip_side import keeping_of
from firmware_protocols.handlers import ChipHandlers
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import deploy_on
from hil.deployment.network_source import BUNDLED_DATA, program_of
from hil.deployment.options import DeployOptions, NetworkOptions
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect
from hil.emulator.address import chip_from_address
from hil.emulator.chip import EmulatedChip
from hil.server.background import InBackground
from hil.transports.base import NOISY_PAYLOAD
from hil.transports.in_process import MAX_MESSAGE
from hil.transports.serial_port import SerialTransport
from hil.watch import Watch
from tests.line_simulation.port import PacedLine, SimulatedPort

BAUD = 921_600


def chip_role(handlers: ChipHandlers, beside: ChipHandlers | None = None) -> ChipServer:
    limits = LinkLimits(max_payload=NOISY_PAYLOAD, window=32, max_message=MAX_MESSAGE)
    return ChipServer(handlers, boot_id=secrets.randbits(32), limits=limits, keeping=keeping_of(beside or handlers))


class PacedPort(threading.Thread):
    """The chip's end of a pseudo-terminal, by the clock on the wall."""

    def __init__(self, master: int, line: PacedLine) -> None:
        super().__init__(daemon=True)
        self.master, self.line, self.ended = master, line, threading.Event()

    def run(self) -> None:
        rest, out = b"", b""
        os.set_blocking(self.master, False)
        while not self.ended.is_set():
            now_s = time.monotonic()
            with contextlib.suppress(OSError):  # nothing there, or not open yet
                rest += os.read(self.master, 65536)
            whole, zero, rest = rest.rpartition(b"\0")
            self.line.to_chip.put(whole + zero, now_s)
            out += self.line.move(now_s)
            with contextlib.suppress(BlockingIOError):
                out = out[os.write(self.master, out) :] if out else out
            time.sleep(0.0005)


@contextmanager
def opened(chip: EmulatedChip, *, pty: bool) -> Iterator[tuple[ChipDriver, PacedLine]]:
    """The chip at the end of such a line, open."""
    if not pty:
        line = PacedLine(chip_role(chip))
        port = SimulatedPort(line)
        with connect(port, chip=chip.spec, clock=port.clock) as driver:
            yield driver, line
        return
    master, slave = os.openpty()
    tty.setraw(slave)
    with InBackground(chip) as background:
        paced = PacedPort(master, PacedLine(chip_role(background, chip), now_s=time.monotonic()))
        paced.start()
        try:
            with connect(SerialTransport(os.ttyname(slave), BAUD), chip=chip.spec, silence_s=60.0) as driver:
                yield driver, paced.line
        finally:
            paced.ended.set()
            paced.join()
            os.close(master)
            os.close(slave)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, nargs="?", help="net.pt; default: the bundled network")
    parser.add_argument("--data", default=BUNDLED_DATA)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7, help="of the chip")
    parser.add_argument("--pty", action="store_true")
    asked = parser.parse_args()
    options = DeployOptions(samples=asked.samples, repeats=asked.repeat, virtual_chips=2)
    source = NetworkOptions(data=None if asked.network is None else asked.data)
    program, _ = program_of(asked.network, source, Watch(), recipe=options.recipe)
    chip = chip_from_address(f"emulated:lab-128?seed={asked.seed}&macros={program.spec.macros}")
    start_s = time.monotonic()
    with opened(chip, pty=asked.pty) as (driver, line):
        watch = StageParts(lambda: (line.bytes_both, line.busy_s))
        report, _ = deploy_on(driver, program, load_dataset(asked.data, "test"), options=options, watch=watch)
    for name, (size, seconds) in watch.parts.items():
        print(f"{name:<18} {size / 1e6:8.2f} MB {seconds:8.1f} s")
    found = {
        "network": "bundled" if asked.network is None else str(asked.network),
        "pty": asked.pty,
        "bytes": line.bytes_both,
        "to_chip": line.to_chip.bytes_put,
        "line_s": round(line.busy_s, 1),
        "wall_s": round(time.monotonic() - start_s, 1),
        "repeated_to_host": driver.counters["duplicates"],
        "measured": report.decisive.measured.mean,
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
