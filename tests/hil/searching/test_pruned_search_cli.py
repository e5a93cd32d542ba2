"""``hil search run --from``: a front of pruned networks that were measured, by command, in a folder that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hil.errors import NothingLearned
from hil.searching.prune_settings import PrunedSearchSettings
from hil.searching.pruned_search import search_pruned
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
    return ("search", "run", *data, "--candidates", CANDIDATES, "--workers", 1, "-o", place / out, *more)


def test_pruned_networks_are_searched_and_the_best_below_each_price_is_written(cli: Cli, place: Path) -> None:
    whole = cli.json("estimate", place / "net.pt", "--chip", "mnsim-default")["edp_mj_ms"]
    prices = 0.3 * whole, 0.6 * whole
    found = cli.json(*asked(place, "run", "--edp", ",".join(f"{price:.6g}" for price in prices)))
    assert found["candidates"] == CANDIDATES
    assert found["measured_on"] == "a perfect chip"
    assert "MNSIM" in found["priced"]
    edps = [row["edp_mj_ms"] for row in found["rows"]]
    losses = [row["divergence"] for row in found["rows"]]
    assert edps == sorted(edps)
    assert losses == sorted(losses, reverse=True)
    assert len(found["written"]) == 2
    for written, price in zip(found["written"], prices, strict=True):
        file = place / "run" / written["network"]
        now = cli.json("estimate", file, "--chip", "mnsim-default")["edp_mj_ms"]
        assert now == pytest.approx(written["edp_mj_ms"])
        assert now <= price * (1 + 1e-5)
        assert load_network(file).digest == written["digest"]
    used = image_keys(images(500, 5)[0])
    assert np.isin(used, load_network(file).trained_on).all()
    shown = cli("search", "show", place / "run")
    assert "perfect chip" in shown


def test_a_search_of_pruned_networks_that_was_stopped_goes_on_to_the_same_front(cli: Cli, place: Path) -> None:
    first = cli.json(*asked(place, "again", "--seed", 3))
    root = place / "again"
    lines = (root / "measured.jsonl").read_text("utf-8").splitlines(keepends=True)
    (root / "measured.jsonl").write_text("".join(lines[:7]) + lines[7][:20], "utf-8")
    for number in (2, 3, 4):
        (root / f"rounds/{number:02d}.json").unlink(missing_ok=True)
    (root / "front.json").unlink()
    again = cli.json(*asked(place, "again", "--seed", 3))
    assert again["rows"] == first["rows"]
    assert [w["digest"] for w in again["written"]] == [w["digest"] for w in first["written"]]
    numbers = [json.loads(line)["number"] for line in lines]
    assert sorted(numbers) == list(range(len(numbers)))
    cli(*asked(place, "again", "--seed", 4), code=8)
    assert "was begun with another" in cli.err


def test_pruned_networks_are_measured_on_virtual_chips_of_the_chip_that_is_named(cli: Cli, place: Path) -> None:
    found = cli.json(*asked(place, "chips", "--chip", "mnsim-256", "--macros", 64, "--without", "copies"))
    assert "mnsim-256" in found["measured_on"]
    assert all(row["on_chips"] is not None for row in found["rows"])
    assert found["written"][-1]["on_chips"] > 40


def test_a_search_over_pruned_networks_that_learned_nothing_names_no_network(place: Path, tmp_path: Path) -> None:
    pixels, labels = images(500, 5)
    np.savez(
        tmp_path / "any.npz",
        images=pixels,
        labels=np.random.default_rng(1).permutation(labels),
        classes=np.array(NAMES),
    )
    settings = PrunedSearchSettings(str(tmp_path / "any.npz"), "mnsim-default", candidates=CANDIDATES)
    with pytest.raises(NothingLearned, match="the search has learned nothing"):
        search_pruned(tmp_path / "run", place / "net.pt", settings, Watch())
    assert not (tmp_path / "run" / "front.json").exists()
    assert not (tmp_path / "run" / "networks").exists()


def test_options_of_training_are_refused_where_pruned_networks_are_searched(cli: Cli, place: Path) -> None:
    cli(*asked(place, "refused", "--epochs", 3), code=2)
    assert "--epochs: pruned networks of a teacher are not trained" in cli.err
    cli(*asked(place, "refused", "--chip", "mnsim-default"), code=2)
    assert "it has no errors of cells" in cli.err
