"""Loops of few kinds of event each: small networks that a chip runs again and again while its supply is metered.

Energy of an image is linear in the prices of a chip file, so what a network counts of an event is its estimate with a
price of 1 for that event and of 0 for all others: the counting is that of ``cim.cost`` and stands nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from cim.cost.network_cost import estimate
from cim.cost.workload import Workload
from mapping.network.file import NetworkFile
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.activations import Relu
from mapping.operators.joins import Add
from mapping.operators.moves import Flatten
from mapping.operators.node import INPUT, Node
from mapping.operators.pools import AvgPool, MaxPool
from mapping.operators.products import Conv, Linear

FIELDS = (
    "mean_cell_us", "row_pj", "read_pj", "adc_fj_per_step", "accumulate_pj", "activation_pj", "pool_pj",
    "buffer_read_pj_per_bit", "buffer_write_pj_per_bit", "hop_pj_per_bit", "host_pj_per_bit",
)  # fmt: skip
"""Prices that loops tell apart. Cells are priced by their mean conductance (Joule's law)."""
WITH_ADC = ("sample_hold_pj", "shift_add_pj")  # a conversion each, as the converter's own: one price for all three
LEAKAGE = ("macro_leakage_uw", "buffer_leakage_nw_per_bit")
WEIGHT_BITS = 4
IMAGES = 64  # random ones, of a loop


@dataclass(frozen=True, slots=True, eq=False)
class PriceLoop:
    """One network to run, and the images."""

    name: str
    network: NetworkFile
    images: NDArray[np.uint8]


def price_loops(seed: int) -> Iterator[PriceLoop]:
    """Networks whose counts of events differ as much as a compiler lets them."""
    rng = np.random.default_rng(seed)

    def net(*shape: int) -> _Net:
        return _Net(rng, shape)

    for bits in (4, 8):
        yield net(1, 2, 2).linear(64).loop(f"few rows, A{bits}", bits)
        yield net(2, 8, 8).linear(64).loop(f"whole tile, A{bits}", bits)
        yield net(1, 16, 16).conv(2, 1).pool(MaxPool, 16).loop(f"few cells, A{bits}", bits)
        yield net(4, 16, 16).conv(64, 1).pool(MaxPool, 16).loop(f"windows 1 x 1, A{bits}", bits)
        yield net(8, 16, 16).conv(2, 3).pool(MaxPool, 16).loop(f"windows 3 x 3, A{bits}", bits)
    yield net(14, 16, 16).conv(64, 3).pool(MaxPool, 16).loop("whole tile in windows", 8)
    yield net(4, 16, 16).conv(2, 5).pool(MaxPool, 16).loop("windows 5 x 5", 8)
    yield net(2, 16, 16).conv(2, 7).pool(MaxPool, 16).loop("windows 7 x 7", 8)
    yield net(8, 8, 8).linear(32).loop("sums of tiles", 4)
    yield net(8, 16, 16).pool(MaxPool, 4).linear(2).loop("long image", 4)
    yield net(2, 16, 16).conv(16, 1).branch().branch().pool(AvgPool, 16).loop("additions", 4)
    yield net(2, 8, 8).linear(128).linear(128).linear(2).loop("from layer to layer", 8)
    yield net(4, 12, 12).conv(16, 1).conv(16, 1).pool(MaxPool, 12).linear(2).loop("maps from layer to layer", 4)


def held_out_loop(seed: int) -> PriceLoop:
    """A small network of everything, which no price is fitted on."""
    net = _Net(np.random.default_rng(seed + 1), (1, 16, 16))
    net = net.conv(8, 3).pool(MaxPool, 2).branch().conv(16, 3).pool(AvgPool, 2).linear(32).linear(10)
    return net.loop("held-out network", 6)


def event_energies_pj(workload: Workload, spec: ChipSpec) -> NDArray[np.float64]:
    """Energy of one image by each of ``FIELDS`` at a price of 1, pJ, (fields,).

    Raises:
        cim.cost.network_cost.NoCostModel: the chip file has no [cost] section, whose rates and widths it takes.
    """
    return np.array([image_energy_pj(workload, spec, {name: 1.0}) for name in FIELDS])


def image_energy_pj(workload: Workload, spec: ChipSpec, prices: Mapping[str, float] | None = None) -> float:
    """Energy of one image, pJ, without leakage: at the chip file's prices, or at ``prices`` and 0 for all others."""
    cost = spec.cost
    if cost is not None:
        changed: dict[str, Any] = dict.fromkeys(LEAKAGE, 0.0)
        if prices is not None:
            changed |= {**dict.fromkeys((*FIELDS, *WITH_ADC, "multiply_pj"), 0.0), **prices}
        spec = replace(spec, cost=replace(cost, **changed))
    return estimate(workload, spec).energy_pj


class _Net:
    """A network as it is made, layer after layer, with random weights."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
        self.rng, self.given, self.shape, self.nodes = rng, shape, shape, list[Node]()

    @property
    def at(self) -> str:
        return self.nodes[-1].name if self.nodes else INPUT

    def add(self, node: Node, *more: tuple[int, ...]) -> Self:
        self.nodes.append(node)
        self.shape = node.output_shape([self.shape, *more])
        return self

    def name(self, kind: str) -> str:
        return f"{kind}{len(self.nodes)}"

    def conv(self, outputs: int, kernel: int) -> Self:
        weight, pad = self._weight(outputs, self.shape[0], kernel, kernel), (kernel // 2, kernel // 2)
        self.add(Conv(name=self.name("conv"), inputs=(self.at,), weight=weight, padding=pad))
        return self.add(Relu(name=self.name("relu"), inputs=(self.at,)))

    def linear(self, outputs: int) -> Self:
        if len(self.shape) > 1:
            self.add(Flatten(name=self.name("flat"), inputs=(self.at,)))
        weight = self._weight(outputs, self.shape[0])
        return self.add(Linear(name=self.name("linear"), inputs=(self.at,), weight=weight))

    def pool(self, kind: type[MaxPool | AvgPool], side: int) -> Self:
        return self.add(kind(name=self.name("pool"), inputs=(self.at,), kernel=(side, side), stride=(side, side)))

    def branch(self) -> Self:
        """A convolution of each pixel, added to what it is of."""
        before, shape = self.at, self.shape
        self.conv(shape[0], 1)
        return self.add(Add(name=self.name("add"), inputs=(self.at, before)), shape)

    def loop(self, name: str, bits: int) -> PriceLoop:
        channels, height, width = self.given
        middle, spread = (0.0,) * channels, (1.0,) * channels
        if len(self.shape) > 1:
            self.add(Flatten(name=self.name("flat"), inputs=(self.at,)))
        classes = tuple(map(str, range(self.shape[0])))
        graph = NetworkGraph((channels, height, width), tuple(self.nodes), Preprocess(middle, spread), classes)
        images = self.rng.integers(0, 256, (IMAGES, height, width, channels), dtype=np.uint8)
        return PriceLoop(name, NetworkFile(graph, WEIGHT_BITS, bits, images), images)

    def _weight(self, *shape: int) -> NDArray[np.float32]:
        return self.rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
