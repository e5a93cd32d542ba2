"""Messages of version 1.4: a plan is loaded, and runs images (docs/file-formats.md, *Plans*)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.messages import Done, Reply, Request


@dataclass(frozen=True, slots=True)
class PlanResult(Reply):
    """Answers of a plan: int32 (passes, images, codes).

    ``saturated`` and ``conversions``: of each step, in all passes and images; 32 bits on the wire.
    """

    saturated: NDArray[np.unsignedinteger]
    conversions: NDArray[np.unsignedinteger]
    values: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class LoadPlan(Request[Done]):
    """Words ``offset`` onwards of a plan of ``total`` words; the last part makes the chip check and keep it.

    Parts come in order, from offset 0, which forgets the plan before. ``words``: int32 (n,).
    """

    reply_class = Done

    total: int
    offset: int
    words: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class RunPlan(Request[PlanResult]):
    """Run the loaded plan on images, uint8 (images, height, width, channels), ``passes`` times.

    Image i in pass p is sample ``sample`` + p · ``pass_step`` + i.
    """

    reply_class = PlanResult

    passes: int
    sample: int
    pass_step: int
    pixels: NDArray[np.uint8]
