"""Products of a bench are those of the same die through frames, within one code of the stated resolution."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from firmware_protocols.messages import Mvm, MvmResult, Returns, TileAddress
from hil.emulator.chip import EmulatedChip
from hil.server.bench.bench_file import load_bench
from hil.server.bench.chip import BenchChip
from hil.server.bench.fixture import Fixture
from tests.hil.bench.benches import WRITTEN, StillClock, write_arc_two, write_bench
from tests.hil.bench.served import bench_served

REPEATS = 40
AS_DESCRIBED = {  # a die whose converters, wires and reads add nothing of their own
    "column_gain_sigma": 0.0, "adc_offset_codes": 0.0, "inl_lsb": 0.0, "wire_ohm": 0.0, "read_variance_us2": 0.0,
    "sense_gain_sigma": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("bench_of", ["row-board, one row at once", "row-board, all rows at once", "arc-two"])
def test_products_are_those_of_the_die_through_frames_within_one_code(bench_of: str, tmp_path: Path) -> None:
    if bench_of == "arc-two":
        path = write_arc_two(tmp_path)
    else:
        edit = {"rows_at_once = 1": "rows_at_once = 32"} if "all" in bench_of else {}
        path = write_bench(tmp_path, port=str(tmp_path / "board"), edit=edit)
    bench = load_bench(path)
    die = EmulatedChip(bench.chip, 7, AS_DESCRIBED)
    codes = np.random.default_rng(1).integers(0, 256, (3, 32)).astype(np.int16)
    request = Mvm(Returns.RAW, TileAddress(0, 0, 32, 0, 16), 0, 7, 8, False, 1, 1, 0, codes)
    through_frames = _whole(die.mvm(request)).values
    with bench_served(bench, die, StillClock()), contextlib.closing(BenchChip(bench)) as chip:
        chip.switch_on()
        through_bench = _whole(chip.mvm(request)).values
    assert np.abs(through_frames).max() > 100
    assert np.abs(through_bench - through_frames).max() <= 1


def test_computed_products_have_the_read_noise_of_the_die_through_frames(tmp_path: Path) -> None:
    path = write_bench(tmp_path, port=str(tmp_path / "board"))
    bench = load_bench(path)
    die = EmulatedChip(bench.chip, 7, {**AS_DESCRIBED, "read_variance_us2": 1.0})
    codes = np.full((1, 32), 255, np.int16)

    def variance(chip: EmulatedChip | BenchChip) -> float:
        requests = [
            Mvm(Returns.RAW, TileAddress(0, 0, 32, 0, 16), 0, 7, 8, False, n, 1, 0, codes) for n in range(REPEATS)
        ]
        planes = np.array([_whole(chip.mvm(request)).values[0] for request in requests])  # (repeats, planes, outputs)
        sums = np.tensordot(planes, 2.0 ** np.arange(planes.shape[1]), (1, 0))
        return float(sums.var(0, ddof=1).mean())

    through_frames = variance(die)
    with bench_served(bench, die, StillClock()), contextlib.closing(BenchChip(bench)) as chip:
        chip.switch_on()
        through_bench = variance(chip)
    assert 0.7 < through_bench / through_frames < 1.4


def test_lines_of_a_cell_are_connected_once_for_all_planes_of_a_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = load_bench(WRITTEN["b1500a"](tmp_path))
    connected, connect = list[object](), Fixture.open

    def counted(fixture: Fixture, macro: int, row: object, column: object, count: int) -> None:
        connected.append((row, column))
        connect(fixture, macro, row, column, count)

    monkeypatch.setattr(Fixture, "open", counted)
    codes = np.array([[255, 255, 15, 0], [1, 0, 16, 0]], np.int16)  # the last row is driven by nobody
    request = Mvm(Returns.RAW, TileAddress(0, 0, 4, 0, 2), 0, 7, 8, False, 1, 1, 0, codes)
    with bench_served(bench, EmulatedChip(bench.chip, 7), StillClock()), contextlib.closing(BenchChip(bench)) as chip:
        chip.switch_on()
        assert _whole(chip.mvm(request)).values.any()
    assert len(connected) == len(set(connected)) == 3 * 4  # rows that are driven, and two pairs of bit lines


def _whole(steps: Generator[None, None, MvmResult]) -> MvmResult:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: MvmResult = end.value
            return found
