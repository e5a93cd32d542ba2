"""What wires take from sums of a layer that reads pictures: the fast mode's law, and planes with counts of their own.

    HIL_DATA=… python benchmarks/plane_losses.py [--places 2000]

A tile of random weights on ``lab-128`` cells, wires of 1 ohm, no noise and no converter. Sums of eight input planes by
the law of the exact mode (``cim.array.wire_law``) stand beside two sums from one product. *fast*: the mean loss folded
into the cells, and the rest of it from numbers of driven rows (``cim.simulator.fast.moments.place_terms``), which
expects each plane to hold a share of the sum that goes by its driven rows. *planes*: a second product, of the same
cells with Σ_p w_p s_pr u_pr for the code Σ_p w_p u_pr of a row, s_pr by the rows that plane p drives from the far end
on (``cim.simulator.fast.moments.DrivenLine``): what each plane loses goes by its own sum and its own rows. The fast
mode has it in layers that read pictures.
Numbers are rms in levels beside each output's line over the exact sums, as
a tune leaves it.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import Wire, WireEnd, conversion_load, line_bend, line_gaps, wired_sums_us
from cim.chip.file import load_chip
from cim.simulator.fast.layer import ACTIVITY
from cim.simulator.fast.moments import DrivenLine, place_terms, row_reach
from hil.datasets.image_set import load_dataset

PLANES, OUTPUTS, SPREAD_US = 8, 16, 2.0
Floats = NDArray[np.float64]


def windows(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Rows of 3 x 3 windows of padded pictures, channel after channel: (places, 9 · channels)."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return seen.reshape(-1, 9 * images.shape[3]).astype(np.int64)


def patches(images: NDArray[np.uint8], side: int = 4) -> NDArray[np.int64]:
    """Rows of the patches that a vision transformer projects."""
    n, high, wide, channels = images.shape
    split = images.reshape(n, high // side, side, wide // side, side, channels).transpose(0, 1, 3, 5, 2, 4)
    return split.reshape(-1, channels * side * side).astype(np.int64)


def beside_line(sums: Floats, exact: Floats) -> float:
    """Rms over outputs of what is left beside the line over the exact sums."""
    left = [(y - np.polyval(np.polyfit(x, y, 1), x)).var() for x, y in zip(exact.T, sums.T, strict=True)]
    return float(np.sqrt(np.mean(left)))


def study(name: str, codes: NDArray[np.int64], row0: int, rng: np.random.Generator) -> str:
    """One line of the table; ``codes`` (places, rows)."""
    spec, rows = load_chip("lab-128").macro, codes.shape[1]
    levels = rng.integers(-spec.max_level, spec.max_level + 1, (rows, OUTPUTS))
    halves = spec.levels_us[0] + spec.level_step_us * np.stack([np.maximum(levels, 0), np.maximum(-levels, 0)])
    halves = halves + rng.normal(0.0, SPREAD_US, halves.shape)
    cells, wire, weights = halves[0] - halves[1], Wire(1.0, 0.0, WireEnd.FIRST), 2.0 ** np.arange(PLANES)
    bits = (codes[:, None, :] >> np.arange(PLANES)[:, None] & 1).astype(np.float64)  # (places, planes, rows)
    seen = wired_sums_us(spec, row0, halves, bits.reshape(-1, rows), wire).reshape(len(codes), PLANES, OUTPUTS)
    plain, exact = codes @ cells, np.einsum("npo,p->no", seen, weights)
    order, gaps = line_gaps(spec, row0, rows, wire.end)
    reach = np.empty(rows)
    reach[order] = row_reach(gaps)
    bend, loss = line_bend(spec, halves, wire, row0), conversion_load(spec, halves) * 1e-6 / rows
    counts = bits.sum(2)
    typical = ACTIVITY * rows / (1.0 + bend * ACTIVITY * rows)
    terms = place_terms(counts, counts, counts, weights, typical=typical, bend=bend, even=False)
    kw = loss * reach.mean()
    fast = plain - codes @ (cells * reach[:, None]) * loss * typical
    fast = fast - plain * kw * terms.excess[:, None] - kw * cells.mean(0) * terms.lean[:, None]
    line = DrivenLine(order, gaps, bend, 1)
    planes = plain - np.einsum("npr,p->nr", bits * line.shares(bits), weights) @ (cells * reach[:, None]) * loss * rows
    numbers = [exact.std(0).mean(), beside_line(plain, exact), beside_line(fast, exact), beside_line(planes, exact)]
    return f"{name:<34} {row0:>5} {rows:>5}" + "".join(f"{number / spec.level_step_us:>10.1f}" for number in numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=2000, help="most places of a kind")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    eurosat = load_dataset("eurosat", "train", limit=16).images
    cifar = load_dataset("cifar10", "train", limit=16).images
    sparse = np.minimum(rng.geometric(0.02, (given.places, 108)) - 1, 255) * rng.integers(0, 2, (given.places, 108))
    kinds = {
        "EuroSAT, 3 x 3": (windows(eurosat), (0, 100)),
        "EuroSAT, patches of 4 x 4": (patches(eurosat), (0, 80)),
        "CIFAR-10, 3 x 3": (windows(cifar), (0, 100)),
        "CIFAR-10, 3 x 3, four times": (np.tile(windows(cifar), 4), (0,)),
        "random codes, half of them zero": (sparse, (0,)),
    }
    print(
        f"{'inputs':<34} {'row 0':>5} {'rows':>5}"
        + "".join(f"{w:>10}" for w in ("signal", "no loss", "fast", "planes"))
    )
    for name, (codes, starts) in kinds.items():
        some = codes[:: -(-len(codes) // given.places)]
        for row0 in starts:
            print(study(name, some, row0, rng))


if __name__ == "__main__":
    main()
