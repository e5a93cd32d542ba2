"""Small files under the names that a page of the documents uses, for readers without files of their own.

    python examples/own_files.py PAGE     # my-network, my-chip, orbit, search or predict-and-judge

Weights, readings and answers are drawn; images are the bundled ones, or drawn. Files are written into this folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SPACE = """format = "hil.space"
version = "1.0"
name = "small"
input = [1, 8, 8]
classes = 3
[stem]
channels = 8
kernel = 3
stride = 1
[bits]
weight = [4]
activation = [8]
adc = [8]
[operators]
conv2 = { kind = "conv", kernel = 2 }
conv3 = { kind = "conv", kernel = 3 }
skip = { kind = "skip" }
[[stage]]
layers = 2
stride = 1
channels = 8
widths = [0.5, 1.0]
operators = ["conv2", "conv3", "skip"]
[[stage]]
layers = 2
stride = 2
channels = 16
widths = [0.5, 1.0]
operators = ["conv2", "conv3", "skip"]
"""


def bundled() -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """Images (n, 28, 28, 1), labels and classes that the package brings."""
    import hil

    data = hil.load_dataset("fashion-mnist-bundled")
    return data.images, data.labels, tuple(data.classes)


def pictures(folder: str, side: int, channels: int, classes: tuple[str, ...] = ()) -> None:
    """A folder of train.npz and test.npz: the bundled images in another size, perhaps under other names of classes."""
    images, labels, own = bundled()
    at = np.arange(side) * images.shape[1] // side
    sized = np.repeat(images[:, at][:, :, at], channels, axis=3)
    Path(folder).mkdir()
    for name, share in (("train", slice(0, 1200)), ("test", slice(1200, 2000))):
        np.savez(f"{folder}/{name}", images=sized[share], labels=labels[share], classes=classes or own)


def networks() -> None:
    """Weights as they are drawn before a training, in the form of each library."""
    import torch
    from safetensors.torch import save_file
    from torchvision import models

    from mapping.network.architectures import ARCHITECTURES
    from mapping.network.named_networks import Sketch, WantedArray

    rng = np.random.default_rng(3)

    def state(name: str, shape: tuple[int, ...], **options: float) -> dict[str, torch.Tensor]:
        held: dict[str, torch.Tensor] = {}

        def drawn(wanted: WantedArray) -> NDArray[np.float32]:
            scale = wanted.fan_in**-0.5 if wanted.fan_in else 0.0
            values = (wanted.value + scale * rng.standard_normal(wanted.shape)).astype(np.float32)
            held[wanted.key] = torch.tensor(values)
            return values

        ARCHITECTURES[name](Sketch(shape, drawn), 10, **options)
        return held

    save_file(state("cifar_resnet8_a", (3, 32, 32)), "weights.safetensors")
    torch.save({"state_dict": state("mobilenet_v2_tiny", (1, 28, 28), width=0.5, depth=3)}, "checkpoint.pt")
    torch.save(models.squeezenet1_1(num_classes=10).state_dict(), "weights.pth")
    torch.save(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)), "module.pt")
    convolution, pool = torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.AdaptiveAvgPool2d(1)
    module = torch.nn.Sequential(convolution, torch.nn.ReLU(), pool, torch.nn.Flatten(), torch.nn.Linear(8, 10)).eval()
    one = torch.zeros(1, 3, 32, 32)
    torch.onnx.export(module, (one,), "model.onnx", dynamo=False)
    torch.export.save(torch.export.export(module, (one,)), "model.pt2")


def small_space() -> None:
    """A space of small networks, and stripes that they learn in seconds: along one diagonal, the other, or none."""
    Path("small.toml").write_text(SPACE, "utf-8")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 800)
    y, x = np.mgrid[:8, :8]
    patterns = np.stack([np.sin(1.3 * (x + y)), np.sin(1.3 * (x - y)), np.zeros((8, 8))])
    values = 128 + 60 * patterns[labels] + 25 * rng.standard_normal((800, 8, 8))
    pictures = np.clip(values, 0, 255).astype(np.uint8)[..., None]
    np.savez("stripes", images=pictures, labels=labels, classes=["rising", "falling", "flat"])


def answers() -> None:
    """Answers of one chip, of which eight in a hundred are drawn, as arrays and as a table."""
    _, labels, _ = bundled()
    labels, rng = labels[:500], np.random.default_rng(0)
    given = np.where(rng.random((3, 500)) < 0.92, labels, rng.integers(0, 10, (3, 500)))
    np.savez("measured", answers=given[:2], labels=labels, age_s=3600.0, chip="B7", backend="emulated")
    rows = [f"{n},{m},{labels[n]},{given[m, n]},3600,B7,emulated" for m in range(2) for n in range(500)]
    Path("measured.csv").write_text("image,repeat,label,answer,age_s,chip,backend\n" + "\n".join(rows) + "\n")


def cells() -> None:
    """lab.csv, readings of 2,000 drawn cells at three ages."""
    rng, levels = np.random.default_rng(1), np.linspace(2, 40, 8)
    rows = ["cell,time_s,conductance_us,target_us,pulses,reached"]
    for cell in range(2000):
        error_us, pulses = 0.5 * rng.standard_t(8), rng.integers(3, 15)
        for time_s in (1, 1e2, 1e4):
            reading = max(levels[cell % 8] + error_us, 0.01)
            rows.append(f"{cell},{time_s:g},{reading:.3f},{levels[cell % 8]:.4f},{pulses},1")
            error_us += rng.normal(-0.2, 0.5)  # it relaxes between two readings
    Path("lab.csv").write_text("\n".join(rows) + "\n")


def my_network() -> None:
    """Files of docs/my-network.md: networks of every library, and images of two sizes in three forms."""
    networks()
    pictures("my_images", 32, 3)
    pictures("grey_images", 28, 1)
    images, labels, classes = bundled()
    np.savez("mine", images=images[1200:1600], labels=labels[1200:1600], classes=classes)  # none that calibrates


def tiles() -> None:
    """Images in the size of EuroSAT's, and under its classes, in the place of a download."""
    names = "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential River SeaLake"
    pictures("tiles", 64, 3, tuple(names.split()))


def main() -> int:
    pages = {
        "my-network": (my_network,),
        "my-chip": (cells,),
        "orbit": (tiles,),
        "search": (small_space,),
        "predict-and-judge": (answers, cells),
    }
    if len(sys.argv) != 2 or sys.argv[1] not in pages:
        print(f"python examples/own_files.py PAGE, one of {', '.join(pages)}", file=sys.stderr)
        return 2
    for make in pages[sys.argv[1]]:
        make()
    return 0


if __name__ == "__main__":
    sys.exit(main())
