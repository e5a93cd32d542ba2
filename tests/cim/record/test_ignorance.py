"""Chips before one was measured: points of ranges, columns of their own, and what a record says of a chip file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.chip.spec import ChipSpec, ModelSpec
from cim.record.ignorance import belief_points, measured_models, unmeasured_record
from cim.record.published import nominal_record

LAB = load_chip("lab-128", macros=2)


def about(**values: object) -> ModelSpec:
    assert LAB.models is not None
    return replace(LAB.models, **values)  # type: ignore[arg-type]


def spec(**values: object) -> ChipSpec:
    return replace(LAB, models=about(**values))


def test_points_lie_evenly_over_every_range() -> None:
    ranges = {"wire_ohm": (0.0, 4.0), "conversion_noise_codes": (0.2, 1.0)}
    points = belief_points(about(ranges=ranges), 50, np.random.default_rng(0))
    assert points.names == ("conversion_noise_codes", "wire_ohm")
    parts = np.sort(np.floor(points.places * 50), axis=0)
    assert (parts == np.arange(50)[:, None]).all()
    assert points.values[:, 1].min() >= 0.0
    assert points.values[:, 1].max() <= 4.0
    assert points.models(about(ranges=ranges), 7).wire_ohm == points.values[7, 1]


def test_a_chip_that_nobody_measured_has_columns_of_the_spreads_that_its_file_says() -> None:
    models = about(column_gain_sigma=0.05, column_offset_codes=2.0, inl_codes=0.7)
    record = unmeasured_record(LAB, (0, 1), models, np.random.default_rng(1))
    gains = np.concatenate([m.gain for m in record.macros.values()])
    offsets = np.concatenate([m.offset_codes for m in record.macros.values()])
    curves = np.concatenate([m.inl_codes for m in record.macros.values()])
    assert gains.std() == pytest.approx(0.05, rel=0.2)
    assert offsets.std() == pytest.approx(2.0, rel=0.2)
    assert (curves - curves.mean(1, keepdims=True)).std() == pytest.approx(0.7, rel=0.5)
    assert curves[:, curves.shape[1] // 2] == pytest.approx(0.0)


def test_the_size_of_a_laws_errors_is_a_factor_of_its_own() -> None:
    plain, half = (nominal_record(spec(cell_error_factor=f)).programming for f in (1.0, 0.5))
    assert half.scale_us == pytest.approx(plain.scale_us / 2)


def test_cells_that_miss_their_window_end_where_the_file_says() -> None:
    from cim.record.device import draw_programming

    record = nominal_record(spec(unreached_share=0.5, unreached_us=(-8.0,), cell_error_factor=0.0))
    cells = draw_programming(np.full((128, 128), 15.0, np.float32), record, 0, 3600.0, np.random.default_rng(2))
    assert (np.abs(cells - 7.0) < 0.01).mean() == pytest.approx(0.5, abs=0.05)


def test_what_a_record_says_of_the_files_values_is_what_it_was_drawn_with() -> None:
    models = about(
        column_gain_sigma=0.05, column_offset_codes=2.0, conversion_noise_codes=0.8, wire_ohm=1.7, read_variance_us2=2.5
    )
    record = unmeasured_record(LAB, (0, 1), models, np.random.default_rng(3))
    found = measured_models(record, LAB)
    assert found["column_gain_sigma"].value == pytest.approx(0.05, rel=0.2)
    assert found["column_offset_codes"].value == pytest.approx(2.0, rel=0.2)
    assert found["conversion_noise_codes"].value == pytest.approx(0.8)
    assert found["wire_ohm"].value == pytest.approx(1.7)
    assert found["read_variance_us2"].value == pytest.approx(2.5)
    assert found["cell_error_factor"].value == pytest.approx(1.0, rel=0.05)
    assert "product_error" not in found
