# %% [markdown]
# # From a plain `nn.Module` to a verdict
#
# The chip is an emulated one (NOT SILICON): put the address of a board in its place.

# %%
import numpy as np
import torch

import hil

# %% A module, trained on images of one's own; here stripes that lie or stand, 8 × 8 grey
rng = np.random.default_rng(0)
labels = rng.integers(0, 2, 1600)
stripes = (np.arange(8)[:, None] + rng.integers(0, 2, (1600, 1, 1))) % 2 * np.ones((1, 1, 8))
images = np.where(labels[:, None, None] == 1, stripes.swapaxes(1, 2), stripes)
images = np.clip(100 * images + rng.normal(60, 110, images.shape), 0, 255).astype(np.float32)[:, None] / 255
torch.manual_seed(0)
module = torch.nn.Sequential(
    torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 64, 2)
)
optimiser = torch.optim.Adam(module.parameters(), 0.01)
train = (torch.from_numpy(images[:1000]), torch.from_numpy(labels[:1000]))
for _ in range(60):
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(module(train[0]), train[1]).backward()
    optimiser.step()

# %% The chip: opened, and measured through its own read path
chip = hil.open_chip("emulated:lab-128?seed=7", macros=2)
record = chip.calibrate(budget="quick")

# %% The network on it, and the verdict
program = hil.compile(module, chip, images=train, bits="W4A8", classes=["lying", "standing"])
options = hil.DeployOptions(samples=600, repeats=2, causes=False, tolerance=0.02)
report = hil.deploy(program, chip, (images[1000:], labels[1000:]), options=options)
report

# %% The four accuracies, as a frame
print(report.to_frame().round(3))

# %% Does it last? Virtual chips, for a month
prediction = hil.simulate(program, record, ages=["1h", "30d"], chips=4, mode="fast", options=options)
prediction.plot()

# %%
chip.close()
