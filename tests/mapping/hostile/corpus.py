"""Hostile and broken network files, built on the spot: name -> builder(folder, marker) -> path.

Where a file can carry code, the code creates ``marker``; a loader must leave it uncreated.
"""

from __future__ import annotations

import collections
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mapping.network.architectures import build
from mapping.network.file import NetworkFile, save_network

Builder = Callable[[Path, Path], Path]


class Hook:
    """Runs ``touch marker`` when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


class Storage:
    """Stands for a float storage of ``numel`` numbers in member ``data/0``."""

    def __init__(self, numel: int) -> None:
        self.numel = numel


class Forged:
    """A tensor of any offset, size and stride over a storage."""

    def __init__(self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.arguments = (storage, offset, size, stride, False, collections.OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, self.arguments


class _Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    def persistent_id(self, value: object) -> Any:
        return ("storage", torch.FloatStorage, "0", "cpu", value.numel) if isinstance(value, Storage) else None


def good_file(folder: Path) -> Path:
    """A small valid net.pt."""
    graph = build("lenet5", classes=list("0123456789"), rng=np.random.default_rng(0))
    path = folder / "good.pt"
    save_network(NetworkFile(graph, 4, 8, np.full((2, 28, 28, 1), 7, np.uint8)), path)
    return path


def content(folder: Path) -> dict[str, Any]:
    return dict(torch.load(good_file(folder), weights_only=True))


def members(folder: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(good_file(folder)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def changed(change: Callable[[dict[str, Any]], None]) -> Builder:
    """A file that torch saved, but of content that ``change`` spoiled."""

    def make(folder: Path, marker: Path) -> Path:
        data = content(folder)
        change(data)
        torch.save(data, folder / "net.pt")
        return folder / "net.pt"

    return make


def archived(
    change: Callable[[dict[str, bytes]], None] = lambda files: None,
    method: int = zipfile.ZIP_STORED,
    extra: tuple[zipfile.ZipInfo, bytes] | None = None,
) -> Builder:
    """The valid file's members, changed, in an archive of our own making."""

    def make(folder: Path, marker: Path) -> Path:
        files = members(folder)
        change(files)
        with zipfile.ZipFile(folder / "net.pt", "w", method) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
            if extra is not None:
                archive.writestr(*extra)
        return folder / "net.pt"

    return make


def pickled(value: Callable[[Path], object]) -> Builder:
    """The valid archive with another pickle inside."""

    def make(folder: Path, marker: Path) -> Path:
        buffer = io.BytesIO()
        _Pickler(buffer, 2).dump(value(marker))
        return archived(lambda files: files.update({"archive/data.pkl": buffer.getvalue()}))(folder, marker)

    return make


def raw(data: bytes | Callable[[bytes], bytes]) -> Builder:
    """Bytes of our own, or the valid file's bytes changed."""

    def make(folder: Path, marker: Path) -> Path:
        path = folder / "net.pt"
        path.write_bytes(data if isinstance(data, bytes) else data(good_file(folder).read_bytes()))
        return path

    return make


def node(index: int, **fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["graph"]["nodes"][index].update(fields)


def state(name: str, tensor: object) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["state"].update({name: tensor})


def quantisation(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["quantisation"].update(fields)


def forged(offset: int, size: tuple[int, ...], stride: tuple[int, ...], numel: int = 150) -> Builder:
    """The first weights (150 numbers) read through a tensor of another geometry."""
    tensor = Forged(Storage(numel), offset, size, stride)
    parts = {"state": {"conv1.weight": tensor}, "quantisation": {"calibration_images": tensor}}
    return pickled(lambda marker: {"format": "cimnet", "version": "1.0", **parts})


def with_hook(folder: Path, marker: Path) -> Path:
    torch.save({**content(folder), "provenance": Hook(marker)}, folder / "net.pt")
    return folder / "net.pt"


def legacy(folder: Path, marker: Path) -> Path:
    torch.save({"weight": Hook(marker)}, folder / "net.pt", _use_new_zipfile_serialization=False)
    return folder / "net.pt"


def bare_pickle(folder: Path, marker: Path) -> Path:
    (folder / "net.pt").write_bytes(pickle.dumps(Hook(marker)))
    return folder / "net.pt"


def text_pickle(folder: Path, marker: Path) -> Path:
    """Protocol 0 with INST: no GLOBAL or REDUCE to be seen."""
    program = f"(S{str(marker)!r}\nios\nmkdir\n.".encode()
    return archived(lambda files: files.update({"archive/data.pkl": program}))(folder, marker)


def stack_global(folder: Path, marker: Path) -> Path:
    program = pickle.dumps(Hook(marker), 4)
    return archived(lambda files: files.update({"archive/data.pkl": program}))(folder, marker)


def second_pickle(folder: Path, marker: Path) -> Path:
    """A harmless pickle in sight, the hook in a second top folder."""
    return archived(lambda files: files.update({"other/data.pkl": pickle.dumps(Hook(marker), 2)}))(folder, marker)


def whole_module(folder: Path, marker: Path) -> Path:
    torch.save(torch.nn.Linear(2, 2), folder / "net.pt")
    return folder / "net.pt"


def torchscript(folder: Path, marker: Path) -> Path:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), str(folder / "net.pt"))
    return folder / "net.pt"


def exported(folder: Path, marker: Path) -> Path:
    """A .pt2 archive whose sample inputs are a pickle with a hook."""
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),)), folder / "good.pt2")
    with zipfile.ZipFile(folder / "good.pt2") as source, zipfile.ZipFile(folder / "net.pt", "w") as target:
        for name in source.namelist():
            bad = "sample_inputs" in name
            target.writestr(name, pickle.dumps(Hook(marker)) if bad else source.read(name))
    return folder / "net.pt"


def overlapping(folder: Path, marker: Path) -> Path:
    """A zip bomb of 200 directory entries that share one member's bytes."""
    body = b"\0" * 100_000
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, len(body), len(body), 6, 0) + b"archive/x" + body
    entries = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, len(body), len(body), len(name), 0, 0, 0, 0, 0, 0)
        + name
        for name in (b"archive/data/%d" % index for index in range(200))
    )
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 200, 200, len(entries), len(local), 0)
    (folder / "net.pt").write_bytes(local + entries + end)
    return folder / "net.pt"


def encrypted(data: bytes) -> bytes:
    """The encryption flag set in every directory entry and local header."""
    for sign, place in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        parts = data.split(sign)
        data = sign.join([parts[0], *(p[: place - 4] + bytes([p[place - 4] | 1]) + p[place - 3 :] for p in parts[1:])])
    return data


def symlink() -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo("archive/data/99")
    info.external_attr = 0o120777 << 16
    return info, b"/etc/passwd"


def twice(folder: Path, marker: Path) -> Path:
    name = "archive/data/0"
    return archived(extra=(zipfile.ZipInfo(name), members(folder)[name]))(folder, marker)


def laughs(data: dict[str, Any]) -> None:
    """2^60 numbers in a few hundred bytes: fatal to whoever walks or prints them."""
    value: list[Any] = [1, 1]
    for _ in range(60):
        value = [value, value]
    data["graph"]["nodes"][0]["stride"] = value


def deep(folder: Path, marker: Path) -> Path:
    """Lists in lists, 100,000 deep."""
    program = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    return archived(lambda files: files.update({"archive/data.pkl": program}))(folder, marker)


def opcode_flood(folder: Path, marker: Path) -> Path:
    program = b"\x80\x02" + b"N0" * 1_500_000 + b"N."
    return archived(lambda files: files.update({"archive/data.pkl": program}))(folder, marker)


def flip_weight(data: bytes) -> bytes:
    at = data.index(b"data/0") + 400
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def cycle(data: dict[str, Any]) -> None:
    nodes = data["graph"]["nodes"]
    nodes[0]["inputs"] = [nodes[-1]["name"]]


def lie(data: dict[str, Any]) -> None:
    data["graph"]["shapes"]["conv1"] = [6, 1000, 1000]


NAN = torch.full((6, 1, 5, 5), float("nan"))
BIG = "x" * (5 * 2**20)

CORPUS: dict[str, Builder] = {
    "reduce hook": with_hook,
    "legacy file with a hook": legacy,
    "bare pickle with a hook": bare_pickle,
    "protocol 0 pickle with INST": text_pickle,
    "protocol 4 pickle with STACK_GLOBAL": stack_global,
    "hook in a second folder": second_pickle,
    "eval by name": pickled(lambda marker: [eval]),
    "whole module": whole_module,
    "TorchScript": torchscript,
    "torch.export archive with a pickle": exported,
    "compressed zip bomb": archived(lambda f: f.update({"archive/data/0": bytes(2**24)}), zipfile.ZIP_DEFLATED),
    "overlapping zip bomb": overlapping,
    "path traversal": archived(extra=(zipfile.ZipInfo("archive/../../escape"), b"x")),
    "absolute path": archived(extra=(zipfile.ZipInfo("/tmp/escape"), b"x")),
    "backslash path": archived(extra=(zipfile.ZipInfo("archive\\..\\escape"), b"x")),
    "symbolic link": archived(extra=symlink()),
    "member twice": twice,
    "unknown member": archived(extra=(zipfile.ZipInfo("archive/readme"), b"x")),
    "encrypted": raw(encrypted),
    "too many members": archived(lambda f: f.update({f"archive/data/{i + 100}": b"" for i in range(5000)})),
    "no pickle": archived(lambda f: f.pop("archive/data.pkl") and None),
    "missing storage": archived(lambda f: f.pop("archive/data/0") and None),
    "truncated": raw(lambda data: data[: len(data) // 2]),
    "truncated by one byte": raw(lambda data: data[:-1]),
    "bit flipped in a weight": raw(flip_weight),
    "not a zip": raw(b"\x89PNG" + bytes(1000)),
    "empty": raw(b""),
    "text": raw(json.dumps({"format": "cimnet"}).encode()),
    "zip magic only": raw(b"PK\3\4" + bytes(100)),
    "huge metadata": changed(lambda d: d["provenance"].update(note=BIG)),
    "long provenance": changed(lambda d: d["provenance"].update(note="x" * 10_000)),
    "pickle cut short": archived(lambda f: f.update({"archive/data.pkl": f["archive/data.pkl"][:-200]})),
    "opcode flood": opcode_flood,
    "lists 100,000 deep": deep,
    "billion laughs": changed(laughs),
    "negative tensor stride": forged(0, (2,), (-1,)),
    "tensor beyond its storage": forged(0, (2**40,), (1,)),
    "storage beyond its member": forged(0, (2**30,), (1,), 2**30),
    "a tensor of 10^12 equal numbers": forged(0, (10**12,), (0,)),
    "negative offset": forged(-64, (1,), (1,)),
    "other format": changed(lambda d: d.update(format="other")),
    "format is a tensor": changed(lambda d: d.update(format=torch.zeros(3))),
    "version is a number": changed(lambda d: d.update(version=1.0)),
    "version is text": changed(lambda d: d.update(version="latest")),
    "version 0.9": changed(lambda d: d.update(version="0.9")),
    "no version": changed(lambda d: d.pop("version") and None),
    "no state": changed(lambda d: d.pop("state") and None),
    "state is a list": changed(lambda d: d.update(state=[1, 2])),
    "weight missing": changed(lambda d: d["state"].pop("conv1.weight") is None),
    "NaN weights": changed(state("conv1.weight", NAN)),
    "infinite bias": changed(state("conv1.bias", torch.full((6,), float("inf")))),
    "double weights": changed(state("conv1.weight", torch.zeros(6, 1, 5, 5, dtype=torch.float64))),
    "integer weights": changed(state("conv1.weight", torch.zeros(6, 1, 5, 5, dtype=torch.int32))),
    "sparse weights": changed(state("conv1.weight", torch.zeros(6, 25).to_sparse())),
    "weight of another shape": changed(state("conv1.weight", torch.zeros(6, 3, 5, 5))),
    "weight of no dimensions": changed(state("fc1.weight", torch.zeros(()))),
    "weight is a list": changed(state("conv1.weight", [[0.0]])),
    "stated shape lies": changed(lie),
    "stated shapes are a tensor": changed(lambda d: d["graph"].update(shapes=torch.zeros(4))),
    "cycle": changed(cycle),
    "input that is not there": changed(node(3, inputs=["nowhere"])),
    "unknown node": changed(node(1, kind="hartley")),
    "kind is a list": changed(node(1, kind=["relu"])),
    "name twice": changed(node(1, name="conv1")),
    "name with a slash": changed(node(1, name="../../etc")),
    "no inputs": changed(node(1, inputs=[])),
    "negative stride": changed(node(0, stride=[-1, -1])),
    "stride zero": changed(node(0, stride=[0, 1])),
    "stride is text": changed(node(0, stride="11")),
    "stride is a tensor": changed(node(0, stride=torch.ones(2))),
    "huge padding": changed(node(0, padding=[2**30, 2**30])),
    "huge integer": changed(node(0, groups=2**70)),
    "too many nodes": changed(lambda d: d["graph"].update(nodes=d["graph"]["nodes"][:1] * 5000)),
    "empty graph": changed(lambda d: d["graph"].update(nodes=[])),
    "input shape of two": changed(lambda d: d["graph"].update(input_shape=[28, 28])),
    "classes do not fit": changed(lambda d: d.update(classes=["a"])),
    "preprocess without spread": changed(lambda d: d["preprocess"].update(std=[0.0])),
    "preprocess of NaN": changed(lambda d: d["preprocess"].update(mean=[float("nan")])),
    "preprocess beyond a float": changed(lambda d: d["preprocess"].update(mean=[10**400])),
    "64 bits": changed(quantisation(weight_bits=64)),
    "bits are a tensor": changed(quantisation(weight_bits=torch.tensor(4))),
    "images of another size": changed(quantisation(calibration_images=torch.zeros(2, 5, 5, 1, dtype=torch.uint8))),
    "images in floating point": changed(quantisation(calibration_images=torch.zeros(2, 28, 28, 1))),
    "images not those of the digest": changed(quantisation(calibration_digest="0" * 64)),
    "labels that are not classes": changed(quantisation(calibration_labels=torch.tensor([3, 10]))),
}
