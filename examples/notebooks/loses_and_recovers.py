# %% [markdown]
# # A network that loses accuracy on a chip, and recovers
#
# Trained without a thought of a chip; then deployed as compiled, then as `hil` treats it by itself, without training
# and without one more macro. The chip is an emulated one (NOT SILICON): put the address of a board in its place.

# %%
import torch

import hil

data = hil.load_dataset("fashion-mnist-bundled")
train = (data.images[:1400], data.labels[:1400])
test = (data.images[1400:], data.labels[1400:])


# %% A small network of six convolutions, trained for a few seconds
def convolution(inputs: int, outputs: int, stride: int) -> torch.nn.Sequential:
    layer = torch.nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return torch.nn.Sequential(layer, torch.nn.BatchNorm2d(outputs), torch.nn.ReLU())


torch.manual_seed(0)
module = torch.nn.Sequential(
    convolution(1, 8, 2), convolution(8, 8, 1), convolution(8, 8, 1),
    convolution(8, 16, 2), convolution(16, 16, 1), convolution(16, 16, 1),
    torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(16, 10),
)  # fmt: skip
inputs = (torch.from_numpy(train[0]).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
labels = torch.from_numpy(train[1])
epochs, batch = 12, 50
optimiser = torch.optim.Adam(module.parameters())
rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.02, total_steps=epochs * len(inputs) // batch)
for _ in range(epochs):
    for some in torch.randperm(len(inputs)).split(batch):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(inputs[some]), labels[some]).backward()
        optimiser.step()
        rate.step()

# %% The chip, measured through its own read path
chip = hil.open_chip("emulated:lab-128?seed=3", macros=4)
record = chip.calibrate(budget="quick")
options = hil.DeployOptions(samples=500, repeats=2, virtual_chips=10, causes=False, tolerance=0.03)
pixels = {"mean": (0.5,), "std": (0.25,), "classes": data.classes}

# %% As compiled: each cell on its level, written once, nothing fitted to the chip's own answers
plain = hil.compile(module, chip, train, without=["copies", "aims", "tune"], **pixels)
lost = hil.deploy(plain, chip, test, options=options)
lost

# %% As `hil` does by itself: copies on idle cells, targets for the age at which it will run, a tune without labels
treated = hil.compile(module, chip, train, **pixels)
won = hil.deploy(treated, chip, test, options=options)
won

# %% Side by side: float, a perfect chip, simulated, the chip
for name, report in (("as compiled", lost), ("treated", won)):
    of = report.accuracy
    print(f"{name:12} float {of.float:.1%}  ideal {of.ideal:.1%}  simulated {of.simulated:.1%}  chip {of.chip:.1%}")
print(f"recovered {100 * (won.accuracy.chip - lost.accuracy.chip):+.1f} points")

# %% Does it last? Ten virtual chips, for a month
hil.simulate(treated, record, ages=["1h", "1d", "30d"], chips=10, mode="fast", options=options).plot()

# %%
chip.close()
