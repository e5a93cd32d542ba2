"""How long training takes with the errors of a chip, beside the same network without; one JSON line a case.

    python benchmarks/studies.py training-speed [--images 2560]

One thread, batches of 128 random images of 28 x 28, or squares of 21 cut out of them, W4A8, errors of the models of
lab-128 an hour after programming. ``cpu_s`` is of an epoch of 60,000 images; ``over_plain`` is over the same layers in
plain torch on whole images, neither quantised nor with errors, in the same run and precision.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from cim.chip.file import load_chip
from cim.record.published import nominal_record
from cim.simulator.training_errors import array_noise
from search.space.file import load_space
from search.space.genes import Bits
from search.train.arrays import set_strength
from search.train.export import PlainNet
from search.train.images import moved
from search.train.modules import network

BATCH, EPOCH, SQUARE = 128, 60_000, 21
OPERATORS = ("conv3", "residual") * 3


def seconds(model: nn.Module, answer: Callable[[Tensor], Tensor], half: bool, steps: int, crop: int = 0) -> float:
    """CPU seconds of an epoch."""
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    pixels = torch.randint(0, 256, (BATCH, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (BATCH,))
    start = 0.0
    for step in range(-3, steps):
        if step == 0:
            start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
            loss = functional.cross_entropy(answer(moved(pixels, 1, "mirror", crop)).float(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (time.process_time() - start) / steps / BATCH * EPOCH


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--images", type=int, default=2560)
    steps = ask.parse_args().images // BATCH
    torch.set_num_threads(1)
    torch.manual_seed(0)
    chip, space = load_chip("lab-128"), load_space("fashion-mnist")
    noise = array_noise(chip.macro, nominal_record(chip, [0]), 3600.0)
    chosen = space.uniform(OPERATORS, (1.0, 1.0, 1.0), Bits(4, 8))
    for half in (False, True):
        net = network(space, chosen, noise).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        net(torch.rand(8, 1, 28, 28))
        plain = PlainNet(net).train().requires_grad_(True)
        own = seconds(plain, plain, half, steps)
        rows = {"plain": own}
        for name, strength in (("quantised", 0.0), ("quantised, with errors", 1.0)):
            set_strength(net, strength, 2, 4)
            rows[name] = seconds(net, net, half, steps)
            rows[f"{name}, squares of {SQUARE}"] = seconds(net, net, half, steps, SQUARE)
        for name, found in rows.items():
            print(json.dumps({
                "benchmark": "training_speed", "precision": "bf16-mixed" if half else "32-true", "network": name,
                "cpu_s": round(found, 1), "over_plain": round(found / own, 2),
            }))  # fmt: skip


if __name__ == "__main__":
    main()
