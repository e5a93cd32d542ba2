"""Prediction ahead: ages, temperatures, yield; from a chip's record, from cells, from published models."""

from __future__ import annotations

import dataclasses
import json
import os
import weakref
from pathlib import Path

import numpy as np
import pytest

from cim.cells.history import CellHistory
from cim.cells.temperature import Thermal
from cim.record.calibration import CalibrationRecord, CellState
from cim.record.file import save_record
from hil.cli import run
from hil.datasets.image_set import Dataset, load_dataset
from hil.deployment.interim_looks import plan_images
from hil.deployment.options import DeployOptions
from hil.device_fit.result import fit_table
from hil.errors import MismatchError, UsageError
from hil.pages.summary import Fact
from hil.prediction.predict import VirtualRow, at_temperature, predict, record_or_nominal, with_stuck_cells
from hil.prediction.text import Distribution, Prediction, Yield
from hil.simulation.virtual_chip import VirtualChip
from hil.simulation.virtual_chips import VirtualChips
from hil.watch import Watch
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import Recipe

from ..conftest import Small
from ..device_fit.test_fitting import heavy_tailed
from ..fitting import every_answer_fits as every_answer_fits

OPTIONS = DeployOptions(samples=60, virtual_chips=4)


@pytest.fixture(scope="module")
def images(small: Small) -> Dataset:
    return load_dataset(small.data)


@pytest.fixture(scope="module")
def cells() -> CalibrationRecord:
    return fit_table(heavy_tailed()).record


def row(small: Small, record: CalibrationRecord, ages_s: tuple[float, ...], filled: tuple[int, ...] = ()) -> VirtualRow:
    return VirtualRow(small.program, record, filled, ages_s, record.temperature_c, OPTIONS, "exact")


# --- numbers ----------------------------------------------------------------------------------


def test_the_interval_of_one_chip_is_that_of_students_t() -> None:
    chips = np.array([0.895, 0.905] * 10)
    one = Distribution(chips, 10_000)
    assert one.mean == pytest.approx(0.9)
    sd = 0.005 * np.sqrt(20 / 19)
    assert one.sd == pytest.approx(sd)
    assert one.one_chip == pytest.approx(
        (0.9 - 2.0930 * sd * np.sqrt(1.05), 0.9 + 2.0930 * sd * np.sqrt(1.05)), abs=1e-5
    )


def test_equal_chips_still_differ_by_half_an_image() -> None:
    assert Distribution(np.full(5, 0.9), 100).sd == 0.005


def test_the_yield_is_a_share_with_wilsons_interval() -> None:
    found = Yield.of(np.repeat([0.91, 0.85], [93, 7]), 0.9)
    assert (found.reached, found.chips) == (93, 100)
    assert (found.low, found.high) == pytest.approx((0.8625, 0.9657), abs=5e-4)
    assert "93 of 100 chips reach 90.00 %: 93.0 %, 95 % interval 86.3 … 96.6 %" in found.words()
    assert Yield.of(np.array([0.9]), 0.9).reached == 1, "exactly the target counts"


def test_one_age_gives_what_deploy_expects_of_other_chips(small: Small, images: Dataset) -> None:
    found = predict(small.program, images, small.record, OPTIONS, Watch())
    again = VirtualChips(
        small.program, small.record, Recipe(reads=OPTIONS.read_back_reads), 4, 0, inputs=training_inputs(small.program)
    )
    assert found.accuracies.shape == (1, 4)
    assert found.source.startswith("calibration of emulated lab-128")
    order, _ = plan_images(images, small.program, OPTIONS)
    logits = again.run(images.images[order], 0, Watch())
    assert found.chips == pytest.approx((logits.argmax(-1) == images.labels[order]).mean(1))


def test_several_ages_give_a_table_in_order(small: Small, images: Dataset) -> None:
    found = predict(small.program, images, small.record, OPTIONS, Watch(), ages_s=(86400.0, 1.0, 86400.0), target=0.5)
    assert found.ages_s == (1.0, 86400.0)
    assert found.accuracies.shape == (2, 4)
    text = "\n".join(found.summary().lines())
    assert "1 s" in text
    assert "1 d" in text
    assert "yield at 50.0%" in text
    assert [age["age_s"] for age in found.to_json()["ages"]] == [1.0, 86400.0]


def test_a_virtual_chip_keeps_its_cells_from_age_to_age(small: Small, cells: CalibrationRecord) -> None:
    """Errors at 1 s and 10⁴ s correlate as the cells' law says; fresh draws would not."""
    record, _, _ = record_or_nominal(small.program, cells)
    early, late = 1.0, 10_000.0
    targets = np.full(20_000, 20.0)
    history = CellHistory(targets, record.programming, np.random.default_rng(0))
    errors = [history.read(t) - targets for t in (early, late)]
    seen = float(np.corrcoef(np.argsort(np.argsort(errors[0])), np.argsort(np.argsort(errors[1])))[0, 1])
    assert seen == pytest.approx(record.programming.correlation(early, late), abs=0.05)
    chips = list(row(small, record, (early, late)).chip(3, training_inputs(small.program)))
    assert len(chips) == 2
    assert chips[0].number == chips[1].number == 3


def test_chips_repeat_from_their_seed(small: Small, images: Dataset) -> None:
    ages = {"ages_s": (1.0, 3600.0)}
    once = small.once()  # with copies all these few images are right on every chip
    first, again = (predict(once, images, small.record, OPTIONS, Watch(), **ages) for _ in range(2))  # type: ignore[arg-type]
    other = predict(once, images, small.record, dataclasses.replace(OPTIONS, seed=1), Watch(), **ages)  # type: ignore[arg-type]
    assert np.array_equal(first.accuracies, again.accuracies)
    assert not np.array_equal(first.accuracies, other.accuracies)


def test_virtual_chips_are_let_go_one_after_the_other(
    small: Small, images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[VirtualChip] = weakref.WeakSet()
    most, make = [0], VirtualChips.chip

    def counted(self: VirtualChips, number: int) -> VirtualChip:
        chip = make(self, number)
        alive.add(chip)
        most[0] = max(most[0], len(alive))
        return chip

    monkeypatch.setattr(VirtualChips, "chip", counted)
    monkeypatch.setattr(VirtualChip, "__hash__", object.__hash__)
    chips = row(small, small.record, (3600.0,))
    chips = dataclasses.replace(chips, options=dataclasses.replace(OPTIONS, virtual_chips=12))
    assert len(list(chips.run(images.images[:2]))) == 12
    assert 1 <= most[0] <= 2 * (os.cpu_count() or 1)


# --- records without a chip -------------------------------------------------------------------


def test_without_a_record_the_models_of_the_chip_file_are_used_and_said(small: Small, images: Dataset) -> None:
    found = predict(small.program, images, None, OPTIONS, Watch())
    assert "simulated from published models, no chip measured" in found.source
    assert "10.1038/s41586-022-04992-8" in found.source
    assert "no macro was measured" in "\n".join(found.summary().lines())
    assert 0.5 < found.chips.mean() <= 1.0


def test_a_chip_file_without_models_asks_for_a_record(small: Small, images: Dataset) -> None:
    bare = dataclasses.replace(small.program, spec=dataclasses.replace(small.program.spec, models=None))
    with pytest.raises(UsageError, match="names no models"):
        predict(bare, images, None, OPTIONS, Watch())


def test_fitted_cells_simulate_with_columns_as_the_chip_file_says(
    small: Small, images: Dataset, cells: CalibrationRecord
) -> None:
    found = predict(small.program, images, cells, OPTIONS, Watch())
    assert found.source.startswith("cells of made.csv")
    assert "no macro was measured" in found.notes[0]
    record, _, _ = record_or_nominal(small.program, cells)
    assert set(record.macros) == set(small.program.macros)
    assert all((m.gain == 1).all() for m in record.macros.values())


def test_cells_of_a_narrower_window_are_said_to_be(small: Small, cells: CalibrationRecord) -> None:
    law = cells.programming
    narrow = dataclasses.replace(cells, programming=dataclasses.replace(law, levels_us=law.levels_us / 4))
    _, _, notes = record_or_nominal(small.program, narrow)
    assert any("beyond them the nearest level stands" in note for note in notes)


def test_chips_that_nobody_measured_draw_stuck_cells_of_their_own(small: Small, cells: CalibrationRecord) -> None:
    law = dataclasses.replace(cells.programming, stuck_low_share=0.1, stuck_high_share=0.02)
    record, _, _ = record_or_nominal(small.program, dataclasses.replace(cells, programming=law))
    part = with_stuck_cells(record.macros[0], record, small.program.spec, np.random.default_rng(0))
    assert (part.cells == CellState.STUCK_LOW).mean() == pytest.approx(0.1, abs=0.01)
    assert (part.cells == CellState.STUCK_HIGH).mean() == pytest.approx(0.02, abs=0.005)
    assert np.nanmin(part.stuck_us) == 2.0
    chips = row(small, record, (3600.0,), small.program.macros)
    a, b = (chips.record_of(n).macros[0].cells for n in (0, 1))
    assert not np.array_equal(a, b)


# --- temperature ------------------------------------------------------------------------------


def test_another_temperature_needs_coefficients(small: Small, images: Dataset) -> None:
    bare = dataclasses.replace(small.record, thermal=None)
    with pytest.raises(MismatchError, match="no temperature coefficients"):
        predict(small.program, images, bare, OPTIONS, Watch(), temperature_c=85.0)


def test_read_noise_grows_by_its_coefficient(small: Small) -> None:
    warm = dataclasses.replace(small.record, thermal=Thermal(25.0, 0.0, 0.0, 0.01))
    ratio = at_temperature(warm, 75.0).read_noise.variance_us2 / warm.read_noise.variance_us2
    assert ratio == pytest.approx(1.5)
    assert at_temperature(warm, -500.0).read_noise.variance_us2.min() > 0


def test_heat_ages_cells(small: Small, images: Dataset) -> None:
    """With 1 eV a day at 85 °C counts as 1,900 days: the chips spread, or at least lose, more."""
    options = dataclasses.replace(
        OPTIONS, recipe=OPTIONS.recipe.changed([], ["aims", "tune"])
    )  # else these few images are all but right at both
    warm = dataclasses.replace(small.record, thermal=Thermal(25.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.1))
    once = small.once()
    hot = predict(once, images, warm, options, Watch(), ages_s=(86400.0,), temperature_c=85.0)
    same = predict(once, images, warm, options, Watch(), ages_s=(86400.0,), temperature_c=25.0)
    plain = predict(once, images, small.record, options, Watch(), ages_s=(86400.0,))
    assert hot.temperature_c == 85.0
    assert np.array_equal(same.accuracies, plain.accuracies)
    assert not np.array_equal(hot.accuracies, same.accuracies)


# --- words and commands -----------------------------------------------------------------------


def made(chips: int = 40, ages: tuple[float, ...] = (3600.0,)) -> Prediction:
    accuracies = np.random.default_rng(2).binomial(500, 0.9, (len(ages), chips)) / 500
    return Prediction(0.92, accuracies, 500, ages, 25.0, "exact", "somewhere", ("a note",), 0.89)


def test_a_prediction_says_mean_interval_quantiles_and_yield() -> None:
    text = "\n".join(made().summary().lines())
    for word in ("40 virtual chips", "between chips", "one chip is expected in", "(95 %)", "reach 89.00 %"):
        assert word in text, text
    value = json.loads(json.dumps(made().to_json()))
    assert value["ages"][0]["yield"]["target"] == 0.89
    assert value["accuracy"]["simulated"]["interval"] == "prediction, one chip, 95 %"


def test_a_prediction_says_first_what_chips_lose_where_it_is_much() -> None:
    assert "Lost on the chips" not in str(made().summary().parts)
    first = dataclasses.replace(made(), ideal=0.99).summary().parts[0]
    assert isinstance(first, Fact)
    assert first.name == "Lost on the chips"
    assert first.text.endswith("points from a perfect chip to these")


def test_the_command_predicts_yield_at_several_ages(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["simulate", str(small.net), "--macros=4", "--data", str(small.data), "--samples=40", "--chips=3"]
    record = ["--calibration", str(small.record_file)]
    assert run([*arguments, *record, "--age", "1m,1d", "--target-accuracy", "80", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [age["age_s"] for age in value["ages"]] == [60.0, 86400.0]
    assert 0 <= value["ages"][1]["yield"]["share"] <= 1
    assert run([*arguments, "--age", "1d"]) == 0
    out = capsys.readouterr().out
    assert "published models, no chip measured" in out
    beside = [word for line in out.splitlines() for word in line.split()[:1] if word in ("float", "quantised")]
    assert beside == ["float", "quantised"], "what the network lost before any chip stands beside what is left"
    assert value["accuracy"]["float"] is not None


@pytest.mark.parametrize(
    "wrong",
    [
        ["--mode=turbo"],
        ["--temperature=warm"],
        ["--temperature=-300"],
        ["--target-accuracy=0"],
        ["--target-accuracy=101"],
        ["--age=1h,soon"],
        ["--chips=10000000"],
    ],
)
def test_options_that_make_no_sense_are_usage_errors(small: Small, wrong: list[str]) -> None:
    arguments = ["simulate", str(small.net), "--calibration", str(small.record_file), "--macros=4"]
    assert run([*arguments, "--data", str(small.data), "--samples=20", *wrong]) == 2


def test_a_fitted_record_is_taken_from_its_file(
    small: Small, cells: CalibrationRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_record(cells, tmp_path / "cells.h5")
    arguments = ["simulate", str(small.net), "--calibration", str(tmp_path / "cells.h5"), "--macros=4"]
    assert run([*arguments, "--data", str(small.data), "--samples=40", "--chips=3"]) == 0
    assert "cells of made.csv" in capsys.readouterr().out
