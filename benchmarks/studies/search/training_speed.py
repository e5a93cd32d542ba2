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
from cim.cost.workload import WorkKind
from cim.record.published import nominal_record
from cim.simulator.training_errors import array_noise
from search.space.file import load_space
from search.space.genes import Bits
from search.space.operators import Layer
from search.train.arrays import set_strength
from search.train.images import moved
from search.train.modules import LayerNet, network

BATCH, EPOCH, SQUARE = 128, 60_000, 21
OPERATORS = ("conv3", "residual") * 3


class PlainNet(nn.Module):
    """A trained ``LayerNet`` in ordinary layers, without rounding of activations; in evaluation mode."""

    def __init__(self, net: LayerNet) -> None:
        super().__init__()
        self.layers = net.layers
        self.ends = {layer.name: net.ends(layer) for layer in net.layers}
        self.norms: dict[str, str] = {}
        for layer in net.layers:
            unit = net.unit(layer)
            if unit.array is None:
                continue
            with torch.no_grad():
                weight = unit.array.quantiser(unit.array.weight)
            plain = _conv(layer, weight) if layer.kind is WorkKind.CONV else _linear(weight, unit.array.bias)
            place(self, layer.name, plain)
            if unit.norm is not None:
                self.norms[layer.name] = f"{layer.name}_norm"
                place(self, self.norms[layer.name], _copy(unit.norm))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        values = {self.layers[0].inputs[0]: x}
        for layer in self.layers:
            inputs = [values[name] for name in layer.inputs]
            if layer.kind is WorkKind.ADD:
                y = inputs[0] + inputs[1]
            elif layer.kind is WorkKind.AVG_POOL:
                y = inputs[0].mean((2, 3))
            else:
                y = self.get_submodule(layer.name)(_padded(layer, inputs[0]))
            if layer.name in self.norms:
                y = self.get_submodule(self.norms[layer.name])(y)
            ends = self.ends[layer.name]
            if ends is not None:
                y = y.clamp(0.0 if layer.relu else ends[0], ends[1])
            values[layer.name] = y
        return y


def place(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module where a dotted name says."""
    *path, last = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(last, module)


def _conv(layer: Layer, weight: Tensor) -> nn.Conv2d:
    padding = layer.before if layer.before == layer.after else 0
    inputs = weight.shape[1] * layer.groups
    conv = nn.Conv2d(inputs, layer.outputs, layer.kernel, layer.stride, padding, groups=layer.groups, bias=False)
    conv.weight = nn.Parameter(weight.float(), requires_grad=False)
    return conv


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    assert bias is not None
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight = nn.Parameter(weight.float(), requires_grad=False)
    linear.bias = nn.Parameter(bias.detach().clone().float(), requires_grad=False)
    return linear


def _copy(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    copy = nn.BatchNorm2d(norm.num_features, norm.eps)
    copy.load_state_dict(norm.state_dict())
    return copy


def _padded(layer: Layer, x: Tensor) -> Tensor:
    if layer.kind is not WorkKind.CONV or layer.before == layer.after:
        return x
    return nn.functional.pad(x, (layer.before, layer.after, layer.before, layer.after))


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
