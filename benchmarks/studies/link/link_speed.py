"""Speed of the link's parts, each with its limit: the codec, native firmware over a pseudo-terminal, a host that waits.

The first is bytes a second of CPU time, the second by the clock on the wall (so it needs quiet cores), the third the
share of one core that the driver takes while it waits for a chip that says nothing. Prints a line each and a JSON line
at the end; exit code 1 when a limit is not kept.

    python benchmarks/studies.py link-speed [--seconds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time

from link_rate import code_bytes_per_s

from cim.chip.file import load_chip
from firmware_protocols.frames import MAX_PAYLOAD, Flag, Frame, FrameReader, encode_frame
from hil.driver.open_chip import open_chip
from hil.server.firmware_launch import running_firmware
from hil.server.firmware_targets import FirmwareTarget

SPEC = load_chip("lab-128", macros=1)
LIMITS = {"codec_mb_per_s": 100.0, "pty_mb_per_s": 2.0, "waiting_share": 0.01}
SILENCE_S = 120.0


def codec_mb_per_s(seconds: float) -> float:
    """Payload that goes through the encoder and the reader, a second of CPU time."""
    frame = Frame(Flag.LAST, 1, 1, 1, 0, 0, os.urandom(MAX_PAYLOAD))
    reader, count, start_s = FrameReader(), 0, time.process_time()
    while (spent_s := time.process_time() - start_s) < seconds:
        for _ in range(50):
            reader.feed(encode_frame(frame))
        count += 50
    return count * MAX_PAYLOAD / spent_s / 1e6


def child_of_this() -> int:
    """The firmware's process."""
    listed = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "pid=,comm="], capture_output=True, text=True)
    return next(int(row.split()[0]) for row in listed.stdout.splitlines() if row.split()[1] != "ps")


def pty_and_waiting(seconds: float) -> tuple[float, float]:
    """MB/s of input codes to the native firmware, and the share of a core while it is stopped."""
    with (
        running_firmware(FirmwareTarget.NATIVE, SPEC, seed=1) as address,
        open_chip(address, chip=SPEC, silence_s=SILENCE_S) as chip,
    ):
        rate = code_bytes_per_s(chip, seconds) / 1e6
        firmware = child_of_this()
        os.kill(firmware, signal.SIGSTOP)
        threading.Timer(seconds, os.kill, (firmware, signal.SIGCONT)).start()
        wall_s, cpu_s = time.monotonic(), time.process_time()
        chip.status()
        share = (time.process_time() - cpu_s) / (time.monotonic() - wall_s)
    return rate, share


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each part")
    asked = parser.parse_args()
    rate, share = pty_and_waiting(asked.seconds)
    found = {"codec_mb_per_s": codec_mb_per_s(asked.seconds), "pty_mb_per_s": rate, "waiting_share": share}
    missed = [
        name for name, value in found.items() if (value > LIMITS[name] if "share" in name else value < LIMITS[name])
    ]
    for name, value in found.items():
        print(f"{name:<16} {value:.4g}, limit {LIMITS[name]:g}")
    print(json.dumps({**{name: round(value, 4) for name, value in found.items()}, "missed": missed}))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
