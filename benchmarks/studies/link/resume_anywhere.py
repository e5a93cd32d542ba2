"""Killed at random moments and begun again: does a deployment end with the bits of a run without interruption?

An emulated chip is served over TCP, and a small network of two layers is written to it and measured; every fifth run
calibrates the chip before, the others take a record. Runs are killed (SIGKILL, or told to end by SIGINT or SIGTERM) up
to three times, when their journal has a random length, and resumed, until so many processes were ended. Every data set
of data.h5 is compared with that of a run that was left alone, and the program and the record. A run is a line of the
results; those that stand there are not made again. Prints a JSON line at the end; exit code 1 when any bit differs, or
a file is missing or stands there half-written.

    python benchmarks/studies.py resume-anywhere [--kills 100] [--seed 0] [--out FILE]

Processes are forked from one that has its modules loaded, so that a run costs what it does and not what starting costs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import h5py
import numpy as np
from cached_rows import cache_row, cached_rows

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from hil.deployment.deploy import DeployOptions, deploy  # noqa: E402
from hil.deployment.options import usual_recipe  # noqa: E402
from hil.emulator.address import chip_from_address  # noqa: E402
from hil.server.serve import serving  # noqa: E402
from tests.hil.small_net import write_files  # noqa: E402

MACROS, IMAGES = 2, 32
CHIP = f"emulated:lab-128?seed=7&macros={MACROS}"
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
MOST_KILLS, CALIBRATED_EVERY = 3, 5
LOADED = ["__main__", "torch", "numba", "hil.deployment.chip_run"]
COMPLETE = {"data.h5", "program.h5", "record.h5", "report.html", "report.json", "report.md", "wire.log"}


class Deployment:
    """The small network on a chip, deployed by processes that may end at any moment."""

    def __init__(self, folder: Path) -> None:
        self._files = write_files(folder, IMAGES)
        self.record: Path | None = None  # None: the chip is calibrated first
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(LOADED)

    def begin(self, where: str, run: Path) -> ForkServerProcess:
        return self._started(deployed, *self._files, where, run, self.record)

    def _started(self, target: Callable[..., None], *arguments: object) -> ForkServerProcess:
        process = self._context.Process(target=target, args=arguments)
        process.start()
        return process

    def whole(self, run: Path) -> int:
        """Make a run and leave it alone; gives how long its journal was."""
        size = 0
        with serving(chip_from_address(CHIP), "tcp://127.0.0.1:0") as where:
            process = self.begin(where, run)
            while process.is_alive():
                size = max(size, journal_bytes(run.with_name(f"{run.name}.unfinished")))
                time.sleep(0.01)
        return size


def deployed(net: Path, data: Path, where: str, run: Path, record: Path | None) -> None:
    """What ``hil deploy`` does, briefly and in silence."""
    be_silent()
    options = DeployOptions(
        samples=IMAGES,
        repeats=1,
        virtual_chips=2,
        tolerance=0.1,
        causes=False,
        recipe=usual_recipe(f"tune={IMAGES // 2}"),
    )
    deploy(net, where, macros=MACROS, data=str(data), out=run, options=options, calibration=record)


def be_silent() -> None:
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.default_int_handler)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)


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


def killed_run(
    deployment: Deployment, where: str, run: Path, size: int, rng: random.Random, most_kills: int
) -> list[str]:
    """Make a run that is killed on the way; gives what ended it each time."""
    part, ended = run.with_name(run.name + ".unfinished"), list[str]()
    for _ in range(min(rng.randint(1, MOST_KILLS), most_kills)):
        begun = journal_bytes(part)
        wanted = begun + rng.random() * max(size - begun, 0)
        process = deployment.begin(where, run)
        while process.is_alive() and journal_bytes(part) < wanted:
            time.sleep(0.002)
        how = rng.choice(SIGNALS)
        assert process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, how)
        process.join()
        if run.exists():
            return ended
        ended.append(f"{how.name} at {wanted / size:.0%}")
    (deployment.begin(where, run)).join()
    return ended


def half_written(run: Path) -> list[str]:
    """What lies beside a finished run's files, or is missing of them."""
    names = {path.name for path in run.iterdir()} if run.exists() else set[str]()
    return sorted(names ^ COMPLETE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "resume_anywhere.jsonl")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows = [row for row in cached_rows(asked.out) if row["seed"] == asked.seed]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        deployment = Deployment(folder)
        sizes = {True: deployment.whole(folder / "whole" / "1")}
        record = folder / "record.h5"
        shutil.copy(folder / "whole" / "1" / "record.h5", record)
        deployment.record = record
        sizes[False] = deployment.whole(folder / "whole" / "0")
        while (kills := sum(len(row["ended"]) for row in rows)) < asked.kills:
            number = len(rows)
            rng, run = random.Random(asked.seed * 100_003 + number), folder / f"{number}" / "run"
            calibrated = number % CALIBRATED_EVERY == 0
            deployment.record = None if calibrated else record
            with serving(chip_from_address(CHIP), "tcp://127.0.0.1:0") as where:
                ended = killed_run(deployment, where, run, sizes[calibrated], rng, asked.kills - kills)
            wrong = differences(folder / "whole" / f"{calibrated:d}", run) if run.exists() else ["no run"]
            wrong += half_written(run)
            row = {"seed": asked.seed, "run": number, "calibrated": calibrated, "ended": ended, "different": wrong}
            rows.append(row)
            cache_row(asked.out, row)
    different = sum(bool(row["different"]) for row in rows)
    print(json.dumps({"kills": kills, "runs": len(rows), "seed": asked.seed, "different": different}))
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
