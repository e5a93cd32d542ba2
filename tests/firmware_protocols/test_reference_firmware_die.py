"""The die model in C does what its laws say: seen through the wire only, and in its ideal limits."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.chip.converters import input_planes as planes_of
from cim.chip.converters import quantise_adc, shift_add, split_planes
from cim.chip.correction import Correction, apply_correction, round_shift
from cim.chip.file import load_chip
from firmware_protocols.codec import decode, encode
from firmware_protocols.frames import Flag, Frame, FrameReader, encode_frame
from firmware_protocols.messages import (
    READ_STEP,
    CellBlock,
    Hello,
    KernelWindow,
    LayerTile,
    LoadLayer,
    Mvm,
    ProgramTile,
    Progress,
    ReadCells,
    Returns,
    Sweep,
    TileAddress,
    Wait,
)

from .firmware_bench import FirmwareBench

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
SPEC = load_chip("lab-128", macros=2)
HOUR_NS = 3_600_000_000_000
SILENT = {
    name: 0.0
    for name in (
        "stuck_share", "telegraph_us", "read_noise_us", "broadening", "mirror_sigma", "comparator_codes",
        "capacitor_sigma", "converter_codes", "line_ohm",
    )
}  # fmt: skip


class Die:
    """A firmware with these parameters, asked one message after the other over a perfect line."""

    def __init__(self, seed: int = 1, **settings: float) -> None:
        self._bench, self._sequence, self._reader = FirmwareBench(seed, settings), 0, FrameReader()
        hello = encode(Hello(0x0100, 0x0100, 512, 16, 7))
        self._bench.receive(encode_frame(Frame(Flag.RESET | Flag.LAST, 0, 9, 0, 0, 0, hello)), 0.0)
        self._reader.feed(self._bench.data_to_send(0.0))
        self._heard = 0

    def _send(self, request: Any) -> None:
        data = encode(request, self._sequence % 60000 + 1)
        pieces = [data[at : at + 512] for at in range(0, len(data), 512)]
        for place, piece in enumerate(pieces):
            flags = Flag.LAST if place + 1 == len(pieces) else 0
            frame = Frame(int(flags), 1, 9, self._sequence & 0xFFFF, self._heard, 0, piece)
            self._sequence += 1
            self._bench.receive(encode_frame(frame), 0.0)

    def ask(self, request: Any) -> Any:
        self._send(request)
        message = bytearray()
        while True:
            for frame in self._reader.feed(self._bench.data_to_send(0.0)):
                if frame.flags & Flag.ACK:
                    continue
                self._heard = (frame.sequence + 1) & 0xFFFF
                if frame.channel != 2:
                    continue
                message += frame.payload
                if frame.flags & Flag.LAST:
                    reply = decode(bytes(message)).message
                    if not isinstance(reply, Progress):
                        return reply
                    message.clear()
            self._bench.receive(encode_frame(Frame(Flag.ACK, 0, 9, 0, self._heard, 0, b"")), 0.0)

    def slices(self, request: Any) -> int:
        """Slices of work after which the firmware has done the last request of this die; its reply is not heard."""
        self._send(request)
        count = 0
        while self._bench.busy:
            self._reader.feed(self._bench.data_to_send(0.0))
            count += 1
        return count

    def write(self, targets_us: NDArray[np.float64], sample: int = 0, unit_ns: int = 2) -> Any:
        counts = np.round(targets_us * 1000 / unit_ns).astype(np.uint16)
        recipe = (200, 3, 1200, 100, 3300, 1500, 100, 3500, 1000)  # pulses, reads, SET, RESET, width
        tolerance = round(SPEC.macro.tolerance_us * 1000 / unit_ns)
        block = CellBlock(0, 0, counts.shape[0], 0, counts.shape[1])
        return self.ask(ProgramTile(block, unit_ns, tolerance, *recipe, sample, counts))

    def read_us(self, rows: int, columns: int, reads: int = 1, sample: int = 0) -> NDArray[np.float64]:
        reply = self.ask(ReadCells(CellBlock(0, 0, rows, 0, columns), 2, reads, sample))
        return np.asarray(reply.readings * 0.002, np.float64)

    def product(
        self, codes: NDArray[np.int16], outputs: int = 16, returns: Returns = Returns.SUMS, sample: int = 0
    ) -> Any:
        tile = TileAddress(0, 0, codes.shape[1], 0, outputs)
        return self.ask(Mvm(returns, tile, 0, 4, 8, True, sample, 1, 0, codes))

    def close(self) -> None:
        self._bench.close()


def targets(rows: int, columns: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).choice(SPEC.macro.levels_us, (rows, columns))


def codes(vectors: int, rows: int, seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-128, 128, (vectors, rows)).astype(np.int16)


def test_a_level_written_is_a_level_read() -> None:
    die, wanted = Die(), targets(64, 64)
    report = die.write(wanted)
    error = die.read_us(64, 64, reads=20) - wanted
    assert report.reached.mean() > 0.97
    assert np.abs(error[report.reached]).mean() < SPEC.macro.tolerance_us
    assert np.std(error[report.reached]) < SPEC.macro.tolerance_us
    assert 2 < report.pulses.mean() < 40
    die.close()


def test_without_noise_writes_land_inside_the_window_and_reads_repeat() -> None:
    die, wanted = Die(**SILENT), targets(32, 32)
    report = die.write(wanted)
    assert report.reached.all()
    first, second = die.read_us(32, 32, sample=1), die.read_us(32, 32, sample=2)
    assert np.array_equal(first, second)
    assert np.abs(first - wanted).max() <= SPEC.macro.tolerance_us + 0.002
    die.close()


def test_without_noise_a_product_is_that_of_ideal_converters_on_the_cells_read() -> None:
    die = Die(**SILENT)
    die.write(targets(64, 32))
    g, driven = die.read_us(64, 32), codes(12, 64)
    net = g[:, 0::2] - g[:, 1::2]
    macro = SPEC.macro
    planes = split_planes(driven, macro.inputs, 8, True).astype(np.float64)
    ideal = quantise_adc(planes @ net, macro.lsb_us(4), macro.adc.bits, True).transpose(1, 0, 2)
    raw = die.product(driven, returns=Returns.RAW).values
    assert np.abs(raw - ideal).max() <= 1  # cells are read in steps of 2 nS: a sum may fall on the other side
    assert (raw == ideal).mean() > 0.98
    sums = die.product(driven).values
    assert np.array_equal(sums, shift_add(raw, macro, planes_of(macro.inputs, 8, True)))
    die.close()


def test_a_sweep_is_the_products_of_its_windows() -> None:
    die = Die(**SILENT)
    die.write(targets(18, 16))
    maps = codes(2, 2 * 5 * 4, 3).reshape(2, 2, 5, 4)
    window = KernelWindow(2, 5, 4, (3, 3), (2, 1), (1, 1), (1, 1))
    swept = die.ask(Sweep(Returns.SUMS, TileAddress(0, 0, 18, 0, 8), 0, 4, 8, True, window, 0, 0, maps))
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2]
    vectors = view.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 18)
    assert np.array_equal(swept.values, die.product(np.ascontiguousarray(vectors), outputs=8).values)
    die.close()


def test_repeated_reads_are_the_sums_of_single_ones() -> None:
    die, at, driven = Die(), TileAddress(0, 0, 64, 0, 16), codes(3, 64)
    die.write(targets(64, 32))
    single = [die.product(driven, sample=9 + k * READ_STEP) for k in range(5)]
    assert not np.array_equal(single[0].values, single[1].values)
    added = die.ask(Mvm(Returns.SUMS, at, 0, 4, 8, True, 9, 1, 0, driven, 5))
    assert np.array_equal(added.values, sum(one.values for one in single))
    assert added.conversions == sum(one.conversions for one in single)
    assert added.saturated == sum(one.saturated for one in single)
    die.close()


@pytest.mark.parametrize("reads", [1, 3])
def test_a_loaded_layer_is_its_tiles_corrected_added_and_requantised(reads: int) -> None:
    die, rng = Die(), np.random.default_rng(8)
    die.write(targets(64, 32))
    tiles, total = [], np.zeros((5, 12), np.int64)
    bias = rng.integers(-2000, 2000, 12).astype(np.int32)
    driven = codes(5, 40)
    for first_input, first_output, outputs, n in ((0, 0, 8, reads), (24, 4, 8, 1)):
        gain = rng.integers(1 << 18, 1 << 20, outputs).astype(np.int32)
        offset = rng.integers(-(1 << 22), 1 << 22, outputs)
        input_gain = rng.integers(-5000, 5000, outputs).astype(np.int32)
        at = TileAddress(0, first_input, 16, first_output, outputs)
        tiles.append(LayerTile(at, first_input, first_output, 3, 18, gain, offset, input_gain, n))
        part = np.ascontiguousarray(driven[:, first_input : first_input + 16])
        sums = die.ask(Mvm(Returns.SUMS, at, 0, 4, 8, True, 6, 1, 0, part, n)).values
        correction = Correction(gain, offset * n, input_gain, 18)
        levels = apply_correction(sums, n * part.sum(1, dtype=np.int64), correction)
        total[:, first_output : first_output + outputs] += 3 * (reads // n) * levels.astype(np.int64)
    total = np.sign(total) * ((2 * np.abs(total) + reads) // (2 * reads)) + bias
    multiplier, shift = rng.integers(1 << 10, 1 << 12, 12).astype(np.int32), np.full(12, 20, np.int32)
    die.ask(LoadLayer(4, 40, 12, -128, 127, bias, multiplier, shift, tuple(tiles)))
    found = die.ask(Mvm(Returns.LAYER, None, 4, 4, 8, True, 6, 1, 0, driven)).values
    assert np.array_equal(
        found, np.clip(round_shift(total * multiplier.astype(np.int64), shift.astype(np.int64)), -128, 127)
    )
    assert len(np.unique(found)) > 10
    die.close()


def test_the_link_is_served_after_every_call_of_a_slow_macro_and_less_often_by_a_quick_one() -> None:
    driven, at, planes = codes(2, 64), TileAddress(0, 0, 64, 0, 16), 8
    product = Mvm(Returns.SUMS, at, 0, 4, planes, True, 9, 1, 0, driven, 30)
    for call_ms, fewest, most in ((2.0, 2 * 30 * planes, 2 * 30 * planes), (0.0, 2, 30)):
        die = Die(call_ms=call_ms)
        assert fewest <= die.slices(product) <= most
        die.close()
    die, blank = Die(call_ms=2.0), np.zeros(16, np.int32)
    tiles = tuple(LayerTile(at, 0, 0, 1, 0, blank, blank, blank, reads) for reads in (3, 6))
    die.ask(LoadLayer(4, 64, 16, -128, 127, blank, blank, blank, tiles))
    assert die.slices(Mvm(Returns.LAYER, None, 4, 4, 8, True, 6, 1, 0, driven)) == 2 * (3 + 6) * planes
    die.close()


def test_the_same_seed_and_sample_give_the_same_bits_and_others_do_not() -> None:
    first, again, other = Die(seed=4), Die(seed=4), Die(seed=5)
    for die in (first, again, other):
        die.write(targets(64, 32))
    driven = codes(8, 64)
    seen = first.product(driven, sample=3).values
    assert np.array_equal(seen, first.product(driven, sample=3).values)
    assert np.array_equal(seen, again.product(driven, sample=3).values)
    assert not np.array_equal(seen, first.product(driven, sample=4).values)
    assert not np.array_equal(seen, other.product(driven, sample=3).values)
    for die in (first, again, other):
        die.close()


def test_telegraph_noise_has_two_states() -> None:
    die = Die(**{**SILENT, "telegraph_us": 2.0})
    die.write(np.full((1, 8), 40.0))
    seen = np.array([die.read_us(1, 8, sample=s)[0] for s in range(60)])
    assert all(len(np.unique(column)) == 2 for column in seen.T)
    assert np.ptp(seen, axis=0) == pytest.approx(2.0, abs=0.003)
    die.close()


def test_cells_spread_with_the_root_of_the_doublings_of_their_age() -> None:
    die = Die(**{**SILENT, "broadening": 0.05})
    die.write(np.full((96, 96), 30.0))
    start = die.read_us(96, 96)
    spread = []
    for hours in (1, 23):
        die.ask(Wait(hours * HOUR_NS))
        spread.append(float(np.std(die.read_us(96, 96) - start)))
    # a straight path between doublings lets the last part count less: at most half a doubling
    hour, day = np.log2(3600.0), np.log2(24 * 3600.0)
    assert spread[0] == pytest.approx(0.05 * np.sqrt(30.0 * 40.0 * hour), rel=0.06)
    assert spread[1] / spread[0] == pytest.approx(np.sqrt(day / hour), rel=0.05)
    die.close()


def test_stuck_cells_come_in_patches_and_take_no_pulse() -> None:
    die = Die(**{**SILENT, "stuck_share": 0.05})
    reached = die.write(targets(128, 128)).reached
    stuck = ~reached
    assert 0.02 < stuck.mean() < 0.09  # levels near a stuck value count as reached
    patches = stuck.reshape(8, 16, 8, 16).sum(axis=(1, 3)).reshape(-1)
    assert patches.var() > 2.0 * patches.mean()  # a Poisson law would give 1
    die.close()


def test_gains_offsets_and_lines_show_where_the_parameters_say() -> None:
    driven, wanted = codes(64, 128), targets(128, 32)

    def sums(**changed: float) -> NDArray[np.float64]:
        die = Die(**{**SILENT, **changed})
        die.write(wanted)
        found = np.asarray(die.product(driven, returns=Returns.RAW).values, np.float64)
        die.close()
        return found

    plain = sums()
    shifted = (sums(comparator_codes=3.0) - plain).mean(axis=(0, 1))
    assert np.allclose(shifted[:8], shifted[0], atol=0.3)  # one converter serves eight columns
    assert np.std(shifted) > 0.5
    slope = [np.polyfit(plain[..., c].ravel(), sums(mirror_sigma=0.1)[..., c].ravel(), 1)[0] for c in range(3)]
    assert np.std(slope) > 0.02
    assert np.abs(sums(line_ohm=2.0)).sum() < 0.98 * np.abs(plain).sum()
    assert np.abs(sums(droop=0.1)).sum() < 0.98 * np.abs(plain).sum()
