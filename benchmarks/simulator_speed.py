"""Speed of the simulator beside a plain torch forward of the same network, one thread.

    python benchmarks/simulator_speed.py [--images 16] [--rounds 5] [--engine numba]

The network has the layers of ResNet-20 on 32 x 32 x 3 images (random weights), in tiles of 14
channels on 128-row macros of ``lab-128``; inputs are 8-bit, bit-serial; read noise, conversion
noise, gain, offset, INL and wires are on, for one virtual chip. Times are CPU times of this
process, the three runs interleaved, medians. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from cim.calibration import nominal_macro
from cim.chipfile import load_chip
from cim.correction import nominal_correction
from cim.device import Columns
from cim.encoding import encode_tile
from cim.read_noise import ReadNoise
from cim.simulator import LayerSimulator, NoiseKey, SimulatedTile, simulated_tile
from cim.spec import MacroSpec
from cim.windows import Window
from cim.wire_law import Wire

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


def columns(spec: MacroSpec, rng: np.random.Generator) -> Columns:
    """Converters with every error switched on."""
    part = nominal_macro(spec, 0)
    n = len(part.gain)
    return Columns(
        1.0 + 0.05 * rng.standard_normal(n),
        rng.uniform(-2.0, 2.0, n),
        np.full(n, 0.3),
        part.adc,
        0.5 * rng.standard_normal(part.inl_codes.shape),
    )


def tile(spec: MacroSpec, inputs: range, outputs: range, rng: np.random.Generator) -> SimulatedTile:
    levels = rng.integers(-spec.max_level, spec.max_level + 1, (len(inputs), len(outputs))).astype(np.int8)
    encoded = encode_tile(levels, spec, 0, 0)
    cells = np.zeros((spec.rows, spec.columns), np.float32)
    cells[np.ix_(encoded.word_lines, encoded.bit_lines)] = encoded.targets_us
    cells += rng.normal(0.0, 2.0, cells.shape).astype(np.float32)
    correction = nominal_correction(spec, RANGE, levels, 8, False)
    return simulated_tile(
        spec, cells, columns(spec, rng), correction, inputs=inputs, outputs=outputs, multiplier=1, row0=0, output0=0
    )


def layers(spec: MacroSpec, rng: np.random.Generator, engine: str | None) -> list[LayerSimulator]:
    made = []
    for channels, outputs, size, stride in [*convolutions(), (64, 10, 0, 0)]:
        window = Window(channels, size, size, (3, 3), (stride, stride), (1, 1)) if size else None
        rows = window.rows if window else channels
        step = CHANNELS_PER_TILE * 9 if window else rows
        starts = range(0, rows, step)
        tiles = [tile(spec, range(s, min(s + step, rows)), range(outputs), rng) for s in starts]
        made.append(
            LayerSimulator(
                spec,
                tiles,
                window=window,
                inputs=rows,
                outputs=outputs,
                range_code=RANGE,
                input_bits=8,
                input_signed=False,
                read_noise=ReadNoise(np.array([2.0, 40.0]), np.array([1.0, 2.0]), np.zeros(2)),
                wire=Wire(1.0, 0.0),
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


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--images", type=int, default=16)
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--engine", choices=("numba", "torch"))
    given = ask.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    spec = load_chip("lab-128").macro
    chip = layers(spec, rng, given.engine)
    maps = [np.minimum(rng.exponential(40.0, (given.images, *shape(layer))), 255).astype(np.int16) for layer in chip]
    runs = {
        "plain_nchw": plain(given.images, torch.contiguous_format),
        "plain_channels_last": plain(given.images, torch.channels_last),
        "simulator": simulate(chip, maps),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name in runs:
        runs[name]()  # compile and warm up
    for _ in range(given.rounds):
        for name, run in runs.items():
            repeats = 1 if name == "simulator" else 5
            start = time.process_time()
            for _ in range(repeats):
                run()
            times[name].append((time.process_time() - start) / repeats / given.images * 1e3)
    ms = {name: statistics.median(values) for name, values in times.items()}
    conversions = sum(layer.conversions(1) for layer in chip)
    print(
        json.dumps(
            {
                "network": "resnet20 shape, 32 x 32 x 3",
                "engine": chip[0].engine,
                "images": given.images,
                "ms_per_image": {name: round(value, 3) for name, value in ms.items()},
                "ratio_to_channels_last": round(ms["simulator"] / ms["plain_channels_last"], 1),
                "ratio_to_nchw": round(ms["simulator"] / ms["plain_nchw"], 1),
                "conversions_per_image": conversions,
                "ns_per_conversion": round(ms["simulator"] * 1e6 / conversions, 2),
            }
        )
    )


def shape(layer: LayerSimulator) -> tuple[int, ...]:
    window = layer.window
    return (layer.inputs,) if window is None else (window.channels, window.height, window.width)


if __name__ == "__main__":
    main()
