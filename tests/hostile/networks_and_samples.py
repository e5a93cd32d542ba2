"""Hostile files of networks and samples that other programs write: ONNX, TFLite, boxes, COCO, masks."""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..hil.small_net import images
from ..mapping.network.lite_files import LiteBuilder
from .valid_files import VALID, coco, masks

Builder = Callable[[Path], Path]
HUGE = 1 << 40


def onnx_changed(change: Callable[[Any], object]) -> Builder:
    """The small ONNX network after ``change`` of its model."""

    def make(folder: Path) -> Path:
        path = VALID["onnx"][0](folder)
        model = onnx.load(path)
        change(model)
        path.write_bytes(model.SerializeToString())
        return path

    return make


def weight(**fields: Any) -> Callable[[Any], None]:
    """Fields of the stored weight anew; ``dims`` and ``raw_data`` are the usual ones."""

    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        if "dims" in fields:
            tensor.ClearField("dims")
            tensor.dims.extend(fields["dims"])
        if "raw" in fields:
            tensor.ClearField("float_data")
            tensor.raw_data = fields["raw"]

    return change


def outside(place: str) -> Callable[[Any], None]:
    """The weight in another file."""

    def change(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("float_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", place

    return change


def first_node(**attributes: Any) -> Callable[[Any], None]:
    """The first operation is another one: its ``kind``, stored ``sizes`` and attributes."""

    def change(model: Any) -> None:
        kind, sizes = attributes.pop("kind"), attributes.pop("sizes", ())
        names = ["x"]
        for n, values in enumerate(sizes):
            numbers = np.asarray(values)
            form = TensorProto.INT64 if numbers.dtype.kind == "i" else TensorProto.FLOAT
            model.graph.initializer.append(helper.make_tensor(f"s{n}", form, numbers.shape, numbers.ravel()))
            names.append(f"s{n}")
        model.graph.node[0].CopyFrom(helper.make_node(kind, names, ["f"], **attributes))

    return change


def input_shape(*shape: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))

    return change


def no_nodes(model: Any) -> None:
    model.graph.ClearField("node")


def lite(
    *, shape: tuple[int, ...] = (1, 8, 8, 3), weights: Any = None, held: tuple[int, ...] = (4, 1, 1, 3),
    scale: Any = None, zero: Any = 0, inputs: tuple[int, ...] = (0, 1, 2), end: int = 3,
) -> Builder:  # fmt: skip
    """A TFLite network of one convolution, with something wrong in it."""

    def make(folder: Path) -> Path:
        m = LiteBuilder()
        m.tensor("x", shape, "FLOAT32" if scale is None else "INT8", scale=scale, zero=zero)
        m.tensor("w", held, "FLOAT32", np.zeros(12, np.float32) if weights is None else weights)
        m.tensor("b", (4,), "FLOAT32", np.zeros(4, np.float32))
        m.tensor("y", (1, 8, 8, 4), "FLOAT32")
        m.operation("CONV_2D", list(inputs), [3], "Conv2DOptions", StrideW=1, StrideH=1)
        (folder / "net.tflite").write_bytes(m.finished([0], [end]))
        return folder / "net.tflite"

    return make


def lite_bytes(at: int, data: bytes) -> Builder:
    """The small TFLite network with other bytes at one place."""

    def make(folder: Path) -> Path:
        path = VALID["tflite"][0](folder)
        whole = path.read_bytes()
        path.write_bytes(whole[:at] + data + whole[at + len(data) :])
        return path

    return make


def exported(change: Callable[[dict[str, bytes]], object]) -> Builder:
    """The small exported program with its members changed."""

    def make(folder: Path) -> Path:
        path = VALID["pt2"][0](folder)
        with zipfile.ZipFile(path) as archive:
            held = {name: archive.read(name) for name in archive.namelist()}
        change(held)
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in held.items():
                archive.writestr(name, data)
        return path

    return make


def member(end: str, change: Callable[[bytes], bytes]) -> Callable[[dict[str, bytes]], None]:
    """A change of the one member whose name ends so."""

    def changed(held: dict[str, bytes]) -> None:
        name = next(name for name in held if name.endswith(end))
        held[name] = change(held[name])

    return changed


def lost(end: str) -> Callable[[dict[str, bytes]], object]:
    return lambda held: held.pop(next(name for name in held if name.endswith(end)))


def boxes_of(**arrays: Any) -> Builder:
    """The small set of boxes with other arrays, without those that are None."""

    def make(folder: Path) -> Path:
        pixels, _ = images(4, 1)
        given = {
            "images": pixels,
            "boxes": np.array([[0, 0, 2, 3], [1, 1, 4, 4]]),
            "box_classes": np.array([0, 1]),
            "box_counts": np.array([1, 0, 0, 1]),
        } | arrays
        np.savez(folder / "boxes.npz", **{name: part for name, part in given.items() if part is not None})
        return folder / "boxes.npz"

    return make


def coco_of(**changes: Any) -> Builder:
    """The small COCO file with fields of its ``image``, ``category`` or ``box`` changed, or a whole list in place."""

    def make(folder: Path) -> Path:
        path = coco(folder)
        found = json.loads(path.read_text("utf-8"))
        lists = {"image": "images", "category": "categories", "box": "annotations"}
        for name, value in changes.items():
            if name in lists:
                found[lists[name]][0] |= value
            else:
                found[name] = value
        path.write_text(json.dumps(found), "utf-8")
        return path

    return make


def coco_image(write: Callable[[Path], object]) -> Builder:
    def make(folder: Path) -> Path:
        path = coco(folder)
        (folder / "0.png").unlink()
        write(folder / "0.png")
        return path

    return make


def mask_of(write: Callable[[Path], object]) -> Builder:
    """The small folder of masks with another first mask."""

    def make(folder: Path) -> Path:
        path = masks(folder)
        path.unlink()
        write(path)
        return path

    return make


def beside_mask(write: Callable[[Path], object]) -> Builder:
    """The small folder of masks with another first image."""

    def make(folder: Path) -> Path:
        path = masks(folder)
        image = path.parents[1] / "images" / path.name
        image.unlink()
        write(image)
        return path

    return make


def png(width: int, height: int, *, depth: int = 8, colour: int = 0, data: bytes = b"") -> Callable[[Path], object]:
    """A PNG that promises a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    return lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


NAN, FAR = float("nan"), np.full((4, 64), np.inf, np.float32).tobytes()

ONNX: dict[str, Builder] = {
    "2^40 weights promised": onnx_changed(weight(dims=(1 << 20, 1 << 20), raw=b"")),
    "a negative size": onnx_changed(weight(dims=(-4, 64))),
    "fewer weights than promised": onnx_changed(weight(raw=bytes(100))),
    "more weights than promised": onnx_changed(weight(raw=bytes(5000))),
    "NaN weights": onnx_changed(weight(raw=np.full((4, 64), np.nan, np.float32).tobytes())),
    "infinite weights": onnx_changed(weight(raw=FAR)),
    "weights in another file": onnx_changed(outside("/etc/hostname")),
    "weights in a folder above": onnx_changed(outside("../../x.bin")),
    "weights in a device": onnx_changed(outside("/dev/zero")),
    "no operations": onnx_changed(no_nodes),
    "an input of 2^40 places": onnx_changed(input_shape(1, 1, 1 << 20, 1 << 20)),
    "an input of no size": onnx_changed(input_shape(1, 1, 0, 8)),
    "an input below no size": onnx_changed(input_shape(1, 1, -8, 8)),
    "repeated 2^40 times": onnx_changed(first_node(kind="Tile", sizes=([1, HUGE, 1, 1],))),
    "expanded to 2^40": onnx_changed(first_node(kind="Expand", sizes=([1, HUGE, 8, 8],))),
    "padded by 2^40": onnx_changed(first_node(kind="Pad", sizes=([0, 0, HUGE, 0, 0, 0, 0, 0],))),
    "an axis of 2^60": onnx_changed(first_node(kind="Flatten", axis=1 << 60)),
    "other axes": onnx_changed(first_node(kind="Transpose", perm=[0, 7, 1, 2])),
}
TFLITE: dict[str, Builder] = {
    "an input of 2^40 places": lite(shape=(1, 1 << 20, 1 << 20, 3)),
    "an input below no size": lite(shape=(1, -8, 8, 3)),
    "2^30 weights promised": lite(held=(1 << 10, 1 << 10, 1 << 10, 3)),
    "fewer weights than promised": lite(weights=np.zeros(3, np.float32)),
    "NaN weights": lite(weights=np.full(12, np.nan, np.float32)),
    "infinite weights": lite(weights=np.full(12, np.inf, np.float32)),
    "another tensor than there are": lite(inputs=(0, 1, 1000)),
    "a tensor below none": lite(inputs=(0, -7, 2)),
    "an end that is none": lite(end=1000),
    "a scale of NaN": lite(scale=NAN),
    "a scale of zero": lite(scale=0.0),
    "a scale below zero": lite(scale=-1.0),
    "an infinite scale": lite(scale=float("inf")),
    "a zero point of 2^40": lite(scale=0.1, zero=HUGE),
    "a beginning far away": lite_bytes(0, b"\xff\xff\xff\x7f"),
    "another beginning": lite_bytes(0, b"\x04\x00\x00\x00"),
    "another kind of file": lite_bytes(4, b"XXXX"),
}
MODEL, WEIGHTS = "models/model.json", "weights/model_weights_config.json"
PT2: dict[str, Builder] = {
    **{f"{end} is lost": exported(lost(end)) for end in (MODEL, WEIGHTS)},
    **{f"{end} is empty": exported(member(end, lambda data: b"")) for end in (MODEL, WEIGHTS)},
    **{f"{end} is cut in half": exported(member(end, lambda data: data[: len(data) // 2])) for end in (MODEL, WEIGHTS)},
    **{f"{end} is a list": exported(member(end, lambda data: b"[]")) for end in (MODEL, WEIGHTS)},
    **{f"{end} is an empty object": exported(member(end, lambda data: b"{}")) for end in (MODEL, WEIGHTS)},
    **{f"{end} is 100,000 deep": exported(member(end, lambda data: b"[" * 100_000)) for end in (MODEL, WEIGHTS)},
    "a model of other operations": exported(member(MODEL, lambda data: data.replace(b"aten.", b"none."))),
    "a model of other arguments": exported(member(MODEL, lambda data: data.replace(b'"as_tensor"', b'"as_nothing"'))),
    "a model of other sizes": exported(member(MODEL, lambda data: data.replace(b'"as_int": 64', b'"as_int": -64'))),
    "no members": exported(lambda held: held.clear()),
    "fewer weights than promised": exported(member("weights/weight_0", lambda data: data[:100])),
}
BOXES: dict[str, Builder] = {
    "NaN": boxes_of(boxes=np.array([[0, 0, NAN, 3], [1, 1, 4, 4]])),
    "infinity": boxes_of(boxes=np.array([[0, 0, np.inf, 3], [1, 1, 4, 4]])),
    "three corners": boxes_of(boxes=np.zeros((2, 3))),
    "boxes in a row": boxes_of(boxes=np.zeros(8)),
    "boxes of text": boxes_of(boxes=np.array([["a"] * 4] * 2)),
    "boxes of complex numbers": boxes_of(boxes=np.zeros((2, 4), np.complex64)),
    "more boxes than classes": boxes_of(boxes=np.zeros((5, 4))),
    "a class below none": boxes_of(box_classes=np.array([0, -1])),
    "a class of 2^40": boxes_of(box_classes=np.array([0, HUGE])),
    "classes of numbers": boxes_of(box_classes=np.array([0.5, 1.5])),
    "fewer counted": boxes_of(box_counts=np.array([1, 0, 0, 0])),
    "a count below none": boxes_of(box_counts=np.array([3, -1, 0, 0])),
    "counts beyond 64 bits": boxes_of(box_counts=np.array([2**63 - 1, 2**63 - 1, 2, 2])),
    "more samples counted": boxes_of(box_counts=np.array([1, 0, 0, 0, 1])),
    "no counts": boxes_of(box_counts=None),
    "no classes": boxes_of(box_classes=None),
    "no images": boxes_of(images=None),
}
COCO: dict[str, Builder] = {
    "a box of NaN": coco_of(box={"bbox": [NAN, 1, 2, 2]}),
    "a box of 10^400": coco_of(box={"bbox": [10**400, 1, 2, 2]}),
    "a box of three": coco_of(box={"bbox": [1, 2, 3]}),
    "a box of text": coco_of(box={"bbox": ["1", "2", "3", "4"]}),
    "a box below no size": coco_of(box={"bbox": [1, 2, -3, 3]}),
    "a box without width": coco_of(box={"bbox": [1, 2, 0, 3]}),
    "a box beyond numbers": coco_of(box={"bbox": [1, 2, 1e300, 3]}),
    "an id of text": coco_of(category={"id": "5"}),
    "an id twice": coco_of(images=[{"id": 7, "file_name": "0.png"}] * 2),
    "another category": coco_of(box={"category_id": 7}),
    "another image": coco_of(box={"image_id": 7}),
    "an image in a folder above": coco_of(image={"file_name": "../../0.png"}),
    "an image of /dev/zero": coco_of(image={"file_name": "/dev/zero"}),
    "an image that is a number": coco_of(image={"file_name": 7}),
    "an image without a name": coco_of(images=[{"id": 1}]),
    "boxes in a dict": coco_of(annotations={"1": 2}),
    "no images": coco_of(images=[]),
    "an image that is missing": coco_image(lambda path: None),
    "an image that waits": coco_image(os.mkfifo),
    "an image of 2^32 places": coco_image(png(1 << 16, 1 << 16)),
}
MASKS: dict[str, Builder] = {
    "2^32 places": mask_of(png(1 << 16, 1 << 16)),
    "2^62 places": mask_of(png((1 << 31) - 1, (1 << 31) - 1)),
    "no places": mask_of(png(0, 8)),
    "another size": mask_of(png(4, 4, data=bytes(20))),
    "colours": mask_of(png(8, 8, colour=2, data=bytes(8 * 25))),
    "16 bits": mask_of(png(8, 8, depth=16, data=bytes(8 * 17))),
    "none": mask_of(lambda path: None),
    "a folder": mask_of(lambda path: path.mkdir()),
    "a link to nowhere": mask_of(lambda path: path.symlink_to("nowhere")),
    "an image that is text": beside_mask(lambda path: path.write_text("an image", "utf-8")),
    "an image that waits": beside_mask(os.mkfifo),
    "an image of 2^32 places": beside_mask(png(1 << 16, 1 << 16)),
    "an image of another size": beside_mask(png(4, 4, data=bytes(20))),
    "an image that is a folder": beside_mask(lambda path: path.mkdir()),
    "text": mask_of(lambda path: path.write_text("a mask", "utf-8")),
    "a name and no more": mask_of(lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n")),
}
FROM_OTHERS: dict[tuple[str, str], Builder] = {
    (form, name): builder
    for form, builders in (
        ("onnx", ONNX),
        ("tflite", TFLITE),
        ("pt2", PT2),
        ("boxes npz", BOXES),
        ("coco", COCO),
        ("masks", MASKS),
    )
    for name, builder in builders.items()
}
