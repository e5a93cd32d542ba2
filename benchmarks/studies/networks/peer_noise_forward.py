"""One peer's answers with exported cells: ``peer_noise.py`` calls this with the Python that has the peer.

    PEER-PYTHON peer_noise_forward.py aihwkit|crosssim NETWORK job.npz out.npz CHIPS CROSSSIM-FOLDER

``my_cells.py`` lies in the working folder. Each layer's levels are the weights of an analog layer, our scale of each
output and the bias stand behind it in floats that end where our codes do.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

sys.path.insert(0, str(Path(__file__).parents[2]))
from torch_networks import ARCHITECTURES


class Scaled(nn.Module):
    """Levels on the array, the scale of each output and the bias behind; ``ends`` (2, 2) of its inputs and outputs."""

    def __init__(self, part: nn.Module, levels: Tensor, scale: Tensor, bias: Tensor, ends: Tensor) -> None:
        super().__init__()
        part.weight.data, part.bias = levels, None
        shape = (1, -1, 1, 1) if isinstance(part, nn.Conv2d) else (1, -1)
        self.array, self.scale, self.bias = part, scale.reshape(shape), bias.reshape(shape)
        self.taken, self.given = ends.tolist()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.array(x.clamp(*self.taken)) * self.scale + self.bias
        return y.clamp(*self.given)


def network_of(name: str, job: dict[str, Any]) -> nn.Module:
    plain = fuse(ARCHITECTURES[name](input_shape=(3, 32, 32), classes=10).eval())
    for layer in [key[: -len("/levels")] for key in job if key.endswith("/levels")]:
        where, _, last = layer.rpartition(".")
        parts = (
            torch.tensor(job[f"{layer}/{what}"], dtype=torch.float32) for what in ("levels", "scale", "bias", "ends")
        )
        holder = plain.get_submodule(where)
        setattr(holder, last, Scaled(getattr(holder, last), *parts))
    return plain.eval()


def aihwkit(network: nn.Module) -> Any:
    from aihwkit.nn.conversion import convert_to_analog
    from aihwkit.simulator.configs import InferenceRPUConfig
    from my_cells import MeasuredCells

    rule = InferenceRPUConfig(noise_model=MeasuredCells(rng=np.random.default_rng(1)), drift_compensation=None)
    rule.forward.is_perfect = True
    rule.mapping.max_input_size = rule.mapping.max_output_size = 0
    rule.mapping.weight_scaling_omega = 0.0
    analog = convert_to_analog(network, rule).eval()

    def another() -> nn.Module:
        analog.program_analog_weights()
        analog.drift_analog_weights(1.0)
        return analog

    return another


def crosssim(network: nn.Module) -> Any:
    import my_cells
    from simulator import CrossSimParameters
    from simulator.algorithms.dnn.torch.convert import from_torch, reinitialize

    rule: Any = CrossSimParameters()
    rule.core.rows_max = rule.core.cols_max = 4096
    rule.core.weight_bits = 0
    rule.core.style = "BALANCED"
    rule.core.mapping.weights.percentile = 1.0
    rule.xbar.device.Rmin, rule.xbar.device.Rmax = 1e6 / my_cells.G_MAX_US, 1e6 / my_cells.G_MIN_US
    rule.xbar.device.infinite_on_off_ratio = False
    rule.xbar.device.programming_error.enable = True
    rule.xbar.device.programming_error.model = "MeasuredCells"
    analog = from_torch(network, rule)

    def another() -> nn.Module:
        reinitialize(analog)
        return analog.eval()

    return another


def answers(network: nn.Module, pixels: Tensor) -> np.ndarray:
    with torch.no_grad():
        return network(pixels).argmax(1).numpy()


def main() -> None:
    peer, name, job_file, out, chips, folder = sys.argv[1:7]
    sys.path += [folder, "."]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (CrossSim draws from numpy's own generator)
    with np.load(job_file) as held:
        job = dict(held)
    pixels = torch.tensor(job["pixels"], dtype=torch.float32).permute(0, 3, 1, 2).contiguous()
    clean = answers(network_of(name, job), pixels)
    another = {"aihwkit": aihwkit, "crosssim": crosssim}[peer](network_of(name, job))
    np.savez(out, answers=np.stack([answers(another(), pixels) for _ in range(int(chips))]), clean=clean)


if __name__ == "__main__":
    main()
