"""Which samples a network stores or was fine-tuned on, and the refusal to score them (decision 0008).

Samples are compared by their raw values where the network keeps keys of them (``calibration_keys``), else by their
pixels. Samples of few values round to equal pixels by chance, so the number of matches is compared with the number of
equal pairs within one set.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hil.datasets.image_set import Dataset
from hil.errors import FileError
from hil.watch import Watch
from mapping.network.file import NO_KEYS, sample_keys

Flags = NDArray[np.bool_]
Keys = NDArray[np.int64]
TOGETHER = 128  # stored images that are evenly taken, too, if only the first are used, as by a tune
FEW_VALUES = 32  # of a sample; samples of more values do not meet by chance
UNSEEN_PAIRS = 5.0  # 99 % upper limit of a Poisson mean of which nothing was counted


class TrainedNetwork(Protocol):
    """A network file, or a program that was compiled from one."""

    @property
    def calibration_images(self) -> NDArray[np.uint8]: ...

    @property
    def calibration_keys(self) -> Keys: ...

    @property
    def trained_on(self) -> Keys: ...


def evenly_taken(images: int, most: int) -> NDArray[np.int64]:
    """Indices of at most ``most`` evenly spaced images of a data set, as calibration images of a network."""
    chosen = np.linspace(0, images - 1, min(most, images)).astype(np.int64)
    parts = -(-len(chosen) // TOGETHER)
    return np.concatenate([chosen[part::parts] for part in range(parts)])


def raw_keys(data: Dataset, at: NDArray[np.int64]) -> Keys:
    """Keys of the raw values of some samples; empty of images, whose pixels are their values."""
    return NO_KEYS if data.inputs is None else sample_keys(data.inputs[at])


def seen_images(
    images: NDArray[np.uint8],
    network: TrainedNetwork,
    inputs: NDArray[np.float32] | None = None,
    watch: Watch | None = None,
) -> tuple[Flags, Flags]:
    """Flags of samples (n,): those that calibrated a network, and those it was fine-tuned on; a match that chance
    explains is not flagged, and ``watch`` hears how many there were.

    Args:
        inputs: raw values of the samples, (n, …); None: images are all there is.
    """
    keys, values = sample_keys(images), images[0].size if len(images) else 0
    if inputs is not None and len(network.calibration_keys):
        stored = _met(sample_keys(inputs), network.calibration_keys, values, watch, exact=True)
    else:
        stored = _met(keys, sample_keys(network.calibration_images), values, watch, exact=inputs is None)
    return stored, _met(keys, network.trained_on, values, watch, exact=inputs is None)


def shared_images(images: NDArray[np.uint8], others: NDArray[np.uint8], watch: Watch | None = None) -> Flags:
    """Flags (n,) of images (n, …) that are also in ``others`` (m, …); all False where chance explains the matches."""
    return _met(sample_keys(images), sample_keys(others), images[0].size if len(images) else 0, watch)


def _met(keys: Keys, others: Keys, values: int, watch: Watch | None, *, exact: bool = False) -> Flags:
    """Flags of keys found among ``others``; no flag if chance explains as many pairs of equal samples.

    Of n samples and m others, P pairs within both sets tell the chance that two samples are equal; up to
    (P + 3 √P + 5) / (n (n − 1) / 2 + m (m − 1) / 2) · n · m pairs between the sets are chance, without the 5 where
    samples are compared by their raw values.
    """
    flags = np.isin(keys, others)
    n, m = len(keys), len(others)
    if not flags.any() or values > FEW_VALUES:
        return flags
    both, first, second = (np.unique(part, return_counts=True) for part in (np.r_[keys, others], keys, others))
    within, all_pairs = sum(_pairs(counts) for _, counts in (first, second)), _pairs(both[1])
    chance = n * m / max(_pairs(np.array([n, m])), 1.0)
    most = (within + 3 * within**0.5 + UNSEEN_PAIRS * (not exact)) * chance
    if all_pairs - within > most:
        return flags
    if watch is not None:
        watch.note(
            f"{int(flags.sum())} of the {n:,} samples equal training samples in all their {values} values, as stored; "
            f"chance explains {within * chance:.0f} such pairs, so they are scored"
        )
    return np.zeros(n, np.bool_)


def _pairs(counts: NDArray[Any]) -> float:
    """Number of pairs of equal samples, from the count of each distinct sample."""
    return float((counts * (counts - 1.0)).sum()) / 2


def check_unseen(
    data: Dataset, network: TrainedNetwork, numbers: NDArray[np.int64] | None = None, watch: Watch | None = None
) -> None:
    """Refuse to score samples that a network was calibrated or fine-tuned on.

    Args:
        numbers: of the samples that are scored; None: all.
        watch: hears how many samples equal stored ones by chance.

    Raises:
        FileError: with how many, and the number of the first.
    """
    at = np.arange(len(data.images)) if numbers is None else numbers
    stored, trained = seen_images(data.images[at], network, None if data.inputs is None else data.inputs[at], watch)
    if stored.any():
        raise FileError(
            f"{int(stored.sum())} of the images to be scored calibrated the network "
            f"(first: number {int(at[np.argmax(stored)])})",
            likely="the training split was named, or the network was imported with test images",
            hint="score the test split; cut a file that is both in two: hil import --data ONE, hil deploy --data OTHER",
        )
    if trained.any():
        raise FileError(
            f"{int(trained.sum())} of the images to be scored are among those that the network was fine-tuned on",
            likely="the training split was named, or a file that serves as both",
            hint="score images that hil finetune has not seen",
        )
