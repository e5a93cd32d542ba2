"""Images that a network stores or was fine-tuned on, which never score (decision 0008): chosen, told and refused."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hil.datasets.image_set import image_digests
from hil.errors import FileError

Flags = NDArray[np.bool_]
TOGETHER = 128  # stored images that are evenly taken, too, if only the first are used, as by a tune


class TrainedNetwork(Protocol):
    """A network file, or a program that was compiled from one."""

    @property
    def calibration_images(self) -> NDArray[np.uint8]: ...

    @property
    def trained_on(self) -> NDArray[np.int64]: ...


def evenly_taken(images: int, most: int) -> NDArray[np.int64]:
    """Places of at most ``most`` of a data set's images, for a network to store."""
    chosen = np.linspace(0, images - 1, min(most, images)).astype(np.int64)
    parts = -(-len(chosen) // TOGETHER)
    return np.concatenate([chosen[part::parts] for part in range(parts)])


def seen_images(images: NDArray[np.uint8], network: TrainedNetwork) -> tuple[Flags, Flags]:
    """Which of some images (n, …) calibrated a network, and which it was fine-tuned on; (n,) each."""
    digests = image_digests(images)
    stored = set(image_digests(network.calibration_images))
    keys = np.array([int.from_bytes(bytes.fromhex(d[:16]), "little", signed=True) for d in digests], np.int64)
    return np.array([digest in stored for digest in digests], np.bool_), np.isin(keys, network.trained_on)


def check_unseen(images: NDArray[np.uint8], network: TrainedNetwork, numbers: NDArray[np.int64] | None = None) -> None:
    """Refuse to score images that a network was calibrated or fine-tuned on.

    Args:
        numbers: of the images in their data set; None: as they lie.

    Raises:
        FileError: with how many, and the number of the first.
    """
    stored, trained = seen_images(images, network)
    if stored.any():
        at = int(np.argmax(stored))
        raise FileError(
            f"{int(stored.sum())} of the images to be scored calibrated the network "
            f"(first: number {at if numbers is None else int(numbers[at])})",
            likely="the training split was named, or the network was imported with test images",
            hint="score the test split, or import the network again with training images",
        )
    if trained.any():
        raise FileError(
            f"{int(trained.sum())} of the images to be scored are among those that the network was fine-tuned on",
            likely="the training split was named, or a file that serves as both",
            hint="score images that hil finetune has not seen",
        )
