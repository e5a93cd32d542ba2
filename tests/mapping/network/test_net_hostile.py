"""Every file of the hostile corpus ends in the typed error, quickly, and runs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mapping.network import file_check as netcheck
from mapping.network.file import NetworkFileError, load_network

from ...scripts import loaded

corpus = loaded(Path(__file__).parent.parent / "hostile" / "corpus.py")

REASONS = {
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
"""Where the reason matters, a part of it: a file refused for another one would test nothing."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Duplicate name")
@pytest.mark.parametrize("name", corpus.CORPUS)
def test_hostile_file_is_refused_and_runs_nothing(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = corpus.CORPUS[name](tmp_path, marker)
    with pytest.raises(NetworkFileError) as caught:
        load_network(path)
    assert REASONS.get(name, "") in caught.value.what
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not marker.exists()


def test_the_file_that_the_corpus_spoils_is_good(tmp_path: Path) -> None:
    load_network(corpus.good_file(tmp_path))
    load_network(corpus.archived()(tmp_path, tmp_path))
    load_network(corpus.changed(lambda data: None)(tmp_path, tmp_path))


def test_hooks_of_the_corpus_do_run_when_trusted(tmp_path: Path) -> None:
    path = corpus.with_hook(tmp_path, tmp_path / "marker")
    with pytest.raises(NetworkFileError):  # provenance is not a dict then
        load_network(path, trust=True)
    assert (tmp_path / "marker").exists()


def test_missing_file_and_folder_are_typed_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.pt", tmp_path):
        with pytest.raises(NetworkFileError):
            load_network(path)


def test_file_above_the_cap_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netcheck, "LARGEST_FILE", 10_000)
    with pytest.raises(NetworkFileError, match="larger than"):
        load_network(corpus.good_file(tmp_path))


def test_refusal_of_code_says_what_and_what_to_try(tmp_path: Path) -> None:
    with pytest.raises(NetworkFileError, match=r"pickle calls posix\.mkdir|pickle calls nt\.mkdir") as caught:
        load_network(corpus.with_hook(tmp_path, tmp_path / "marker"))
    assert "--trust-model" in str(caught.value)
