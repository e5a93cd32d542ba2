"""Checks of an untrusted file before torch reads it: archive, pickle opcodes, then a weights-only load.

A ``.pt`` file is a zip archive with a pickle, and a pickle is a program. The pickle of plain
data and tensors calls only a handful of functions, so everything else is refused by name
before any loader runs; ``torch.load(weights_only=True)`` is the second fence. The bytes are
read once: what was checked is what is loaded.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cim import files
from mapping.errors import MappingFileError, MappingMismatch

LARGEST_FILE = 512 * 2**20
MOST_MEMBERS = 4096
LARGEST_PICKLE = 4 * 2**20
MOST_OPCODES = 2_000_000

_MEMBER = re.compile(
    r"[^/\\]+/(data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data/\d+)"
)
_STORAGES = ("Float", "Double", "Half", "BFloat16", "Byte", "Char", "Short", "Int", "Long", "Bool")
_GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    *(f"torch {name}Storage" for name in _STORAGES),
}
WHOLE = "export the network: torch.onnx.export, tf2onnx or a .tflite converter; then hil import model.onnx"
NETWORKS = "a net.pt (hil import makes one), model.onnx, .tflite, .pt2 or timm:NAME; images go to --data"
"""What may stand where a network is named."""
_TEXT = bytes(range(32, 127)) + b"\t\n\r\f"
_LEGACY = (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class NetworkFileError(MappingFileError):
    """A network file is missing, broken, unsafe or not what it says (exit code 7)."""

    def __init__(self, path: str | Path, what: str, hint: str = "") -> None:
        super().__init__(f"{path}: {what}" + (f"\n  try     {hint}" if hint else ""))
        self.path, self.what, self.hint = str(path), what, hint


class UnsafeFileError(NetworkFileError):
    """A network file that can run code when it is loaded, which nobody allowed."""


class NewerVersionError(MappingMismatch):
    """A file of a later major version than this program reads (exit code 8)."""

    def __init__(self, path: str | Path, found: str, known: str) -> None:
        super().__init__(f"{path}: file version {found}, but this program reads up to {known}\n  try     a newer hil")
        self.path, self.found, self.known = str(path), found, known


def check_there(path: str | Path) -> None:
    """Refuse a missing, empty or too large file as ``read_bytes`` does, without reading it."""
    with _reading(path):
        files.check_regular(path, LARGEST_FILE)


def read_bytes(path: str | Path) -> bytes:
    """Give the whole file, at most ``LARGEST_FILE`` bytes of it, or raise ``NetworkFileError``."""
    with _reading(path):
        data = files.read_bytes(path, LARGEST_FILE)
    if not data:
        raise NetworkFileError(path, "is empty", NETWORKS)
    return data


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        name = Path(path).name
        model = f"the path of a file; or a trained network of a library: torchvision:{name}, timm:{name}"
        raise NetworkFileError(path, "does not exist", NETWORKS if "." in name else model) from error
    except (files.NotRegularFile, files.FileTooLarge) as error:
        raise NetworkFileError(path, str(error.strerror), NETWORKS) from error
    except OSError as error:
        raise NetworkFileError(path, f"cannot be read: {error.strerror}") from error


def load_plain(data: bytes, path: str | Path, *, trust: bool = False) -> Any:
    """Give the object in ``data``, the bytes of a ``torch.save``d file of plain data and tensors.

    With ``trust`` nothing is checked and **the file may run code**. ``path`` is for messages.
    """
    import torch

    if not trust:
        check_pickle(check_archive(data, path), path)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch says aloud that it takes a TorchScript
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=not trust)
    except Exception as error:  # torch raises many kinds on broken data, and none of them is ours
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "run where its class can be imported, or hil.deploy(module, …) in Python" if trust else ""
        raise NetworkFileError(path, f"torch cannot load it: {text:.200}", hint) from error


def check_archive(data: bytes, path: str | Path) -> bytes:
    """Check the zip archive that torch writes, member by member; give its pickle.

    torch stores members uncompressed, so compression, overlap and members outside the known
    names are all signs of another kind of file.
    """
    if data.startswith(_LEGACY):
        raise _unsafe(path, "is a bare pickle or a legacy torch file, which can run code when loaded")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members, len(data), path)
            pickles = [m for m in members if m.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise NetworkFileError(path, f"holds {len(pickles)} pickles where a network has one")
            if pickles[0].file_size > LARGEST_PICKLE:
                raise NetworkFileError(path, f"its description is larger than {LARGEST_PICKLE // 2**20} MiB")
            if (broken := archive.testzip()) is not None:
                raise NetworkFileError(path, f"member {broken!r:.80} does not match its checksum")
            return archive.read(pickles[0])
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise NetworkFileError(path, *_other_kind(data, error, path)) from error


def _other_kind(data: bytes, error: Exception, path: str | Path) -> tuple[str, str]:
    """The kind of a file that is not a torch archive, and the next command."""
    if data.startswith(b"\x89HDF"):
        return "is HDF5, no network of torch", f"of a program of hil: name it .h5; of Keras: {WHOLE}"
    if data.startswith(b"GGUF"):
        return "is GGUF, the weights of a language model", WHOLE
    if data[8:9] == b"{":
        return "is safetensors, weights alone", how_to_import(path)
    if data[4:8] == b"TFL3":
        return "is TFLite under another name", "rename it: model.tflite"
    text = data[:1] == b"{" or not set(data[:4096]) - set(_TEXT)
    what = "is text, no network" if text else f"is cut short or no network file: {error}"
    return what, NETWORKS


def check_pickle(pickle: bytes, path: str | Path) -> None:
    """Refuse a pickle that names anything but tensors and ordered dicts, without running it."""
    import pickletools  # large beside what most commands do

    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(pickle):
            count += 1
            if count > MOST_OPCODES:
                raise NetworkFileError(path, f"its description has more than {MOST_OPCODES} opcodes")
            if opcode.name in ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID"):
                raise _unsafe(path, f"its pickle uses {opcode.name}, which plain data never does")
            if opcode.name == "GLOBAL" and argument not in _GLOBALS:
                raise _unsafe(path, f"its pickle calls {str(argument).replace(' ', '.'):.120}")
    except (ValueError, EOFError, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise NetworkFileError(path, f"its pickle is broken: {error!s:.120}") from error


def _check_members(members: list[zipfile.ZipInfo], file_bytes: int, path: str | Path) -> None:
    names = [member.filename for member in members]
    if len(members) > MOST_MEMBERS:
        raise NetworkFileError(path, f"holds {len(members)} members, more than {MOST_MEMBERS}")
    for name in names:
        if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name):
            raise NetworkFileError(path, f"member {name!r:.80} points outside the archive")
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        raise _unsafe(path, "is a TorchScript archive, which carries code")
    if any(
        name.endswith(("archive_format", "serialized_exported_program.json")) or "/models/" in name for name in names
    ):
        raise _unsafe(path, "is a torch.export (.pt2) archive, whose loader can run code")
    for member in members:
        if not _MEMBER.fullmatch(member.filename):
            raise NetworkFileError(path, f"holds {member.filename!r:.80}, which no network file has", WHOLE)
        if member.flag_bits & 0x1:
            raise NetworkFileError(path, f"member {member.filename!r} is encrypted")
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise NetworkFileError(path, f"member {member.filename!r} is compressed; torch stores members as they are")
        if (member.external_attr >> 16) & 0o170000 == 0o120000:
            raise NetworkFileError(path, f"member {member.filename!r} is a symbolic link")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise NetworkFileError(path, f"holds {twice!r} twice")
    if len({name.split("/")[0] for name in names}) != 1:
        raise NetworkFileError(path, "holds more than one top folder")
    if sum(member.file_size for member in members) > file_bytes:
        raise NetworkFileError(path, "its members add up to more than the file: they overlap")


def _unsafe(path: str | Path, what: str) -> UnsafeFileError:
    hint = f"if you trust its author: {how_to_import(path, trust=True)}; else ask for its state dict"
    return UnsafeFileError(path, what, hint)


def how_to_import(network: str | Path, *, trust: bool = False) -> str:
    """The command that makes a net.pt of a network of others; its options serve where the network is named, too."""
    here, out = Path(network), "net.pt" if Path(network).name != "net.pt" else "cim.pt"
    shown = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else network
    images = "where IMAGES is a folder of train/ and test/ by class, an .npz, a .csv or a name such as cifar10"
    if trust:
        return f"hil import {shown} --trust-model --data IMAGES -o {out}, {images}"
    return f"hil import {shown} --data IMAGES -o {out}, {images}"
