"""Layers and plan that a chip was given, as the requests that brought them say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cim.chip.spec import ChipSpec
from firmware_protocols.messages import LoadLayer, Mvm, Request, Sweep
from firmware_protocols.plans.instructions import PART, RunLayers
from firmware_protocols.plans.messages import LoadPlan, RunPlan
from firmware_protocols.plans.plan import Plan, PlanUpload


@dataclass
class Loaded:
    """Layers and plans loaded into a chip, beside its cells."""

    layers: dict[int, LoadLayer] = field(default_factory=dict)
    plan: Plan | None = None
    _parts: PlanUpload = field(default_factory=PlanUpload)

    def see(self, request: Request[Any]) -> None:
        """Note a request that loaded a layer or a plan into the chip."""
        if isinstance(request, LoadLayer):
            self.layers[request.layer] = request
        elif isinstance(request, LoadPlan):
            self.plan = self._parts.take(request)

    def ends(self, spec: ChipSpec) -> tuple[int, int]:
        """Least and largest number that the plan can answer, from the range of its last layer's sums."""
        assert self.plan is not None
        answer = 8 * self.plan.answer.item - 1
        low, high = -(1 << answer), (1 << answer) - 1
        products = self.plan.products
        layer = self.layers.get(int(products[-1].parts[0])) if products else None
        if layer is None:
            return low, high
        code, bits = 1 << (spec.macro.adc.bits - 1), products[-1].input_bits
        squares: dict[int, int] = {}  # of the tiles that add up to the same outputs; their signs differ
        for tile in layer.tiles:
            squares[tile.first_output] = squares.get(tile.first_output, 0) + (tile.multiplier * tile.reads) ** 2
        reach = round(math.sqrt(max(squares.values())) * (1 << (bits - 1)))
        return max(low, layer.low, -code * reach), min(high, layer.high, code * reach)

    def of(self, request: Request[Any]) -> LoadLayer | None:
        """The layer that a product runs, None where it names a tile or an unknown layer."""
        if isinstance(request, Mvm | Sweep) and request.tile is None:
            return self.layers.get(request.layer)
        return None

    def products(self, request: RunPlan) -> Iterator[tuple[RunLayers, LoadLayer, int]]:
        """Layers that a run of the plan reads, each with the number of its vectors in the whole request."""
        images = request.passes * len(request.pixels)
        for product in self.plan.products if self.plan else ():
            for number, _, rows, _, columns in product.parts.reshape(-1, PART).tolist():
                if number in self.layers:
                    yield product, self.layers[number], images * rows * columns
