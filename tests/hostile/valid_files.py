"""A small valid file of every format, and what reads it: name -> maker(folder) -> path, name -> reader(path)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import h5py
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save_file

from cim.chip.file import load_chip
from cim.mnsim.configfile import load_mnsim
from cim.record.file import load_record, save_record
from cim.record.published import nominal_record
from hil.datasets.image_set import load_dataset
from hil.device_fit.measured_tables import read_table
from hil.report.files import write_report
from hil.report.run_data import read_run
from hil.verdict.baseline import read_baseline
from mapping.compile import compile_network
from mapping.network.file import load_network, save_network
from mapping.network.graph import Preprocess
from mapping.network.importers import import_graph
from mapping.program.file import load_program, save_program
from search.space.architecture import read_architecture, write_architecture
from search.space.file import load_space

from ..hil.invented_run import synthetic_run
from ..hil.small_net import images, small_network
from .valid_work_files import WORK


def _text(package: str, *place: str) -> str:
    return resources.files(package).joinpath(*place).read_text("utf-8")


def chip(folder: Path) -> Path:
    (folder / "chip.toml").write_text(_text("cim", "chips", "lab-128.toml"), "utf-8")
    return folder / "chip.toml"


def cost(folder: Path) -> Path:
    (folder / "cost.toml").write_text(_text("cim", "chips", "mnsim-default.toml"), "utf-8")
    return folder / "cost.toml"


def space(folder: Path) -> Path:
    (folder / "space.toml").write_text(_text("search", "spaces", "fashion-mnist.toml"), "utf-8")
    return folder / "space.toml"


def architecture(folder: Path) -> Path:
    choices = load_space("fashion-mnist")
    write_architecture(folder / "architecture.json", choices.decode(choices.sample(np.random.default_rng(0))))
    return folder / "architecture.json"


def network(folder: Path) -> Path:
    save_network(small_network(), folder / "net.pt")
    return folder / "net.pt"


def program(folder: Path) -> Path:
    save_program(compile_network(small_network(), load_chip("lab-128", macros=2)), folder / "program.h5")
    return folder / "program.h5"


def record(folder: Path) -> Path:
    save_record(nominal_record(load_chip("lab-128", macros=1)), folder / "record.h5")
    return folder / "record.h5"


def run_data(folder: Path) -> Path:
    write_report(folder, *synthetic_run(images=60, macros=1))
    return folder / "data.h5"


def report(folder: Path) -> Path:
    return run_data(folder).with_name("report.json")


def npz(folder: Path) -> Path:
    pixels, labels = images(20, seed=3)
    np.savez(folder / "images.npz", images=pixels, labels=labels, classes=np.array(["a", "b", "c", "d"]))
    return folder / "images.npz"


def images_h5(folder: Path) -> Path:
    pixels, labels = images(20, seed=3)
    with h5py.File(folder / "images.h5", "w") as file:
        file.create_dataset("images", data=pixels, compression="gzip")
        file.create_dataset("labels", data=labels)
        file.attrs["class_names"] = ["a", "b", "c", "d"]
    return folder / "images.h5"


def idx(folder: Path) -> Path:
    pixels, labels = images(20, seed=3)
    for name, values in (("test-images-idx3-ubyte.gz", pixels[..., 0]), ("test-labels-idx1-ubyte.gz", labels)):
        head = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes()
        (folder / name).write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))
    return folder / "test-images-idx3-ubyte.gz"


def table(folder: Path) -> Path:
    rows = [f"{cell},{time},{20 + cell % 7},{20 + cell % 7}" for time in (1, 100) for cell in range(40)]
    text = "cell,time_s,conductance_us,target_us\n" + "\n".join(rows) + "\n"
    (folder / "table.csv.gz").write_bytes(gzip.compress(text.encode()))
    return folder / "table.csv.gz"


def table_h5(folder: Path) -> Path:
    with h5py.File(folder / "table.h5", "w") as file:
        for name, values in (("cell", np.tile(np.arange(40), 2)), ("time_s", np.repeat([1.0, 100.0], 40))):
            file[name] = values
        for name in ("conductance_us", "target_us"):
            file[name] = 20.0 + np.tile(np.arange(40) % 7, 2)
    return folder / "table.h5"


def safetensors(folder: Path) -> Path:
    torch.manual_seed(0)
    save_file({"weight": torch.randn(4, 64), "bias": torch.randn(4)}, folder / "w.safetensors")
    return folder / "w.safetensors"


def onnx_file(folder: Path) -> Path:
    weight = helper.make_tensor("w", TensorProto.FLOAT, (4, 64), np.zeros(256, np.float32))
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"], transB=1)]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", (1, 1, 8, 8)), ("y", (1, 4)))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "net.onnx")
    return folder / "net.onnx"


Maker = Callable[[Path], Path]
Reader = Callable[[Path], object]


def _images(path: Path) -> object:
    return load_dataset(str(path), "test")


def _weights(path: Path) -> object:
    from mapping.network.importers import read_safetensors

    return read_safetensors(path.read_bytes(), path)


def _onnx(path: Path) -> object:
    return import_graph(path, preprocess=Preprocess((0.5,), (1.0,)), classes=("a", "b", "c", "d"))


def boxes_npz(folder: Path) -> Path:
    pixels, _ = images(4, 1)
    corners, classes = np.array([[0, 0, 2, 3], [1, 1, 4, 4]]), np.array([0, 1])
    np.savez(folder / "boxes.npz", images=pixels, boxes=corners, box_classes=classes, box_counts=np.array([1, 0, 0, 1]))
    return folder / "boxes.npz"


def values_h5(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(folder / "values.h5", "w") as file:
        file.create_dataset("inputs", data=rng.normal(size=(6, 5, 4)), compression="gzip")
        file["steps"] = rng.integers(-1, 3, (6, 5)) * [1, 1, 1, 1, 0]
    return folder / "values.h5"


def coco(folder: Path) -> Path:
    pixels, _ = images(1, 1)
    Image.fromarray(pixels[0, :, :, 0]).save(folder / "0.png")
    found = {
        "images": [{"id": 1, "file_name": "0.png"}],
        "categories": [{"id": 1, "name": "ship"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 3]}],
    }
    (folder / "annotations.json").write_text(json.dumps(found), "utf-8")
    return folder / "annotations.json"


def masks(folder: Path) -> Path:
    """The first mask of a folder of images with masks."""
    pixels, _ = images(2, 1)
    for n, kind in ((n, kind) for n in range(2) for kind in ("images", "masks")):
        (folder / kind).mkdir(exist_ok=True)
        seen = pixels[n, :, :, 0]
        Image.fromarray(seen if kind == "images" else (seen > 100).astype(np.uint8)).save(folder / kind / f"{n}.png")
    return folder / "masks" / "0.png"


def _masks(path: Path) -> object:
    return load_dataset(path.parents[1], "test", any_kind=True)


def _samples(path: Path) -> object:
    return load_dataset(path, "test", any_kind=True)


VALID: dict[str, tuple[Maker, Reader]] = {
    "chip": (chip, load_chip),
    "cost model": (cost, load_mnsim),
    "space": (space, load_space),
    "architecture": (architecture, read_architecture),
    "report": (report, read_baseline),
    "network": (network, load_network),
    "program": (program, load_program),
    "record": (record, load_record),
    "run": (run_data, read_run),
    "npz": (npz, _images),
    "images h5": (images_h5, _images),
    "boxes npz": (boxes_npz, _samples),
    "values h5": (values_h5, _samples),
    "coco": (coco, _samples),
    "masks": (masks, _masks),
    "idx": (idx, _images),
    "table": (table, read_table),
    "table h5": (table_h5, read_table),
    "safetensors": (safetensors, _weights),
    "onnx": (onnx_file, _onnx),
    **WORK,
}
