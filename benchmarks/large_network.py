"""ResNet-18 at 224 x 224 x 3: estimate, compile, one virtual chip, fast simulation, beside their limits.

    python benchmarks/large_network.py [--steps estimate,compile,chip,simulate] [--images 64] [--rounds 3]

Random weights, 64 calibration images, lab-128 with as many macros as it needs; one thread. ``estimate`` and
``compile`` are the commands as a user starts them, in processes of their own: CPU seconds and peak memory, imports
included. ``chip`` is the CPU time of making one virtual chip from the chip file's own laws, ``simulate`` that of fast
inference of whole images, requantisation, additions and pooling included, over that of a plain torch forward (folded
batch normalisation, channels last) in the same run: median of the ratios of the rounds. One JSON line each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SIDE, CLASSES, MACROS, CALIBRATION = 224, 1000, 1500, 64
LIMITS = {
    "estimate": {"cpu_s": 1.0, "peak_mb": 300.0},
    "compile": {"cpu_s": 20.0, "peak_mb": 800.0},
    "chip": {"cpu_s": 10.0},
    "simulate": {"times_plain": 3.0},
}
SHAPE = f"3,{SIDE},{SIDE}"


def report(step: str, measured: dict[str, float], **more: object) -> None:
    limits = LIMITS[step]
    print(json.dumps({
        "benchmark": "large_network", "step": step, **measured, "limits": limits,
        "within": all(measured[name] <= limit for name, limit in limits.items()), **more,
    }), flush=True)  # fmt: skip


def child(*command: str) -> dict[str, float]:
    """CPU time and peak memory of a process; this one stays small, for a child counts its parent's memory before it."""
    quiet = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")}
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, env=quiet) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {"cpu_s": round(used.ru_utime + used.ru_stime, 2), "peak_mb": round(used.ru_maxrss * 1024e-6, 1)}


def make_network(folder: Path) -> None:
    """``net.pt`` with random weights."""
    import numpy as np

    from mapping.network.architectures import build
    from mapping.network.file import NetworkFile, save_network

    graph = build(
        "resnet18",
        classes=tuple(map(str, range(CLASSES))),
        input_shape=(3, SIDE, SIDE),
        rng=np.random.default_rng(0),
        stem=7,
    )
    images = np.random.default_rng(1).integers(0, 256, (CALIBRATION, SIDE, SIDE, 3), np.uint8)
    save_network(NetworkFile(graph, 4, 8, images), folder / "net.pt")


def cpu_s(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def run_chip(folder: Path, images: int, rounds: int) -> None:
    """Make one chip of ``program.h5``, and run it beside plain torch."""
    import numpy as np
    import torch
    from torch.fx.experimental.optimization import fuse
    from torch_networks import module

    from cim.record.published import nominal_record
    from hil.deployment.options import DeployOptions
    from hil.simulation.virtual_chips import VirtualChips
    from mapping.program.execute import run
    from mapping.program.file import load_program
    from mapping.program.training_inputs import training_inputs

    torch.set_num_threads(1)
    program = load_program(folder / "program.h5")
    record, inputs = nominal_record(program.spec, program.macros), training_inputs(program)
    chips = VirtualChips(
        program, record, DeployOptions(read_back_reads=16).recipe_of(program), 1, 1, inputs=inputs, mode="fast"
    )
    began = time.process_time()
    chip = chips.chip(0)
    report("chip", {"cpu_s": round(time.process_time() - began, 2)})
    if not images:
        return
    pixels = np.random.default_rng(2).integers(0, 256, (images, SIDE, SIDE, 3), np.uint8)
    values = torch.rand(images, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    network = fuse(module("resnet18", classes=CLASSES, input_shape=(3, SIDE, SIDE), stem=7).eval())
    network = network.to(memory_format=torch.channels_last)

    def plain() -> None:
        with torch.inference_mode():
            network(values)

    def fast() -> None:
        run(program, pixels, chip)

    spent = [(cpu_s(plain), cpu_s(fast)) for _ in range(rounds + 1)][1:]
    measured = {"times_plain": round(statistics.median(b / a for a, b in spent), 2)}
    report("simulate", measured, images=images, plain_s=round(statistics.median(a for a, _ in spent), 2))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--steps", default=",".join(LIMITS))
    ask.add_argument("--images", type=int, default=64)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--folder", type=Path, help="keep network and program here, and take those that lie there")
    ask.add_argument("--part", choices=("network", "chip"), help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.part == "network":
        return make_network(given.folder)
    if given.part == "chip":
        return run_chip(given.folder, given.images, given.rounds)
    steps = given.steps.split(",")
    with tempfile.TemporaryDirectory() as made:
        folder = given.folder or Path(made)
        net, program = folder / "net.pt", folder / "program.h5"
        if "estimate" in steps:
            arguments = ("resnet18:stem=7", "--input", SHAPE, "--macros", str(MACROS))
            report("estimate", child("-m", "hil", "estimate", *arguments))
        if not net.exists() and set(steps) - {"estimate"}:
            child(__file__, "--part", "network", "--folder", str(folder))
        if "compile" in steps or (not program.exists() and set(steps) - {"estimate"}):
            spent = child("-m", "hil", "compile", str(net), "--macros", str(MACROS), "-o", str(program))
            report("compile", spent)
        if {"chip", "simulate"} & set(steps):
            images = str(given.images if "simulate" in steps else 0)
            command = [sys.executable, __file__, "--part", "chip", "--folder", str(folder), "--images", images]
            subprocess.run([*command, "--rounds", str(given.rounds)], check=True)


if __name__ == "__main__":
    main()
