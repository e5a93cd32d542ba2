"""Every hostile file is refused with exit code 7, in little memory and time, and nothing in it is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.errors import ExitCode

from .bounded import MOST_BYTES, read_bounded
from .corpus import CORPUS, HDF5
from .valid_files import VALID

NETWORK = {
    "reduce hook": "pickle calls",
    "legacy file with a hook": "legacy torch file",
    "bare pickle with a hook": "bare pickle",
    "protocol 0 pickle with INST": "uses INST",
    "protocol 4 pickle with STACK_GLOBAL": "uses STACK_GLOBAL",
    "hook in a second folder": "more than one top folder",
    "eval by name": "eval",
    "whole module": "pickle calls torch.nn",
    "TorchScript": "TorchScript",
    "torch.export archive with a pickle": "pt2",
    "compressed zip bomb": "compressed",
    "overlapping zip bomb": "overlap",
    "path traversal": "outside the archive",
    "absolute path": "outside the archive",
    "backslash path": "outside the archive",
    "symbolic link": "symbolic link",
    "member twice": "twice",
    "unknown member": "no network file has",
    "encrypted": "encrypted",
    "too many members": "members, more than",
    "no pickle": "0 pickles",
    "bit flipped in a weight": "checksum",
    "huge metadata": "description is larger",
    "opcode flood": "opcodes",
    "tensor beyond its storage": "torch cannot load it: Trying to resize",
    "storage beyond its member": "torch cannot load it: record size",
    "a tensor of 10^12 equal numbers": "not dense",
    "NaN weights": "not finite",
    "double weights": "float64",
    "stated shape lies": "stated shapes",
    "cycle": "not an earlier node",
    "unknown node": "unknown kind",
    "huge padding": "is above",
    "images not those of the digest": "digest",
}
OTHERS = {
    ("coco", "a box of three"): "is not a box",
    ("coco", "an image in a folder above"): "not the name of an image beside the file",
    ("coco", "an image that is missing"): "there is no image",
    ("coco", "objects 900 deep"): "not a readable COCO file",
    ("masks", "colours"): "has colours",
    ("masks", "none"): "no mask 0.png",
    ("masks", "text"): "cannot be decoded",
    ("onnx", "2^40 weights promised"): "too large",
    ("onnx", "a negative size"): "negative",
    ("onnx", "fewer weights than promised"): "cannot be read",
    ("onnx", "NaN weights"): "not finite",
    ("onnx", "weights in another file"): "another file",
    ("onnx", "no operations"): "empty graph",
    ("table", "a line without end"): "a line of more than 4096 characters",
    ("table", "cut in half"): "broken gzip",
    ("table", "not UTF-8"): "UTF-8",
    ("wire log", "a list"): "cannot read the wire log",
    ("wire log", "another format"): "cannot read the wire log",
    ("wire log", "no end"): "has no end",
}
ANY_HDF5 = {
    "external link to a FIFO": "may lead anywhere",
    "one more external link": "may lead anywhere",
    "soft link": "may lead anywhere",
    "data in another file": "lies in another file",
    "virtual data": "lies in another file",
    "fill value, 10^12": "bytes and stores none",
    "fill value, 2^31": "bytes and stores none",
    "4 GB of zeros": "promises",
    "a chunk of 2 GB": "packed in chunks",
}
REASONS = (
    {("network", name): words for name, words in NETWORK.items()}
    | {(form, name): words for form in HDF5 for name, words in ANY_HDF5.items()}
    | OTHERS
)
"""Where the reason matters, a part of it: a file refused for another one would test nothing."""


def test_the_corpus_holds_at_least_150_files() -> None:
    assert len(CORPUS) >= 150


@pytest.mark.parametrize("form", VALID)
def test_a_valid_file_of_each_format_is_read_within_the_bounds(form: str, tmp_path: Path) -> None:
    path = VALID[form][0](tmp_path)
    outcome = read_bounded(form, path)
    assert outcome.code == 0, outcome.text
    assert outcome.within, outcome


@pytest.mark.parametrize(("form", "name"), CORPUS, ids=lambda part: part)
def test_a_hostile_file_is_refused_with_exit_code_7_in_bounded_memory_and_time(
    form: str, name: str, tmp_path: Path
) -> None:
    path = CORPUS[form, name](tmp_path)
    outcome = read_bounded(form, path)
    assert outcome.code == ExitCode.BAD_FILE, outcome.text
    assert outcome.within, f"{outcome.memory >> 20} MB of {MOST_BYTES >> 20}, {outcome.cpu_s:.1f} s"
    assert REASONS.get((form, name), "") in outcome.text
    assert len(outcome.text) < 3000
    assert not (tmp_path / "marker").exists()
