"""Numbers that no chip gives: a record that holds one is refused where it is read."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from cim.cells.programming_law import redraw_law
from cim.cells.temperature import Thermal
from cim.cells.write_statistics import WriteStatistics
from cim.record.file import RecordFileError, load_record, save_record

from .test_calibration import small_record

LEVELS = 8
FULL = dataclasses.replace(
    small_record(),
    thermal=Thermal(25.0, 1e-3, 1e-5),
    writes=WriteStatistics(
        small_record().programming.levels_us,
        np.full(LEVELS, 100),
        np.full(LEVELS, 90),
        np.array([0.0, 0.5, 1.0]),
        np.tile([1.0, 5.0, 50.0], (LEVELS, 1)),
    ),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("records") / "record.h5"
    save_record(FULL, path)
    return path


def places(path: Path) -> Iterator[tuple[str, str]]:
    """Group and name of every number in the file that a float can be written to."""
    with h5py.File(path) as file:
        groups = ["/"]
        file.visititems(lambda name, item: groups.append(name) if isinstance(item, h5py.Group) else None)
        for group in groups:
            sets = ((n, item) for n, item in file[group].items() if isinstance(item, h5py.Dataset))
            yield from ((group, n) for n, item in sets if item.size and item.dtype.kind == "f")
            yield from ((group, n) for n, value in file[group].attrs.items() if isinstance(value, float))


def changed(path: Path, into: Path, group: str, name: str, value: float) -> Path:
    shutil.copy(path, into)
    with h5py.File(into, "r+") as file:
        if name in file[group]:
            file[group][name][...] = value
        else:
            file[group].attrs[name] = value
    return into


def test_no_number_of_a_record_is_believed_that_no_chip_gives(whole: Path, tmp_path: Path) -> None:
    tried = list(places(whole))
    assert {("macros/3", "gain"), ("programming", "loc_us"), ("wire", "ohm"), ("/", "temperature_c")} <= set(tried)
    assert len(tried) > 40
    believed = []
    for group, name in tried:
        for value in (-1e30, 1e30):
            path = changed(whole, tmp_path / "bad.h5", group, name, value)
            with contextlib.suppress(RecordFileError):
                load_record(path)
                believed.append((group, name, value))
    assert believed == []


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        ("/", "temperature_c", -300.0),
        ("/", "age_s", -1.0),
        ("macros/3", "cells", 7),
        ("macros/3", "gain", -1e4),
        ("macros/3", "gain_se", -1.0),
        ("macros/3", "conversion_noise_codes", -1.0),
        ("macros/3", "stuck_us", 1e12),
        ("programming", "stuck_low_share", 1.5),
        ("programming", "unreached_share", -0.1),
        ("read_noise", "variance_us2", -1.0),
        ("writes", "cells", -1),
    ],
)
def test_the_place_and_what_is_plausible_are_named(
    whole: Path, tmp_path: Path, group: str, name: str, value: float
) -> None:
    path = changed(whole, tmp_path / "bad.h5", group, name, value)
    with pytest.raises(RecordFileError, match=rf"{name} holds .* are plausible|more cells reached"):
        load_record(path)


def test_errors_that_know_nothing_still_draw_a_law() -> None:
    law = FULL.programming
    n = 5 * law.loc_us.size + 1
    wide = dataclasses.replace(law, wide_share=np.full(law.loc_us.shape, 0.2), covariance=1e6 * np.eye(n))
    for seed in range(20):
        drawn = redraw_law(wide, np.random.default_rng(seed))
        assert np.isfinite(drawn.wide_share).all()
        assert np.isfinite(drawn.wide_ratio)


def test_a_record_as_it_was_measured_is_read(whole: Path) -> None:
    assert load_record(whole).serial == "7"
