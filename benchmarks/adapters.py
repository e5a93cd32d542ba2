"""Accuracy of tuned virtual chips with digital adapters of several ranks, and what they cost.

    python benchmarks/adapters.py NET --record FILE --data SET [--ranks 0,4] [--chips 4] [--images 1000] [--seed 9]
        [--copies-on MACROS] [--engine fast] [--out FILE]

NET is a net.pt for ``lab-128``, FILE a record of such a chip (``hil calibrate``). Copies of layers stand on idle cells,
or with ``--copies-on`` up to eight of each layer on so many macros. Chips are drawn as ``hil simulate`` draws them, one
hour after programming, each tuned and adapted to its own answers. Prints one JSON line a rank; ranks that --out has are
left out.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from cim.chip.file import load_chip
from cim.cost.network_cost import estimate
from cim.record.file import load_record
from hil.datasets.image_set import load_dataset
from hil.deployment.options import DeployOptions, usual_recipe
from hil.prediction.predict import predict
from hil.watch import Watch
from mapping.compile import LayoutOptions, compile_network
from mapping.layout.free_cells import choose_copies_to_average
from mapping.network.file import load_network
from mapping.program.adapter import adapter_share
from mapping.program.conductance import ConductanceProgram
from mapping.quantise.weight_scales import ScaleRule
from mapping.tune.averaged import layer_areas
from mapping.tune.low_rank import with_blank_adapters
from mapping.workload import program_workload

MOST_COPIES = 8


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("net", type=Path)
    ask.add_argument("--record", type=Path, required=True)
    ask.add_argument("--data", required=True)
    ask.add_argument("--ranks", default="0,4")
    ask.add_argument("--chips", type=int, default=4)
    ask.add_argument("--images", type=int, default=1000)
    ask.add_argument("--seed", type=int, default=9)
    ask.add_argument("--copies-on", type=int, help="macros for copies; default: idle cells of the network's own")
    ask.add_argument("--engine", default="fast")
    ask.add_argument("--out", type=Path, help="file to append the lines to")
    given = ask.parse_args()
    stored = given.out.read_text("utf-8").splitlines() if given.out and given.out.exists() else []
    there = {key_of(json.loads(line)) for line in stored}
    program, record = program_of(given.net, given.copies_on), load_record(given.record)
    images = load_dataset(given.data, "test")
    for rank in map(int, given.ranks.split(",")):
        line: dict[str, Any] = {
            "network": given.net.name,
            "rank": rank,
            "macros": len(program.macros),
            "chips": given.chips,
            "images": given.images,
            "seed": given.seed,
            "engine": given.engine,
        }
        if key_of(line) in there:
            continue
        options = DeployOptions(
            samples=given.images,
            virtual_chips=given.chips,
            seed=given.seed,
            recipe=usual_recipe(*([f"adapters={rank}"] if rank else [])),
        )
        start = time.process_time()
        found = predict(program, images, record, options, Watch(), mode=given.engine)
        running = with_blank_adapters(program, rank) if rank else program
        cost = estimate(program_workload(running), program.spec)
        line |= {
            "ideal_percent": round(100.0 * found.ideal, 2),
            "simulated_percent": round(100.0 * float(found.accuracies.mean()), 2),
            "spread_over_chips_points": round(100.0 * float(found.accuracies.std(ddof=1)), 2),
            "adapter_share_percent": round(100.0 * adapter_share(running), 1) if rank else 0,
            "edp_mj_ms": round(cost.edp_mj_ms, 4),
            "cpu_s": round(time.process_time() - start, 1),
        }
        print(json.dumps(line), flush=True)
        if given.out:
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def key_of(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in ("network", "rank", "macros", "chips", "images", "seed", "engine"))


def program_of(net: Path, macros: int | None) -> ConductanceProgram:
    """The program with copies on idle cells, or on so many macros of the chip."""
    network, spec = load_network(net), load_chip("lab-128")
    if macros is None:
        return compile_network(network, spec, options=LayoutOptions(averaged=True), scale_rule=ScaleRule.OUTPUT)
    once = compile_network(network, spec, scale_rule=ScaleRule.OUTPUT)
    copies = choose_copies_to_average(layer_areas(once), spec, allowed=range(macros), most=MOST_COPIES)
    return compile_network(network, spec, scale_rule=ScaleRule.OUTPUT, copies=copies)


if __name__ == "__main__":
    main()
