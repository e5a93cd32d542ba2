"""What stands on a chip while a recipe is carried out on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mapping.program.conductance import ConductanceProgram
    from mapping.tune.residual import Wanted


@dataclass
class Standing:
    """What stands on a chip that is being worked on. ``wanted``: levels that tiles stand for, None: the program's."""

    program: ConductanceProgram
    slots: Sequence[int]  # in the order in which they were written; none: the chip held them already
    wanted: Wanted | None = None
    age_s: float = 0.0  # once it was let age
