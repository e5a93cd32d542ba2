"""Shifts and symmetries of training images that do not change the class, by data set."""

from __future__ import annotations


def augmentation(data: str) -> tuple[int, str]:
    """Shift (pixels) and symmetry that suit the training images of a data set."""
    return {"cifar10": (2, "mirror"), "eurosat": (4, "turn")}.get(data.removesuffix("-jpeg"), (1, "mirror"))
