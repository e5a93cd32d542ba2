"""Layers in training on one array: exact without errors, and the noise of the record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy import stats  # noqa: E402

from cim.array.input_drive import InputDrive  # noqa: E402
from cim.array.wire_law import Wire  # noqa: E402
from cim.cells.laws.registry import tails  # noqa: E402
from cim.cells.laws.student import STUDENT  # noqa: E402
from cim.cells.laws.tail import Tail  # noqa: E402
from cim.cells.programming_law import ProgrammingLaw  # noqa: E402
from cim.cells.read_noise import ReadNoise  # noqa: E402
from cim.cells.tails import Law  # noqa: E402
from cim.chip.correction import nominal_correction  # noqa: E402
from cim.chip.encoding import encode_tile  # noqa: E402
from cim.chip.file import idealised, load_chip  # noqa: E402
from cim.chip.spec import CellIv, InputCoding  # noqa: E402
from cim.chip.windows import Window  # noqa: E402
from cim.record.calibration import CalibrationRecord, nominal_macro  # noqa: E402
from cim.record.device import Columns  # noqa: E402
from cim.simulator.layer import NoiseKey, simulated_tile  # noqa: E402
from cim.simulator.simulator import LayerSimulator  # noqa: E402
from cim.simulator.training_errors import (  # noqa: E402
    POINTS,
    ArrayNoise,
    array_noise,
    error_quantiles,
    programmed_us,
)
from search.space.genes import Bits  # noqa: E402
from search.space.operators import SLOT, convolution  # noqa: E402
from search.train.arrays import ArrayConv2d, ArrayLinear  # noqa: E402
from tests.cim.array.wire_loss import wire_loss_us  # noqa: E402

LAB = load_chip("lab-128").macro
LEVELS = np.array(LAB.levels_us)


def noise_of(**changes: object) -> ArrayNoise:
    none = np.zeros(len(LEVELS))
    quiet = ArrayNoise(
        spec=LAB, errors_us=np.zeros((len(LEVELS), 2)), read_variance_us2=none, stuck_low_share=0.0,
        stuck_high_share=0.0, stuck_low_us=0.0, stuck_high_us=40.0, unreached_share=0.0, unreached_us=np.empty(0),
        gain_se=0.0, offset_se_codes=0.0, conversion_noise_codes=0.0, wire=Wire(0.0, 0.0),
    )  # fmt: skip
    return replace(quiet, **changes)  # type: ignore[arg-type]


BITS = Bits(4, 8)


def linear(inputs: int, outputs: int, noise: ArrayNoise) -> ArrayLinear:
    return ArrayLinear(inputs, outputs, BITS, False, noise)


def conv(inputs: int, outputs: int, noise: ArrayNoise | None, stride: int = 1) -> ArrayConv2d:
    return ArrayConv2d(inputs, convolution("conv", SLOT, outputs, 3, stride=stride), BITS, False, noise)


def record() -> CalibrationRecord:
    shape = (2, len(LEVELS))
    law = ProgrammingLaw(
        np.array([1.0, 1e4]), LEVELS, np.array([[-0.2], [-1.6]]) * np.ones(shape), np.ones(shape), np.full(shape, 3.0),
        np.zeros(shape), np.zeros(shape), np.zeros(shape), 0.02, 0.002, 0.003, np.array([-5.0, 5.0]),
    )  # fmt: skip
    return CalibrationRecord(
        "lab-128", "A", "1", "0", "emulated", "", 25.0, "2026-01-01", "", 0, 3600.0, {0: nominal_macro(LAB, 0)}, law,
        ReadNoise(np.array([2.0, 40.0]), np.array([1.0, 2.0]), np.zeros(2)), Wire(1.0, 0.1),
    )  # fmt: skip


def test_the_law_comes_from_the_record_at_the_age() -> None:
    noise = array_noise(LAB, record(), 100.0)
    np.testing.assert_allclose(noise.errors_us[:, POINTS // 2], -0.9, rtol=1e-6)
    assert noise.read_variance_us2[[0, -1]].tolist() == [1.0, 2.0]
    assert (noise.stuck_low_share, noise.wire.ohm) == (0.02, 1.0)


@pytest.mark.parametrize("tail", tails())
def test_programmed_cells_follow_the_law_whatever_its_tail_and_skew(tail: Tail) -> None:
    torch.manual_seed(0)
    law = error_law(tail, loc_us=-0.5, scale_us=0.8, skew=0.2)
    cells = programmed_us(torch.full((40_000,), 4.0), noise_of(errors_us=error_quantiles(law)), 1.0).double().numpy()
    one = error_law(tail, loc_us=-0.5, scale_us=0.8, skew=0.2, count=1)
    distance = stats.kstest(cells - LEVELS[4], lambda x: one.cdf(np.asarray(x))).statistic
    assert distance < 1.63 / np.sqrt(len(cells))  # 1 % point


def error_law(tail: Tail, loc_us: float, scale_us: float, skew: float = 0.0, df: float = 4.0, count: int = 8) -> Law:
    one = np.ones(count)
    return Law(loc_us * one, scale_us * one, df * one, tail, 0.3 * one, 2.5, skew * one)


def test_the_gradient_of_the_weights_is_that_of_the_smooth_product() -> None:
    """With fixed errors the output is linear in the levels: a finite step gives the gradient exactly."""
    torch.manual_seed(2)
    noise = noise_of(errors_us=error_quantiles(error_law(STUDENT, 0.0, 1.0, df=5.0)), read_variance_us2=np.full(8, 1.0))
    layer = conv(3, 4, noise).eval()
    levels = layer.levels_now()[0].detach().requires_grad_(True)
    codes = torch.randint(0, 256, (2, 3, 6, 6)).float()

    def total(value: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return (layer._noisy(codes, value) * upstream).sum()

    upstream = torch.randn(2, 4, 6, 6)
    layer.range_code = 4
    loss = total(levels)
    loss.backward()
    windows = torch.nn.functional.unfold(codes, 3, 1, 1, 1)
    expected = torch.einsum("nrp,nop->or", windows, upstream.flatten(2))
    torch.testing.assert_close(levels.grad.flatten(1), expected, rtol=1e-3, atol=1.0)


def test_without_errors_it_is_the_fast_simulator() -> None:
    spec = idealised(load_chip("lab-128")).macro
    torch.manual_seed(5)
    layer = conv(3, 6, None, stride=2).eval()
    codes = torch.randint(0, 256, (2, 3, 8, 8)).float()
    levels = layer.levels_now()[0].detach().flatten(1).numpy().astype(np.int8).T
    cells = np.zeros((spec.rows, spec.columns), np.float32)
    place = encode_tile(levels, spec, 0, 0)
    cells[np.ix_(place.word_lines, place.bit_lines)] = place.targets_us
    part = nominal_macro(spec, 0)
    tile = simulated_tile(
        spec, cells, Columns(part.gain, part.offset_codes, part.conversion_noise_codes, part.adc, part.inl_codes),
        nominal_correction(spec, 0, levels, 8, False), inputs=range(27), outputs=range(6), multiplier=1,
        row0=0, output0=0,
    )  # fmt: skip
    fast = LayerSimulator(
        spec, [tile], window=Window(3, 8, 8, (3, 3), (2, 2), (1, 1)), inputs=27, outputs=6, range_code=0, input_bits=8,
        input_signed=False, read_noise=ReadNoise(np.array([2.0, 40.0]), np.zeros(2), np.zeros(2)), wire=Wire(0.0, 0.0),
        mode="fast",
    )  # fmt: skip
    sums, _ = fast.level_sums(codes.numpy().astype(np.int16), NoiseKey(1))
    np.testing.assert_allclose(layer(codes)[0].detach().numpy(), sums, atol=0.01)


def test_the_noise_of_a_sum_has_the_promised_variance() -> None:
    torch.manual_seed(6)
    noise = noise_of(read_variance_us2=np.full(8, 1.5), conversion_noise_codes=0.4)
    layer = linear(200, 4, noise)
    layer.range_code, layer.chips = 3, 1
    codes = torch.full((4000, 200), 85.0)
    levels = layer.levels_now()[0].detach()
    exact = codes @ levels.T
    error = (layer._noisy(codes, levels) - exact).detach()
    square = 200 * float(layer.squares[85])
    lsb, step = LAB.lsb_us(3), LAB.level_step_us
    converter = layer.plane_squares * (1 / 12 + 0.4**2) - 1 / 12
    expected = square * 2 * 1.5 / step**2 + 2 * (lsb / step) ** 2 * converter  # two tiles of 128 rows
    assert float(error.var()) == pytest.approx(expected, rel=0.05)
    assert abs(float(error.mean())) < 5 * np.sqrt(expected / error.numel())


def test_columns_are_corrected_on_the_inputs_that_they_get() -> None:
    """Errors of cells along what all inputs have in common go, the others stay: as in deployment."""
    torch.manual_seed(11)
    noise = noise_of(errors_us=error_quantiles(error_law(STUDENT, 0.0, 4.0, df=30.0)))
    layer = linear(120, 16, noise)
    layer.range_code, layer.chips = 7, 8
    levels = layer.levels_now()[0].detach()
    pattern, other = torch.rand(120), torch.rand(400, 120)
    share = torch.rand(400, 1)
    errors = []
    for own in (0.0, 1.0):  # share of each input that is nobody else's
        codes = (255 * ((1 - own) * share * pattern + own * other)).round()
        held, offset, _ = layer.held(levels, codes.unsqueeze(0), 0.5)
        exact = codes @ levels.T
        left = (codes @ held.mT + offset.unsqueeze(1) - exact).std(1) / exact.std(0)
        errors.append(float(left.detach().median()))  # a few columns have a gain that ends at 0.5 or 2
    assert errors[0] < 0.1 * errors[1]


def test_virtual_chips_of_a_batch_are_different_chips() -> None:
    torch.manual_seed(7)
    noise = noise_of(errors_us=error_quantiles(error_law(STUDENT, 0.0, 2.0, df=30.0)))
    layer = conv(2, 3, noise)
    layer.chips = 4
    one = torch.randint(0, 256, (1, 2, 5, 5)).float()
    out = layer(one.expand(8, -1, -1, -1).contiguous())[0].detach().reshape(4, 2, -1)
    inside, across = float((out[:, 0] - out[:, 1]).std()), float(out.mean(1).std(0).mean())
    assert across > 1.5 * inside  # inside a chip only converter noise differs
    with pytest.raises(ValueError, match="do not divide"):
        layer(one.expand(6, -1, -1, -1))


def test_static_wire_losses_are_those_of_the_wire_law_when_all_rows_drive() -> None:
    rng = np.random.default_rng(8)
    halves = rng.uniform(2.0, 40.0, (2, 64, 5)).astype(np.float32)
    lost = wire_loss_us(LAB, 0, halves, np.ones((1, 64), np.int64))[0]
    layer = linear(64, 5, noise_of(wire=Wire(1.0, 0.0)))
    left = layer._line_loss(torch.tensor(halves.sum(0).T[None]), 1.0)[0].T.numpy()
    mine = ((1.0 - left) * (halves[0] - halves[1])).sum(0)
    np.testing.assert_allclose(mine, lost, atol=0.04 * np.abs(lost).max())


def test_errors_are_refused_where_training_has_none_for_them() -> None:
    spec = idealised(load_chip("a111")).macro
    noise = noise_of(spec=spec, drive=InputDrive(np.arange(16.0), np.zeros(16)))
    with pytest.raises(ValueError, match="units 0 to 15"):
        replace(noise, spec=LAB)
    cubic = replace(
        spec, cell_iv=CellIv.CUBIC, cell_iv_k_per_v2=(2.0,) * 8,
        inputs=replace(spec.inputs, coding=InputCoding.AMPLITUDE),
    )  # fmt: skip
    with pytest.raises(ValueError, match="one voltage"):
        replace(noise, spec=cubic)
