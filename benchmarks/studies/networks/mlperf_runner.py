"""The runner of MLPerf Tiny, unmodified, scores an emulated board over a pseudo-terminal.

    git clone https://github.com/mlcommons/tiny
    HIL_DATA=… python benchmarks/studies.py mlperf-runner --copy tiny [--runner-python PYTHON]
        [--sets suite-200,lossless-1000] [--images 1000] [--arrangement residual|plain]
        [--calibration record.h5] [--out rows.jsonl]

``--copy`` is a copy of the repository: its ``benchmark/runner/main.py`` runs as it is, under ``--runner-python``, which
needs numpy, pyyaml, pyserial, pyusb, matplotlib and scikit-learn. Two questions that the runner asks the machine, which
serial ports and which USB devices there are, are answered with the pseudo-terminal and with none: a pseudo-terminal
has no USB numbers to be found by. The board is ``examples/mlperf_tiny_board.py`` with the int8 ResNet-8 as published.

The suite's 200 images of CIFAR-10 have the names and labels of ``benchmark/evaluation/datasets/ic01/y_labels.csv``; how
many of them are no JPEG copies here stands in each row (``lossless``). ``lossless-1000`` are the test images that are
here without loss, under names of our own.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from mlperf_tiny import models, suite_images
from numpy.typing import NDArray

from hil.datasets.image_set import load_dataset

ROOT = Path(__file__).parents[3]
OUT = ROOT / "benchmarks" / "results" / "mlperf_runner.jsonl"
VENDOR, PRODUCT = 0x0483, 0x374B  # of the board that devices_kws_ic_vww.yaml names: its reference board
MACROS = 128  # of a lab-128 that holds ResNet-8 in residual slices
LAUNCH = f"""
import runpy, sys
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo
import usb.core
port = ListPortInfo(sys.argv[1])
port.vid, port.pid, port.description = {VENDOR}, {PRODUCT}, "pseudo-terminal"
list_ports.comports = lambda include_links=False: [port]
usb.core.find = lambda find_all=False, **asked: iter(())
sys.argv = ["main.py", *sys.argv[2:]]
sys.path.insert(0, ".")
runpy.run_path("main.py", run_name="__main__")
"""


def names_of_suite(copy: Path) -> list[tuple[str, int]]:
    """File names and classes of the suite's images, in its order."""
    with (copy / "benchmark" / "evaluation" / "datasets" / "ic01" / "y_labels.csv").open(newline="") as file:
        return [(row[0], int(row[2])) for row in csv.reader(file) if row]


def write_set(folder: Path, copy: Path, name: str, most: int) -> tuple[int, int]:
    """Files of one set as the runner reads them; how many images, and how many of them are without loss."""
    images: NDArray[np.uint8]
    if name == "suite-200":
        images, labels, _ = suite_images()
        listed = names_of_suite(copy)
        if [label for _, label in listed] != labels.tolist():
            sys.exit("y_labels.csv of the copy names other classes than ic_perf_samples_idxs.npy: another version?")
        places = np.load(models() / "ic_perf_samples_idxs.npy")[:most]
        lossless = int((places < 1000).sum())
    else:
        test = load_dataset("cifar10", "test")
        images = test.images
        listed = [(f"test_{i:05}.bin", int(label)) for i, label in enumerate(test.labels)]
        lossless = min(most, len(images))
    task = folder / "ic01"
    task.mkdir(parents=True)
    for (file, _), image in zip(listed[:most], images, strict=False):
        (task / Path(file).name).write_bytes(image.tobytes())
    lines = [f"{Path(file).name},10,{label}" for file, label in listed[:most]]
    (task / "y_labels.csv").write_text("\n".join(lines) + "\n", "ascii")
    return len(lines), lossless


@contextmanager
def board(calibration: Path | None, arrangement: str) -> Iterator[str]:
    """The path of a board's terminal; the board is there until the block ends."""
    line = [sys.executable, str(ROOT / "examples" / "mlperf_tiny_board.py"), str(models() / "ic_resnet8_int8.tflite")]
    line += ["--address", f"emulated:lab-128?seed=7&macros={MACROS}", "--macros", str(MACROS)]
    line += ["--with", "residual=4"] if arrangement == "residual" else []
    line += ["--calibration", str(calibration)] if calibration else []
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline().split()
            if not said:
                sys.exit("the board did not start: its error stands above")
            yield said[-1]
        finally:
            process.terminate()


def judged(copy: Path, python: str, path: str, data: Path) -> dict[str, float]:
    """What the runner says of the board at ``path``."""
    with (
        tempfile.TemporaryDirectory() as folder
    ):  # the runner writes sessions/ where it stands: a link to each of its files
        for file in (copy / "benchmark" / "runner").iterdir():
            Path(folder, file.name).symlink_to(file.resolve())
        line = [python, "-c", LAUNCH, path, "-d", "devices_kws_ic_vww.yaml", "-m", "a", "-s", str(data)]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        results = next(Path(folder, "sessions").glob("*/results.json"), None)
        if done.returncode or results is None:
            sys.exit(f"the runner ended with {done.returncode}:\n{said[-3000:]}")
        count = len(json.loads(results.read_text("utf-8")))
    score, area = (re.findall(pattern, said) for pattern in (r"Top 1% = ([\d.]+)", r"AUC = ([\d.]+)"))
    return {"scored": count, "top_1_percent": float(score[-1]), "auc": float(area[-1])}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copy", type=Path, required=True, help="a copy of https://github.com/mlcommons/tiny")
    parser.add_argument("--commit", default="", help="of the copy, where it is no git work tree")
    parser.add_argument("--runner-python", default=sys.executable)
    parser.add_argument("--sets", default="suite-200,lossless-1000")
    parser.add_argument("--images", type=int, default=1000, help="most images of a set")
    parser.add_argument("--calibration", type=Path, help="record of the emulated chip, all macros; default: measured")
    parser.add_argument("--arrangement", choices=("residual", "plain"), default="residual", help="of the bit slices")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    commit = given.commit
    if not commit:
        line = ["git", "-C", str(given.copy), "rev-parse", "HEAD"]
        commit = subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()
    with board(given.calibration, given.arrangement) as path:
        for name in given.sets.split(","):
            with tempfile.TemporaryDirectory() as folder:
                count, lossless = write_set(Path(folder), given.copy, name, given.images)
                start = time.monotonic()
                found = judged(given.copy, given.runner_python, path, Path(folder))
            row = {"images": name, "count": count, "lossless": lossless, "network": "ic_resnet8_int8", **found,
                   "backend": "emulated", "seed": 7, "macros": MACROS, "arrangement": given.arrangement,
                   "repository": "mlcommons/tiny", "commit": commit,
                   "minutes": round((time.monotonic() - start) / 60, 1)}  # fmt: skip
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
