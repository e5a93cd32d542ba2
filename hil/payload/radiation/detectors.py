"""Guards and golden vectors: detectors of faults that are measured (``hil.payload.radiation.outcomes`` has all).

*Range guard*: a level sum outside its channel's range for fault-free images. *Golden vectors*: stored images whose
logits deviate by more than noise. *Scrub*: a cell whose reading differs from its earlier reading by half a level.
*ECC*: a struck word of memory is decoded (``hil.payload.radiation.stored_words``).
Thresholds come from stored training images, widened until some other fault-free images raise no alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.cells.read_noise import ReadNoise
from hil.payload.radiation.run import ChipAnswers, FaultContext

WIDTHS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0)  # of the fault-free span, tried in order
BATCH = 100
CALIBRATION_PASSES = 4  # over the stored images, each with noise of its own
SCRUB_READS = 8  # averaged a cell
PLACES_ABREAST = 16  # places of a map whose extremes are taken side by side, in long vectors
GOLDEN_CHECKS = 64  # fault-free runs of the golden vectors that the threshold covers
GOLDEN_WIDTH = 1.2  # of the largest fault-free distance
CALIBRATE_SAMPLE, GOLDEN_SAMPLE, WIDEN_SAMPLE, ALARM_SAMPLE = (n << 32 for n in range(1, 5))


@dataclass(frozen=True)
class Guards:
    """Thresholds of detectors. ``low``, ``high``: by layer, (outputs,) level sums, and ``width`` of their span;
    ``golden``: mean logits (g, classes), and the largest distance from them."""

    low: Mapping[str, NDArray[np.float64]]
    high: Mapping[str, NDArray[np.float64]]
    golden: NDArray[np.float64]
    golden_most: float
    width: float = 1.0

    def range_alarms(self, answers: ChipAnswers, before: ChipAnswers | None = None) -> NDArray[np.bool_]:
        """Flags (n,) of images with a sum outside its channel's range; layers equal to ``before`` are skipped."""
        alarms = np.zeros(len(answers.logits), np.bool_)
        for name, low in self.low.items():
            if before is not None and answers.sums[name] is before.sums[name]:
                continue
            middle, half = (self.high[name] + low) / 2, (self.high[name] - low) / 2 * self.width
            least, most = _extremes(answers.sums[name])
            alarms |= ((least < middle - half) | (most > middle + half)).any(axis=1)
        return alarms

    def golden_alarm(self, logits: NDArray[np.int32]) -> bool:
        """Whether the logits of the golden images (g, classes) deviate by more than noise."""
        return golden_distance(logits, self.golden) > self.golden_most


def calibrate_guards(
    context: FaultContext, stored: NDArray[np.uint8], golden: NDArray[np.uint8], others: NDArray[np.uint8]
) -> Guards:
    """Set the thresholds of one chip's detectors.

    Args:
        stored: training images, which give the ranges.
        golden: images whose logits are stored.
        others: fault-free images; ranges are widened until these raise no alarm.

    Raises:
        ValueError: no images of a kind.
    """
    if not len(stored) or not len(golden) or not len(others):
        raise ValueError("guards need stored, golden and other images")
    low: dict[str, NDArray[np.float64]] = {}
    high: dict[str, NDArray[np.float64]] = {}
    for turn in range(CALIBRATION_PASSES):
        for answers in healthy_batches(context, stored, CALIBRATE_SAMPLE + turn * len(stored)):
            for name in context.products:
                least, most = (part.astype(np.float64) for part in _extremes(answers.sums[name]))
                low[name] = np.minimum(low.get(name, np.inf), least.min(axis=0))
                high[name] = np.maximum(high.get(name, -np.inf), most.max(axis=0))
    runs = [context.healthy(golden, GOLDEN_SAMPLE + turn * len(golden)).logits for turn in range(GOLDEN_CHECKS)]
    reference = np.mean(runs, axis=0)
    furthest = max(golden_distance(logits, reference) for logits in runs)
    return _widened(Guards(low, high, reference, GOLDEN_WIDTH * furthest), context, others)


def golden_distance(logits: NDArray[np.int32], reference: NDArray[np.float64]) -> float:
    """Root mean square deviation of logits from the reference, over golden images and classes."""
    return float(np.sqrt(np.mean((logits - reference) ** 2)))


def scrub_finds(cell: tuple[float, float] | None, step_us: float, noise: ReadNoise, rng: np.random.Generator) -> bool:
    """Whether mean readings before and after a fault differ by half a level; False without a struck cell."""
    if cell is None:
        return False
    before, after = (g + np.sqrt(float(noise.at(np.array([g]))[0]) / SCRUB_READS) * rng.standard_normal() for g in cell)
    return bool(abs(after - before) > step_us / 2)


def healthy_batches(context: FaultContext, images: NDArray[np.uint8], sample: int) -> Iterator[ChipAnswers]:
    """Answers without a fault, some images at a time."""
    for first in range(0, len(images), BATCH):
        yield context.healthy(images[first : first + BATCH], sample + first)


def _widened(guards: Guards, context: FaultContext, others: NDArray[np.uint8]) -> Guards:
    """Guards widened until other fault-free images raise no alarm; at most to the widest setting."""
    wanted = 0
    for answers in healthy_batches(context, others, WIDEN_SAMPLE):
        while wanted < len(WIDTHS) - 1 and replace(guards, width=WIDTHS[wanted]).range_alarms(answers).any():
            wanted += 1
    # One step more: the images of tomorrow are not those of the calibration.
    return replace(guards, width=WIDTHS[min(wanted + 1, len(WIDTHS) - 1)])


def _extremes(sums: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Least and largest sum of each channel, (n, outputs)."""
    maps = _channels_last(sums)
    images, places, channels = maps.shape
    abreast = math.gcd(places, PLACES_ABREAST)
    wide = maps.reshape(images, places // abreast, abreast * channels)
    least, most = (extreme(wide, axis=1).reshape(images, abreast, channels) for extreme in (np.min, np.max))
    return least.min(axis=1), most.max(axis=1)


def _channels_last(sums: NDArray[np.int32]) -> NDArray[np.int32]:
    """Sums as (n, places, outputs), the memory order of fast mode."""
    return np.moveaxis(sums, 1, -1).reshape(len(sums), -1, sums.shape[1])
