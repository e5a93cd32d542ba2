"""The committed study holds: its counts reach the promise, and a few of its rows come out again."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


def load_study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("truth_and_belief", ROOT / "benchmarks" / "truth_and_belief.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["truth_and_belief"] = module
    spec.loader.exec_module(module)
    return module


study = load_study()
ROWS = {(int(r["seed"]), float(r["column_crosstalk"])): r for r in study.read_table(study.TABLE)}


def test_the_table_holds_twenty_seeds_with_and_without_the_unmodelled_effect() -> None:
    assert study.CROSSTALK > 0
    assert set(ROWS) == {(seed, crosstalk) for crosstalk in (0.0, study.CROSSTALK) for seed in study.SEEDS}


def test_the_unmodelled_effect_was_scaled_to_three_points_on_other_chips() -> None:
    scale = json.loads(study.SCALE.read_text("utf-8"))
    assert scale["column_crosstalk"] == study.CROSSTALK
    assert 0.025 <= scale["mean_loss"] <= 0.035


def test_the_verdict_agrees_with_modelled_chips_and_disagrees_with_the_others() -> None:
    counts = study.summary(list(ROWS.values()))
    assert counts["plain"]["agree"] >= 18
    assert counts["crosstalk"]["disagree"] >= 18


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("crosstalk", [0.0, study.CROSSTALK], ids=["plain", "crosstalk"])
def test_a_row_of_the_table_comes_out_again(seed: int, crosstalk: float) -> None:
    row, again = ROWS[seed, crosstalk], study.deploy_once(seed, crosstalk)
    assert again["verdict"] == row["verdict"]
    # Floating-point kernels differ between processors: a few images may answer otherwise.
    assert float(str(again["measured"])) == pytest.approx(float(row["measured"]), abs=0.01)
    assert again["unreached"] == pytest.approx(int(row["unreached"]), rel=0.02)
