# %% [markdown]
# # From a record to AIHWKit, and back
#
# What a calibration measured of a chip's cells, as a noise model of AIHWKit; a network on such cells there; and the
# weights that it has then, back as a table of cells. It needs `pip install aihwkit`. The chip is an emulated one
# (NOT SILICON).

# %%
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from aihwkit.nn.conversion import convert_to_analog
from aihwkit.simulator.configs import TorchInferenceRPUConfig

import cim
import hil


def shell(command: str) -> None:
    print(subprocess.run(command, shell=True, check=True, text=True, stdout=subprocess.PIPE).stdout.rstrip())


# %% A record of the chip
with hil.open_chip("emulated:lab-128?seed=7", macros=1) as chip:
    record = chip.calibrate(budget="quick")
cim.save_record(record, "record.h5")
shell("hil chip export record.h5 --to aihwkit --age 1h -o my_cells.py")

# %% A network, trained as anywhere
data = hil.load_dataset("fashion-mnist-bundled")
images = torch.from_numpy(data.images).reshape(len(data), -1) / 255 - 0.3
labels = torch.from_numpy(data.labels)
torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Linear(784, 24), torch.nn.ReLU(), torch.nn.Linear(24, 10))
optimiser = torch.optim.Adam(module.parameters(), 0.003)
for _ in range(60):
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(module(images[:1400]), labels[:1400]).backward()
    optimiser.step()


def accuracy(network: torch.nn.Module) -> float:
    with torch.no_grad():
        return float((network(images[1400:]).argmax(1) == labels[1400:]).double().mean())


print(f"float {accuracy(module):.1%}")

# %% In AIHWKit, on the cells of the record an hour after programming
sys.path.append(".")
from my_cells import G_MAX_US, G_MIN_US, MeasuredCells  # noqa: E402 (written above)


def weights() -> list[np.ndarray]:
    tiles = [value for value in analog.state_dict().values() if isinstance(value, dict)]
    return [tile["analog_tile_weights"].numpy().astype(float).ravel() for tile in tiles]


config = TorchInferenceRPUConfig(noise_model=MeasuredCells(rng=np.random.default_rng(1)), drift_compensation=None)
config.forward.is_perfect = True
config.mapping.max_input_size = config.mapping.max_output_size = 0  # a layer is one tile
analog = convert_to_analog(module, config).eval()
meant = weights()
analog.program_analog_weights()
analog.drift_analog_weights(3600.0)
read = weights()
print(f"AIHWKit, cells an hour old {accuracy(analog):.1%}")

# %% And back: a weight is a cell that was meant and a cell that was read, on the scale of its layer, in a table
rows, numbers = [], iter(range(10**6))
for target, reading in zip(meant, read, strict=True):
    us = np.sign(target) * (G_MAX_US - G_MIN_US) / np.abs(target).max()
    pairs = zip(G_MIN_US + us * reading, G_MIN_US + us * target, strict=True)
    rows += [f"{next(numbers)},3600,{now},{aim}" for now, aim in pairs]
Path("cells.csv").write_text("\n".join(["cell,time_s,conductance_us,target_us", *rows]))
shell("hil chip fit cells.csv -o cells.h5")

# %% The record that came back beside the one that went: how far cells are off, by their target
returned = cim.load_record("cells.h5")
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for found, name in ((record, "measured on the chip"), (returned, "back from AIHWKit")):
    axes.plot(found.programming.levels_us, found.programming.scale_us[-1], "o-", label=name)
axes.set_xlabel("target in µS")
axes.set_ylabel("spread of the programming error in µS")
axes.legend()
plt.show()
