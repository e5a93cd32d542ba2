"""A run that never happened: answers, cells and layers drawn from plain distributions, numbers near real ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hil.report.answers import most_telling
from hil.report.run_data import MacroReadings, RunData
from hil.verdict.agreement import (
    AgreementReport,
    ChipIdentity,
    DataUse,
    NetworkIdentity,
    correct_answers,
    count_answers,
    summarise_cells,
)
from hil.verdict.cause_split import Cause, CauseSplit, LayerCauses
from hil.verdict.fidelity import compare_readbacks
from hil.verdict.layers import LayerSample, layer_statistics
from hil.verdict.verdict import Mode, judge

CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
LAYERS = ("conv1", "conv2", "conv3", "conv4", "fc")
Run = tuple[AgreementReport, RunData]


def synthetic_run(
    *, seed: int = 1, images: int = 1000, macros: int = 12, shift: float = 0.0, kind: str = "emulated"
) -> Run:
    """A run whose chip, by ``shift``, leans towards wrong classes, which the simulator does not know."""
    rng = np.random.default_rng(seed)
    repeats, chips, c = 3, 20, len(CLASSES)
    labels = rng.integers(0, c, images)
    ideal = rng.normal(0, 260, (images, c))
    ideal[np.arange(images), labels] += rng.normal(1150, 380, images)
    own, family = rng.normal(0, 60, (images, c)), rng.normal(0, 1, (chips, images, c))
    wrong = np.zeros((images, c))
    wrong[np.arange(images), (labels + 1) % c] = shift

    def logits(*parts: np.ndarray) -> np.ndarray:
        return np.rint(sum(parts)).astype(np.int32)

    measured = logits(ideal, own, wrong, rng.normal(0, 30, (repeats, images, c)))
    simulated = logits(ideal, own, rng.normal(0, 34, (chips, images, c)))
    such = logits(ideal, 60 * family, rng.normal(0, 30, (chips, images, c)))
    telling = np.array(most_telling(labels, measured, simulated), np.int64)
    data = RunData(
        indices=rng.permutation(10_000)[:images],
        labels=labels,
        classes=CLASSES,
        ideal_logits=logits(ideal),
        measured_logits=measured,
        simulated_logits=simulated,
        float_logits=(ideal + rng.normal(0, 12, ideal.shape)).astype(np.float32),
        such_logits=such,
        ages_s=np.full((repeats, images), 3600.0) + np.arange(repeats)[:, None] * 40,
        temperatures_c=np.array([25.1, 25.2, 25.2]),
        telling=telling,
        telling_images=rng.integers(0, 256, (len(telling), 28, 28, 1)).astype(np.uint8),
        layers=LAYERS,
        macros={2 * m: cells_of_macro(m * len(LAYERS) // macros, rng) for m in range(macros)},
        samples=tuple(layer_sample(name, rng) for name in LAYERS),
        link={"frames_sent": 48_211, "frames_received": 48_230, "bytes_sent": 9_120_400, "retransmissions": 0},
    )
    return report_of(data, kind), data


def cells_of_macro(layer: int, rng: np.random.Generator) -> MacroReadings:
    rows, columns = 128, 128 - 16 * (layer % 3)
    levels = np.clip(np.rint(rng.normal(0, 2.6, (rows, columns // 2))), -7, 7)
    halves = np.stack([np.maximum(levels, 0), np.maximum(-levels, 0)], -1).reshape(rows, columns)
    targets = np.full((128, 128), np.nan, np.float32)
    targets[:, :columns] = 2 + halves * 38 / 7
    error = rng.normal(-0.4, 1.4, (128, 128)) + 0.5 * rng.standard_t(3, (128, 128))
    readings = np.clip(targets + error, 0.2, 60).astype(np.float32)
    stuck = rng.random((128, 128)) < 0.022
    readings[stuck & np.isfinite(targets)] = 1.5
    after = (readings + rng.normal(0, 0.33, readings.shape)).astype(np.float32)
    pulses = rng.poisson(7, (128, 128)).astype(np.int32)
    owner = np.where(np.isfinite(targets), layer, -1).astype(np.int16)
    return MacroReadings(targets, readings, owner, pulses, ~stuck, after)


def layer_sample(name: str, rng: np.random.Generator) -> LayerSample:
    ideal = np.rint(rng.normal(0, 900, (8, 24, 7, 7))).astype(np.int32)
    column_gain = rng.normal(1, 0.01, (24, 1, 1))
    own = rng.normal(0, 40, ideal.shape)

    def noisy(count: int) -> np.ndarray:
        return np.rint(ideal * column_gain + own + rng.normal(4, 30, (count, *ideal.shape))).astype(np.int32)

    return LayerSample(name, noisy(2), ideal, noisy(5), 0.0004, 0.0003)


def report_of(data: RunData, kind: str) -> AgreementReport:
    n = len(data.labels)
    right = correct_answers(data.measured_logits, data.labels)
    looks = (n // 2, n)

    def judged(simulated: np.ndarray, mode: Mode):
        return judge(
            right,
            correct_answers(simulated, data.labels),
            correct_answers(data.ideal_logits, data.labels),
            mode=mode,
            look=2,
            looks=looks,
            measured_logits=data.measured_logits,
            simulated_logits=simulated,
            ideal_logits=data.ideal_logits,
        )

    cells = list(data.macros.values())
    targets, readings, after = (
        np.stack([getattr(c, name) for c in cells]) for name in ("targets_us", "readings_us", "readings_after_us")
    )
    return AgreementReport(
        chip=ChipIdentity(
            kind, "lab-128", "1.0", "E-0007", "0.1", "emulated:lab-128?seed=7", 64, len(cells), 128, 128, 25.1
        ),
        network=NetworkIdentity("fmnist-cnn", len(data.layers), 21_564, 4, 8),
        data=DataUse("fashion-mnist", "test", n, 10_000, 10, "ab" * 32, count_answers(right)),
        float_accuracy=float(correct_answers(data.float_logits, data.labels).mean()),
        this_chip=judged(data.simulated_logits, Mode.CONDITIONED),
        other_chips=judged(data.such_logits, Mode.UNCONDITIONAL),
        layers=tuple(layer_statistics(s) for s in data.samples),
        cells=summarise_cells(targets, readings, unreached=417, stuck=2_310, pulses=1_391_022),
        link=data.link,
        digests={"network": "0a" * 32, "program": "1b" * 32, "chip": "2c" * 32, "data": "3d" * 32},
        seeds={"host": 0, "calibration": 0},
        saturated_share=0.0004,
        simulated_saturated_share=0.0003,
        age_s=3600.0,
        age_range_s=(3600.0, 3722.0),
        readback=compare_readbacks(readings, after, read_variance_us2=0.9, reads_before=16, reads_after=16),
        causes=split_of(data),
        readback_reads=16,
        timing_s={"compiling": 1.2, "calibrating": 21.0, "measuring": 18.4, "simulating": 33.7},
        environment={"python": "3.11.2", "numpy": "2.4.6", "torch": "2.13.0"},
        notes=("the chip cannot sweep: windows were unfolded by the host",),
        created="2026-01-01T12:00:00+00:00",
        run="0007",
    )


def split_of(data: RunData) -> CauseSplit:
    """A split whose parts sum: the gap of the answers, most of it relaxation."""
    measured = correct_answers(data.measured_logits, data.labels).mean()
    gap = float(correct_answers(data.float_logits, data.labels).mean() - measured)
    shares = {
        "quantisation": 0.05,
        "programming": 0.15,
        "relaxation": 0.5,
        "read noise": 0.2,
        "ADC": 0.15,
        "IR drop": -0.05,
        "calibration error": 0.0,
        "unexplained": 0.0,
    }
    parts = tuple(Cause(name, s * gap, s * gap - 0.002, s * gap + 0.002) for name, s in shares.items())
    energies = {name: 1e3 * s for name, s in shares.items() if name != "quantisation"}
    layers = tuple(LayerCauses(name, sum(energies.values()), 8e5, energies) for name in data.layers)
    n, repeats = len(data.labels), len(data.measured_logits)
    return CauseSplit("float", gap, gap - 0.004, gap + 0.004, n, repeats, 20, 2, 64, 0.04, parts, layers)


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    return synthetic_run


@pytest.fixture(scope="session")
def run() -> Run:
    """A run whose simulator is right."""
    return synthetic_run()
