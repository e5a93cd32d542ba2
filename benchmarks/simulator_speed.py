"""Speed of the exact simulator beside a plain torch forward of the same network, one thread.

    python benchmarks/simulator_speed.py [--images 64] [--rounds 5] [--chips 100] [--out FILE]

The network has the layers of ResNet-20 on 32 x 32 x 3 images (random weights), in tiles of 14
channels on 128-row macros of ``lab-128`` (analog pairs); inputs are 8-bit, bit-serial, every
conversion quantised with noise of its own. Modes: ``exact+ir`` has read noise, conversion noise,
gain, offset, INL and wires; ``exact`` is without wires, ``exact-inl`` without wires and INL;
``torch`` modes are the engine without numba (fewer rounds). ``parts`` switches single parts off.
``chips`` makes and runs virtual chips one after the other, ``--chips`` against one, with resident
memory. Times are CPU times of this process, runs interleaved, medians of ratios. Prints one JSON
line for each mode, with the rate of the machine's products and what share of the time it would take
at that rate; ``--out`` appends the lines to a file.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cim.array.wire_law import Wire
from cim.cells.read_noise import ReadNoise
from cim.chip.correction import nominal_correction
from cim.chip.encoding import encode_tile
from cim.chip.file import load_chip
from cim.chip.spec import MacroSpec
from cim.chip.windows import Window
from cim.record.calibration import nominal_macro
from cim.record.device import Columns
from cim.simulator.layer import NoiseKey, SimulatedTile, simulated_tile
from cim.simulator.simulator import LayerSimulator

CHANNELS_PER_TILE = 14
RANGE = 4


def convolutions() -> list[tuple[int, int, int, int]]:
    """(channels in, channels out, width of the input map, stride) of ResNet-20's 19 convolutions."""
    layers = [(3, 16, 32, 1)]
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            first = stage > 0 and block == 0
            layers.append((width // 2 if first else width, width, 32 >> (stage - first), 2 if first else 1))
            layers.append((width, width, 32 >> stage, 1))
    return layers


def columns(spec: MacroSpec, rng: np.random.Generator, inl_codes: float = 0.5) -> Columns:
    """Converters with every error switched on."""
    part = nominal_macro(spec, 0)
    n = len(part.gain)
    return Columns(
        1.0 + 0.05 * rng.standard_normal(n),
        rng.uniform(-2.0, 2.0, n),
        np.full(n, 0.3),
        part.adc,
        inl_codes * rng.standard_normal(part.inl_codes.shape),
    )


def tile(
    spec: MacroSpec, inputs: range, outputs: range, rng: np.random.Generator, inl_codes: float = 0.5
) -> SimulatedTile:
    levels = rng.integers(-spec.max_level, spec.max_level + 1, (len(inputs), len(outputs))).astype(np.int8)
    encoded = encode_tile(levels, spec, 0, 0)
    cells = np.zeros((spec.rows, spec.columns), np.float32)
    cells[np.ix_(encoded.word_lines, encoded.bit_lines)] = encoded.targets_us
    cells += rng.normal(0.0, 2.0, cells.shape).astype(np.float32)
    correction = nominal_correction(spec, RANGE, levels, 8, False)
    return simulated_tile(
        spec,
        cells,
        columns(spec, rng, inl_codes),
        correction,
        inputs=inputs,
        outputs=outputs,
        multiplier=1,
        row0=0,
        output0=0,
    )


def layers(
    spec: MacroSpec, rng: np.random.Generator, engine: str | None, ohm: float = 1.0, inl_codes: float = 0.5
) -> list[LayerSimulator]:
    """One virtual chip."""
    made = []
    for channels, outputs, size, stride in [*convolutions(), (64, 10, 0, 0)]:
        window = Window(channels, size, size, (3, 3), (stride, stride), (1, 1)) if size else None
        rows = window.rows if window else channels
        step = CHANNELS_PER_TILE * 9 if window else rows
        starts = range(0, rows, step)
        made.append(
            LayerSimulator(
                spec,
                [tile(spec, range(s, min(s + step, rows)), range(outputs), rng, inl_codes) for s in starts],
                window=window,
                inputs=rows,
                outputs=outputs,
                range_code=RANGE,
                input_bits=8,
                input_signed=False,
                read_noise=ReadNoise(np.array([2.0, 40.0]), np.array([1.0, 2.0]), np.zeros(2)),
                wire=Wire(ohm, 0.0),
                engine=engine,
            )
        )
    return made


def plain(images: int, memory_format: torch.memory_format) -> Callable[[], None]:
    """A torch forward of the same layers with batch size ``images``."""
    parts: list[torch.nn.Module] = []
    for channels, outputs, _, stride in convolutions():
        parts += [torch.nn.Conv2d(channels, outputs, 3, stride, 1), torch.nn.ReLU(inplace=True)]
    parts += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 10)]
    network = torch.nn.Sequential(*parts).eval().to(memory_format=memory_format)
    x = torch.rand(images, 3, 32, 32).contiguous(memory_format=memory_format)

    def forward() -> None:
        with torch.inference_mode():
            network(x)

    return forward


def simulate(chip: list[LayerSimulator], maps: list[NDArray[np.int16]]) -> Callable[[], None]:
    def forward() -> None:
        for number, (layer, codes) in enumerate(zip(chip, maps, strict=True)):
            layer.level_sums(codes, NoiseKey(1, 0, number))

    return forward


def macs() -> int:
    """Multiply-accumulates of one image."""
    convolved = sum(c * 9 * o * (size // stride) ** 2 for c, o, size, stride in convolutions())
    return convolved + 64 * 10


def gemm_gflops(rounds: int = 5, size: int = 1024, channels: int = 256) -> float:
    """Best rate of single-precision products in torch: a matrix product, or a wide convolution where its library
    is the faster one (on some AMD machines by more than twice)."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    maps, kernels = torch.rand(4, channels, 32, 32), torch.rand(channels, channels, 3, 3)
    maps, kernels = (x.contiguous(memory_format=torch.channels_last) for x in (maps, kernels))
    products, convolutions = [], []
    with torch.inference_mode():
        for _ in range(rounds + 1):
            products.append(cpu_seconds(lambda: a @ b))
            convolutions.append(cpu_seconds(lambda: torch.nn.functional.conv2d(maps, kernels, padding=1)))
    convolved = 2 * 9 * channels**2 * 4 * 32 * 32 / min(convolutions)
    return max(2 * size**3 / min(products), convolved) / 1e9


def cpu_seconds(run: Callable[[], object], repeats: int = 1) -> float:
    start = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - start) / repeats


def many_chips(spec: MacroSpec, maps: list[NDArray[np.int16]], chips: int) -> dict[str, object]:
    """Cost and memory of chips made and run one after the other, against one."""

    def one(seed: int) -> None:
        simulate(layers(spec, np.random.default_rng(seed), "numba"), maps)()

    one(0)
    single = statistics.median(cpu_seconds(lambda: one(1)) for _ in range(5))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    singles, every = [], []
    for seed in range(chips):
        every.append(cpu_seconds(lambda seed=seed: one(seed)))  # type: ignore[misc]
        if seed % 10 == 9:
            singles.append(cpu_seconds(lambda: one(1)))
    singles.append(single)
    return {
        "chips": chips,
        "ratio_to_one": round(sum(every) / statistics.mean(singles), 2),
        "more_memory_mb": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1),
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--images", type=int, default=64)
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--chips", type=int, default=100)
    ask.add_argument("--chip-images", type=int, default=16)
    ask.add_argument("--out", type=Path)
    given = ask.parse_args()
    torch.set_num_threads(1)
    spec = load_chip("lab-128").macro
    modes: dict[str, tuple[str, float, float]] = {
        "exact+ir": ("numba", 1.0, 0.5),
        "exact": ("numba", 0.0, 0.5),
        "exact-inl": ("numba", 0.0, 0.0),
        "torch-inl": ("torch", 0.0, 0.0),
        "torch": ("torch", 0.0, 0.5),
        "torch+ir": ("torch", 1.0, 0.5),
    }
    chips = {
        name: layers(spec, np.random.default_rng(1), engine, ohm, inl) for name, (engine, ohm, inl) in modes.items()
    }
    rng = np.random.default_rng(2)
    first = chips["exact"]
    maps = [np.minimum(rng.exponential(40.0, (given.images, *shape(layer))), 255).astype(np.int16) for layer in first]
    few = [m[: max(1, given.images // 8)] for m in maps]
    last, nchw = (plain(given.images, f) for f in (torch.channels_last, torch.contiguous_format))
    last(), nchw()
    rate = gemm_gflops()
    conversions = sum(layer.conversions(1) for layer in first)
    common = {
        "command": "python benchmarks/simulator_speed.py " + " ".join(sys.argv[1:]),
        "network": "resnet20 shape, 32 x 32 x 3",
        "images": given.images,
        "conversions_per_image": conversions,
        "gemm_gflops": round(rate),
    }
    lines: list[dict[str, object]] = []
    if given.chips:  # first: the peak of memory must be theirs
        part = [m[: given.chip_images] for m in maps]
        lines.append({"mode": "chips", **common, "images": given.chip_images, **many_chips(spec, part, given.chips)})
        print(json.dumps(lines[-1]), flush=True)
    for name, chip in chips.items():
        slow = modes[name][0] == "torch"
        run, images = simulate(chip, few if slow else maps), len(few[0] if slow else maps[0])
        run()
        rounds = []
        for _ in range(2 if slow else given.rounds):
            rounds.append((cpu_seconds(run) / images, *(cpu_seconds(f, 5) / given.images for f in (last, nchw))))
        one = [statistics.median(values) for values in zip(*rounds, strict=True)]
        lines.append(
            {
                "mode": name,
                **common,
                "ms_per_image": round(one[0] * 1e3, 3),
                "channels_last_ms": round(one[1] * 1e3, 3),
                "nchw_ms": round(one[2] * 1e3, 3),
                "ratio_to_channels_last": round(statistics.median(a / b for a, b, _ in rounds), 2),
                "ratio_to_nchw": round(statistics.median(a / c for a, _, c in rounds), 2),
                "ns_per_conversion": round(one[0] * 1e9 / conversions, 3),
                "channels_last_share_at_gemm_rate": round(2 * macs() / (rate * 1e9) / one[1], 2),
            }
        )
        print(json.dumps(lines[-1]), flush=True)
    if given.out:
        with given.out.open("a", encoding="utf-8") as out:
            out.writelines(json.dumps(line) + "\n" for line in lines)


def shape(layer: LayerSimulator) -> tuple[int, ...]:
    return layer.layer.codes_shape


if __name__ == "__main__":
    main()
