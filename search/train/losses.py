"""Losses of students of a teacher. Imports torch: import this module late."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

VARIANCE_FLOOR = 1e-4


def noise_to_signal(student: Tensor, teacher: Tensor) -> Tensor:
    """Σ_c mean((g − t)_c²) / (C · (Var(t_c) + ε)): 0 where features agree, 1 for the mean of the teacher's.

    Args:
        student, teacher: (n, channels, height, width).
    """
    error = (student - teacher).pow(2).mean((0, 2, 3))
    return (error / (teacher.var((0, 2, 3), unbiased=False) + VARIANCE_FLOOR)).mean()


def soft_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """τ² KL(softmax(teacher / τ) ‖ softmax(student / τ)), mean over images (Hinton et al., arXiv:1503.02531)."""
    soft = functional.kl_div(
        functional.log_softmax(student / temperature, 1),
        functional.log_softmax(teacher / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * soft


def distillation(student: Tensor, labels: Tensor, teacher: Tensor | None, weight: float, temperature: float) -> Tensor:
    """(1 − weight) cross-entropy + weight · ``soft_divergence``; without a teacher the cross-entropy alone."""
    own = functional.cross_entropy(student, labels)
    if teacher is None:
        return own
    return torch.lerp(own, soft_divergence(student, teacher, temperature), weight)
