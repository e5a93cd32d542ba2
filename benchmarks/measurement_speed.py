"""Emulated measurement through the wire, beside a plain torch forward of the same network in the same run.

ResNet-20 (option A) on 128-row tiles of emulated lab-128, bit-serial 8-bit inputs, all effects on, whole
layers on the chip, one thread. Prints one JSON line: milliseconds an image and their ratio, conversions an
image, nanoseconds a conversion, and where the time goes (cProfile shares by room). The forward is timed
channels-last, the faster layout; ``ratio_nchw`` is against the other one. Both are
timed in turn with the measurement, and medians taken.

    python benchmarks/measurement_speed.py [--images 32] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch_networks import module

import hil
from cim.chip.file import load_chip
from hil.deployment.inference import MeasuredLayers
from hil.deployment.targets.wired import program_chip
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.architectures import build
from mapping.network.file import NetworkFile
from mapping.program.corrections import nominal_corrections
from mapping.program.execute import run

FORWARD_IMAGES = 64
ROUNDS = 3
ROOMS = ("hil/emulator", "firmware_protocols", "mapping", "cim", "hil")


def cpu_ms(work: Callable[[], object], images: int) -> float:
    """Milliseconds of CPU time an image."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1000 / images


def plain_forward(layout: torch.memory_format) -> Callable[[], object]:
    network = module("cifar_resnet20_a", classes=10, input_shape=(3, 32, 32)).eval().to(memory_format=layout)
    batch = torch.rand(FORWARD_IMAGES, 3, 32, 32).to(memory_format=layout)

    def forward() -> object:
        with torch.inference_mode():
            return network(batch)

    forward()
    return forward


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """Share of time spent in functions of each room, and outside."""
    total, rooms = 0.0, dict.fromkeys((*ROOMS, "numpy and others"), 0.0)
    for (path, _, _), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        name = next((r for r in ROOMS if f"/{r}/" in path), "numpy and others")
        rooms[name] += own
        total += own
    return {name: round(own / total, 3) for name, own in rooms.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.images, 32, 32, 3), dtype=np.uint8)
    graph = build("cifar_resnet20_a", classes=[str(i) for i in range(10)], rng=rng)
    program = compile_network(NetworkFile(graph, 4, 8, images[:8]), load_chip("lab-128"))
    with hil.open_chip("emulated:lab-128?seed=1", spec=program.spec) as chip:
        program_chip(chip, program, sample=0, watch=Watch())
        multiply = MeasuredLayers(chip, program, nominal_corrections(program))
        run(program, images[:2], multiply)
        before = sum(c.total for c in multiply.conversions.values())
        wire = dict(chip.counters)
        work = {
            "measured": (lambda: run(program, images, multiply), options.images),
            "channels_last": (plain_forward(torch.channels_last), FORWARD_IMAGES),
            "nchw": (plain_forward(torch.contiguous_format), FORWARD_IMAGES),
        }
        rounds = [{name: cpu_ms(*what) for name, what in work.items()} for _ in range(ROUNDS)]  # interleaved
        times = {name: float(np.median([r[name] for r in rounds])) for name in work}
        measured, channels_last, nchw = times["measured"], times["channels_last"], times["nchw"]
        conversions = (sum(c.total for c in multiply.conversions.values()) - before) / (ROUNDS * options.images)
        wire_bytes = sum(v - wire[k] for k, v in chip.counters.items() if "bytes" in k) / (ROUNDS * options.images)
        profile = cProfile.Profile()
        if options.profile:
            profile.runcall(run, program, images, multiply)
    print(
        json.dumps(
            {
                "benchmark": "measurement_speed",
                "backend": "emulated",
                "network": "cifar_resnet20_a",
                "ms_per_image": round(measured, 2),
                "torch_ms_per_image": round(channels_last, 3),
                "ratio": round(measured / channels_last, 1),
                "ratio_nchw": round(measured / nchw, 1),
                "conversions_per_image": round(conversions),
                "ns_per_conversion": round(measured * 1e6 / conversions, 2),
                "wire_bytes_per_image": round(wire_bytes),
                "target_ratio": 80,
                **({"time_shares": shares(profile)} if options.profile else {}),
            }
        )
    )


if __name__ == "__main__":
    main()
