"""One network of a space as work for a cost model, without weights.

work = workload(space, architecture)
cost = ChipTarget(load_chip("lab-128")).cost(work)
"""

from __future__ import annotations

from dataclasses import dataclass

from cim.cost.workload import INPUT, LayerWork, Shape3, WorkKind, Workload
from search.space.architecture import Architecture
from search.space.genes import Space
from search.space.precision import precision

LOGIT_BITS = 32


@dataclass(frozen=True, slots=True)
class CandidateCost:
    """Cost of one image of a network on a target. Networks that are too large have a cost too."""

    latency_ns: float
    energy_pj: float
    macros: int
    macros_available: int

    @property
    def edp_mj_ms(self) -> float:
        """Energy · latency. Example: 1 mJ (1e9 pJ) in 2 ms (2e6 ns) is 2."""
        return self.energy_pj * 1e-9 * self.latency_ns * 1e-6

    @property
    def feasible(self) -> bool:
        return self.macros <= self.macros_available

    @property
    def excess_macros(self) -> int:
        """Number of macros that are missing."""
        return max(self.macros - self.macros_available, 0)


def workload(space: Space, architecture: Architecture) -> Workload:
    """The network as layers, shapes and bits; not placed.

    Pixels are 0..1, as ``search.train.retrain`` writes them.
    Padding of an even kernel is what stands before (top, left); shapes say the rest.
    """
    layers = space.layers(architecture)
    shapes: dict[str, Shape3] = {INPUT: space.input_shape}
    signed = {INPUT: False}
    bits = precision(space, architecture)
    taken = bits.codes(layers)
    made = []
    for layer in layers:
        before = shapes[layer.inputs[0]]
        after = (layer.outputs, layer.size(before[1]), layer.size(before[2]))
        window = before[1:] if layer.kind is WorkKind.AVG_POOL else (layer.kernel, layer.kernel)
        made.append(
            LayerWork(
                name=layer.name,
                kind=layer.kind,
                inputs=layer.inputs,
                in_shape=before,
                out_shape=after,
                kernel=window,
                stride=window if layer.kind is WorkKind.AVG_POOL else (layer.stride, layer.stride),
                padding=(layer.before, layer.before),
                groups=layer.groups,
                weight_bits=bits.of(layer).weight if layer.kind.on_cells else 0,
                input_bits=taken[layer.inputs[0]],
                output_bits=LOGIT_BITS if layer is layers[-1] else taken[layer.name],
                input_signed=signed[layer.inputs[0]],
            )
        )
        shapes[layer.name] = after
        signed[layer.name] = not layer.relu and (layer.kind is not WorkKind.AVG_POOL or signed[layer.inputs[0]])
    return Workload(space.name, space.input_shape, taken[INPUT], tuple(made))
