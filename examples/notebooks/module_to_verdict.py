# %% [markdown]
# # From a plain `nn.Module` to a verdict
#
# Runs as a script, or cell by cell in an editor that knows `# %%`. The chip is an emulated one (NOT SILICON):
# put the address of a board in its place.

# %%
import numpy as np
import torch

import hil
import mapping

# %% A module, trained on images of one's own; here stripes that lie or stand, 8 × 8 grey
rng = np.random.default_rng(0)
labels = rng.integers(0, 2, 1600)
stripes = (np.arange(8)[:, None] + rng.integers(0, 2, (1600, 1, 1))) % 2 * np.ones((1, 1, 8))
images = np.where(labels[:, None, None] == 1, stripes.swapaxes(1, 2), stripes)
images = np.clip(100 * images + rng.normal(60, 110, images.shape), 0, 255).astype(np.uint8)[..., None]
module = torch.nn.Sequential(
    torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 64, 2)
)
torch.manual_seed(0)
optimiser = torch.optim.Adam(module.parameters(), 0.01)
inputs = torch.from_numpy(images[:1000, ..., 0]).float()[:, None] / 255
for _ in range(60):
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(module(inputs), torch.from_numpy(labels[:1000])).backward()
    optimiser.step()

# %% Ten lines to the verdict
np.savez("test.npz", images=images[1000:], labels=labels[1000:], classes=["lying", "standing"])
graph = mapping.capture(
    module,
    torch.zeros(1, 1, 8, 8),
    preprocess=mapping.Preprocess(mean=(0.0,), std=(1.0,)),
    classes=["lying", "standing"],
)
mapping.save_network(mapping.NetworkFile(graph, 4, 8, images[:128]), "net.pt")
options = hil.DeployOptions(samples=300, repeats=2, causes=False)
report = hil.deploy("net.pt", "emulated:lab-128?seed=7&macros=4", macros=4, data="test.npz", options=options)
report  # a table in a notebook

# %%
print(report)
