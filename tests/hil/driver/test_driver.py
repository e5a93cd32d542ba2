"""The driver against an exact chip, over every kind of wire: same results, same messages."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cim.chip.correction import nominal_correction
from cim.chip.file import load_chip
from cim.chip.windows import Window
from firmware_protocols.messages import Capability, ErrorCode, LayerTile, LoadLayer, Returns, TileAddress
from hil.driver.chip_driver import ChipDriver
from hil.driver.counting.wire_cost import framed_bytes, wire_estimate
from hil.driver.open_chip import open_chip
from hil.driver.requests import (
    ReadMode,
    conductance_unit_ns,
    mvm_requests,
    program_requests,
    read_requests,
    sweep_requests,
    to_counts,
    to_microsiemens,
)
from hil.driver.session import Session
from hil.errors import DeviceError, LinkError, UsageError
from hil.server.serve import serving
from hil.transports.in_process import InProcessTransport

from ..fake_chip import ALL, FakeChip, small_spec
from ..wires import WIRES, messages, over

SPEC = small_spec()


def in_process(chip: FakeChip, log: Path | None = None) -> contextlib.AbstractContextManager[ChipDriver]:
    return over("in process", chip, chip.spec, log=log)


TILE = TileAddress(macro=1, row0=2, rows=9, output0=1, outputs=5)
WINDOW = Window(channels=2, height=6, width=5, kernel=(3, 3), stride=(2, 1), padding=(1, 1))


def levels(rows: int, outputs: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-7, 8, (rows, outputs)).astype(np.int8)


def maps(images: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 16, (images, 2, 6, 5)).astype(np.int16)


def everything(driver: ChipDriver) -> list[np.ndarray]:
    """A short session that uses every verb; returns all that came back."""
    weights = levels(TILE.rows, TILE.outputs)
    written = driver.program_tile(TILE, weights, sample=3)
    cells = driver.read_cells(1, reads=2, sample=4)
    codes = np.random.default_rng(3).integers(0, 256, (700, TILE.rows)).astype(np.int16)
    sums = driver.mvm(TILE, codes, sample=5, vectors_per_sample=7)
    raw = driver.mvm(TILE, codes[:3], returns=Returns.RAW)
    tile = dataclasses.replace(TILE, row0=0, rows=9)
    swept = driver.sweep(tile, maps(4), WINDOW, row_skip=6, input_bits=4, sample=9)
    driver.wait(130.0)
    driver.hold_program(bytes(range(32)))
    status = driver.status()
    driver.outputs_off()
    assert driver.counters["requests"] == driver.counters["replies"]
    return [written.readings_us, written.pulses, written.reached, cells, sums.values, raw.values, swept.values,
            np.array([driver.chip_time_ns, status.outputs_on])]  # fmt: skip


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[np.ndarray], list[tuple[int, bytes | str]]]:
    log = tmp_path_factory.mktemp("reference") / "wire.log"
    with in_process(FakeChip(SPEC), log) as driver:
        results = everything(driver)
    return results, messages(log)


@pytest.mark.parametrize("kind", WIRES[1:])
def test_every_wire_carries_the_same_messages_and_gives_the_same_results(
    kind: str, tmp_path: Path, reference: tuple[list[np.ndarray], list[tuple[int, bytes | str]]]
) -> None:
    log = tmp_path / "wire.log"
    chip = FakeChip(SPEC)
    with over(kind, chip, SPEC, tmp_path, log) as driver:
        results = everything(driver)
    for got, wanted in zip(results, reference[0], strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert messages(log) == reference[1]
    assert not chip.outputs_on


def test_products_are_exact() -> None:
    weights = levels(TILE.rows, TILE.outputs)
    codes = np.random.default_rng(3).integers(0, 256, (50, TILE.rows)).astype(np.int16)
    with in_process(FakeChip(SPEC)) as driver:
        driver.program_tile(TILE, weights)
        np.testing.assert_array_equal(driver.mvm(TILE, codes).values, codes @ weights.astype(np.int32))
        signed = (codes - 128).astype(np.int16)
        np.testing.assert_array_equal(
            driver.mvm(TILE, signed, input_signed=True).values, signed @ weights.astype(np.int32)
        )


def test_requests_are_split_to_what_the_chip_takes() -> None:
    codes = np.ones((100, TILE.rows), np.int16)
    reading = ReadMode(0, 8, False, 7, Returns.SUMS)
    parts = list(
        mvm_requests(SPEC, TILE, codes, reading, outputs=5, vectors_per_sample=4, first_vector=2, max_message=512)
    )
    assert len(parts) == 6  # 19 answers of 20 bytes in 384
    assert [p.first_vector for p in parts] == [2 + 19 * i for i in range(6)]
    np.testing.assert_array_equal(np.concatenate([p.codes for p in parts]), codes)
    swept = list(sweep_requests(SPEC, TILE, maps(5), WINDOW, reading, outputs=5, max_message=1024))
    assert [(s.sample, len(s.codes)) for s in swept] == [(7, 2), (9, 2), (11, 1)]
    blocks = [r.cells for r in read_requests(SPEC, 1, 1, 0, max_message=256, lines=None, unit_ns=1)]
    assert [(b.row0, b.rows) for b in blocks] == [(0, 4), (4, 4), (8, 4), (12, 4)]


def test_split_and_whole_give_the_same_results() -> None:
    results = []
    for most in (400, 1 << 18):
        with in_process(FakeChip(SPEC)) as driver:
            driver._most = most
            results.append(everything(driver)[:-1])
    for small, large in zip(*results, strict=True):
        np.testing.assert_array_equal(small, large)


def test_a_message_that_cannot_be_split_is_refused_with_numbers() -> None:
    with in_process(FakeChip(SPEC)) as driver:
        driver._most = 130
        with pytest.raises(DeviceError, match="bytes, the chip takes messages of 130"):
            driver.mvm(TILE, np.ones((1, TILE.rows), np.int16))


@pytest.mark.parametrize(
    ("without", "note"),
    [
        (Capability.SWEEP, "unfolded by the host"),
        (Capability.SUMS, "bit planes added by the host"),
        (Capability.SWEEP | Capability.SUMS, "unfolded by the host"),
    ],
)
def test_what_the_chip_cannot_do_is_done_here_with_the_same_results_and_noted(without: Capability, note: str) -> None:
    results = []
    for capabilities in (ALL, ALL & ~without):
        with in_process(FakeChip(SPEC, capabilities)) as driver:
            results.append(everything(driver)[:-1])
            if capabilities != ALL:
                assert any(note in text for text in driver.fallbacks)
            else:
                assert not driver.fallbacks
    for whole, reduced in zip(*results, strict=True):
        np.testing.assert_array_equal(whole, reduced)


def test_a_chip_without_wait_is_waited_for() -> None:
    slept: list[float] = []
    chip = FakeChip(SPEC, ALL & ~Capability.WAIT)
    session = Session(InProcessTransport(chip, "in process"))
    session.open()
    with ChipDriver(session, chip.describe(), SPEC, sleep=slept.append) as driver:
        driver.wait(3600.0)
    assert slept == [3600.0]
    assert "wait" in driver.fallbacks[0]


def test_a_long_wait_is_cut_into_at_most_sixty() -> None:
    chip = FakeChip(SPEC)
    with in_process(chip) as driver:
        before = driver.counters["requests"]
        driver.wait(30 * 86400.0)
        assert driver.counters["requests"] - before == 60
    assert chip.time_ns == 30 * 86400 * 10**9


def test_host_run_write_verify_reaches_targets_and_reports_stuck_cells() -> None:
    chip = FakeChip(SPEC, ALL & ~Capability.PROGRAM_TILE)
    chip.stuck[1, 2, 2] = True
    targets = np.full((16, 16), np.nan, np.float32)
    targets[2:11, 2:12] = np.random.default_rng(0).choice(SPEC.macro.levels_us, (9, 10))
    targets[2, 2] = 40.0
    seen: list[tuple[int, int, int]] = []
    with in_process(chip) as driver:
        outcome = driver.program_cells(1, targets, progress=lambda *p: seen.append(p))
        assert "pulses chosen by the host" in driver.fallbacks[0]
    used = np.isfinite(targets)
    assert not outcome.reached[2, 2]
    assert outcome.pulses[2, 2] == SPEC.write.max_pulses
    assert (used & ~outcome.reached).sum() == 1
    good = used & outcome.reached
    assert np.abs(outcome.readings_us - targets)[good].max() <= SPEC.macro.tolerance_us + 1e-3
    assert outcome.pulses[~used].sum() == 0
    assert chip.pulses == outcome.pulses.sum() - SPEC.write.max_pulses  # the stuck cell took none
    assert seen[-1][1] == used.sum()
    assert len(set(chip.samples)) == len(chip.samples)  # each verify reads with fresh noise


def test_voltages_grow_while_the_direction_stays_and_never_pass_the_stop() -> None:
    class Recorder(FakeChip):
        volts: list[int]

        def pulse(self, request):  # type: ignore[no-untyped-def]
            self.volts.append(int(request.millivolts.max()))
            return super().pulse(request)

    chip = Recorder(SPEC, ALL & ~Capability.PROGRAM_TILE, step_us=0.0)
    chip.volts = []
    targets = np.full((16, 16), np.nan, np.float32)
    targets[0, 0] = 30.0
    with in_process(chip) as driver:
        driver.program_cells(0, targets)
    write = SPEC.write
    assert chip.volts[:3] == [1200, 1300, 1400]
    assert max(chip.volts) == round(write.set_stop_v * 1000)
    assert len(chip.volts) == write.max_pulses


def test_whole_layers_run_on_the_chip() -> None:
    weights = levels(TILE.rows, TILE.outputs)
    correction = nominal_correction(SPEC.macro, 0, weights, 4, False)
    ones = np.ones(5, np.int32)
    tile = LayerTile(TILE, 0, 0, 1, correction.shift, correction.gain, correction.offset, correction.input_gain)
    layer = LoadLayer(3, 9, 5, -50, 50, 2 * ones, ones, 0 * ones, (tile,))
    codes = np.random.default_rng(3).integers(0, 16, (20, TILE.rows)).astype(np.int16)
    wanted = np.clip(codes @ weights.astype(np.int32) + 2, -50, 50)
    window = Window(channels=1, height=3, width=3, kernel=(3, 3))
    for capabilities in (ALL, ALL & ~Capability.SWEEP):
        with in_process(FakeChip(SPEC, capabilities)) as driver:
            driver.program_tile(TILE, weights)
            driver.load_layer(layer)
            np.testing.assert_array_equal(driver.run_layer(3, codes, input_bits=4).values, wanted)
            swept = driver.run_layer(3, codes.reshape(20, 1, 3, 3), window=window, input_bits=4)
            np.testing.assert_array_equal(swept.values, wanted)
    with in_process(FakeChip(SPEC, ALL & ~Capability.LAYER)) as driver:
        with pytest.raises(DeviceError, match="no LAYER"):
            driver.load_layer(layer)
        with pytest.raises(UsageError, match="not loaded"):
            driver.run_layer(3, codes)


def test_limits_are_refused_before_anything_is_sent() -> None:
    hot = dataclasses.replace(SPEC, write=dataclasses.replace(SPEC.write, set_stop_v=4.2))
    chip = FakeChip(hot)
    with in_process(chip) as driver:
        targets = np.full((16, 16), 20.0, np.float32)
        before = driver.counters["requests"]
        with pytest.raises(DeviceError, match=r"SET voltage of 4\.2 V is above the absolute limit of 4 V"):
            driver.program_cells(0, targets)
        assert driver.counters["requests"] == before


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda d: d.read_cells(9), "macro 9"),
        (lambda d: d.program_cells(0, np.zeros((3, 3))), "targets are"),
        (lambda d: d.program_cells(0, np.full((16, 16), 90.0)), "90 µS"),
        (lambda d: d.mvm(TILE, np.full((1, 9), 256, np.int16)), "do not fit"),
        (lambda d: d.mvm(TILE, np.full((1, 8), 1, np.int16)), "codes are"),
        (lambda d: d.mvm(TILE, np.zeros((0, 9), np.int16)), "at least one"),
        (lambda d: d.mvm(TILE, np.ones((1, 9), np.int16), range_code=5), "ADC range 5"),
        (lambda d: d.mvm(dataclasses.replace(TILE, outputs=20), np.ones((1, 9), np.int16)), "do not fit"),
        (lambda d: d.sweep(TILE, maps(1), WINDOW, row_skip=12), "rows up to 21"),
        (lambda d: d.sweep(TILE, maps(1)[:, :1], WINDOW), "maps are"),
        (lambda d: d.program_tile(TILE, np.full((9, 5), 8, np.int8)), "level 8"),
        (lambda d: d.wait(-1.0), "cannot wait"),
    ],
)
def test_wrong_wishes_are_usage_errors_and_send_nothing(wrong: Callable[[ChipDriver], object], text: str) -> None:
    with in_process(FakeChip(SPEC)) as driver:
        before = driver.counters["requests"]
        with pytest.raises(UsageError, match=text):
            wrong(driver)
        assert driver.counters["requests"] == before


def test_a_refusal_is_a_device_error_that_names_request_and_numbers() -> None:
    chip = FakeChip(dataclasses.replace(SPEC, macros=1))
    session = Session(InProcessTransport(chip, "in process"))
    session.open()
    with ChipDriver(session, chip.describe(), SPEC) as driver:  # the file says two macros
        with pytest.raises(DeviceError, match="ReadCells on macro 1") as raised:
            driver.read_cells(1)
        assert ErrorCode.OUT_OF_RANGE.name.lower() in str(raised.value)
        assert driver.read_cells(0).shape == (16, 16)  # the session goes on


def test_a_fault_in_a_board_sdk_is_a_device_error_and_the_outputs_are_off() -> None:
    class Broken(FakeChip):
        def mvm(self, request):  # type: ignore[no-untyped-def]
            raise RuntimeError("SDK lost its licence")

    chip = Broken(SPEC)
    with in_process(chip) as driver:
        driver.program_tile(TILE, levels(9, 5))
        assert chip.outputs_on
        with pytest.raises(DeviceError, match="SDK lost its licence"):
            driver.mvm(TILE, np.ones((1, 9), np.int16))
        assert not chip.outputs_on


@pytest.mark.parametrize("end", [ValueError("user code"), KeyboardInterrupt(), None])
def test_outputs_go_off_however_the_block_ends(end: BaseException | None) -> None:
    chip = FakeChip(SPEC)
    with contextlib.suppress(ValueError, KeyboardInterrupt), in_process(chip) as driver:
        driver.program_tile(TILE, levels(9, 5))
        assert chip.outputs_on
        if end is not None:
            raise end
    assert not chip.outputs_on


def test_ctrl_c_while_a_request_runs_leaves_the_outputs_off() -> None:
    class Interrupted(FakeChip):
        def mvm(self, request):  # type: ignore[no-untyped-def]
            raise KeyboardInterrupt

    chip = Interrupted(SPEC)
    with contextlib.suppress(KeyboardInterrupt), in_process(chip) as driver:
        driver.program_tile(TILE, levels(9, 5))
        driver.mvm(TILE, np.ones((1, 9), np.int16))
        pytest.fail("the interrupt was swallowed")
    assert not chip.outputs_on


def test_a_chip_that_acknowledges_but_never_answers_is_given_up() -> None:
    chip = FakeChip(SPEC)
    with over("tcp", chip, SPEC) as driver:
        driver._session._answer_s = 0.3
        chip.hang.set()
        with pytest.raises(LinkError, match="no answer to Mvm on macro 1"):
            driver.mvm(TILE, np.ones((1, 9), np.int16))
        chip.hang.clear()


def test_a_chip_that_works_longer_than_the_silence_limit_is_waited_for() -> None:
    chip = FakeChip(SPEC)
    chip.slow_s = 1.5
    with serving(chip, "tcp://127.0.0.1:0") as address, open_chip(address, chip=SPEC, silence_s=0.4) as driver:
        assert driver.mvm(TILE, np.ones((1, 9), np.int16)).values.shape == (1, 5)


def test_progress_counts_over_all_blocks() -> None:
    seen: list[tuple[int, int, int]] = []
    with in_process(FakeChip(SPEC)) as driver:
        driver._most = 128 + 5 * 16 * 4
        driver.program_cells(0, np.full((16, 16), 20.0), progress=lambda *p: seen.append(p))
    assert seen[-1] == (256, 256, 0)
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


@pytest.mark.parametrize("name", ["lab-128", "neurram-256", "a111", "yao-2020"])
def test_counts_hold_every_level_and_outliers_exactly_enough(name: str) -> None:
    macro = load_chip(name).macro
    unit = conductance_unit_ns(macro)
    values = np.array([*macro.levels_us, 1.5 * macro.levels_us[-1], np.nan], np.float32)
    counts = to_counts(values, unit)
    assert counts[-1] == 0xFFFF
    assert np.abs(to_microsiemens(counts[:-1], unit) - values[:-1]).max() <= unit / 2000 + 1e-4
    assert unit / 1000 < macro.tolerance_us / 20


def test_the_estimate_equals_what_goes_over_the_wire() -> None:
    targets = np.full((16, 16), 20.0, np.float32)
    requests = program_requests(SPEC, 0, targets, 0, 1 << 18)
    estimate = wire_estimate(SPEC, requests, payload=4096)
    with over("tcp", FakeChip(SPEC), SPEC) as driver:  # not a serial line, on which bodies are packed
        before = driver.counters
        driver.program_cells(0, targets)
        after = driver.counters
    sent = after["bytes_sent"] - before["bytes_sent"]
    assert abs(sent - estimate.bytes_out) <= 0.1 * sent
    assert estimate.bytes_in >= 0.8 * (after["bytes_received"] - before["bytes_received"]) - 128
    assert estimate.seconds(9600) == max(estimate.bytes_out, estimate.bytes_in) / 960
    assert framed_bytes(512) == framed_bytes(512, 512) > 512


def test_a_map_whose_raw_answer_is_too_long_is_unfolded_here() -> None:
    tile = dataclasses.replace(TILE, row0=0)
    results = []
    for most, capabilities in ((1 << 18, ALL), (600, ALL & ~Capability.SUMS)):  # raw: 15 x 8 x 5 conversions a map
        with in_process(FakeChip(SPEC, capabilities)) as driver:
            driver._most = most
            driver.program_tile(tile, levels(tile.rows, tile.outputs))
            results.append(driver.sweep(tile, maps(3), WINDOW, row_skip=6, input_bits=8))
            unfolded = [text for text in driver.fallbacks if text.startswith("sweep")]
    assert unfolded
    np.testing.assert_array_equal(results[0].values, results[1].values)
    assert results[0].conversions == results[1].conversions
