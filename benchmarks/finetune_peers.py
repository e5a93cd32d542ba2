"""Fine-tuning beside AIHWKit: accuracy on virtual chips of one record for each CPU minute of training.

Both begin at the same pretrained ResNet-20, learn its own float answers to the same training images for the same
epochs, with the same spread of a weight's error: that of a pair of cells in the record at an hour, as small as the
copies on idle cells leave it that ``hil deploy`` makes.
Both results are compiled, tuned and simulated by the same command. AIHWKit runs in a Python of its own
(``--peer``, with ``pip install torch==2.10.0 aihwkit==1.1.0``) by ``aihwkit_training.py``, which says its recipe,
at each of ``--peer-rates``; ours is ``hil finetune`` at ``--rate``. One JSON line; ``--work`` keeps each part, and the
same command goes on there.

    HIL_DATA=… python benchmarks/finetune_peers.py --weights cifar10_resnet20_a.safetensors --calibration rec.h5
        --peer peers/bin/python [--copies 6000] [--times 3] [--epochs 2] [--chips 4] [--work folder]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.special import ndtri

import hil
from cim.cells.programming_law import law_at
from cim.chip.file import load_chip
from cim.record.cell_errors import QUANTILES
from cim.record.file import load_record
from hil.improvement.further_training import strength_of
from mapping.compile import LayoutOptions, compile_network
from mapping.network.file import load_network
from mapping.quantise.weight_scales import ScaleRule

CHIP, ARCHITECTURE, AGE_S = "lab-128", "cifar_resnet20_a", 3600.0
HIL = [sys.executable, "-m", "hil"]
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
BATCH, SHIFT = 128, 2


def share_of_errors(calibration: Path) -> float:
    """Standard deviation of a pair of cells after an hour and of one read, as a share of the largest weight."""
    record, levels = load_record(calibration), np.array(load_chip(CHIP).macro.levels_us)
    law = law_at(record.programming, levels, AGE_S)
    written = np.stack([law.quantile(np.full(len(levels), z)) for z in ndtri(QUANTILES)]).var(axis=0)
    variance = written + record.read_noise.at(levels) ** 2
    return float(np.sqrt(2 * np.mean(variance)) / (levels[-1] - levels[0]))


def left_by_copies(net: Path) -> float:
    """Errors of the layers as a share of one copy's, root mean square."""
    options = LayoutOptions(averaged=True)
    return strength_of(
        compile_network(load_network(net), load_chip(CHIP), options=options, scale_rule=ScaleRule.OUTPUT)
    )


def training_images(copies: int, times: int) -> dict[str, Any]:
    """``copies`` JPEG copies of CIFAR-10 and the lossless training images ``times`` times, in a drawn order."""
    lossy, exact = hil.load_dataset("cifar10-jpeg", "train"), hil.load_dataset("cifar10", "train")
    some = slice(len(exact), len(exact) + copies)  # the first copies are of the lossless images
    images = np.concatenate([lossy.images[some], *[exact.images] * times])
    labels = np.concatenate([lossy.labels[some], *[exact.labels] * times])
    order = np.random.default_rng(0).permutation(len(labels))
    return {"images": images[order], "labels": labels[order].astype(np.int64), "classes": list(exact.classes)}


def job(weights: Path, images: np.ndarray, share: float, epochs: int, rate: float, out: Path) -> None:
    """What ``aihwkit_training.py`` reads."""
    values = ((images / 255.0 - MEAN) / STD).astype(np.float32).transpose(0, 3, 1, 2)
    state = {f"state/{name}": value for name, value in load_file(weights).items()}
    plan = {"epochs": epochs, "batch": BATCH, "rate": rate, "shift": SHIFT, "share": share}
    np.savez(out, images=np.ascontiguousarray(values), architecture=ARCHITECTURE, **plan, **state)


def command(*arguments: str) -> tuple[str, float]:
    """Output and CPU seconds of one command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The part that stands in ``path`` already, else as made now."""
    if not path.exists():
        path.write_text(json.dumps(make()) + "\n")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def simulated(net: Path, given: argparse.Namespace) -> dict[str, float]:
    text, _ = command(
        *HIL, "simulate", str(net), "--calibration", str(given.calibration), "--data", "cifar10",
        "--chips", str(given.chips), "--seed", "9", "--engine", "fast", "--json",
    )  # fmt: skip
    answer = json.loads(text)
    accuracy = answer["accuracy"]
    return {"ideal": accuracy["ideal"], **{k: accuracy["simulated"][k] for k in ("mean", "sd")}}


def imported(weights: Path, net: Path) -> Path:
    command(*HIL, "import", str(weights), "--arch", ARCHITECTURE, "--data", "cifar10", "-o", str(net))
    return net


def peer(given: argparse.Namespace, images: np.ndarray, share: float, rate: float, folder: Path) -> dict[str, Any]:
    asked, answered, weights = folder / "job.npz", folder / "out.npz", folder / f"peer-{rate:g}.safetensors"
    job(given.weights, images, share, given.epochs, rate, asked)
    _, seconds = command(str(given.peer), str(Path(__file__).parent / "aihwkit_training.py"), str(asked), str(answered))
    answer = np.load(answered)
    save_file({name[len("state/") :]: answer[name] for name in answer.files if name.startswith("state/")}, weights)
    score = simulated(imported(weights, folder / f"peer-{rate:g}.pt"), given)
    return {"rate": rate, "cpu_min": round(seconds / 60, 2), **score}


def ours(given: argparse.Namespace, start: Path, data: Path, folder: Path) -> dict[str, Any]:
    out = folder / "ours.pt"
    _, seconds = command(
        *HIL, "finetune", str(start), "--data", str(data), "--calibration", str(given.calibration),
        "--epochs", str(given.epochs), "--rate", str(given.rate), "--strength", str(left_by_copies(start)),
        "--batch", str(BATCH), "--restart", "-o", str(out), "--json",
    )  # fmt: skip
    return {"rate": given.rate, "cpu_min": round(seconds / 60, 2), **simulated(out, given)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--peer", type=Path, required=True, help="a Python with AIHWKit")
    parser.add_argument("--copies", type=int, default=6000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=0.0004)
    parser.add_argument("--peer-rates", default="0.0004,0.0015")
    parser.add_argument("--chips", type=int, default=4)
    parser.add_argument("--work", type=Path, help="folder that keeps each part; default: none is kept")
    given = parser.parse_args()
    content = training_images(given.copies, given.times)
    with contextlib.ExitStack() as stack:
        folder = given.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "mix.npz", **content)
        start = imported(given.weights, folder / "start.pt")
        share = share_of_errors(given.calibration) * left_by_copies(start)
        row = {
            "benchmark": "finetune_peers",
            "images": len(content["labels"]),
            "epochs": given.epochs,
            "error_share": round(share, 4),
            "untrained": kept(folder / "untrained.json", lambda: simulated(start, given)),
            "hil": kept(folder / "hil.json", lambda: ours(given, start, folder / "mix.npz", folder)),
            "aihwkit": [
                kept(
                    folder / f"aihwkit-{rate:g}.json",
                    lambda rate=rate: peer(given, content["images"], share, rate, folder),  # type: ignore[misc]
                )
                for rate in map(float, given.peer_rates.split(","))
            ],
        }
    print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
