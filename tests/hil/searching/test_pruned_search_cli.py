"""``hil search run --from``: a front of pruned networks that were measured, by command, in a folder that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hil
from hil.errors import NothingLearned
from hil.searching.begin import begin_search
from hil.searching.run import run_search
from hil.searching.settings import SearchSettings
from hil.watch import Watch
from mapping.network.file import image_keys, load_network, save_network

from ..cli.test_cli import Cli
from ..cli.test_cli import cli as cli
from ..small_net import NAMES, images, small_network

CANDIDATES = 16


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("candidates")
    save_network(small_network(), folder / "net.pt")
    pixels, labels = images(500, 5)
    np.savez(folder / "train.npz", images=pixels, labels=labels, classes=np.array(NAMES))
    return folder


def asked(place: Path, out: str, *more: object) -> tuple[object, ...]:
    data = ("--data", place / "train.npz", "--from", place / "net.pt", "--costs", "mnsim-default")
    return ("search", "run", *data, "--candidates", CANDIDATES, "--workers", 0, "-o", place / out, *more)


def written_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in found["networks"] if row["network"]]


def test_pruned_networks_are_searched_and_the_best_below_each_price_is_written(cli: Cli, place: Path) -> None:
    whole = cli.json("estimate", place / "net.pt", "--chip", "mnsim-default")["edp_mj_ms"]
    prices = 0.3 * whole, 0.6 * whole
    found = cli.json(*asked(place, "run", "--edp", ",".join(f"{price:.6g}" for price in prices)))
    assert found["simulations"] == CANDIDATES
    assert "a perfect chip" in found["basis"]
    assert "MNSIM" in found["costs_of"]
    front = [row for row in found["networks"] if not row["network"]]
    edps = [row["edp_mj_ms"] for row in front]
    losses = [row["divergence"] for row in front]
    assert edps == sorted(edps)
    assert losses == sorted(losses, reverse=True)
    for written, price in zip(written_of(found), prices, strict=True):
        file = place / "run" / written["network"]
        now = cli.json("estimate", file, "--chip", "mnsim-default")["edp_mj_ms"]
        assert now == pytest.approx(written["edp_mj_ms"])
        assert now <= price * (1 + 1e-5)
        assert load_network(file).digest == written["digest"]
    used = image_keys(images(500, 5)[0])
    assert np.isin(used, load_network(file).trained_on).all()
    shown = cli("search", "show", place / "run", "--plot", place / "front.html")
    assert "perfect chip" in shown
    assert "measured front" in (place / "front.html").read_text("utf-8")
    cli("search", "explain", place / "run", code=2)
    assert "have no operators and are not trained" in cli.err


def test_a_search_of_pruned_networks_that_was_stopped_goes_on_to_the_same_front(cli: Cli, place: Path) -> None:
    first = cli.json(*asked(place, "again", "--seed", 3))
    root = place / "again"
    lines = (root / "measured.jsonl").read_text("utf-8").splitlines(keepends=True)
    (root / "measured.jsonl").write_text("".join(lines[:7]) + lines[7][:20], "utf-8")
    for number in (2, 3, 4):
        (root / f"rounds/{number:02d}.json").unlink(missing_ok=True)
    (root / "table.json").unlink()
    again = cli.json(*asked(place, "again", "--seed", 3))
    assert again["networks"] == first["networks"]
    numbers = [json.loads(line)["number"] for line in lines]
    assert sorted(numbers) == list(range(len(numbers)))
    cli(*asked(place, "again", "--seed", 4), code=8)
    assert "was begun with another" in cli.err


def test_pruned_networks_are_measured_on_virtual_chips_of_the_chip_that_is_named(cli: Cli, place: Path) -> None:
    found = cli.json(*asked(place, "chips", "--chip", "mnsim-256", "--macros", 64, "--without", "copies"))
    assert "mnsim-256" in found["basis"]
    assert all(row["on_chips"] is not None for row in found["networks"])
    assert written_of(found)[-1]["on_chips"] > 40


def test_pruned_networks_are_searched_from_python(place: Path) -> None:
    asked = {"costs": "mnsim-default", "pruned": True, "candidates": CANDIDATES}
    found = hil.search(place / "train.npz", "", out=place / "python", teacher=place / "net.pt", **asked)
    assert all(row["right"] and "predicted" not in row for row in found.table["networks"])
    with pytest.raises(hil.UsageError, match="those of a teacher, and none is given"):
        hil.search(place / "train.npz", "", out=place / "no", **asked)
    with pytest.raises(hil.UsageError, match="not of the space cifar10"):
        hil.search(place / "train.npz", "", out=place / "no", teacher=place / "net.pt", space="cifar10", **asked)
    assert not (place / "no").exists()


def test_a_search_over_pruned_networks_that_learned_nothing_names_no_network(place: Path, tmp_path: Path) -> None:
    pixels, labels = images(500, 5)
    np.savez(
        tmp_path / "any.npz",
        images=pixels,
        labels=np.random.default_rng(1).permutation(labels),
        classes=np.array(NAMES),
    )
    data = str(tmp_path / "any.npz")
    settings = SearchSettings(data, "", costs="mnsim-default", pruned=True, candidates=CANDIDATES)
    folder = begin_search(tmp_path / "run", settings, space=None, teacher=place / "net.pt")
    with pytest.raises(NothingLearned, match="the search has learned nothing"):
        run_search(folder, settings, Watch())
    assert not (tmp_path / "run" / "table.json").exists()
    assert not (tmp_path / "run" / "networks").exists()


def test_options_of_training_are_refused_where_pruned_networks_are_searched(cli: Cli, place: Path) -> None:
    cli(*asked(place, "refused", "--epochs", 3), code=2)
    assert "--epochs: pruned networks of a teacher are not trained" in cli.err
    cli(*asked(place, "refused", "--calibration", place / "record.h5"), code=2)
    assert "calibration: pruned networks of a teacher are not trained" in cli.err
    cli(*asked(place, "refused", "--chip", "mnsim-default"), code=2)
    assert "it has no errors of cells" in cli.err
    assert not (place / "refused").exists()
    cli("search", "run", "--data", place / "train.npz", "--edp", 0.1, "-o", place / "refused", code=2)
    assert "--edp: only a search over pruned networks of a teacher takes this" in cli.err
