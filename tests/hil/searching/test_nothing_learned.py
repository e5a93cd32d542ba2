"""A search that has learned nothing names no network; one that has learned something is not asked again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from hil.cli import run as command
from hil.searching.learned import nothing_learned

from ..finished_search import QUICK, options_of
from ..search_files import CLASSES, SPACE, images

ROOT = Path(__file__).parents[3]


def test_a_search_whose_sample_networks_are_at_chance_names_no_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels that have nothing to do with the images."""
    pixels, labels = images(160)
    shuffled = np.random.default_rng(1).permutation(labels)
    np.savez(tmp_path / "images.npz", images=pixels, labels=shuffled, classes=np.array(CLASSES))
    (tmp_path / "space.toml").write_text(SPACE, "utf-8")
    named = {**QUICK, "data": tmp_path / "images.npz", "space": tmp_path / "space.toml", "out": tmp_path / "run"}
    assert command(["search", "run", "--symmetry", "none", *options_of(named)]) == 1
    said = capsys.readouterr()
    assert "the search has learned nothing, so it names no network" in said.err
    assert "--sample-epochs 4 --samples 10" in said.err
    assert not said.out
    assert (tmp_path / "run" / "teacher.pt").exists()
    assert len(list((tmp_path / "run" / "samples").glob("*.json"))) == 5
    assert not (tmp_path / "run" / "front.json").exists()
    assert command(["search", "run", "--symmetry", "none", *options_of(named)]) == 1
    assert command(["search", "show", str(tmp_path / "run")]) == 7


@pytest.mark.parametrize("name", ["cifar10", "cifar10-residual", "eurosat", "fashion-mnist"])
def test_searches_that_are_kept_here_have_learned_something(name: str) -> None:
    samples = (ROOT / "examples" / "searches" / name / "samples").glob("*.json")
    accuracies = np.array([json.loads(path.read_text("utf-8"))["accuracy"] for path in samples])
    classes = 10
    assert nothing_learned(accuracies, np.arange(2000) % classes) == ""


@pytest.mark.parametrize(
    ("right", "why"),
    [
        ([330, 340, 335, 338], "are of the commonest class"),
        ([600, 610, 605, 615], "differ by no more than 1,000 images leave to chance"),
        ([1000, 1000, 1000, 1000], "differ by no more than 1,000 images leave to chance"),
        ([334, 334, 334, 700], ""),
        ([600, 660, 705, 615], ""),
    ],
)
def test_what_says_nothing_is_told_from_what_says_something(right: list[int], why: str) -> None:
    accuracies = 100 * (np.array(right) + 0.5) / 1001
    found = nothing_learned(accuracies, np.arange(1000) % 3)
    assert why in found
    assert bool(found) == bool(why)
