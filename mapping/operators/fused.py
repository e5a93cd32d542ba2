"""Operations of a network once nodes are fused: batch norms folded, activations merged into what they follow.

Each becomes one step of the program and carries its float meaning: which graph nodes give its sum and its output, and
between which values its output is clamped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from cim.chip.windows import Window
from cim.cost.workload import WorkKind
from mapping.operators.integer.scales import CodeScale
from mapping.operators.step import Shape, Step
from mapping.operators.work import WorkForm


class ChosenCodes(Protocol):
    """Codes that a network chose itself (``mapping.operators.activations.Grid``)."""

    @property
    def scale(self) -> float: ...
    @property
    def low(self) -> int: ...
    @property
    def high(self) -> int: ...


class OpFields(TypedDict):
    """Fields that every fused operation has, whatever it computes."""

    name: str
    inputs: tuple[str, ...]
    output_node: str
    output_shape: Shape


class Scales(NamedTuple):
    """Codes around an operation: of its inputs, with their shapes, and of its output.

    ``given``: the network itself says the codes of the first input. ``logits``: the output gives the logits their
    scale.
    """

    inputs: Sequence[CodeScale]
    shapes: Sequence[Shape]
    out: CodeScale
    given: bool
    logits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedOp:
    """One step to be. ``inputs`` name earlier operations or ``"input"``.

    ``output_node`` is the graph node with the same float values, perhaps in another shape than
    ``output_shape``; the output lies between ``low`` and ``high``. ``grid``: its codes, where the network says them.
    """

    name: str
    inputs: tuple[str, ...]
    output_node: str
    output_shape: Shape
    low: float = -math.inf
    high: float = math.inf
    grid: ChosenCodes | None = None

    @property
    def gives_signed(self) -> bool:
        """Whether its codes may be negative though all input codes are not and no clamp lets them."""
        return True

    @property
    def reads_bits(self) -> int | None:
        """Bits of the codes that it reads, where they are not the network's."""
        return None

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        """Its work as the cost models count it."""
        raise NotImplementedError(self.name)

    def integer_steps(self, around: Scales) -> tuple[Step, ...]:
        """The integer steps of an operation that no array multiplies, its own last.

        Codes of the others have the scale of the first input.
        """
        raise NotImplementedError(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixOp(FusedOp):
    """y = W x + bias; W is ``gain`` · ``stored``, (groups, outputs / groups, inputs / groups); ``bias`` (outputs,).

    ``sum_node`` is the graph node with the values of y before any clamp. ``shares``: the earlier layer whose cells
    it reads again, being equal to it (``mapping.quantise.sharing``).
    """

    stored: NDArray[np.floating]
    gain: NDArray[np.float64]  # (outputs,)
    bias: NDArray[np.float64]
    window: Window | None
    sum_node: str
    shares: str | None = None

    @property
    def weight(self) -> NDArray[np.float64]:
        """W, made anew at every call: only one layer's is in memory."""
        return self.stored.astype(np.float64) * self.gain.reshape(self.stored.shape[0], -1, 1)

    def work(self, inputs: Sequence[Shape], after: Shape) -> WorkForm:
        return matrix_work(self.window)


def matrix_work(window: Window | None) -> WorkForm:
    """Work of a matrix product on cells: a convolution by its window, a dense layer where ``window`` is None."""
    if window is None:
        return WorkForm(WorkKind.LINEAR)
    return WorkForm(WorkKind.CONV, window.kernel, window.stride, window.padding, window.dilation)
