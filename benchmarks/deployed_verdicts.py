"""Verdicts of whole deployments on emulated chips, each with its own record, tuned as `hil deploy` tunes by default.

One JSON line a chip, appended to --out; chips that are there already are not deployed again. With an effect that the
simulator does not know in the address (``&supply_droop=600`` behind the seed) the verdict should disagree. No choice
was made by the scored images or on these seeds.

    HIL_DATA=… python benchmarks/deployed_verdicts.py --out verdicts.jsonl [--networks bundled,net.pt:cifar10]
        [--seeds 3000-3019] [--images 1000] [--rewrite 0] [--residual-slices 0] [--rounds] [--table]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from kept_rows import keep_row, kept_rows

import hil
from hil.deployment.network_source import BUNDLED_NETWORK
from hil.deployment.options import DeployOptions, usual_recipe

KEYS = ("network", "address", "seed", "images", "rewrite", "residual_slices", "rounds")


def deployed(
    network: str, address: str, seed: int, images: int, rewrite: int, residual_slices: int, rounds: bool
) -> dict[str, Any]:
    """One deployment, summed up."""
    path, data = (str(BUNDLED_NETWORK), None) if network == "bundled" else network.rsplit(":", 1)
    asked = {"rounds": rounds, f"residual={residual_slices}": residual_slices, f"rewrite={rewrite}": rewrite}
    recipe = usual_recipe(*(technique for technique, wanted in asked.items() if wanted))
    options = DeployOptions(samples=images, causes=False, recipe=recipe)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        report = hil.deploy(path, address.format(seed=seed), data=data, out=Path(folder) / "run", options=options)
    this, such, untuned = report.this_chip, report.such_chips, report.untuned
    assert this is not None
    assert such is not None
    return {
        "ideal": this.ideal.mean,
        "simulated": this.simulated.mean,
        "emulated": this.measured.mean,
        "emulated_untuned": None if untuned is None else untuned.measured.mean,
        "seen": report.data.images,
        "this_chip": this.verdict.value,
        "such_chips": such.verdict.value,
        "cpu_s": round(time.process_time() - start, 1),
    }


def table(lines: list[dict[str, Any]]) -> list[str]:
    """A Markdown table, a row for each network and address."""
    head = [
        "| network | chips | ideal | simulated | emulated, mean (lowest … highest) | this chip | such chips |",
        "|---|---|---|---|---|---|---|",
    ]
    kept: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in lines:
        kept.setdefault(tuple(line[k] for k in KEYS if k != "seed"), []).append(line)
    for (name, address, images, rewrite, slices, rounds), some in kept.items():
        mean = {k: 100 * np.mean([s[k] for s in some]) for k in ("ideal", "simulated", "emulated")}
        each = [100 * s["emulated"] for s in some]
        verdicts = [
            ", ".join(f"{v} {n}" for v, n in zip(*np.unique([s[k] for s in some], return_counts=True), strict=True))
            for k in ("this_chip", "such_chips")
        ]
        head.append(
            f"| {name}{', in rounds' if rounds else ''}, at most {images} images, {rewrite} rewrites, "
            f"{slices} residual slices, {address} | {len(some)} | {mean['ideal']:.1f} | "
            f"{mean['simulated']:.1f} | {mean['emulated']:.1f} ({min(each):.1f} … {max(each):.1f}) | "
            f"{verdicts[0]} | {verdicts[1]} |"
        )
    return head


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", default="bundled")
    parser.add_argument("--address", default="emulated:lab-128?seed={seed}")
    parser.add_argument("--seeds", default="3000-3019", help="first-last")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rewrite", type=int, default=0)
    parser.add_argument("--residual-slices", type=int, default=0)
    parser.add_argument("--rounds", action="store_true", help="networks that are larger than the chip")
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    given = parser.parse_args()
    there = kept_rows(given.out)
    if given.table:
        print("\n".join(table(there)))
        return 0
    done = {tuple(line[k] for k in KEYS) for line in there}
    first, last = map(int, given.seeds.split("-"))
    for network in given.networks.split(","):
        for seed in range(first, last + 1):
            asked = (network, given.address, seed, given.images, given.rewrite, given.residual_slices, given.rounds)
            if asked in done:
                continue
            row = {**dict(zip(KEYS, asked, strict=True)), **deployed(*asked)}
            keep_row(given.out, row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
