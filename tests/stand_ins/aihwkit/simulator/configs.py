"""Settings of analog layers: the noise model counts, the rest is taken and not looked at."""

from typing import Any


class Part:
    is_perfect, max_input_size, max_output_size = False, 512, 512


class TorchInferenceRPUConfig:
    def __init__(self, noise_model: Any, drift_compensation: Any) -> None:
        self.noise_model, self.drift_compensation = noise_model, drift_compensation
        self.forward, self.mapping = Part(), Part()
