"""What a page takes for granted, made in the folder that it is followed in: networks, images, answers.

    python newcomer_files.py NAME …

Contents are small stand-ins: weights are drawn, data sets hold the bundled images under the names and in the forms of
those that a page names. Run with the Python of the newcomer, who has nothing of the checkout.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FORMS = {"cifar10": ("cifar10_{}.h5", 32), "eurosat": ("eurosat_rgb_{}.h5", 64)}
SHARES = {"train": slice(0, 1200), "test": slice(1200, 2000)}
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


def network() -> None:
    """The bundled network as net.pt."""
    import hil

    Path("net.pt").write_bytes((Path(hil.__file__).parent / "datasets" / "bundled" / "fashion_mnist.pt").read_bytes())


def images() -> None:
    """Some of the bundled images as arrays of one's own."""
    pictures, labels, classes = bundled()
    for name in ("mine", "images"):
        np.savez(name, images=pictures[:400], labels=labels[:400], classes=classes)


def folder_of_images() -> None:
    """A class for each of a thousand outputs, training and test images, in two folders of one content."""
    rng, names = np.random.default_rng(5), [str(k) for k in range(1000)]
    drawn = {
        split: rng.integers(0, 256, (count, 32, 32, 3), np.uint8) for split, count in (("train", 64), ("test", 40))
    }
    for folder in ("images", "my_images"):
        Path(folder).mkdir()
        for split, pictures in drawn.items():
            np.savez(f"{folder}/{split}", images=pictures, labels=np.arange(len(pictures)), classes=names)


def data_sets() -> None:
    """Folder ``data``: data sets that an index brings, of which a wheel has none, in their own forms and sizes."""
    import h5py
    from PIL import Image

    pictures, labels, _ = bundled()
    Path("data/fashion-mnist").mkdir(parents=True)
    for split, share in SHARES.items():
        begin = {"train": "train", "test": "t10k"}[split]
        for what, values in (("images-idx3", pictures[share, ..., 0]), ("labels-idx1", labels[share].astype(np.uint8))):
            header = np.array([0x800 | values.ndim, *values.shape], ">i4").tobytes()
            Path(f"data/fashion-mnist/{begin}-{what}-ubyte.gz").write_bytes(gzip.compress(header + values.tobytes()))
        for file, side in FORMS.values():
            sized = [Image.fromarray(one[..., 0]).resize((side, side)).convert("RGB") for one in pictures[share]]
            with h5py.File(f"data/{file.format(split)}", "w") as held:
                held["lossless/images"] = np.stack([np.asarray(one) for one in sized])
                held["lossless/labels"] = labels[share]
                if side == 32:
                    coded = [io.BytesIO() for _ in sized]
                    for one, to in zip(sized, coded, strict=True):
                        one.save(to, "JPEG")
                    held["jpeg/bytes"] = np.frombuffer(b"".join(to.getvalue() for to in coded), np.uint8)
                    held["jpeg/offsets"] = np.cumsum([0, *(to.tell() for to in coded)])
                    held["jpeg/labels"] = labels[share]


def mixes() -> None:
    """Training images that a page mixes of two kinds, fewer of them."""
    import hil

    held = hil.load_dataset("cifar10", "train", limit=400)
    for name in ("mix", "both", "blends"):
        np.savez(name, images=held.images, labels=held.labels, classes=list(held.classes))


def weights() -> None:
    """Weights of one's own, drawn: state dicts of the architectures that pages name, and a small ONNX file."""
    import torch
    from safetensors.torch import save_file

    from mapping.network.architectures import ARCHITECTURES, DEFAULT_INPUTS
    from mapping.network.named_networks import Sketch, WantedArray

    rng = np.random.default_rng(3)

    def state(name: str, channels: int = 0, **options: float) -> dict[str, torch.Tensor]:
        held: dict[str, torch.Tensor] = {}

        def drawn(wanted: WantedArray) -> NDArray[np.float32]:
            scale = wanted.fan_in**-0.5 if wanted.fan_in else 0.0
            values = (wanted.value + scale * rng.standard_normal(wanted.shape)).astype(np.float32)
            held[wanted.key] = torch.tensor(values)
            return values

        shape, _ = DEFAULT_INPUTS.get(name, ((3, 32, 32), None))
        ARCHITECTURES[name](Sketch((channels, 28, 28) if channels else shape, drawn), 10, **options)
        return held

    for file in ("weights", "cifar10_resnet20_a", "cifar10_resnet32_a"):
        save_file(state("cifar_resnet8_a"), f"{file}.safetensors")
    save_file(state("fmnist_cnn5x5"), "fmnist_cnn5x5.safetensors")
    torch.save({"state_dict": state("mobilenet_v2_tiny", channels=1, width=0.5, depth=3)}, "checkpoint.pt")
    relu = torch.nn.ReLU()
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2),
        relu,
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 10),
    ).eval()
    one = torch.zeros(1, 3, 32, 32)
    for file in ("net.onnx", "model.onnx"):
        torch.onnx.export(module, (one,), file, dynamo=False)
    torch.export.save(torch.export.export(module, (one,)), "model.pt2")


def module() -> None:
    """weights.pth of torchvision's architecture and a whole module, as torch.save writes them."""
    import torch
    from torchvision import models

    torch.save(models.squeezenet1_1(num_classes=10).state_dict(), "weights.pth")
    torch.save(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)), "module.pt")


def cached_weights() -> None:
    """Weights in the cache of timm and of the Hub, as their download leaves them."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    module = timm.create_model("test_resnet.r160_in1k", pretrained=False)
    about = {"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": module.pretrained_cfg}
    for name in ("models--timm--test_resnet.r160_in1k", "models--OWNER--NAME"):
        held = Path(os.environ["HF_HOME"], "hub", name)
        (held / "snapshots" / ("a" * 40)).mkdir(parents=True)
        (held / "refs").mkdir()
        (held / "refs" / "main").write_text("a" * 40)
        kept = {k: v.contiguous() for k, v in module.state_dict().items()}
        save_file(kept, held / "snapshots" / ("a" * 40) / "model.safetensors")
        (held / "snapshots" / ("a" * 40) / "config.json").write_text(json.dumps(about))


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
    """Answers of one chip, and of three, in which eight of a hundred are drawn."""
    _, labels, _ = bundled()
    labels, rng = labels[:500], np.random.default_rng(0)
    given = np.where(rng.random((3, 500)) < 0.92, labels, rng.integers(0, 10, (3, 500)))
    np.savez("measured", answers=given[:2], labels=labels, age_s=3600.0, chip="B7", backend="emulated")
    np.savez("three", answers=given, labels=labels, age_s=3600.0, chip=["B7", "B8", "B9"], backend="emulated")
    rows = [f"{n},{m},{labels[n]},{given[m, n]},3600,B7,emulated" for m in range(2) for n in range(500)]
    Path("measured.csv").write_text("image,repeat,label,answer,age_s,chip,backend\n" + "\n".join(rows) + "\n")


def cells() -> None:
    """Tables of readings of one's own: lab.csv as its page shows it, cells.csv, and one with a value that is none."""
    rng, levels = np.random.default_rng(1), np.linspace(2, 40, 8)
    rows = ["cell,time_s,conductance_us,target_us,pulses,reached"]
    for cell in range(2000):
        error_us, pulses = 0.5 * rng.standard_t(8), rng.integers(3, 15)
        for time_s in (1, 1e2, 1e4):
            reading = max(levels[cell % 8] + error_us, 0.01)
            rows.append(f"{cell},{time_s:g},{reading:.3f},{levels[cell % 8]:.4f},{pulses},1")
            error_us += rng.normal(-0.2, 0.5)  # it relaxes between two readings
    for name in ("lab.csv", "cells.csv"):
        Path(name).write_text("\n".join(rows) + "\n")
    wrong = [*rows[:4], rows[4].replace(rows[4].split(",")[3], "3.1k"), *rows[5:]]
    Path("bad.csv").write_text("\n".join(wrong) + "\n")


def retention() -> None:
    """retention.csv, currents of cells over time as Clarius exports them."""
    rng, times = np.random.default_rng(2), (0.0, 10.0, 100.0, 1000.0)
    names = [f"{name}({n})" if n else name for n in range(90) for name in ("Time", "AnodeI", "AnodeV")]
    rows = [",".join(names)]
    for time_s in times:
        cells = (f"{time_s},{0.2e-6 * (2 + n % 2 * 20 + rng.normal(0, 0.3)):.4e},0.2" for n in range(90))
        rows.append(",".join(cells))
    Path("retention.csv").write_text("\n".join(rows) + "\n")


def products() -> None:
    """Ramps of pulses as CrossSim's lookup tables are made from, and products of a chip beside ideal ones."""
    rng = np.random.default_rng(1)
    ramps = (100.0 + np.cumsum(0.5 + 0.2 * rng.standard_normal((400, 4)), axis=0)) * 1e-7
    np.savetxt("set.csv", ramps, fmt="%.9g", delimiter=",", header="rmp1,rmp2,rmp3,rmp4", comments="")
    ideal = np.repeat(rng.normal(0, 10, (60, 40)), 4, axis=0)
    measured = (1 + rng.normal(0, 0.05, 40)) * ideal + rng.normal(0, 2, 40) + rng.normal(0, 0.5, ideal.shape)
    np.savetxt("memristor_mvm_out.csv", measured, delimiter=",")
    np.savetxt("software_ideal_mvm_out.csv", ideal, delimiter=",")


def bench_files(page: str) -> None:
    """Bench and model files that the page shows, and a chip file of one small macro."""
    import cim

    for name, text in re.findall(r"```toml\n# (\S+\.toml)\n(.*?)```", Path(page).read_text("utf-8"), re.DOTALL):
        Path(name).write_text(text, "utf-8")
    chip = (Path(cim.__file__).parent / "chips" / "lab-128.toml").read_text("utf-8")
    for key, value in (("macros", 1), ("rows", 32), ("columns", 32), ("rows_per_read", 32), ("shared_by", 1)):
        chip = re.sub(rf"^{key} = {{ value = \d+", f"{key} = {{ value = {value}", chip, flags=re.MULTILINE)
    Path("macro.toml").write_text(chip, "utf-8")


if __name__ == "__main__":
    page, *names = sys.argv[1:]
    for name in names:
        make = globals()[name]
        make(page) if name in ("graph", "bench_files") else make()
