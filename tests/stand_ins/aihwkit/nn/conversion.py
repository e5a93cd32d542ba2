"""Networks whose linear layers lie on cells."""

import copy
from typing import Any

import torch


class AnalogLinear(torch.nn.Linear):
    rpu_config: Any

    def get_extra_state(self) -> dict[str, Any]:
        return {"rpu_config": self.rpu_config, "analog_tile_weights": self.weight.detach().clone()}


class Analog(torch.nn.Sequential):
    def program_analog_weights(self) -> None:
        for layer in self.modules():
            if isinstance(layer, AnalogLinear):
                layer.weight.data = layer.rpu_config.noise_model.programmed(layer.weight.detach())

    def drift_analog_weights(self, _: float) -> None:
        """Nothing: errors of an exported record hold at its age."""


def convert_to_analog(module: torch.nn.Sequential, rpu_config: Any) -> Analog:
    layers = []
    for layer in copy.deepcopy(module):
        if isinstance(layer, torch.nn.Linear):
            layer.__class__ = AnalogLinear
            layer.rpu_config = copy.deepcopy(rpu_config)
        layers.append(layer)
    return Analog(*layers)
