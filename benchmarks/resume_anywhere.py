"""Killed at random moments and resumed: does a deployment end with the bits of a run without interruption?

An emulated chip is served over TCP. One run is left alone; each further one is killed (SIGKILL, or told to end by
SIGINT or SIGTERM) up to three times when its journal has a random length, and resumed. Every data set of data.h5 is
compared, and the program and the record on the chip. Prints a line a run and a JSON line at the end; exit code 1 when
any bit differs.

    python benchmarks/resume_anywhere.py [--runs 100] [--seed 0] [--images 20]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from hil.emulator.address import chip_from_address
from hil.server.serve import serving

CHIP = "emulated:lab-128?seed=7"
HIL = [sys.executable, "-m", "hil.cli"]
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
MOST_KILLS = 3


def arguments(where: str, run: Path, images: int) -> list[str]:
    brief = ["--samples", str(images), "--repeat", "1", "--no-causes", "--tune-images", "16"]
    return ["deploy", "--port", where, "--out", str(run), "--recalibrate", *brief]


def content(path: Path) -> dict[str, np.ndarray]:
    """Every data set of an HDF5 file by its name."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def differences(one: Path, other: Path) -> list[str]:
    """Names of data sets of two run folders that are not the same; the program's text holds a date."""
    names = []
    for file in ("data.h5", "record.h5", "program.h5"):
        first, second = content(one / file), content(other / file)
        for name in sorted(first.keys() | second.keys()):
            if not _same(first.get(name), second.get(name)) and (file, name) != ("program.h5", "description"):
                names.append(f"{file}:{name}")
    return names


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return False
    return np.array_equal(one, other, equal_nan=np.asarray(one).dtype.kind == "f")


def journal_bytes(part: Path) -> int:
    """Length of the journal of an unfinished run; 0 where there is none."""
    with contextlib.suppress(OSError):
        return (part / "journal").stat().st_size
    return 0


def killed_run(where: str, run: Path, images: int, size: int, rng: random.Random) -> list[str]:
    """Make a run that is killed on the way; gives what ended it each time."""
    part, ended = run.with_name(run.name + ".unfinished"), []
    command = [*HIL, *arguments(where, run, images)]
    for _ in range(rng.randint(1, MOST_KILLS)):
        begun = journal_bytes(part)
        wanted = begun + rng.random() * max(size - begun, 0)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and journal_bytes(part) < wanted:
            time.sleep(0.002)
        how = rng.choice(SIGNALS)
        process.send_signal(how)
        process.wait()
        ended.append(f"{how.name} at {wanted / size:.0%}")
        if run.exists():
            return ended
        if part.exists():
            command = [*HIL, "resume", str(part)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return ended


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=20)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        whole, size = Path(folder) / "whole", 0
        with serving(chip_from_address(CHIP), "tcp://127.0.0.1:0") as where:
            command = [*HIL, *arguments(where, whole, asked.images)]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None:
                size = max(size, journal_bytes(whole.with_name("whole.unfinished")))
                time.sleep(0.01)
        for number in range(asked.runs):
            rng, run = random.Random(asked.seed * 100_003 + number), Path(folder) / f"run{number}"
            with serving(chip_from_address(CHIP), "tcp://127.0.0.1:0") as where:
                ended = killed_run(where, run, asked.images, size, rng)
            wrong = differences(whole, run) if run.exists() else ["no run"]
            different += bool(wrong)
            print(f"run {number}: {', '.join(ended)}: {wrong or 'same bits'}", flush=True)
    print(json.dumps({"runs": asked.runs, "seed": asked.seed, "journal_bytes": size, "different": different}))
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
