"""One peer's whole network beside a plain torch forward, in the Python that has it: ``speed.py`` calls this.

    python benchmarks/peer_forward.py SETTING IMAGES.npy COUNT ROUNDS [CROSSSIM]

One thread, CPU times of this process. The network is the ResNet-20 of ``speed.py`` with the same weights,
batch normalisation folded, plain torch channels last on all images, the peer on the first COUNT of them. Prints
{"times_plain": …, "plain_ms": …, "peer_ms": …} an image, medians of the rounds. CROSSSIM: folder of its source.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch_networks import module

SEED, RMIN_OHM, RMAX_OHM, OHM = 1, 1e6 / 40.0, 1e6 / 2.0, 1.0  # cells of 2 to 40 µS, lines of 1 ohm a cell
ROWS = 128


def aihwkit(setting: str, network: nn.Module) -> nn.Module:
    """``perfect``; ``converters``: 8 bits in and out, output noise, tiles of 128 x 128; ``wires``: voltage drop too."""
    from aihwkit.nn.conversion import convert_to_analog
    from aihwkit.simulator.configs import InferenceRPUConfig

    rule = InferenceRPUConfig()
    rule.forward.is_perfect = setting == "perfect"
    if setting != "perfect":
        rule.forward.inp_res = rule.forward.out_res = 1.0 / 254.0
        rule.forward.out_noise = 0.04
        rule.mapping.max_input_size = rule.mapping.max_output_size = ROWS
        rule.forward.ir_drop = 1.0 if setting == "wires" else 0.0
    analog: nn.Module = convert_to_analog(network, rule)
    return analog


def crosssim(setting: str, network: nn.Module) -> nn.Module:
    """``converters``: 8 bits in and out, arrays of 128 rows; ``bits``: inputs bit by bit; then ``noise`` of each cell
    in each read; then ``wires`` of 1 ohm a cell."""
    from simulator import CrossSimParameters
    from simulator.algorithms.dnn.torch.convert import from_torch

    rule: Any = CrossSimParameters()
    rule.core.rows_max = ROWS
    rule.core.weight_bits = 4
    rule.xbar.device.Rmin, rule.xbar.device.Rmax = RMIN_OHM, RMAX_OHM
    rule.xbar.dac.mvm.bits = 8
    rule.xbar.dac.mvm.model = "SignMagnitudeDAC"
    rule.xbar.adc.mvm.bits = 8
    rule.xbar.adc.mvm.model = "QuantizerADC"
    rule.xbar.adc.mvm.adc_range_option = 2  # as wide as sums can be
    rule.core.mapping.inputs.mvm.min, rule.core.mapping.inputs.mvm.max = -4.0, 4.0
    order = ["converters", "bits", "noise", "wires"]
    level = order.index(setting)
    rule.xbar.dac.mvm.input_bitslicing = level >= 1
    if level >= 2:
        rule.xbar.device.read_noise.enable = True
        rule.xbar.device.read_noise.model = "NormalIndependentDevice"
        rule.xbar.device.read_noise.magnitude = 0.01
    if level >= 3:
        rule.xbar.array.parasitics.enable = True
        rule.xbar.array.parasitics.Rp_row = rule.xbar.array.parasitics.Rp_col = OHM
    analog: nn.Module = from_torch(network, rule)
    return analog


PEERS: dict[str, Callable[[str, nn.Module], nn.Module]] = {"aihwkit": aihwkit, "crosssim": crosssim}


def cpu_s(network: nn.Module, pixels: torch.Tensor) -> float:
    start = time.process_time()
    with torch.no_grad():
        network(pixels)
    return time.process_time() - start


def main() -> None:
    setting, place, count, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    sys.path += sys.argv[5:6]
    torch.set_num_threads(1)
    torch.manual_seed(0)  # the peers draw from both global generators
    np.random.seed(0)  # noqa: NPY002
    peer, _, how = setting.partition("-")
    images = torch.from_numpy(np.load(place)).permute(0, 3, 1, 2).float() / 255.0 * 4.0 - 2.0
    shape = (3, *images.shape[2:])
    plain = fuse(module("cifar_resnet20_b", classes=10, input_shape=shape, rng=np.random.default_rng(SEED)).eval())
    analog = PEERS[peer](how, fuse(plain)).eval()
    plain = plain.to(memory_format=torch.channels_last)
    pixels = images.contiguous(memory_format=torch.channels_last)
    cpu_s(plain, pixels)
    base, spent = [], []
    for _ in range(rounds):
        before = cpu_s(plain, pixels)
        spent.append(cpu_s(analog, images[:count].contiguous()) / count)
        base.append((before + cpu_s(plain, pixels)) / 2 / len(images))
    print(json.dumps({
        "times_plain": statistics.median(s / b for s, b in zip(spent, base, strict=True)),
        "plain_ms": statistics.median(base) * 1e3, "peer_ms": statistics.median(spent) * 1e3,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
