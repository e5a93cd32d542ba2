"""Hostile and broken files of every format, made on the spot: (format, name) -> builder(folder) -> path.

Networks have a corpus of their own (tests/mapping/hostile), which joins here.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from ..mapping.hostile import corpus as networks
from .networks_and_samples import FROM_OTHERS
from .valid_files import VALID

Builder = Callable[[Path], Path]
HDF5 = ("program", "record", "run", "images h5", "values h5", "table h5", "calibration step")
TOML = ("chip", "cost model", "space", "mission", "orbit")
JSON = ("architecture", "report", "coco", "injections", "campaign", "years", "run settings", "improvement", "front")
BYTES = ("safetensors",)  # that somebody else has read
DEEP = 100_000


def made(form: str, folder: Path) -> Path:
    return VALID[form][0](folder)


# --- of any format ----------------------------------------------------------------------------


def fifo(form: str) -> Builder:
    def make(folder: Path) -> Path:
        path = made(form, folder)
        path.unlink()
        os.mkfifo(path)
        return path

    return make


def device(form: str) -> Builder:
    def make(folder: Path) -> Path:
        path = made(form, folder)
        path.unlink()
        path.symlink_to("/dev/zero")
        return path

    return make


def rewritten(form: str, change: Callable[[bytes], bytes]) -> Builder:
    def make(folder: Path) -> Path:
        path = made(form, folder)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def sparse(form: str) -> Builder:
    """A file of 3 TB that takes no room."""

    def make(folder: Path) -> Path:
        path = made(form, folder)
        with path.open("r+b") as file:
            file.truncate(3 << 40)
        return path

    return make


# --- TOML and JSON ----------------------------------------------------------------------------

SNIPPETS = {
    "6,001 digits": "\nx = 1" + "0" * 6000,
    "nested arrays": "\nx = " + "[" * DEEP + "]" * DEEP,
    "nested tables": "\nx = " + "{a = " * DEEP + "1" + "}" * DEEP,
    "key of many parts": "\na" + ".a" * DEEP + " = 1",
    "quoted control characters": '\n"\\u001b[2J\\u0007" = 1',
    "open string": '\nx = "' + "a" * 1000,
    "date that is none": "\nx = 2024-13-45",
}


def replaced(form: str, old: str, new: str) -> Builder:
    def change(data: bytes) -> bytes:
        text = data.decode()
        assert old in text
        return text.replace(old, new, 1).encode()

    return rewritten(form, change)


def json_changed(form: str, change: Callable[[Any], object]) -> Builder:
    def make(data: bytes) -> bytes:
        value = json.loads(data)
        result = change(value)
        return json.dumps(value if result is None else result).encode()

    return rewritten(form, make)


def questions(**fields: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        for question in value["questions"].values():
            question.update(fields)

    return change


# --- HDF5 -------------------------------------------------------------------------------------


def first_data(file: h5py.File) -> str:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return max(names, key=lambda name: file[name].size)


def h5_changed(form: str, change: Callable[[h5py.File, Path], None]) -> Builder:
    def make(folder: Path) -> Path:
        path = made(form, folder)
        with h5py.File(path, "r+") as file:
            change(file, folder)
        return path

    return make


def to_fifo(file: h5py.File, folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    name = first_data(file)
    del file[name]
    file[name] = h5py.ExternalLink(str(folder / "fifo"), "/x")


def soft(file: h5py.File, folder: Path) -> None:
    name = first_data(file)
    file.move(name, "elsewhere")
    file[name] = h5py.SoftLink("/elsewhere")


def extra_link(file: h5py.File, folder: Path) -> None:
    file["more"] = h5py.ExternalLink("/dev/zero", "/")


def in_another_file(file: h5py.File, folder: Path) -> None:
    name = first_data(file)
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    file.create_dataset(name, shape, dtype, external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File, folder: Path) -> None:
    name = first_data(file)
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", shape)
    file.create_virtual_dataset(name, layout)


def filled(shape: tuple[int, ...]) -> Callable[[h5py.File, Path], None]:
    """Terabytes of a fill value, in no bytes."""

    def change(file: h5py.File, folder: Path) -> None:
        name = first_data(file)
        dtype = file[name].dtype
        del file[name]
        file.create_dataset(name, shape, dtype, chunks=tuple(min(n, 1 << 10) for n in shape), fillvalue=1)

    return change


def packed(file: h5py.File, folder: Path) -> None:
    """Four gigabytes of zeros in four megabytes."""
    name = first_data(file)
    ndim = file[name].ndim
    del file[name]
    rest = (1,) * (ndim - 1)
    data = file.create_dataset(name, (1 << 32, *rest), np.uint8, chunks=(1 << 24, *rest), compression="gzip")
    chunk = zlib.compress(bytes(1 << 24), 9)
    for at in range(256):
        data.id.write_direct_chunk((at << 24, *(0,) * (ndim - 1)), chunk)


def one_chunk(file: h5py.File, folder: Path) -> None:
    """One chunk that unpacks to two gigabytes, of which few are asked for."""
    name = first_data(file)
    shape, ndim = file[name].shape, file[name].ndim
    del file[name]
    rest = (1,) * (ndim - 1)
    data = file.create_dataset(
        name, (*shape,), np.uint8, maxshape=(None,) * ndim, chunks=((1 << 31) - 1, *rest), compression="gzip"
    )
    data.id.write_direct_chunk((0,) * ndim, zlib.compress(bytes(1 << 20), 9))


def of_type(dtype: Any, value: Any) -> Callable[[h5py.File, Path], None]:
    def change(file: h5py.File, folder: Path) -> None:
        name = first_data(file)
        del file[name]
        file.create_dataset(name, (4,), dtype)[...] = value

    return change


def nothing(file: h5py.File, folder: Path) -> None:
    name = first_data(file)
    del file[name]
    file[name] = h5py.Empty(np.float64)


def group_instead(file: h5py.File, folder: Path) -> None:
    name = first_data(file)
    del file[name]
    file.create_group(name)["inside"] = 1


def many(file: h5py.File, folder: Path) -> None:
    group = file.create_group("g")
    for number in range(70_000):
        h5py.h5o.link(group.id, group.id, b"%d" % number)


def huge_attribute(file: h5py.File, folder: Path) -> None:
    file.attrs["class_names"] = ["x" * (1 << 23)]


def record_set(name: str, value: float) -> Builder:
    def change(file: h5py.File, folder: Path) -> None:
        group, _, field = name.rpartition("/")
        if name in file:
            values = file[name][()]
            values.flat[0] = value
            file[name][...] = values
        else:
            (file[group] if group else file).attrs[field] = value

    return h5_changed("record", change)


# --- npz, idx, tables, wire logs --------------------------------------------------------------


def npz_of(**arrays: Any) -> Builder:
    def make(folder: Path) -> Path:
        good = {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(4)}
        np.savez_compressed(folder / "images.npz", **(good | arrays))
        return folder / "images.npz"

    return make


def npz_promising(member: str, shape: tuple[int, ...], dtype: str, data: bytes) -> Builder:
    """A header that promises more than the member holds."""

    def make(folder: Path) -> Path:
        path = made("npz", folder)
        with zipfile.ZipFile(path) as old:
            parts = {name: old.read(name) for name in old.namelist()}
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": dtype, "fortran_order": False, "shape": shape})
        parts[member] = head.getvalue() + data
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for name, content in parts.items():
                new.writestr(name, content)
        return path

    return make


def npz_bomb(folder: Path) -> Path:
    """Two gigabytes of zeros, packed."""
    path = made("npz", folder)
    with zipfile.ZipFile(path) as old:
        labels = old.read("labels.npy")
    head = io.BytesIO()
    head_of = {"descr": "|u1", "fortran_order": False, "shape": (1 << 15, 256, 256)}
    np.lib.format.write_array_header_1_0(head, head_of)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        new.writestr("labels.npy", labels)
        with new.open("images.npy", "w", force_zip64=True) as member:
            member.write(head.getvalue())
            for _ in range(128):
                member.write(bytes(1 << 24))
    return path


def idx_of(shape: tuple[int, ...], data: bytes = b"", magic: bytes = bytes((0, 0, 8, 3))) -> Builder:
    def make(folder: Path) -> Path:
        path = made("idx", folder)
        path.write_bytes(gzip.compress(magic + np.array(shape, ">u4").tobytes() + data))
        return path

    return make


def gz_bomb(form: str) -> Builder:
    """A gigabyte of one letter, packed."""

    def make(folder: Path) -> Path:
        path = made(form, folder)
        with gzip.open(path, "wb", compresslevel=1) as file:
            for _ in range(64):
                file.write(b"1" * (1 << 24))
        return path

    return make


def table_of(text: str | bytes) -> Builder:
    def make(folder: Path) -> Path:
        path = made("table", folder)
        path.write_bytes(gzip.compress(text if isinstance(text, bytes) else text.encode()))
        return path

    return make


def log_of(*lines: Any, head: Any = None) -> Builder:
    def make(folder: Path) -> Path:
        path = made("wire log", folder)
        first = {"format": "hil.wirelog", "version": "1.0", "address": "x"} if head is None else head
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in (first, *lines))
        path.write_bytes(gzip.compress(text.encode() + b"\n"))
        return path

    return make


def network_builder(name: str) -> Builder:
    return lambda folder: networks.CORPUS[name](folder, folder / "marker")


def network_values(change: Callable[[dict[str, Any]], None]) -> Builder:
    return lambda folder: networks.changed(change)(folder, folder / "marker")


HEAD = "cell,time_s,conductance_us,target_us\n"
MESSAGE = base64.b64encode(b"\x03\x00\x00\x00").decode()

CORPUS: dict[tuple[str, str], Builder] = {
    **{(form, "FIFO"): fifo(form) for form in VALID if form not in BYTES},
    **{(form, "link to /dev/zero"): device(form) for form in VALID if form not in BYTES},
    **{(form, "empty"): rewritten(form, lambda data: b"") for form in VALID if form not in ("onnx",)},
    **{
        (form, "cut in half"): rewritten(form, lambda data: data[: len(data) // 2])
        for form in VALID
        if form != "journal"  # goes on with the answers that are whole
    },
    **{(form, "another format"): rewritten(form, lambda data: b"\x89PNG\r\n\x1a\n" + bytes(500)) for form in VALID},
    **{(form, "3 TB of nothing"): sparse(form) for form in (*TOML, *JSON, "network", "program", "record", "run")},
    **{
        (form, name): rewritten(form, lambda data, text=text: data + text.encode())  # type: ignore[misc]
        for form in TOML
        for name, text in SNIPPETS.items()
    },
    ("chip", "value of NaN"): replaced("chip", "tolerance_us = { value = 1.0", "tolerance_us = { value = nan"),
    ("chip", "value of 1e999"): replaced("chip", "tolerance_us = { value = 1.0", "tolerance_us = { value = 1e999"),
    ("chip", "10^18 macros"): replaced("chip", "macros = { value = ", "macros = { value = 10000000000000000"),
    ("space", "10^9 channels"): replaced("space", "channels = ", "channels = 1000000000"),
    **{(form, "lists 100,000 deep"): rewritten(form, lambda data: b"[" * DEEP + b"]" * DEEP) for form in JSON},
    **{(form, "objects 900 deep"): rewritten(form, lambda data: b'{"a":' * 900 + b"1" + b"}" * 900) for form in JSON},
    **{(form, "6,001 digits"): rewritten(form, lambda data: b'{"a": 1' + b"0" * 6000 + b"}") for form in JSON},
    **{(form, "not UTF-8"): rewritten(form, lambda data: b"\xff\xfe" + data) for form in (*JSON, *TOML)},
    **{(form, "a number"): rewritten(form, lambda data: b"7") for form in JSON},
    ("report", "0 repeats"): json_changed("report", questions(repeats=0)),
    ("report", "-1 repeats"): json_changed("report", questions(repeats=-1)),
    ("report", "0 images"): json_changed("report", questions(n=0)),
    ("report", "repeats beyond 64 bits"): json_changed("report", questions(repeats=-(2**70))),
    ("report", "accuracy of 10^400"): replaced("report", '"difference": ', '"difference": 1' + "0" * 400),
    ("report", "accuracy of NaN"): json_changed("report", questions(difference=float("nan"))),
    ("report", "answers that are none"): json_changed("report", lambda v: v["data"].update(answers="?" * 50)),
    ("report", "more answers than images"): json_changed("report", lambda v: v["data"].update(answers="1" * 5000)),
    ("report", "schema with control characters"): json_changed("report", lambda v: v.update(schema="\x1b[2J" * 50)),
    **{(form, "external link to a FIFO"): h5_changed(form, to_fifo) for form in HDF5},
    **{(form, "one more external link"): h5_changed(form, extra_link) for form in HDF5},
    **{(form, "soft link"): h5_changed(form, soft) for form in HDF5},
    **{(form, "data in another file"): h5_changed(form, in_another_file) for form in HDF5},
    **{(form, "virtual data"): h5_changed(form, virtual) for form in HDF5},
    **{(form, "fill value, 10^12"): h5_changed(form, filled((10**12,))) for form in HDF5},
    **{(form, "fill value, 2^31"): h5_changed(form, filled((1 << 21, 1 << 5, 1 << 5, 1))) for form in HDF5},
    **{(form, "4 GB of zeros"): h5_changed(form, packed) for form in HDF5},
    **{(form, "a chunk of 2 GB"): h5_changed(form, one_chunk) for form in HDF5},
    **{(form, "texts of any length"): h5_changed(form, of_type(h5py.string_dtype(), "x")) for form in HDF5},
    **{(form, "compound type"): h5_changed(form, of_type([("a", "f8"), ("b", "i4")], 0)) for form in HDF5},
    **{(form, "no data space"): h5_changed(form, nothing) for form in HDF5},
    **{(form, "a group for data"): h5_changed(form, group_instead) for form in HDF5},
    ("record", "70,000 names"): h5_changed("record", many),
    ("images h5", "an attribute of 8 MB"): h5_changed("images h5", huge_attribute),
    ("record", "NaN gain"): record_set("macros/0/gain", float("nan")),
    ("record", "infinite offset"): record_set("macros/0/offset_codes", float("inf")),
    ("record", "NaN age"): record_set("age_s", float("nan")),
    ("record", "NaN wire"): record_set("wire/ohm", float("nan")),
    ("npz", "label 2^40"): npz_of(labels=np.array([0, 1, 2, 1 << 40])),
    ("npz", "label -1"): npz_of(labels=np.array([0, 1, 2, -1])),
    ("npz", "2 GB of zeros"): npz_bomb,
    ("npz", "2^40 labels promised"): npz_promising("labels.npy", (1 << 40,), "<i8", b""),
    ("npz", "images promised"): npz_promising("images.npy", (20, 4096, 4096), "|u1", bytes(100)),
    ("npz", "pickled labels"): npz_promising("labels.npy", (20,), "|O", b"cos\nsystem\n(S'true'\ntR."),
    ("npz", "names of a megabyte"): npz_promising("classes.npy", (65536,), "<U1000000", b""),
    ("npz", "negative length"): npz_promising("labels.npy", (-20,), "<i8", bytes(160)),
    ("npz", "no image"): npz_of(images=np.zeros((0, 8, 8), np.uint8), labels=np.zeros(0, np.int64)),
    ("npz", "images of numbers"): npz_of(images=np.zeros((4, 8, 8))),
    ("idx", "2^32 images"): idx_of((2**32 - 1, 28, 28)),
    ("idx", "side 2^32"): idx_of((20, 2**32 - 1, 2**32 - 1)),
    ("idx", "other dimensions"): idx_of((20, 8, 8), bytes(1280), bytes((0, 0, 8, 7))),
    ("idx", "a bomb"): gz_bomb("idx"),
    ("table", "a bomb"): gz_bomb("table"),
    ("table", "a line without end"): table_of(HEAD + "1" * 100_000),
    ("table", "NaN"): table_of(HEAD + "0,1,nan,20\n0,2,20,20\n"),
    ("table", "10^400"): table_of(HEAD + "0,1,1e400,20\n0,2,20,20\n"),
    ("table", "6,001 digits"): table_of(HEAD + f"0,1,{'9' * 3000},20\n0,2,20,20\n"),
    ("table", "300 columns"): table_of(",".join(f"c{i}" for i in range(300)) + "\n"),
    ("table", "zero bytes"): table_of(HEAD.encode() + bytes(4000)),
    ("table", "not UTF-8"): table_of(b"cell,\xff\n1,2\n"),
    ("wire log", "damaged gzip"): rewritten("wire log", lambda d: d[:30] + bytes(b ^ 85 for b in d[30:60]) + d[60:]),
    ("wire log", "damaged checksum"): rewritten("wire log", lambda data: data[:-8] + bytes(8)),
    ("wire log", "a bomb"): gz_bomb("wire log"),
    ("wire log", "deep line"): log_of("[" * DEEP),
    ("wire log", "no end"): log_of({"t": 0, "d": ">", "id": 1, "m": MESSAGE}),
    ("wire log", "time of 10^400"): log_of('{"t": 1' + "0" * 400 + ', "d": ">", "id": 1, "m": ""}', {"end": ""}),
    ("wire log", "size of a text"): log_of({"t": 0, "d": ">", "id": 1, "n": "x", "h": ""}, {"end": ""}),
    ("wire log", "a list"): log_of([1, 2], {"end": ""}),
    ("wire log", "head is a list"): log_of({"end": ""}, head=[1]),
    ("wire log", "version of words"): log_of({"end": ""}, head={"format": "hil.wirelog", "version": "new"}),
    ("network", "weights of 3e38"): network_values(networks.state("conv1.weight", torch.full((6, 1, 5, 5), 3e38))),
    ("network", "means of 1e308"): network_values(lambda d: d["preprocess"].update(mean=[1e308])),
    ("network", "spread of 1e-300"): network_values(lambda d: d["preprocess"].update(std=[1e-300])),
    **{("network", name): network_builder(name) for name in networks.CORPUS},
    **FROM_OTHERS,
}
