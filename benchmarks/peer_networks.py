"""Whole networks of AIHWKit and CrossSim beside ours: ResNet-20, the same weights and images, times a plain forward.

    python benchmarks/peer_networks.py --env peers [--images 64] [--rounds 3] [--limit 1800] [--out FILE]
    python benchmarks/peer_networks.py --peer peers/bin/python --crosssim cross-sim

``--env`` is a folder for a Python environment of the peers' own: where it is not there it is made, with
``torch==2.10.0 aihwkit==1.1.0`` and CrossSim 3.2 from its repository. ``--peer`` and ``--crosssim`` take an environment
and a source folder that are there already. Every setting runs in a process of its own (``peer_forward.py``), ours
between them, each beside a plain channels-last forward of the same images in the same process, one thread, CPU times,
alternating; only the ratios are compared. Settings are ``peer_forward.py``'s; slow ones see ``COUNTS`` images and one
round, and a setting that needs more than ``--limit`` CPU seconds has no number. Ours are the modes of
``network_speed.py``: every read of every bit with noise, offset, gain and INL of each conversion is ``exact``. One JSON
line.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
PACKAGES = ("torch==2.10.0", "aihwkit==1.1.0", "scipy")
CROSSSIM = "git+https://github.com/sandialabs/cross-sim@main"
COUNTS = {  # images that a setting sees
    "aihwkit-perfect": 16,
    "aihwkit-converters": 16,
    "aihwkit-wires": 8,
    "crosssim-converters": 16,
    "crosssim-bits": 4,
    "crosssim-noise": 1,
    "crosssim-wires": 1,
}
FAST = 8  # images of a setting that takes every round
OURS = ("ideal", "fast", "fast_wires", "exact", "exact_wires")


def environment(folder: Path) -> Path:
    """The Python of an environment with the peers, made where it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", *PACKAGES, CROSSSIM], check=True)
    return python


def peer(python: Path, setting: str, images: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The row of one setting; without a ratio where it takes too long."""
    count, limit = COUNTS[setting], given.limit
    rounds = given.rounds if count >= FAST else 1
    source = [] if given.crosssim is None else [str(given.crosssim)]
    answer = subprocess.run(
        [python, HERE / "peer_forward.py", setting, images, str(count), str(rounds), *source],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5)),
    )
    if answer.returncode < 0:
        return {"images": count, "times_plain": None, "over_cpu_s": limit}
    if answer.returncode:
        raise SystemExit(f"{setting}: {answer.stderr[-2000:]}")
    found = json.loads(answer.stdout.splitlines()[-1])
    return {"images": count, **{name: float(f"{value:.4g}") for name, value in found.items()}}


def ours(given: argparse.Namespace) -> dict[str, Any]:
    """Our own modes, as ``network_speed.py`` measures them."""
    modes, count, rounds = ",".join(OURS), str(given.images), str(given.rounds)
    command = [sys.executable, HERE / "network_speed.py", "--images", count, "--rounds", rounds, "--modes", modes]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    row = json.loads(answer.stdout.splitlines()[-1])
    return {name: row["whole_network_times_plain"][name] for name in OURS}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--env", type=Path, default=Path("peers"))
    ask.add_argument("--peer", type=Path, help="a Python that has the peers")
    ask.add_argument("--crosssim", type=Path, help="its source, where --peer has not installed it")
    ask.add_argument("--images", type=int, default=64)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--limit", type=int, default=1800, help="CPU seconds of one setting")
    ask.add_argument("--settings", default=",".join(COUNTS))
    ask.add_argument("--out", type=Path)
    given = ask.parse_args()
    python = given.peer or environment(given.env)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"
        np.save(images, np.random.default_rng(3).integers(0, 256, (given.images, 32, 32, 3), np.uint8))
        found: dict[str, Any] = {}
        for setting in given.settings.split(","):
            found[setting] = peer(python, setting, images, given)
            print(setting, found[setting], file=sys.stderr, flush=True)
    line = json.dumps({
        "benchmark": "peer_networks", "network": "resnet20, 32 x 32 x 3", "plain_images": given.images,
        "ours_times_plain": ours(given), "peers": found,
    })  # fmt: skip
    print(line)
    if given.out:
        with given.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
