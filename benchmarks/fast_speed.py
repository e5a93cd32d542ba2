"""Speed of the simulator's quick mode beside a plain torch forward of the same network, one thread.

    python benchmarks/fast_speed.py [--images 64] [--rounds 9] [--chips 100]

The layers of ResNet-20 on 32 x 32 x 3 images (random weights) in tiles of 14 channels on 128-row
macros of ``lab-128``; 8-bit inputs; read noise, conversion noise, gain, offset and INL on, noise fresh.
Like ``simulator_speed.py`` it times ``level_sums`` of every layer: integer codes in, integer level sums
out; bias and requantisation belong to ``mapping.program.execute``. Feature maps lie channels last, as they leave
``level_sums``. CPU times of this process, all runs interleaved, medians of the ratios of each round.

One JSON line each: ratios to plain torch (channels last and NCHW) with and without wires, numba and
torch alone; many virtual chips beside one, and what memory they take; the machine's matrix product
limit and the share of each time that the multiplications alone would take at it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from simulator_speed import CHANNELS_PER_TILE, RANGE, convolutions, gemm_gflops, macs, plain, shape, tile

from cim.array.wire_law import Wire
from cim.cells.read_noise import ReadNoise
from cim.chip.file import load_chip
from cim.chip.spec import MacroSpec
from cim.chip.windows import Window
from cim.simulator.layer import NoiseKey
from cim.simulator.simulator import LayerSimulator


def virtual_chip(spec: MacroSpec, rng: np.random.Generator, engine: str, ohm: float) -> list[LayerSimulator]:
    made = []
    for channels, outputs, size, stride in [*convolutions(), (64, 10, 0, 0)]:
        window = Window(channels, size, size, (3, 3), (stride, stride), (1, 1)) if size else None
        rows = window.rows if window else channels
        step = CHANNELS_PER_TILE * 9 if window else rows
        tiles = [tile(spec, range(s, min(s + step, rows)), range(outputs), rng) for s in range(0, rows, step)]
        made.append(
            LayerSimulator(
                spec, tiles, window=window, inputs=rows, outputs=outputs, range_code=RANGE, input_bits=8,
                input_signed=False, read_noise=ReadNoise(np.array([2.0, 40.0]), np.array([1.0, 2.0]), np.zeros(2)),
                wire=Wire(ohm, 0.0), mode="fast", engine=engine,
            )
        )  # fmt: skip
    return made


def activations(chip: list[LayerSimulator], images: int, rng: np.random.Generator) -> list[NDArray[np.int16]]:
    """Codes of every layer's input: two fifths zero, the rest exponential, channels last in memory."""
    maps = []
    for layer in chip:
        size = (images, *shape(layer))
        codes = np.minimum(rng.exponential(40.0, size), 255) * (rng.random(size) < 0.6)
        codes = codes.astype(np.int16)
        maps.append(
            np.ascontiguousarray(codes.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if codes.ndim == 4 else codes
        )
    return maps


def forward(chip: list[LayerSimulator], maps: list[NDArray[np.int16]], number: int = 0) -> Callable[[], None]:
    def run() -> None:
        for at, (layer, codes) in enumerate(zip(chip, maps, strict=True)):
            layer.level_sums(codes, NoiseKey(1, number, at))

    return run


def cpu_s(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--images", type=int, default=64)
    ask.add_argument("--rounds", type=int, default=9)
    ask.add_argument("--chips", type=int, default=100)
    given = ask.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    spec = load_chip("lab-128").macro
    cases = {
        "fast": ("numba", 0.0),
        "fast_wires": ("numba", 1.0),
        "torch": ("torch", 0.0),
        "torch_wires": ("torch", 1.0),
    }
    chips = {name: virtual_chip(spec, rng, engine, ohm) for name, (engine, ohm) in cases.items()}
    maps = activations(chips["fast"], given.images, rng)
    runs = {name: forward(chip, maps) for name, chip in chips.items()}
    reference = plain(given.images, torch.channels_last)
    nchw = plain(given.images, torch.contiguous_format)
    for run in (*runs.values(), reference, nchw):
        run()
    ratios: dict[str, list[float]] = {name: [] for name in (*runs, "plain_nchw")}
    base = []
    for _ in range(given.rounds):
        before = cpu_s(reference)
        spent = {name: cpu_s(run) for name, run in {**runs, "plain_nchw": nchw}.items()}
        base.append((before + cpu_s(reference)) / 2)
        for name, value in spent.items():
            ratios[name].append(value / base[-1])
    plain_ms = statistics.median(base) * 1e3 / given.images
    limit = gemm_gflops() * 1e9 / 2
    at_limit_ms = macs() / limit * 1e3
    results = chips["fast"][0], sum(layer.conversions(1) for layer in chips["fast"]) // 8
    print(json.dumps({
        "network": "resnet20 shape, 32 x 32 x 3", "images": given.images, "plain_ms_per_image": round(plain_ms, 3),
        "ratio_to_channels_last": {name: round(statistics.median(v), 2) for name, v in ratios.items()},
        "sums_per_image": results[1],
        "ns_per_sum": {n: round(statistics.median(ratios[n]) * plain_ms * 1e6 / results[1], 2) for n in runs},
    }))  # fmt: skip
    print(json.dumps({
        "gemm_gmac_per_s": round(limit / 1e9, 1), "mmac_per_image": round(macs() / 1e6, 1),
        "share_of_time_at_gemm_limit": {
            n: round(at_limit_ms / (statistics.median(v) * plain_ms), 2) for n, v in {**ratios, "plain": [1.0]}.items()
        },
    }))  # fmt: skip
    many_chips(spec, rng, given.chips)


def many_chips(spec: MacroSpec, rng: np.random.Generator, count: int, images: int = 8) -> None:
    """``count`` virtual chips that stay in memory, against as many forwards of one."""
    first = virtual_chip(spec, rng, "numba", 1.0)
    maps = activations(first, images, rng)
    forward(first, maps)()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chips = [virtual_chip(spec, rng, "numba", 1.0) for _ in range(count)]
    for chip in chips:
        forward(chip, maps)()  # first forward of a chip prepares its weights
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    one, all_ = 0.0, 0.0
    for number, chip in enumerate(chips):
        one += cpu_s(forward(first, maps, number))
        all_ += cpu_s(forward(chip, maps, number))
    print(json.dumps({
        "chips": count, "images": images, "time_to_as_many_of_one": round(all_ / one, 3),
        "extra_memory_mb": round(memory / 1024, 1),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
