"""Images that run through the first steps of a program and wait there, until the rest of it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import Multiply, RunsLayers, apply


class PartialRun:
    """Some images under way. ``values``: codes of every result so far that a later step reads, (n, …).

    Args:
        values: to begin with: codes of the input, or what another run of ``done`` steps gave.
    """

    def __init__(self, values: Mapping[str, NDArray[Any]], done: int = 0) -> None:
        self.values, self.done = dict(values), done

    def go_on(
        self,
        program: ConductanceProgram,
        until: str,
        multiply: Multiply | RunsLayers,
        *,
        sample: int = 0,
        batch: int = 32,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Run all images through the next steps, up to and with ``until``.

        Args:
            program: whose steps that are done already have not changed.
            sample: number of the first image; image i is ``sample + i``.
            progress: called with (images done, images).
        """
        end = next(i for i, step in enumerate(program.steps) if step.name == until) + 1
        steps, later = program.steps[self.done : end], {name for s in program.steps[end:] for name in s.inputs}
        kept = [name for name in (*self.values, *(s.name for s in steps)) if name in later or name == until]
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in kept}
        count, layers = len(next(iter(self.values.values()))), program.layers
        for first in range(0, count, batch):
            if progress is not None:
                progress(first, count)
            values = {name: codes[first : first + batch] for name, codes in self.values.items()}
            for step in steps:
                values[step.name] = apply(step, values, multiply, sample + first, layers=layers)
            for name in kept:
                parts[name].append(values[name])
        self.values, self.done = {name: np.concatenate(found) for name, found in parts.items()}, end
