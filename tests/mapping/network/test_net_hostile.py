"""What the hostile network files are made of is as told (tests/hostile reads them), and how others are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mapping.network import file_check as netcheck
from mapping.network.file import load_network
from mapping.network.file_check import NetworkFileError

from ...scripts import loaded

corpus = loaded(Path(__file__).parent.parent / "hostile" / "corpus.py")


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
