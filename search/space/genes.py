"""A search space: what stands where, and every network of it as an integer vector.

    space = load_space("cifar10")
    architecture = space.decode(space.sample(rng))
    layers = space.layers(architecture)

A genome has one gene for the operator of each position, one for the width of each stage, one for the bits of weights
and one for those of activations (of the network, of each stage or of each position), and one for the bits of the
converters; its numbers are indices of choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cim.cost.workload import INPUT, Shape3, WorkKind
from search.errors import SpaceError
from search.space.architecture import Architecture
from search.space.operators import SLOT, Layer, Operator, Slot, convolution

Genome = tuple[int, ...]
BitsPer = Literal["network", "stage", "position"]


@dataclass(frozen=True, slots=True)
class Stem:
    """The first convolution of every network of a space."""

    channels: int
    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class Head:
    """Global average pool and classifier, after a 1x1 convolution if ``channels`` is above 0."""

    channels: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """Positions at one width: ``channels`` times one of ``widths``, rounded to the space's ``multiple``."""

    channels: int
    widths: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """``name`` is "stage.index", both from 1; ``operators`` are names of the space's table."""

    name: str
    stage: int
    first: bool
    stride: int
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bits:
    """Bits of the weights of a layer, and of the codes that it takes."""

    weight: int
    activation: int


@dataclass(frozen=True, slots=True)
class Gene:
    """One number of a genome and what its values mean."""

    name: str
    choices: tuple[str | float | int, ...]


@dataclass(frozen=True, slots=True)
class Space:
    """All networks that a search may give.

    ``skeleton`` is the digest of what they have in common; a space with fewer choices keeps it,
    so architectures pass between the two.
    """

    name: str
    input_shape: Shape3
    classes: int
    stem: Stem
    stages: tuple[Stage, ...]
    positions: tuple[Position, ...]
    head: Head
    multiple: int
    operators: Mapping[str, Operator]
    weight_bits: tuple[int, ...]
    activation_bits: tuple[int, ...]
    adc_bits: tuple[int, ...]
    bits_per: BitsPer
    edges: Bits | None
    skeleton: str

    @property
    def genes(self) -> tuple[Gene, ...]:
        return (
            *(Gene(f"operator {p.name}", p.operators) for p in self.positions),
            *(Gene(f"width {i}", s.widths) for i, s in enumerate(self.stages, 1)),
            *(Gene(f"weight bits {g}".strip(), self.weight_bits) for g in self.bit_groups),
            *(Gene(f"activation bits {g}".strip(), self.activation_bits) for g in self.bit_groups),
            Gene("adc bits", self.adc_bits),
        )

    @property
    def bit_groups(self) -> tuple[str, ...]:
        """Scopes that have bits of their own: stages ("2"), positions ("2.1"), or all together ("")."""
        if self.bits_per == "stage":
            return tuple(str(i) for i in range(1, len(self.stages) + 1))
        return tuple(p.name for p in self.positions) if self.bits_per == "position" else ("",)

    def bit_group(self, position: int) -> int:
        """Index of the group that a position belongs to."""
        return {"network": 0, "stage": self.positions[position].stage, "position": position}[self.bits_per]

    def uniform(self, operators: Sequence[str], widths: Sequence[float], bits: Bits) -> Architecture:
        """A network of the same bits everywhere, on the converters of most bits."""
        many = len(self.bit_groups)
        return Architecture(
            self.name, self.skeleton, tuple(operators), tuple(widths),
            (bits.weight,) * many, (bits.activation,) * many, max(self.adc_bits),
        )  # fmt: skip

    @property
    def choices(self) -> tuple[int, ...]:
        """Number of choices of each gene."""
        return tuple(len(gene.choices) for gene in self.genes)

    @property
    def kinds(self) -> NDArray[np.float64]:
        """Choices that are the same thing in several places, 0 or 1, (Σ choices, kinds).

        An operator, as many bits, or a width as narrow among its stage's, wherever they stand.
        """
        labels: list[tuple[object, ...]] = []
        for gene in self.genes:
            what = gene.name.rstrip(".0123456789 ")
            values = np.linspace(0, 1, len(gene.choices)).tolist() if what == "width" else gene.choices
            labels += [(what, value) for value in values]
        every = list(dict.fromkeys(labels))
        return np.array([[float(label == one) for one in every] for label in labels])

    def size(self) -> int:
        """Number of networks."""
        return math.prod(self.choices)

    def encode(self, architecture: Architecture) -> Genome:
        """Raises ``SpaceError`` when it is none of this space."""
        if architecture.skeleton != self.skeleton:
            raise SpaceError(
                f"an architecture of space {architecture.space}, whose skeleton is not that of {self.name}"
            )
        values = architecture.choices
        if len(values) != len(self.genes):
            raise SpaceError(f"{len(values)} choices; a network of {self.name} has {len(self.genes)}")
        for gene, value in zip(self.genes, values, strict=True):
            if value not in gene.choices:
                raise SpaceError(f"{gene.name} is {value}; space {self.name} has {', '.join(map(str, gene.choices))}")
        return tuple(gene.choices.index(value) for gene, value in zip(self.genes, values, strict=True))

    def decode(self, genome: Sequence[int] | NDArray[np.integer]) -> Architecture:
        """Raises ``SpaceError`` for a genome of another length or an index out of range."""
        genes, numbers = self.genes, [int(i) for i in genome]
        if len(numbers) != len(genes) or any(not 0 <= i < len(g.choices) for i, g in zip(numbers, genes, strict=True)):
            raise SpaceError(f"{numbers} is not a genome of {self.name}, whose genes have {self.choices} choices")
        values = [gene.choices[i] for i, gene in zip(numbers, genes, strict=True)]
        n, m = len(self.positions), len(self.positions) + len(self.stages)
        *bits, adc = (int(v) for v in values[m:])
        half = len(bits) // 2
        return Architecture(
            self.name, self.skeleton, tuple(str(v) for v in values[:n]), tuple(float(v) for v in values[n:m]),
            tuple(bits[:half]), tuple(bits[half:]), adc,
        )  # fmt: skip

    def sample(self, rng: np.random.Generator) -> Genome:
        """One genome, every network equally likely."""
        return tuple(int(i) for i in rng.integers(self.choices))

    def every(self) -> NDArray[np.int64]:
        """All genomes, int64 (size, genes), the last gene running fastest."""
        return np.stack(np.unravel_index(np.arange(self.size()), self.choices), 1).astype(np.int64)

    def channels(self, stage: int, width: float) -> int:
        """Channels of a stage at a width."""
        steps = round(self.stages[stage].channels * width / self.multiple)
        return max(steps, 1) * self.multiple

    def slot(self, position: int, widths: Sequence[float]) -> Slot:
        """Slot of an operator of that position, at a width by stage."""
        place = self.positions[position]
        outputs = self.channels(place.stage, widths[place.stage])
        inputs = outputs
        if place.first:
            before = place.stage - 1
            inputs = self.stem.channels if before < 0 else self.channels(before, widths[before])
        return Slot(inputs, outputs, place.stride, position % 2)

    def slots(self, position: int) -> tuple[Slot, ...]:
        """That place at every width that the stages may have."""
        place = self.positions[position]
        here = self.stages[place.stage].widths
        before = self.stages[place.stage - 1].widths if place.first and place.stage else (1.0,)
        widths = [1.0] * len(self.stages)
        found: dict[Slot, None] = {}
        for wide in here:
            for earlier in before:
                if place.stage:
                    widths[place.stage - 1] = earlier
                widths[place.stage] = wide
                found[self.slot(position, widths)] = None
        return tuple(found)

    def layers(self, architecture: Architecture) -> tuple[Layer, ...]:
        """The whole network, in order; names are "stem", "<stage>.<index>.<layer>", "pool", "classifier"."""
        self.encode(architecture)
        made = [convolution("stem", INPUT, self.stem.channels, self.stem.kernel, stride=self.stem.stride)]
        last = "stem"
        for i, (place, name) in enumerate(zip(self.positions, architecture.operators, strict=True)):
            own = self.operators[name].layers(self.slot(i, architecture.widths))
            for layer in own:
                inputs = tuple(last if source == SLOT else f"{place.name}.{source}" for source in layer.inputs)
                made.append(replace(layer, name=f"{place.name}.{layer.name}", inputs=inputs))
            last = made[-1].name if own else last
        if self.head.channels:
            made.append(convolution("head", last, self.head.channels))
            last = "head"
        wide = made[-1].outputs
        made.append(Layer(name="pool", kind=WorkKind.AVG_POOL, inputs=(last,), outputs=wide, relu=False))
        made.append(Layer(name="classifier", kind=WorkKind.LINEAR, inputs=("pool",), outputs=self.classes, relu=False))
        return tuple(made)
