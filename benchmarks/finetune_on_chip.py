"""Fine-tuning on the chip beside a tune alone: accuracy on test images of the same virtual chips, one JSON line each.

Every virtual chip of the record is written twice: as ``hil deploy`` does it, all layers at once and tuned, and group
after group, the layers behind trained on what the chip made of the training images (``hil finetune --port``). Test
images are read once, for the finished programs. Fast mode. Chips whose lines stand in ``--out`` are not done again.

    python benchmarks/finetune_on_chip.py net.pt --record rec.h5 --data cifar10 --chips 2 --out results.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from cim.chip.file import load_chip
from cim.record.file import load_record
from cim.simulator.training_errors import array_noise
from hil.datasets.image_set import load_dataset
from hil.improvement.finetuning.progressive import Progressive, layer_groups
from hil.improvement.finetuning.written_layers import GROUP_SEEDS, VirtualLayers
from hil.simulation.virtual_chips import VirtualChips
from hil.watch import Watch
from mapping.compile import LayoutOptions, compile_network
from mapping.network.file import load_network
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import training_inputs
from mapping.quantise.weight_scales import ScaleRule
from mapping.recipe.recipe import Recipe
from mapping.tune.aims import aimed, aims_of
from mapping.tune.channel_affine import tune_targets
from search.train.arrays import aimed as aimed_noise
from search.train.behind import BehindRecipe, LayersBehind, Measured, Trained
from search.train.images import Images
from search.train.training import Machine

AGE_S, HELD_OUT, TUNE_IMAGES, TEST_SAMPLE = 3600.0, 300, 128, 1 << 30


def one_chip(given: argparse.Namespace, number: int) -> dict[str, Any]:
    """Virtual chip ``number``: percent of test images that it has right, tuned and fine-tuned."""
    record, spec, network = load_record(given.record), load_chip(given.chip), load_network(given.network)
    options = LayoutOptions(averaged=True)
    program = compile_network(network, spec, options=options, scale_rule=ScaleRule.OUTPUT)
    program = aimed(program, aims_of(record.programming, spec.macro, AGE_S, record.origin))
    train, test = (load_dataset(given.data, split) for split in ("train", "test"))
    own, kept = Images(train.images, train.labels.astype(np.int64)).split(HELD_OUT / len(train), 0)
    own = own.spread(given.images)
    images, labels = test.images[: given.test], test.labels[: given.test]

    def right(logits: np.ndarray[Any, Any]) -> float:
        return round(100.0 * float((logits.argmax(1) == labels).mean()), 2)

    stored = program.calibration_images[:TUNE_IMAGES]
    alone = VirtualChips(
        program, record, Recipe(age_s=AGE_S), 1, number * GROUP_SEEDS, inputs=training_inputs(program), mode="fast",
        targets=tune_targets(program, stored), first=number,
    )  # fmt: skip
    began, chip = time.process_time(), VirtualLayers(record, Recipe(age_s=AGE_S), number, number)
    noise = aimed_noise(array_noise(spec.macro, record, AGE_S))
    behind = LayersBehind(network, program, noise, own, kept, Machine())
    recipe = BehindRecipe(given.epochs, given.batch, given.rate, strength=given.strength)
    with tempfile.TemporaryDirectory() as folder:

        def training(group: int, written: Any, seen: Measured, held_out: Measured) -> Trained:
            return behind.train(written, seen, held_out, recipe, checkpoint=Path(folder) / str(group), key="")

        work = Progressive(chip, layer_groups(program, given.groups), stored, behind, training, Watch())
        done = work.finish(work.begin(program))
    seconds = time.process_time() - began
    return {
        "network": given.network.stem,
        "number": number,
        "groups": given.groups,
        "images": len(own),
        "epochs": given.epochs,
        "rate": given.rate,
        "test_images": len(labels),
        "ideal": right(run(program, images, IdealMultiply(program))),
        "tuned": right(alone.run(images, 0, Watch())[0]),
        "finetuned": right(run(done.running, images, chip, sample=TEST_SAMPLE)),
        "finetuned_ideal": right(run(done.plain, images, IdealMultiply(done.plain))),
        "losses": [[round(g.trained.before, 4), round(g.trained.after, 4)] for g in done.groups if g.trained],
        "cpu_s": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, help="net.pt")
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--chip", default="lab-128")
    parser.add_argument("--chips", type=int, default=2, help="virtual chips, from number 0")
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--images", type=int, default=2000, help="training images, measured; some are held out")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.0003)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    lines = given.out.read_text().splitlines() if given.out.exists() else []
    done = {(row["network"], row["number"]) for row in map(json.loads, lines)}
    for number in range(given.chips):
        if (given.network.stem, number) not in done:
            with given.out.open("a") as file:
                file.write(json.dumps(one_chip(given, number)) + "\n")


if __name__ == "__main__":
    main()
