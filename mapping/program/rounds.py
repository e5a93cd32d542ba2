"""Rounds: a network larger than the chip runs part after part, the chip written anew for each.

The layers of round r are written when round r − 1 has run for all images and all passes over
them; activations wait on the host in between, beyond ``MEMORY_BYTES`` on disk. A layer that
alone is larger than the chip goes over several rounds: its sums wait as int32 until the last.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mapping.operators.integer import digital_ops
from mapping.operators.node import INPUT
from mapping.operators.step import Step
from mapping.program.adapter import adapted
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import Multiply, RunsLayers, apply, input_codes

MEMORY_BYTES = 1 << 30

Key = tuple[int, int]  # pass over the images, batch
Values = dict[str, NDArray[Any]]


def part_of_round(program: ConductanceProgram, number: int) -> ConductanceProgram:
    """The matrix steps of one round with that round's tiles: what is written, corrected and read then.

    It has no digest: a chip that holds it does not hold the program.
    """
    steps = []
    for step in program.matrices:
        tiles = tuple(t for t in step.group.tiles if t.round == number)
        if tiles:
            steps.append(replace(step, group=replace(step.group, tiles=tiles)))
    return replace(program, steps=tuple(steps), digest="")


def step_rounds(program: ConductanceProgram) -> dict[str, range]:
    """In which rounds each step runs; a digital step runs as soon as the chip has answered what is before it."""
    found, now = {}, 0
    for step in program.steps:
        first = now
        if isinstance(step, MatrixStep):
            first, now = step.group.tiles[0].round, step.group.tiles[-1].round
        found[step.name] = range(first, now + 1)
    return found


class RoundRun:
    """Some images on their way through the rounds of a program; use it as a context manager.

    ``run`` each round in order, then ``logits``.

    Args:
        images: uint8 (n, height, width, channels).
        samples: number of the first image in each pass over the images.
        batch: images in flight together.
        memory_bytes: activations that are kept in memory; the rest goes to a temporary folder.
    """

    def __init__(
        self,
        program: ConductanceProgram,
        images: NDArray[np.uint8],
        samples: Sequence[int],
        *,
        batch: int = 64,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.program, self.images, self.samples, self.batch = program, images, tuple(samples), batch
        self._rounds, self._layers = step_rounds(program), program.layers
        self._store = _Store(memory_bytes)
        self._next = 0

    def run(
        self,
        number: int,
        multiply: Multiply | RunsLayers,
        *,
        further_sample: int = 0,
        progress: Callable[[int, int], None] | None = None,
        program: ConductanceProgram | None = None,
    ) -> None:
        """Take every image through the steps of round ``number``.

        Args:
            multiply: the chip as it is written for this round; layers that go over several rounds need its ``sums``.
            further_sample: added to the samples of this round, so that no two rounds share noise.
            progress: called with (images done, images of all passes).
            program: the same network with other gains and biases in this round's steps (``mapping.tune``).
        """
        if number != self._next:
            raise ValueError(f"round {number} when round {self._next} is next")
        self._next += 1
        running = program or self.program
        self._layers = running.layers
        steps = [s for s in running.steps if number in self._rounds[s.name]]
        keep = self._kept_after(number)
        done, total = 0, len(self.samples) * len(self.images)
        for turn, sample in enumerate(self.samples):
            for first in range(0, len(self.images), self.batch):
                if progress is not None:
                    progress(done, total)
                part = self.images[first : first + self.batch]
                values = self._store.take((turn, first))
                values[INPUT] = input_codes(part, self.program.input)
                for step in steps:
                    self._step(step, number, values, multiply, sample + first + further_sample)
                self._store.put((turn, first), {name: values[name] for name in keep})
                done += len(part)

    @property
    def logits(self) -> NDArray[np.int32]:
        """Logit codes (passes, n, classes), once every round has run."""
        if self._next != self.program.rounds:
            raise ValueError(f"{self._next} of {self.program.rounds} rounds have run")
        last = self.program.steps[-1].name
        passes = []
        for turn in range(len(self.samples)):
            keys = [(turn, first) for first in range(0, len(self.images), self.batch)]
            passes.append(np.concatenate([self._store.look(key)[last].astype(np.int32) for key in keys]))
        return np.stack(passes)

    @property
    def spilled_bytes(self) -> int:
        """Activations that went to disk so far."""
        return self._store.spilled_bytes

    def _step(self, step: Step, number: int, values: Values, multiply: Multiply | RunsLayers, sample: int) -> None:
        rounds = self._rounds[step.name]
        if not isinstance(step, MatrixStep) or len(rounds) == 1:
            values[step.name] = apply(step, values, multiply, sample, layers=self._layers)
            return
        if not hasattr(multiply, "sums"):
            raise ValueError(f"{step.name} goes over several rounds, and {type(multiply).__name__} gives no sums")
        tiles = tuple(t for t in step.group.tiles if t.round == number)
        part = replace(step, group=replace(step.group, tiles=tiles))
        codes = values[step.inputs[0]].astype(np.int16, copy=False)
        sums = multiply.sums(part, codes, sample)
        if step.name in values:
            sums = sums + values[step.name]
        last = number == rounds[-1]
        if last:
            sums = digital_ops.finish(adapted(step, codes, sums), step.bias, step.requantise)
        values[step.name] = sums

    def _kept_after(self, number: int) -> list[str]:
        """Values that exist after a round and that a later one reads; after the last one, the logits."""
        made = [s.name for s in self.program.steps if self._rounds[s.name][0] <= number]
        later = [s for s in self.program.steps if self._rounds[s.name][-1] > number]
        wanted = {name for step in later for name in step.inputs} | {step.name for step in later}
        if number == self.program.rounds - 1:
            wanted = {self.program.steps[-1].name}
        return [name for name in made if name in wanted]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Discard the stored activations, with their file."""
        self._store.close()


@dataclass
class _Store:
    """Activations by batch, in memory up to a bound, else on disk."""

    memory_bytes: int
    spilled_bytes: int = 0
    _held: dict[Key, Values] = field(default_factory=dict)
    _held_bytes: int = 0
    _folder: tempfile.TemporaryDirectory[str] | None = None
    _names: dict[Key, list[str]] = field(default_factory=dict)  # of what lies on disk

    def put(self, key: Key, values: Values) -> None:
        size = sum(v.nbytes for v in values.values())
        if self._held_bytes + size <= self.memory_bytes:
            self._held[key] = values
            self._held_bytes += size
            return
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="hil-rounds-")
        self._names[key] = list(values)
        np.savez(self._file(key), *values.values())
        self.spilled_bytes += size

    def look(self, key: Key) -> Values:
        if key in self._held:
            return dict(self._held[key])
        if key not in self._names:
            return {}
        with np.load(self._file(key)) as file:
            return {name: file[f"arr_{i}"] for i, name in enumerate(self._names[key])}

    def take(self, key: Key) -> Values:
        values = self.look(key)
        if key in self._held:
            self._held_bytes -= sum(v.nbytes for v in self._held.pop(key).values())
        elif key in self._names:
            del self._names[key]
            self._file(key).unlink()
        return values

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def _file(self, key: Key) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / f"{key[0]}-{key[1]}.npz"
