"""What stands on a chip while a recipe is carried out on it, and once it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mapping.program.conductance import ConductanceProgram
    from mapping.program.corrections import Corrections
    from mapping.tune.channel_affine import Tuned
    from mapping.tune.residual import Wanted

    Cells = Mapping[int, NDArray[np.floating]]
    """By slot, conductances (rows, columns) in µS; NaN where there is nothing to say."""


@dataclass
class Standing:
    """What stands on a chip that is being worked on. ``wanted``: levels that tiles stand for, None: the program's."""

    program: ConductanceProgram
    slots: Sequence[int]  # in the order in which they were written; none: the chip held them already
    wanted: Wanted | None = None
    age_s: float = 0.0  # once it was let age


@dataclass(frozen=True)
class Written:
    """A program on a chip: ``program`` as the chip holds it, what its cells read at ``age_s``, its corrections.

    ``tuned``: the network with the lines of this chip, None: it runs as compiled. ``number`` of the round; None: the
    chip holds all of them.
    """

    program: ConductanceProgram
    readings_us: Cells
    corrections: Corrections
    age_s: float
    tuned: Tuned | None = None
    number: int | None = None
