"""Speed of whole networks, from pixels to logits, beside a plain torch forward of the same network, one thread.

    python benchmarks/network_speed.py [--networks resnet20] [--images 64] [--rounds 7] [--modes ideal,fast,...]
    python benchmarks/network_speed.py --networks vit,mobilenet_v3 --modes ""

``resnet20`` (option B, on 32 x 32 x 3 images), ``vit`` (``SmallViT`` of ``benchmarks/task_networks.py``) or
``mobilenet_v3`` (small, of torchvision; both on 64 x 64 x 3), random weights, compiled for ``lab-128`` and run by
``mapping.program.execute.run``: products and all digital operations. ``ideal`` multiplies integers;
``fast`` and ``exact`` are a virtual chip with read noise, conversion noise, gain, offset and INL of every conversion,
``…_wires`` with 1 ohm a cell too. Plain torch is the float network, batch normalisation folded into its convolutions,
channels last. CPU times of this process, all runs interleaved, medians of the ratios of each round;
``digital_operations`` is the same run with products that are known beforehand. One JSON line a network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from task_networks import SmallViT
from torch.fx.experimental.optimization import fuse
from torch_networks import module
from torchvision.models import mobilenet_v3_small

from cim.array.wire_law import Wire
from cim.cells.read_noise import ReadNoise
from cim.chip.file import load_chip
from cim.record.calibration import CalibrationRecord
from cim.record.published import nominal_record
from hil.simulation.virtual_chips import VirtualChips
from mapping.compile import compile_network
from mapping.network.architectures import build
from mapping.network.capture import capture
from mapping.network.file import NetworkFile
from mapping.network.graph import Preprocess
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import IdealMultiply, Multiply, run
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import Recipe

CLASSES, SEED = tuple(map(str, range(10))), 1
NETWORKS = {"resnet20": (32, 80), "vit": (64, 200), "mobilenet_v3": (64, 800)}  # side of the images, macros
MODES = {"ideal": None, "fast": 0.0, "fast_wires": 1.0, "exact": 0.0, "exact_wires": 1.0}


class Known:
    """Products that were worked out before: what is left of a run are its digital operations."""

    def __init__(self, program: ConductanceProgram, images: NDArray[np.uint8]) -> None:
        self.found: dict[str, NDArray[np.int32]] = {}
        ideal = IdealMultiply(program)

        def keep(step: MatrixStep, codes: NDArray[np.int16], sums: NDArray[np.int32]) -> None:
            self.found[step.name] = sums

        run(program, images, ideal, tap=keep, batch=len(images))

    def sums(self, step: MatrixStep, codes: NDArray[np.int16], sample: int) -> NDArray[np.int32]:
        return self.found[step.name][: len(codes)]


def network(name: str, rng: np.random.Generator) -> tuple[ConductanceProgram, torch.nn.Module]:
    """The compiled network and its float form."""
    side, macros = NETWORKS[name]
    shape = (3, side, side)
    if name == "resnet20":
        graph = build("cifar_resnet20_b", classes=CLASSES, input_shape=shape, rng=np.random.default_rng(SEED))
        plain = module("cifar_resnet20_b", classes=10, input_shape=shape, rng=np.random.default_rng(SEED)).eval()
    else:
        torch.manual_seed(SEED)
        plain = (SmallViT() if name == "vit" else mobilenet_v3_small(num_classes=10)).eval()
        rule = Preprocess((0.5,) * 3, (0.25,) * 3)
        graph = capture(plain, torch.zeros(1, *shape), preprocess=rule, classes=CLASSES)
    images = rng.integers(0, 256, (32, side, side, 3), np.uint8)
    program = compile_network(NetworkFile(graph, 4, 8, images), load_chip("lab-128", macros=macros))
    return program, plain if name == "vit" else fuse(plain).to(memory_format=torch.channels_last)


def record_of(program: ConductanceProgram, ohm: float, rng: np.random.Generator) -> CalibrationRecord:
    """A record with every error switched on."""
    record = nominal_record(program.spec, program.macros)
    macros = {
        number: replace(
            part,
            gain=1.0 + 0.05 * rng.standard_normal(len(part.gain)),
            offset_codes=rng.uniform(-2.0, 2.0, len(part.gain)),
            conversion_noise_codes=np.full(len(part.gain), 0.3),
            inl_codes=0.5 * rng.standard_normal(part.inl_codes.shape),
        )
        for number, part in record.macros.items()
    }
    noise = ReadNoise(np.array([2.0, 40.0]), np.array([1.0, 2.0]), np.zeros(2))
    return replace(record, macros=macros, read_noise=noise, wire=Wire(ohm, 0.0))


def multiplier(program: ConductanceProgram, name: str, ohm: float | None) -> Multiply:
    if ohm is None:
        return IdealMultiply(program)
    record = record_of(program, ohm, np.random.default_rng(2))
    inputs = training_inputs(program)
    mode = name.removesuffix("_wires")
    return VirtualChips(program, record, Recipe(reads=16), 1, SEED, inputs=inputs, mode=mode).chip(0)


def cpu_s(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--networks", default="resnet20", help=f"of {', '.join(NETWORKS)}")
    ask.add_argument("--images", type=int, default=64)
    ask.add_argument("--rounds", type=int, default=7)
    ask.add_argument("--modes", default=",".join(MODES))
    given = ask.parse_args()
    torch.set_num_threads(1)
    for name in given.networks.split(","):
        measure(name, given)


def measure(network_name: str, given: argparse.Namespace) -> None:
    """Print the row of one network."""
    rng = np.random.default_rng(3)
    program, whole = network(network_name, rng)
    side = NETWORKS[network_name][0]
    images = rng.integers(0, 256, (given.images, side, side, 3), np.uint8)
    pixels = torch.rand(given.images, 3, side, side).contiguous(memory_format=torch.channels_last)

    def plain() -> None:
        with torch.inference_mode():
            whole(pixels)

    def forward(multiply: Multiply) -> Callable[[], object]:
        return lambda: run(program, images, multiply, batch=given.images)

    chosen = {name: multiplier(program, name, MODES[name]) for name in given.modes.split(",") if name}
    runs = {name: forward(multiply) for name, multiply in chosen.items()}
    runs["digital_operations"] = forward(Known(program, images))
    for work in (plain, *runs.values()):
        work()
    ratios: dict[str, list[float]] = {name: [] for name in runs}
    base: list[float] = []
    for _ in range(given.rounds):
        before = cpu_s(plain)
        spent = {name: cpu_s(work) for name, work in runs.items()}
        base.append((before + cpu_s(plain)) / 2)
        for name, value in spent.items():
            ratios[name].append(value / base[-1])
    print(json.dumps({
        "benchmark": "network_speed", "network": f"{network_name}, {side} x {side} x 3", "images": given.images,
        "plain_channels_last_ms_per_image": round(statistics.median(base) * 1e3 / given.images, 3),
        "whole_network_times_plain": {name: round(statistics.median(v), 2) for name, v in ratios.items()},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
