"""What wires take of the sums of a trained network's layers: exact ladder, law and engines, in one run.

    python benchmarks/wire_layers.py [--net NET.pt] [--data fashion-mnist-bundled] [--images 60] [--vectors 1500]

Trained networks drive their planes unevenly: codes are small, so the planes of most weight are nearly empty, and rows
that are driven together are not a mean of all rows. For the first tile of every layer this takes the codes that reach
it from test images, cells of its levels with 1.5 µS of programming errors, and 1 Ω a pitch on ``lab-128``; no noise.

``left``: what wires leave of the sums (slope of the exact ladder, ``cim.array.wires``, on the sums without wires).
For the law (``cim.array.wire_law``) and each engine, ``slope``: of its sums on those of the exact ladder, 1 where it
loses what the ladder loses, and ``rms``: its error, % of the largest sum, rounding of the
converter and its ends included.
Prints one JSON line for each layer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import Wire, conversion_cells, wired_sums_us
from cim.array.wires import gated_sums_us
from cim.cells.read_noise import ReadNoise
from cim.chip.correction import SHIFT, Correction
from cim.chip.encoding import encode_tile
from cim.chip.spec import MacroSpec
from cim.record.calibration import nominal_macro
from cim.record.device import Columns
from cim.simulator.layer import NoiseKey, simulated_tile
from cim.simulator.simulator import LayerSimulator
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import BUNDLED_DATA, program_of
from hil.deployment.network_source import BUNDLED_NETWORK
from hil.watch import Watch
from mapping.program.conductance import MatrixStep
from mapping.program.driven import tile_vectors
from mapping.program.execute import IdealMultiply, run

Floats = NDArray[np.float64]
WIRE, PROGRAMMING_US = Wire(1.0, 0.0), 1.5
QUIET = ReadNoise(np.array([2.0, 40.0]), np.zeros(2), np.zeros(2))
ENGINES = {"look-up": ("exact", "numba"), "torch": ("exact", "torch"), "fast": ("fast", "numba")}


def layer_sums(spec: MacroSpec, step: MatrixStep, vectors: NDArray[np.int16], seed: int = 0) -> dict[str, Floats]:
    """Sums of a layer's first tile, (vectors, outputs) µS times code, by every way; ``vectors`` of ``tile_vectors``."""
    group, tile = step.group, step.group.matrix_tiles[0]
    outputs = len(tile.outputs)
    encoded = encode_tile(tile.levels, spec, tile.row0, tile.output0)
    cells = np.full((spec.rows, spec.columns), spec.levels_us[0])
    cells[np.ix_(encoded.word_lines, encoded.bit_lines)] = encoded.targets_us
    cells += np.random.default_rng(seed).normal(0.0, PROGRAMMING_US, cells.shape)
    part = nominal_macro(spec, 0)
    columns = Columns(part.gain, part.offset_codes, part.conversion_noise_codes, part.adc, part.inl_codes)
    same = Correction(
        np.full(outputs, 1 << SHIFT, np.int32), np.zeros(outputs, np.int64), np.zeros(outputs, np.int32), SHIFT
    )
    simulated = simulated_tile(
        spec, cells.clip(0.5).astype(np.float32), columns, same, inputs=range(len(tile.inputs)),
        outputs=range(outputs), multiplier=1, row0=tile.row0, output0=tile.output0,
    )  # fmt: skip
    halves = simulated.halves_us
    planes = [(1 << p, ((vectors >> p) & 1).astype(np.int16)) for p in range(group.input_bits)]
    sums = {
        "plain": np.asarray(vectors @ conversion_cells(spec, halves)),
        "ladder": np.sum([w * gated_sums_us(spec, tile.row0, halves, u, WIRE) for w, u in planes], 0),
        "law": np.sum([w * wired_sums_us(spec, tile.row0, halves, u, WIRE) for w, u in planes], 0),
    }
    for name, (mode, engine) in ENGINES.items():
        layer = LayerSimulator(
            spec, [simulated], window=None, inputs=len(tile.inputs), outputs=outputs, range_code=group.range_code,
            input_bits=group.input_bits, input_signed=False, read_noise=QUIET, wire=WIRE,
            mode=mode, engine=engine,
        )  # fmt: skip
        sums[name] = layer.level_sums(vectors, NoiseKey(seed))[0] * spec.lsb_us(group.range_code)
    return sums


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--net", type=Path, default=BUNDLED_NETWORK)
    ask.add_argument("--data", default=BUNDLED_DATA)
    ask.add_argument("--images", type=int, default=60)
    ask.add_argument("--vectors", type=int, default=1500)
    given = ask.parse_args()
    program, _ = program_of(given.net, chip="lab-128", macros=None, trust=False, watch=Watch())
    reached: dict[str, NDArray[np.int16]] = {}

    def tap(step: MatrixStep, codes: NDArray[np.int16], sums: NDArray[np.int32]) -> None:
        group = step.group
        reached[step.name] = tile_vectors(codes, group.window, group.matrix_tiles[0], given.vectors)

    images = load_dataset(given.data, "test", limit=given.images).images
    run(program, images, IdealMultiply(program), tap=tap, batch=given.images)
    for step in program.matrices:
        if step.group.input_signed:
            continue
        codes = reached[step.name]
        sums = layer_sums(program.spec.macro, step, codes)
        plain, ladder = sums.pop("plain"), sums.pop("ladder")
        driven = [float(((codes >> p) & 1).mean()) for p in range(step.group.input_bits)]
        line = {
            "layer": step.name,
            "rows": codes.shape[1],
            "driven_percent": [round(100 * share, 1) for share in driven],
            "left": round(slope(plain, ladder), 4),
            **{
                name: {
                    "slope": round(slope(ladder, found), 4),
                    "rms": round(100 * float(np.sqrt(np.mean((found - ladder) ** 2)) / np.abs(plain).max()), 3),
                }
                for name, found in sums.items()
            },
        }
        print(json.dumps(line), flush=True)


def slope(x: Floats, y: Floats) -> float:
    return float((x * y).sum() / (x * x).sum())


if __name__ == "__main__":
    main()
