"""The trained ResNet-20 of NeuRRAM's public repository, read from a copy of it and built as a torch module.

``weierwan/Neurram_48core`` has no licence: nothing of it is in this tree, and a benchmark takes the path of a copy.
Weights are TensorFlow bundles: an index, which is a table of blocks whose keys share prefixes and whose values are
protocol buffers (type, shape, shard, offset, size), and shards of little-endian numbers.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

REVISION = "2ed5f8d"  # of 2022-05-17, whose numbers these are
NETWORKS = Path("cifar10_resnet/model_checkpoint")
WRITTEN = NETWORKS / "chip_in_the_loop_finetune/fwd_finetune_all_val/variables/variables"
TRAINED_AT = (0.0, 0.05, 0.10, 0.15, 0.20, 0.25, 0.30)
VARIABLE = "/.ATTRIBUTES/VARIABLE_VALUE"
FLOAT32 = 1
LARGEST_INDEX = 1 << 24
STAGES, BLOCKS = 3, 3
INPUT_END, INPUT_BITS, CODE_BITS = 0.95, 4, 3
EPSILON = 1e-3
FOOTER = 48  # bytes at the end of an index that say where its blocks are

Floats = NDArray[np.float32]


def trained_at(noise: float) -> Path:
    """The bundle of the network that was trained at this weight noise."""
    name = f"ResNet20v1_filter16_act3b_wnoise{noise:.2f}_input0.95"
    return NETWORKS / name / f"cifar10_{name}_model/variables/variables"


def revision_of(copy: Path) -> str:
    """The commit that a copy is of, as git says; of a plain folder, that it is not known."""
    git = subprocess.run(["git", "-C", str(copy), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return git.stdout.strip() or "unknown: no git copy"


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _entries(index: bytes, first: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block; each key drops what it shares with the one before."""
    data = index[first : first + size]
    end = len(data) - 4 * (1 + struct.unpack("<I", data[-4:])[0])
    at, key = 0, b""
    while at < end:
        shared, at = _varint(data, at)
        own, at = _varint(data, at)
        length, at = _varint(data, at)
        key = key[:shared] + data[at : at + own]
        yield key, data[at + own : at + own + length]
        at += own + length


def _message(data: bytes) -> dict[int, list[int | bytes]]:
    """Fields of a protocol buffer by number."""
    found: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], at)
            value, at = data[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def _number(message: dict[int, list[int | bytes]], name: int) -> int:
    value = message.get(name, [0])[0]
    if not isinstance(value, int):
        raise ValueError(f"field {name} of a bundle's entry is not a number")
    return value


def read_bundle(prefix: Path) -> dict[str, Floats]:
    """Every float32 variable of a TensorFlow bundle by its key.

    Raises:
        OSError: the copy lacks it.
        ValueError: not such a bundle.
    """
    index = prefix.with_suffix(".index")
    if index.stat().st_size > LARGEST_INDEX:
        raise ValueError(f"{index} has {index.stat().st_size} bytes, an index has thousands")
    data = index.read_bytes()
    shards = [path.read_bytes() for path in sorted(prefix.parent.glob(f"{prefix.name}.data-*"))]
    at = 0
    for _ in range(2):  # of another block
        _, at = _varint(data[-FOOTER:], at)
    place, at = _varint(data[-FOOTER:], at)
    size, _ = _varint(data[-FOOTER:], at)
    found = {}
    for _, block in _entries(data, place, size):
        first, at = _varint(block, 0)
        size, _ = _varint(block, at)
        for key, value in _entries(data, first, size):
            entry = _message(value)
            if not key or _number(entry, 1) != FLOAT32:
                continue
            (shape,) = entry.get(2, [b""])
            dims = [_number(_message(bytes(d)), 1) for d in _message(bytes(shape)).get(2, [])]  # type: ignore[arg-type]
            start = _number(entry, 4)
            raw = shards[_number(entry, 3)][start : start + _number(entry, 5)]
            found[key.decode()] = np.frombuffer(raw, "<f4").reshape(dims)
    return found


def layers_of(variables: dict[str, Floats]) -> list[dict[str, torch.Tensor]]:
    """Variables of each layer in the order in which layers were made."""
    layers: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in variables.items():
        place, _, name = key.removesuffix(VARIABLE).partition("/")
        if place.startswith("layer_with_weights-") and "/" not in name:
            layers.setdefault(int(place.rpartition("-")[2]), {})[name] = torch.tensor(value)
    return [layers[number] for number in sorted(layers)]


class Codes(nn.Module):
    """Values from 0 to a trained end as codes of a few bits."""

    def __init__(self, end: float, bits: int) -> None:
        super().__init__()
        self.end, self.high = end, (1 << bits) - 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        step = self.end / self.high
        return torch.round(x.clamp(0.0, self.end) / step) * step


class Convolution(nn.Module):
    """A convolution padded as TensorFlow pads: at stride 2 right and below only; normalised where a layer follows."""

    def __init__(self, layer: dict[str, torch.Tensor], norm: dict[str, torch.Tensor] | None, stride: int) -> None:
        super().__init__()
        kernel = layer["kernel"].permute(3, 2, 0, 1)
        outputs, inputs, size, _ = kernel.shape
        self.pad = nn.ZeroPad2d((2 - stride, 1, 2 - stride, 1)) if size == 3 else nn.Identity()
        self.conv = nn.Conv2d(inputs, outputs, size, stride)
        self.conv.weight.data, self.conv.bias.data = kernel.contiguous(), layer["bias"]  # type: ignore[union-attr]
        self.norm: nn.Module = nn.Identity()
        if norm is not None:
            self.norm = nn.BatchNorm2d(outputs, eps=EPSILON)
            self.norm.load_state_dict(
                {
                    "weight": norm["gamma"],
                    "bias": norm["beta"],
                    "running_mean": norm["moving_mean"],
                    "running_var": norm["moving_variance"],
                    "num_batches_tracked": torch.tensor(0),
                }
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(self.pad(x)))


class Block(nn.Module):
    """Two convolutions beside a shortcut; the last block of all has no codes behind it."""

    def __init__(
        self, first: Convolution, between: Codes, second: Convolution, short: nn.Module, behind: nn.Module
    ) -> None:
        super().__init__()
        self.first, self.between, self.second, self.short, self.behind = first, between, second, short, behind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.behind(self.short(x) + self.second(self.between(self.first(x))))


class Resnet20(nn.Module):
    """The network of one bundle, of pixels from 0 to 1."""

    def __init__(self, variables: dict[str, Floats]) -> None:
        super().__init__()
        layers = layers_of(variables)
        kernels = iter([layer for layer in layers if "kernel" in layer and layer["kernel"].ndim == 4])
        norms = iter([layer for layer in layers if "gamma" in layer])
        ends = iter([float(layer["relux"]) for layer in layers if "relux" in layer])
        (dense,) = (layer for layer in layers if "kernel" in layer and layer["kernel"].ndim == 2)
        self.input = Codes(INPUT_END, INPUT_BITS)
        self.first = Convolution(next(kernels), next(norms), 1)
        self.codes = Codes(next(ends), CODE_BITS)
        blocks = []
        for stage in range(STAGES):
            for place in range(BLOCKS):
                stride = 2 if stage and not place else 1
                first = Convolution(next(kernels), next(norms), stride)
                between = Codes(next(ends), CODE_BITS)
                second = Convolution(next(kernels), next(norms), 1)
                short = Convolution(next(kernels), None, stride) if stride == 2 else nn.Identity()
                last = (stage, place) == (STAGES - 1, BLOCKS - 1)
                blocks.append(Block(first, between, second, short, nn.ReLU() if last else Codes(next(ends), CODE_BITS)))
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AvgPool2d(8)
        self.last_codes = Codes(next(ends), CODE_BITS)
        self.dense = nn.Linear(*dense["kernel"].shape)
        self.dense.weight.data, self.dense.bias.data = dense["kernel"].T.contiguous(), dense["bias"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.blocks(self.codes(self.first(self.input(x))))
        return self.dense(self.last_codes(self.pool(maps).flatten(1)))


def network_of(copy: Path, bundle: Path) -> Resnet20:
    return Resnet20(read_bundle(copy / bundle)).eval()
