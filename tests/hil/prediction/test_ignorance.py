"""A belief that knows how little it knows: intervals by ranges, their shares, and what measuring does to them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import chip_text, load_chip
from cim.chip.spec import ChipSpec
from cim.record.ignorance import BeliefPoints, MeasuredValue, measured_models, unmeasured_record
from hil.datasets.image_set import Dataset, load_dataset
from hil.deployment.options import DeployOptions
from hil.emulator.address import chip_from_address
from hil.errors import UsageError
from hil.pages.tables import Table
from hil.prediction.predict import predict
from hil.prediction.shares import Shrunk, shares
from hil.watch import Watch

from ..conftest import Small

OPTIONS = DeployOptions(samples=60, virtual_chips=24)


@pytest.fixture(scope="module")
def images(small: Small) -> Dataset:
    return load_dataset(small.data)


def unsure(spec: ChipSpec) -> ChipSpec:
    """The chip with two values known by ranges: one that matters much, one that hardly does."""
    assert spec.models is not None
    ranges = {"cell_error_factor": (0.5, 14.0), "wire_ohm": (0.9, 1.1)}
    return dataclasses.replace(spec, models=dataclasses.replace(spec.models, ranges=ranges))


def of(places: np.ndarray) -> BeliefPoints:
    count = places.shape[1]
    return BeliefPoints(tuple("abcdef"[:count]), np.zeros(count), np.ones(count), places)


def test_shares_are_those_that_a_score_was_made_with() -> None:
    rng = np.random.default_rng(0)
    places = rng.random((400, 3))
    score = 3.0 * (places[:, 0] - 0.5) + 1.0 * (places[:, 1] - 0.5) + 0.5 * rng.standard_normal(400)
    found = shares(of(places), score)
    assert found is not None
    whole = 9 / 12 + 1 / 12 + 0.25
    assert found.chips == pytest.approx(0.25 / whole, abs=0.05)
    assert found.of_values == pytest.approx(np.array([9 / 12, 1 / 12, 0.0]) / whole, abs=0.05)
    assert found.ignorance == pytest.approx(found.of_values.sum())
    assert next(found.largest_first())[0] == "a"


def test_a_score_that_bends_over_a_range_is_ignorance_too() -> None:
    rng = np.random.default_rng(1)
    places = rng.random((200, 2))
    found = shares(of(places), (2.0 * places[:, 0] - 1.0) ** 2 + 0.01 * rng.standard_normal(200))
    assert found is not None
    assert found.ignorance > 0.98


def test_chips_that_nothing_explains_are_not_called_ignorance() -> None:
    rng = np.random.default_rng(2)
    seen = [shares(of(rng.random((30, 4))), rng.standard_normal(30)) for _ in range(40)]
    assert np.mean([s.ignorance for s in seen if s is not None]) < 0.15


def test_few_chips_give_no_shares() -> None:
    assert shares(of(np.random.default_rng(3).random((8, 4))), np.arange(8.0)) is None


def test_a_prediction_by_ranges_says_what_is_ignorance_and_what_to_measure_first(small: Small, images: Dataset) -> None:
    program = dataclasses.replace(small.program, spec=unsure(small.program.spec))
    sure = predict(small.program, images, None, OPTIONS, Watch(), mode="fast")
    found = predict(program, images, None, OPTIONS, Watch(), mode="fast")
    assert found.chips.std() > 1.5 * sure.chips.std()
    (table,) = [part for part in found.summary().parts if isinstance(part, Table) and part.title == "Measure first"]
    assert table.rows[0][0] == "cell_error_factor"
    parts = found.shares_at(0)
    assert parts is not None
    sd_left = [float(row[3]) for row in table.rows]
    share = parts.of_values.max()
    assert sd_left[0] == pytest.approx(100 * parts.sd * (1 - share) ** 0.5, abs=0.006)
    assert sd_left[-1] == pytest.approx(100 * parts.sd * parts.chips**0.5, abs=0.006)
    assert sd_left == sorted(sd_left, reverse=True)
    assert "not knowing what chips of this kind are like" in str(found.summary().parts)
    assert found.to_json()["ages"][0]["shares"]["ignorance"] > 0.2
    assert sure.shares_at(0) is None


def test_few_chips_name_the_value_that_moves_the_score_and_the_step_that_measures_it(
    small: Small, images: Dataset
) -> None:
    program = dataclasses.replace(small.program, spec=unsure(small.program.spec))
    few = dataclasses.replace(OPTIONS, virtual_chips=3)
    found = predict(program, images, None, few, Watch(), mode="fast")
    (table,) = [part for part in found.summary().parts if isinstance(part, Table) and part.title == "Measure first"]
    assert [(row[0], row[3]) for row in table.rows] == [("cell_error_factor", "relaxation")]
    moved = {row["value"]: row["move"] for row in found.to_json()["moves"]}
    assert moved["cell_error_factor"] < -0.1 < moved["wire_ohm"]


def test_measuring_shows_the_interval_before_and_the_values_that_were_found(small: Small, images: Dataset) -> None:
    program = dataclasses.replace(small.program, spec=unsure(small.program.spec))
    found = predict(program, images, small.record, OPTIONS, Watch(), mode="fast")
    assert found.shrunk is not None
    low, high = found.shrunk.before
    after = found.at(0).one_chip
    assert after[1] - after[0] < high - low
    text = str(found.summary().parts)
    assert "by the chip file alone" in text
    assert "wire_ohm" in text


def test_a_measured_value_outside_its_range_is_named() -> None:
    ranges = {"wire_ohm": (0.5, 1.5), "conversion_noise_codes": (0.2, 0.8), "product_error": (0.0, 0.1)}
    found = Shrunk(
        ranges, {"wire_ohm": MeasuredValue(3.0, 0.2), "conversion_noise_codes": MeasuredValue(0.85, 0.1)}, (0.8, 0.9)
    )
    assert found.outside == ("wire_ohm",)
    (table,) = found.parts()
    assert isinstance(table, Table)
    assert [row[3] for row in table.rows] == ["outside", "", ""]
    assert table.rows[2][2] == "not measured"


def test_an_emulated_chip_senses_currents_only(tmp_path: Path) -> None:
    text, _ = chip_text("lab-128")
    key = "read_path = "
    path = tmp_path / "voltage.toml"
    path.write_text(text.replace(key, 'sensing = { value = "voltage", source = "assumed" }\n' + key, 1))
    with pytest.raises(UsageError, match="senses currents"):
        chip_from_address(f"emulated:{path}")


RANGES = {
    "cell_error_factor": (0.5, 1.5),
    "conversion_noise_codes": (0.2, 1.0),
    "wire_ohm": (0.5, 2.0),
    "column_gain_sigma": (0.01, 0.04),
    "inl_codes": (0.1, 1.5),
}


def test_a_chip_outside_one_range_is_named_for_that_value_alone() -> None:
    spec = load_chip("lab-128", macros=2)
    assert spec.models is not None
    ranges = {name: limits for name, limits in RANGES.items() if name != "inl_codes"}
    rng = np.random.default_rng(4)
    for truth in range(40):
        name = list(ranges)[truth % len(ranges)]
        values = {n: low + (high - low) * rng.uniform(0.2, 0.8) for n, (low, high) in ranges.items()}
        values[name] = ranges[name][1] * rng.uniform(1.5, 3.0)
        record = unmeasured_record(spec, (0, 1), dataclasses.replace(spec.models, **values), rng)
        found = Shrunk(ranges, measured_models(record, spec), (0.8, 0.9))
        assert found.outside == (name,)


def test_a_chip_just_inside_every_range_is_named_for_none() -> None:
    spec = load_chip("lab-128", macros=2)
    assert spec.models is not None
    rng, named, found = np.random.default_rng(8), [], []
    for _ in range(40):
        values = {name: low + 0.97 * (high - low) for name, (low, high) in RANGES.items()}
        record = unmeasured_record(spec, (0, 1), dataclasses.replace(spec.models, **values), rng)
        measured = measured_models(record, spec)
        named += Shrunk(RANGES, measured, (0.8, 0.9)).outside
        found.append(measured["inl_codes"].value)
    assert len(named) <= 4
    assert np.mean(found) == pytest.approx(0.1 + 0.97 * 1.4, rel=0.05)


def test_the_interval_of_a_belief_by_ranges_is_as_lopsided_as_the_belief() -> None:
    rng = np.random.default_rng(5)

    def scores(places: np.ndarray) -> np.ndarray:
        lost = 0.1 * places[:, 0] ** 2 + 0.01 * places[:, 1]
        return np.asarray(0.9 - lost + 0.004 * rng.standard_normal(len(places)))

    truths = scores(rng.random((2000, 3)))
    inside, widths = [], []
    for _ in range(20):
        places = np.stack([rng.permutation(150) for _ in range(3)], 1) / 150
        found = shares(of(places), scores(places))
        assert found is not None
        assert found.one_chip is not None
        low, high = found.one_chip
        inside.append(((truths >= low) & (truths <= high)).mean())
        widths.append((high - low) / np.subtract(*np.quantile(truths, (0.975, 0.025))))
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)
    assert max(widths) < 1.15


def test_chips_that_differ_more_where_they_lose_more_are_missed_on_neither_side_too_often() -> None:
    rng = np.random.default_rng(6)

    def scores(places: np.ndarray) -> np.ndarray:
        lost = 0.1 * places[:, 0]
        return np.asarray(0.9 - lost + (0.001 + 0.4 * lost) * rng.standard_normal(len(places)))

    truths = scores(rng.random((4000, 3)))
    below, above = [], []
    for _ in range(30):
        places = np.stack([rng.permutation(150) for _ in range(3)], 1) / 150
        found = shares(of(places), scores(places))
        assert found is not None
        assert found.one_chip is not None
        below.append((truths < found.one_chip[0]).mean())
        above.append((truths > found.one_chip[1]).mean())
    assert np.mean(below) < 0.035
    assert np.mean(above) < 0.035
    assert np.mean(below) + np.mean(above) == pytest.approx(0.05, abs=0.015)
