"""``hil search prune``: a network made smaller for the price of an array, by command and from Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hil
from hil.errors import UsageError
from mapping.network.file import image_keys, load_network, save_network

from ..cli.test_cli import Cli
from ..cli.test_cli import cli as cli
from ..small_net import NAMES, images, small_network


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prune")
    save_network(small_network(), folder / "net.pt")
    pixels, labels = images(400, 5)
    np.savez(folder / "train.npz", images=pixels, labels=labels, classes=np.array(NAMES))
    return folder


def for_half(place: Path, whole: float, *, candidates: int) -> tuple[object, ...]:
    """Options that ask for half of a price, of so many candidates."""
    data = ("--data", place / "train.npz")
    return (*data, "--costs", "mnsim-default", "--edp", f"{whole / 2:.6g}", "--candidates", candidates)


def test_a_network_is_pruned_by_one_command_for_half_of_its_price(cli: Cli, place: Path) -> None:
    whole = cli.json("estimate", place / "net.pt", "--chip", "mnsim-default")["edp_mj_ms"]
    asked = for_half(place, whole, candidates=2)
    found = cli.json("search", "prune", place / "net.pt", *asked, "-o", place / "small.pt")
    small = load_network(place / "small.pt")
    assert small.digest == found["digest"]
    assert found["before"]["edp_mj_ms"] == pytest.approx(whole)
    now = cli.json("estimate", place / "small.pt", "--chip", "mnsim-default")["edp_mj_ms"]
    assert now == pytest.approx(found["after"]["edp_mj_ms"])
    assert now <= whole / 2
    best = found["candidates"][0]
    assert best["right"] > best["teacher_right"] - 15
    assert found["array"] == "mnsim-default"
    used = image_keys(images(400, 5)[0])
    assert np.isin(used, small.trained_on).all()


def test_a_price_that_the_network_had_before_is_said_to_have_gone_into_bits(cli: Cli, place: Path) -> None:
    asked = ("--data", place / "train.npz", "--costs", "mnsim-default", "--candidates", 1)
    said = cli("search", "prune", place / "net.pt", *asked, "--edp", 1.0, "-o", place / "large.pt")
    assert "the network had the price before" in " ".join(said.split())
    cli("search", "prune", place / "net.pt", *asked, "--edp", 1e-9, "-o", place / "none.pt", code=6)
    assert "the cheapest that was met has" in cli.err
    assert "try     that price" in cli.err
    assert not (place / "none.pt").exists()


def test_a_network_is_pruned_for_the_errors_of_a_chip_and_says_so(cli: Cli, place: Path) -> None:
    whole = cli.json("estimate", place / "net.pt", "--chip", "mnsim-default")["edp_mj_ms"]
    asked = for_half(place, whole, candidates=1)
    found = cli.json("search", "prune", place / "net.pt", *asked, "--chip", "mnsim-256", "-o", place / "hard.pt")
    assert found["errors_of"] == "mnsim-256"
    assert found["after"]["edp_mj_ms"] <= whole / 2
    assert "errors of mnsim-256" in load_network(place / "hard.pt").graph.provenance["pruned by"]
    cli("search", "prune", place / "net.pt", *asked, "--chip", "mnsim-default", "-o", place / "no.pt", code=2)
    assert "mnsim-default is a scale of costs" in cli.err


def test_without_a_price_or_with_too_few_images_nothing_is_pruned(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a price is needed"):
        hil.prune(place / "net.pt", tmp_path / "small.pt")
    pixels, labels = images(30, 5)
    np.savez(tmp_path / "few.npz", images=pixels, labels=labels, classes=np.array(NAMES))
    with pytest.raises(UsageError, match="30 training images are too few"):
        hil.prune(place / "net.pt", tmp_path / "small.pt", edp=1.0, data=str(tmp_path / "few.npz"))
