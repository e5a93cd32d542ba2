from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from search.choice.candidate_costs import Simulator, costs
from search.errors import SearchError, SearchFileError
from search.space.architecture import Architecture
from search.space.file import parse_space
from search.space.target import ChipTarget
from search.train.workers import workers

from ..small_spaces import SMALL

SPACE = parse_space(SMALL, "small.toml")
CHIP = ChipTarget(load_chip("lab-128"))


def networks(count: int) -> list[Architecture]:
    rng = np.random.default_rng(9)
    return [SPACE.decode(SPACE.sample(rng)) for _ in range(count)]


def test_workers_give_what_this_process_gives_in_order() -> None:
    asked = networks(30)
    said = []
    with workers(1) as client:
        simulate = Simulator(SPACE, CHIP, client=client, progress=lambda *step: said.append(step))
        assert simulate(asked) == costs(SPACE, CHIP, asked)
    different = len(set(asked))
    assert said[-1][:2] == (different, different)


def test_nobody_at_the_address_of_a_scheduler_is_an_error_that_says_what_to_start() -> None:
    with pytest.raises(SearchError, match="dask scheduler"), workers("tcp://127.0.0.1:9", timeout_s=0.5):
        pass


def test_each_network_is_simulated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate = Simulator(SPACE, CHIP)
    first = simulate(networks(10))
    monkeypatch.setattr("search.choice.candidate_costs.costs", lambda *_: pytest.fail("simulated again"))
    assert simulate(networks(10)) == first
    assert simulate.simulated == len(set(networks(10)))


def test_a_killed_run_loses_nothing_that_it_simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "costs.jsonl"
    whole = Simulator(SPACE, CHIP, store=store)(networks(20))
    text = store.read_text()
    store.write_text(text + text.splitlines()[-1][:30])  # stopped in the middle of a line
    monkeypatch.setattr("search.choice.candidate_costs.costs", lambda *_: pytest.fail("simulated again"))
    again = Simulator(SPACE, CHIP, store=store)
    assert again(networks(20)) == whole
    assert store.read_text() == text


def test_a_resumed_run_simulates_only_what_is_missing(tmp_path: Path) -> None:
    store = tmp_path / "costs.jsonl"
    Simulator(SPACE, CHIP, store=store)(networks(5))
    said = []
    resumed = Simulator(SPACE, CHIP, store=store, progress=lambda *step: said.append(step))
    resumed(networks(15))
    assert said[-1][1] == len(set(networks(15))) - len(set(networks(5)))


def test_costs_of_another_chip_or_space_are_refused(tmp_path: Path) -> None:
    store = tmp_path / "costs.jsonl"
    Simulator(SPACE, CHIP, store=store)(networks(2))
    with pytest.raises(SearchFileError, match="target lab-128"):
        Simulator(SPACE, ChipTarget(replace(CHIP.chip, macros=5)), store=store)
    other = parse_space(SMALL.replace("classes = 4", "classes = 5"), "other.toml")
    with pytest.raises(SearchFileError, match="space small"):
        Simulator(other, CHIP, store=store)


@pytest.mark.parametrize("text", ["", "nonsense\n", '{"format": "hil.front", "version": "1.0"}\n', "[]\n"])
def test_a_file_that_holds_no_costs_is_refused_and_not_touched(tmp_path: Path, text: str) -> None:
    store = tmp_path / "costs.jsonl"
    store.write_text(text)
    with pytest.raises(SearchFileError):
        Simulator(SPACE, CHIP, store=store)
    assert store.read_text() == text


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    store = tmp_path / "costs.jsonl"
    Simulator(SPACE, CHIP, store=store)(networks(3))
    lines = store.read_text().splitlines()
    lines[2] = json.dumps({"architecture": "x"})
    store.write_text("\n".join(lines) + "\n")
    with pytest.raises(SearchFileError, match=r"costs.jsonl:3: is not a candidate"):
        Simulator(SPACE, CHIP, store=store)
