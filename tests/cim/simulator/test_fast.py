"""The quick mode: the integer product in the ideal limit, and how far it is from the exact simulator."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from cim.array.wire_law import Wire
from cim.cells.read_noise import ReadNoise
from cim.chip.correction import nominal_correction
from cim.chip.file import idealised, load_chip
from cim.chip.windows import Window, unfold
from cim.simulator.fast import counts as counting
from cim.simulator.fast.moments import DrivenLine, inl_line, place_terms, row_reach
from cim.simulator.fast.numba_engine import FastLayer, KernelMaps
from cim.simulator.fast.row_cuts import RowCut
from cim.simulator.layer import NoiseKey, SimulatedTile
from cim.simulator.modes import SimulationMode
from cim.simulator.simulator import LayerSimulator
from hil.deployment.options import NetworkOptions
from mapping.recipe.recipe import Recipe

from .tiles import LAB, NO_WIRE, QUIET, columns_of, random_levels, tile_of, variants

NOISY = ReadNoise(np.array([2.0, 40.0]), np.array([1.0, 2.0]), np.zeros(2))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", list(variants()))
def test_without_errors_it_is_the_integer_product(name: str, signed: bool) -> None:
    """Tiles of whole channels, tiles cut inside a channel, and a second slice."""
    spec = idealised(variants()[name]).macro
    rng = np.random.default_rng(1)
    window, outputs = Window(3, 7, 6, (3, 3), (2, 1), (1, 1)), min(7, spec.outputs)
    bits = spec.inputs.bits
    low, high = (1 - (1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    codes = rng.integers(low, high, (3, 3, 7, 6)).astype(np.int16)
    expected, tiles = np.zeros((27, outputs), np.int64), []
    for inputs, across, multiplier in ((range(18), range(outputs), 1), (range(18, 22), range(outputs), 1),
                                       (range(22, 27), range(outputs), 1), (range(9), range(2), 8)):  # fmt: skip
        mine = random_levels(rng, spec, len(inputs), len(across))
        expected[inputs.start : inputs.stop, across.start : across.stop] += multiplier * mine.astype(np.int64)
        correction = nominal_correction(spec, 0, mine, bits, signed)
        tiles.append(tile_of(spec, mine, correction, inputs=inputs, outputs=across, multiplier=multiplier, row0=2))
    layer = LayerSimulator(
        spec, tiles, window=window, inputs=27, outputs=outputs, range_code=0, input_bits=bits, input_signed=signed,
        read_noise=QUIET, wire=NO_WIRE, mode="fast",
    )  # fmt: skip
    sums, share = layer.level_sums(codes, NoiseKey(1))
    exact = unfold(codes, window).astype(np.int64) @ expected
    # 16-bit weights are off by up to 2⁻¹⁶ of a column's largest; rounding takes it out but for large products,
    # and those of chips with more than 32 levels a sign are larger in proportion.
    off = 2 * max(1.0, spec.max_level / 32)
    np.testing.assert_allclose(sums, exact.transpose(0, 2, 1).reshape(sums.shape), atol=off)
    assert share == 0.0


def test_a_matrix_layer_without_errors_is_the_integer_product() -> None:
    spec, rng = idealised(load_chip("lab-128")).macro, np.random.default_rng(2)
    levels, codes = random_levels(rng, spec, 200, 40), rng.integers(0, 256, (5, 200)).astype(np.int16)
    tiles = [
        tile_of(spec, levels[a:b], nominal_correction(spec, 0, levels[a:b], 8, False), inputs=range(a, b))
        for a, b in ((0, 128), (128, 200))
    ]
    layer = LayerSimulator(
        spec, tiles, window=None, inputs=200, outputs=40, range_code=0, input_bits=8, input_signed=False,
        read_noise=QUIET, wire=NO_WIRE, mode="fast",
    )  # fmt: skip
    sums, _ = layer.level_sums(codes, NoiseKey(1))
    np.testing.assert_allclose(sums, codes.astype(np.int64) @ levels.astype(np.int64), atol=2)


def sparse_codes(rng: np.random.Generator, *shape: int) -> NDArray[np.int16]:
    """Activations as after ReLU: two fifths zero, the others exponential."""
    return (np.minimum(rng.exponential(40.0, shape), 255) * (rng.random(shape) < 0.6)).astype(np.int16)


def both(
    wire: Wire, codes: NDArray[np.int16], bits: int = 8, cuts: tuple[int, ...] = (), alike: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Mean and deviation of every sum of 126 rows, in one tile or cut at some rows, over images of the same codes, by
    mode."""
    rng = np.random.default_rng(3)
    levels = random_levels(rng, LAB, 126, 16)
    spread = rng.normal(0.0, 2.0, (LAB.rows, LAB.columns)).astype(np.float32)
    columns, tiles = columns_of(LAB, rng), []
    for first, stop in itertools.pairwise((0, *cuts, 126)):
        correction = nominal_correction(LAB, 4, levels[first:stop], bits, False)
        inputs = range(first, stop)
        tiles.append(
            tile_of(LAB, levels[first:stop], correction, columns=columns, spread_us=spread, inputs=inputs, row0=first)
        )
    given = {
        "window": Window(14, 6, 6, (3, 3), (1, 1), (1, 1)), "inputs": 126, "outputs": 16, "range_code": 4,
        "input_bits": bits, "input_signed": False, "read_noise": NOISY, "wire": wire,
        "rows_alike": alike,
    }  # fmt: skip
    found = {}
    for name in SimulationMode:
        sums, _ = LayerSimulator(LAB, tiles, mode=name, **given).level_sums(codes, NoiseKey(5))  # type: ignore[arg-type]
        found[name] = np.stack([sums.mean(0), sums.std(0)])
    return found


@pytest.mark.parametrize("cuts", [(), (40, 83)])
@pytest.mark.parametrize(
    ("ohm", "alike", "mean_bound", "sigma_bound"),
    [(0.0, False, 0.03, 0.08), (1.0, False, 0.05, 0.10), (1.0, True, 0.03, 0.10)],
)
def test_mean_and_sigma_are_near_the_exact_simulator(
    ohm: float, alike: bool, mean_bound: float, sigma_bound: float, cuts: tuple[int, ...]
) -> None:
    """Bounds: rms error of the mean as a share of the sums' own spread, and of sigma; tiles cut inside a channel, too.

    Rounding and INL repeat for one input; the quick mode draws them anew, so its sigma is the larger one.
    """
    codes = sparse_codes(np.random.default_rng(4), 1, 14, 6, 6)
    found = both(Wire(ohm, 0.0), np.repeat(codes, 300, 0), cuts=cuts, alike=alike)
    exact, fast = found["exact"], found["fast"]
    assert beyond_noise(found, 300) <= mean_bound * exact[0].std()
    assert abs(fast[1].mean() / exact[1].mean() - 1.0) <= sigma_bound


def beyond_noise(found: dict[str, NDArray[np.float64]], reads: int) -> float:
    """Rms error of the means of so many reads, without the noise of both."""
    error = np.sqrt(np.mean((found["fast"][0] - found["exact"][0]) ** 2))
    noise = np.sqrt(2 / reads) * found["exact"][1].mean()
    return float(np.sqrt(max(error**2 - noise**2, 0.0)))


def test_where_rows_drive_together_each_plane_loses_by_its_own_sum() -> None:
    """Fourteen channels of one picture with a step of brightness; the law of independent rows is far off."""
    rng = np.random.default_rng(8)
    picture = np.where(np.arange(6) < 3, 60, 190) + rng.integers(-8, 8, (6, 6))
    codes = np.repeat((picture + rng.integers(-6, 6, (14, 1, 1)))[None].astype(np.int16), 300, 0)
    apart, alike = (beyond_noise(both(Wire(1.0, 0.0), codes, alike=told), 300) for told in (False, True))
    assert alike < 0.4 * apart


@pytest.mark.parametrize(("ohm", "alike"), [(0.0, False), (1.0, False), (1.0, True)])
@pytest.mark.parametrize("negated", [0, 1])
def test_copies_on_other_cells_add_as_if_each_were_converted_by_itself(ohm: float, alike: bool, negated: int) -> None:
    """Cells, gains and corrections of three copies differ; of ``negated`` ones the correction turns the sign."""
    rng = np.random.default_rng(6)
    levels = random_levels(rng, LAB, 126, 16)
    tiles = []
    for number in range(3):
        sign = -1 if number < negated else 1
        mine = (levels * sign).astype(np.int8)
        correction = nominal_correction(LAB, 4, mine, 8, False)
        correction = replace(correction, gain=sign * correction.gain)
        spread = rng.normal(0.0, 2.0, (LAB.rows, LAB.columns)).astype(np.float32)
        tiles.append(tile_of(LAB, mine, correction, columns=columns_of(LAB, rng), spread_us=spread))
    codes = np.repeat(sparse_codes(np.random.default_rng(4), 1, 14, 6, 6), 400, 0)

    def sums_of(some: list[SimulatedTile], seed: int) -> NDArray[np.int32]:
        layer = LayerSimulator(
            LAB, some, window=Window(14, 6, 6, (3, 3), (1, 1), (1, 1)), inputs=126, outputs=16, range_code=4,
            input_bits=8, input_signed=False, read_noise=NOISY, wire=Wire(ohm, 0.0), mode="fast",
            rows_alike=alike,
        )  # fmt: skip
        assert layer.conversions(1) == 36 * 8 * 16 * len(some)
        return layer.level_sums(codes, NoiseKey(seed))[0]

    together, apart = sums_of(tiles, 1), sum(sums_of([tile], 2 + n) for n, tile in enumerate(tiles))
    assert np.corrcoef(together.mean(0).ravel(), apart.mean(0).ravel())[0, 1] > 0.9999
    noise = np.sqrt(2 / 400) * apart.std(0).mean()
    error = np.sqrt(np.mean((together.mean(0) - apart.mean(0)) ** 2))
    assert np.sqrt(max(error**2 - noise**2, 0.0)) <= 0.002 * apart.mean(0).std()
    assert together.std(0).mean() == pytest.approx(apart.std(0).mean(), rel=0.01)


def test_nothing_driven_gives_what_the_exact_simulator_gives() -> None:
    found = both(Wire(1.0, 0.0), np.zeros((400, 14, 6, 6), np.int16))
    columns = {name: values.mean((2, 3)) for name, values in found.items()}
    twentieth = 0.05 * 255 * LAB.lsb_us(4) / LAB.level_step_us  # of a code in every plane, in levels
    assert np.abs(columns["fast"][0] - columns["exact"][0]).max() < twentieth
    np.testing.assert_allclose(columns["fast"][1], columns["exact"][1], rtol=0.05)


def test_inputs_of_one_bit_are_near_the_exact_simulator() -> None:
    codes = (np.random.default_rng(6).random((1, 14, 6, 6)) < 0.3).astype(np.int16)
    found = both(NO_WIRE, np.repeat(codes, 300, 0), bits=1)
    error = found["fast"][0] - found["exact"][0]
    assert np.sqrt(np.mean(error**2)) <= 0.05 * found["exact"][0].std()
    assert abs(found["fast"][1].mean() / found["exact"][1].mean() - 1.0) <= 0.08


def test_sigma_notices_noise_that_is_wrong() -> None:
    """Control of the bounds above: a tenth more read noise, of twice the variance of the rest, is seen."""
    codes = np.repeat(sparse_codes(np.random.default_rng(4), 1, 14, 6, 6), 300, 0)
    found = both(NO_WIRE, codes)
    assert abs(1.1 * found["fast"][1].mean() / found["exact"][1].mean() - 1.0) > 0.08


def noisy_layer() -> LayerSimulator:
    rng = np.random.default_rng(7)
    tiles = []
    for a, b in ((0, 90), (90, 144)):
        levels = random_levels(rng, LAB, b - a, 20)
        correction = nominal_correction(LAB, 4, levels, 8, False)
        tiles.append(tile_of(LAB, levels, correction, columns=columns_of(LAB, rng), inputs=range(a, b)))
    return LayerSimulator(
        LAB, tiles, window=Window(16, 7, 7, (3, 3), (1, 1), (1, 1)), inputs=144, outputs=20, range_code=4, input_bits=8,
        input_signed=False, read_noise=NOISY, wire=Wire(1.0, 0.0), mode="fast",
    )  # fmt: skip


def test_noise_belongs_to_the_image_not_to_the_batch() -> None:
    layer, codes = noisy_layer(), sparse_codes(np.random.default_rng(8), 5, 16, 7, 7)
    together, _ = layer.level_sums(codes, NoiseKey(1, 2, 3, 10))
    apart = [layer.level_sums(codes[i : i + 1], NoiseKey(1, 2, 3, 10 + i))[0] for i in range(5)]
    # torch's convolutions may add in another order: a rounding may fall to the other side.
    np.testing.assert_allclose(together, np.concatenate(apart))
    again, _ = layer.level_sums(codes, NoiseKey(1, 2, 3, 10))
    np.testing.assert_array_equal(together, again)


@pytest.mark.parametrize("other", [NoiseKey(2), NoiseKey(1, 1), NoiseKey(1, 0, 1), NoiseKey(1, 0, 0, 50)])
def test_other_keys_give_independent_noise(other: NoiseKey) -> None:
    layer, codes = noisy_layer(), np.repeat(sparse_codes(np.random.default_rng(9), 1, 16, 7, 7), 40, 0)
    one, two = (layer.level_sums(codes, key)[0].astype(float) for key in (NoiseKey(1), other))
    one, two = ((s - s.mean(0)).ravel() for s in (one, two))
    assert abs(np.corrcoef(one, two)[0, 1]) < 5 / np.sqrt(one.size)


def fresh_normals(count: int) -> NDArray[np.float32]:
    noise = pytest.importorskip("cim.simulator.fast.noise")
    values: NDArray[np.float32] = noise.normals(np.array([12345, -6789], np.int32), noise.CONSTANTS, count)
    return values


def looks_normal(z: NDArray[np.floating]) -> bool:
    """Moments, tails at 3 and 4 sigma, lags and the Kolmogorov-Smirnov distance within their sampling error."""
    n = len(z)
    checks = [abs(z.mean()) < 4 / np.sqrt(n), abs(z.var() - 1) < 4 * np.sqrt(2 / n)]
    checks += [abs(stats.kurtosis(z)) < 5 * np.sqrt(24 / n), stats.kstest(z, "norm").statistic < 2.0 / np.sqrt(n)]
    for edge in (3.0, 4.0):
        expected = 2 * n * stats.norm.sf(edge)
        checks.append(abs(np.count_nonzero(np.abs(z) > edge) - expected) < 5 * np.sqrt(expected))
    checks += [abs(np.mean(z[lag:] * z[:-lag])) < 5 / np.sqrt(n) for lag in (1, 16, 32, 64)]
    return bool(np.all(checks))


def test_fresh_noise_is_normal() -> None:
    assert looks_normal(fresh_normals(1 << 20).astype(np.float64))


def test_the_test_of_normality_refuses_sums_of_bytes() -> None:
    bytes_ = np.random.default_rng(10).integers(0, 256, (1 << 20, 4)).sum(1) - 510.0
    assert not looks_normal(bytes_ / bytes_.std())


def test_a_straight_inl_curve_is_all_slope() -> None:
    nodes = np.linspace(-128, 127, 17)
    slope, shift, left = inl_line(0.02 * nodes[None], (-128, 127), np.array([3.0]), np.array([10.0]))
    np.testing.assert_allclose((slope[0], shift[0], left[0]), (0.02, 0.0, 0.0), atol=1e-9)


def test_rows_far_from_the_end_lose_more() -> None:
    np.testing.assert_array_equal(row_reach(np.ones(3)), [6.0, 5.0, 3.0])


def test_a_row_loses_by_the_rows_that_drive_between_it_and_the_far_end() -> None:
    line = DrivenLine(np.array([2, 1, 0]), np.ones(3), 0.0, 1)
    np.testing.assert_allclose(line.shares(np.array([0.0, 0.0, 1.0])), [1 / 3, 2 / 5, 3 / 6])
    np.testing.assert_allclose(line.shares(np.ones(3)), 1.0)
    bent = replace(line, bend=0.5).shares(np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]))
    np.testing.assert_allclose(bent, [[1 / 3 / 1.5, 2 / 5 / 1.5, 3 / 6 / 1.5], [1 / 2.5] * 3])


def test_one_plane_has_the_terms_of_its_rows() -> None:
    thirty = np.array([[30.0]])
    terms = place_terms(thirty, thirty, thirty, np.ones(1), typical=25.0, bend=0.0, even=False)
    found = [float(v[0]) for v in (terms.squares, terms.rest, terms.excess, terms.lean, terms.peak, terms.driven)]
    np.testing.assert_allclose(found, [30.0, 0.0, 5.0, 0.0, 1.0 / 30.0 * 30.0, 30.0])


@pytest.mark.parametrize("bend", [0.0, 0.002])
def test_counted_planes_are_the_general_terms(bend: float) -> None:
    """The engine counts one-bit units a byte a plane; the general way splits every code."""
    layer, places = FastLayer(noisy_layer().layer), 48
    rows = sparse_codes(np.random.default_rng(11), places, 90)
    matrix = replace(layer.layer, window=None, inputs=90)
    counts, general = KernelMaps(matrix, rows).counted(RowCut(range(90), 1)), layer.terms(rows, bend)
    names = ("squares", "rest", "rest2", "excess", "lean", "peak", "driven")
    expected = np.stack([getattr(general, name) for name in names])
    kernel = np.empty((places // 16, counting.TERMS, 16), np.float32)
    weights, typical = layer.weights.astype(np.float32), layer.typical(90, bend)
    counting.terms_of_counts(counts, weights, typical, bend, False, kernel)
    np.testing.assert_allclose(kernel.transpose(1, 0, 2).reshape(8, -1)[:7], expected, rtol=1e-3, atol=0.1)


def test_sums_beyond_the_scale_are_noticed() -> None:
    levels = np.full((128, 4), LAB.max_level, np.int8)
    tile = tile_of(LAB, levels, nominal_correction(LAB, 0, levels, 8, False))
    layer = LayerSimulator(
        LAB, [tile], window=None, inputs=128, outputs=4, range_code=0, input_bits=8, input_signed=False,
        read_noise=NOISY, wire=NO_WIRE, mode="fast",
    )  # fmt: skip
    _, share = layer.level_sums(np.full((10, 128), 255, np.int16), NoiseKey(1))
    assert share == pytest.approx(1 / 8)  # one conversion of each sum's eight
    _, share = layer.level_sums(np.zeros((10, 128), np.int16), NoiseKey(1))
    assert share == 0.0


def test_codes_that_do_not_fit_are_refused() -> None:
    layer = noisy_layer()
    with pytest.raises(ValueError, match="do not fit"):
        layer.level_sums(np.full((1, 16, 7, 7), 256, np.int16), NoiseKey(1))
    with pytest.raises(ValueError, match="expected"):
        layer.level_sums(np.zeros((1, 15, 7, 7), np.int16), NoiseKey(1))


def test_a_network_is_as_accurate_as_on_the_exact_simulator_within_a_point() -> None:
    """Mean over virtual chips; ``python benchmarks/accuracy.py fast-and-exact`` does it with more chips and images."""
    import hil
    from hil.calibration.procedure import calibrate
    from hil.datasets.image_set import load_dataset
    from hil.deployment.network_source import BUNDLED_DATA, BUNDLED_NETWORK, program_of
    from hil.simulation.virtual_chips import VirtualChips
    from hil.watch import Watch
    from mapping.program.training_inputs import training_inputs

    watch = Watch()
    program, _ = program_of(BUNDLED_NETWORK, NetworkOptions(), watch)
    data = load_dataset(BUNDLED_DATA, "test", limit=500)
    with hil.open_chip("emulated:lab-128?seed=301", chip=program.spec) as chip:
        record = calibrate(chip, program.macros, age_s=3600.0)
    inputs, right = training_inputs(program), {}
    for mode in ("exact", "fast"):
        chips = VirtualChips(program, record, Recipe(reads=16), 4, 7, inputs=inputs, mode=mode)
        right[mode] = 100.0 * (chips.run(data.images, 0, watch).argmax(2) == data.labels).mean()
    assert abs(right["fast"] - right["exact"]) <= 1.0


def test_the_mean_of_several_reads_is_that_of_one_with_as_much_less_variance() -> None:
    spec, rng = LAB, np.random.default_rng(21)
    levels = [random_levels(rng, spec, 60, 16) for _ in range(2)]
    columns = columns_of(spec, rng)
    high, low = (
        tile_of(spec, own, nominal_correction(spec, 4, own, 8, False), columns=columns, multiplier=many, row0=row0)
        for own, many, row0 in zip(levels, (8, 1), (0, 64), strict=True)
    )
    codes = np.repeat(rng.integers(0, 256, (1, 60)).astype(np.int16), 4000, 0)

    def sums(*tiles: SimulatedTile) -> NDArray[np.int32]:
        layer = LayerSimulator(
            spec, tiles, window=None, inputs=60, outputs=16, range_code=4, input_bits=8, input_signed=False,
            read_noise=NOISY, wire=Wire(1.0, 0.0), mode="fast",
        )  # fmt: skip
        assert layer.conversions(1) == sum(t.reads for t in tiles) * 8 * 16
        return layer.level_sums(codes, NoiseKey(3))[0]

    once, lower = sums(high), sums(low)
    both = sums(replace(high, reads=8), low)
    np.testing.assert_allclose(both.mean(0), once.mean(0) + lower.mean(0), atol=6 * once.std(0).max() / np.sqrt(4000))
    wanted = once.var(0) / 8 + lower.var(0)
    assert abs(both.var(0).mean() / wanted.mean() - 1.0) < 0.05
    assert both.var(0).mean() < 0.3 * (once.var(0) + lower.var(0)).mean()


def test_the_exact_mode_refuses_tiles_that_are_read_several_times() -> None:
    levels = np.ones((4, 2), np.int8)
    tile = replace(tile_of(LAB, levels, nominal_correction(LAB, 0, levels, 8, False)), reads=2)
    with pytest.raises(ValueError, match="several times"):
        LayerSimulator(LAB, [tile], window=None, inputs=4, outputs=2, range_code=0, input_bits=8, input_signed=False,
                       read_noise=QUIET, wire=NO_WIRE)  # fmt: skip
