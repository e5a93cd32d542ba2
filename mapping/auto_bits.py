"""The fewest bits of each layer for a loss: weights and input codes, at the least cost on a chip.

Rounding to b bits adds an error to a layer's sums whose share of their power is known without running anything: of
weights that of their rounding, of input codes that of their step and ends on the values of the float network. Shares of
layers behind each other add up, so for a budget E bits are chosen by

    minimise Σ_l cost_l(w_l, a_l) + μ Σ_l [ e_l(w_l) + d_l(a_l) ]      with the least μ at which the errors are within E

``cost`` is the layer's share of energy and of reading time of the network at 8 bits (``cim.cost``). How much of E a
network bears is not known before: programs of one budget after another are compared with float on stored images, and
the cheapest that keeps to the loss is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec
from cim.cost.network_cost import estimate
from mapping.bits import LayerBits
from mapping.compile import fitted_step
from mapping.errors import CannotMap
from mapping.network.file import NetworkFile
from mapping.program.conductance import ConductanceProgram
from mapping.quantise.layer_errors import CODES, WEIGHTS, layer_errors
from mapping.quantise.rounding import Floats
from mapping.quantise.sharing import shared_ops
from mapping.quantise.weight_scales import ScaleRule
from mapping.scale_choice import USUAL, KeptAnswers, compared
from mapping.workload import placed, unplaced_workload

LOSS = 0.005  # of the answers, unless another is asked for
BUDGETS = tuple(0.64 / 2**n for n in range(8))  # of errors, of the power of sums, over all layers
CHANGED = (
    4.0  # answers that may change for one that may be lost, and power of outputs: most that change are wrong twice
)


@dataclass(frozen=True, slots=True)
class LayerPrices:
    """Error shares of one layer by bits of weights and of codes, and its costs, (weights, codes)."""

    weight_errors: Floats
    code_errors: Floats
    costs: Floats

    @property
    def errors(self) -> Floats:
        return self.weight_errors[:, None] + self.code_errors[None]


def fewest_bits(
    network: NetworkFile, spec: ChipSpec, compiled: Callable[..., ConductanceProgram], loss: float = LOSS
) -> tuple[ConductanceProgram, KeptAnswers]:
    """The cheapest program that keeps to ``loss``, and what it keeps of float.

    Args:
        compiled: gives the program of a ``scale_rule``, of ``weight_bits``, ``activation_bits`` and ``layer_bits``.
        loss: share of the answers, or of the outputs' power where there are no classes.

    Raises:
        CannotMap: no bits keep to the loss, or those that do have no room on the chip.
        cim.cost.network_cost.NoCostModel: the chip file prices nothing.
    """
    prices, kept = layer_prices(network, spec), compared(network)
    found: tuple[ConductanceProgram, KeptAnswers] | None = None
    why = ""
    cheap, dear = 0, len(BUDGETS) - 1  # the widest budget that holds is between
    while cheap <= dear:
        middle = (cheap + dear) // 2
        try:
            program, now = _compiled_within(compiled, bits_within(prices, BUDGETS[middle]), kept, loss)
        except CannotMap as error:  # more bits take no less room
            dear, why = middle - 1, str(error)
            continue
        if within(now, loss):
            found, dear = (program, now), middle - 1
        else:
            cheap, why = middle + 1, f"the last that was tried lost {now.lost:.1%}"
    if found is None:
        raise CannotMap(
            f"no bits from W{WEIGHTS[0]}A{CODES[0]} to W{WEIGHTS[-1]}A{CODES[-1]} lose {loss:.1%} or less: {why}",
            chip=spec.name,
            would_fit=(f"hil compile --bits auto={200 * loss:g}", "a chip of more macros (hil compile --macros)"),
        )
    return found


def _compiled_within(
    compiled: Callable[..., ConductanceProgram],
    bits: Mapping[str, LayerBits],
    kept: Callable[[ConductanceProgram, ScaleRule], KeptAnswers],
    loss: float,
) -> tuple[ConductanceProgram, KeptAnswers]:
    """The program of these bits by the usual rule, or by least rounding where that loses too much."""
    widths = {"weight_bits": max(b.weight or 0 for b in bits.values())}
    widths["activation_bits"] = max(b.activation or 0 for b in bits.values())
    for rule in (USUAL, ScaleRule.ROUNDING):
        program = compiled(scale_rule=rule, layer_bits=bits, **widths)
        now = kept(program, rule)
        if within(now, loss):
            break
    return program, now


def within(kept: KeptAnswers, loss: float) -> bool:
    """Whether ideal keeps to a loss, as far as the stored images say."""
    if kept.right is None:
        return kept.lost <= CHANGED * loss
    return kept.error <= CHANGED * loss and kept.right[0] - kept.right[1] <= loss * kept.images


def bits_within(prices: Mapping[str, LayerPrices], budget: float) -> dict[str, LayerBits]:
    """Bits of each layer at the least cost whose errors add up to ``budget``; the most bits where no choice does."""
    chosen = {name: (len(WEIGHTS) - 1, len(CODES) - 1) for name in prices}
    for worth in np.geomspace(1e-4, 1e8, 121):
        tried = {}
        for name, price in prices.items():
            at = int(np.argmin(price.costs + worth * price.errors))
            tried[name] = (at // len(CODES), at % len(CODES))
        if sum(price.errors[tried[name]] for name, price in prices.items()) <= budget:
            chosen = tried
            break
    return {name: LayerBits(WEIGHTS[w], CODES[a]) for name, (w, a) in chosen.items()}


def layer_prices(network: NetworkFile, spec: ChipSpec) -> dict[str, LayerPrices]:
    """Prices of every layer on cells."""
    images = network.calibration_images
    images = images[:: fitted_step(len(images), shared_ops(network.graph))]
    errors, costs = layer_errors(network.graph, images, spec), _costs(network, spec)
    return {name: LayerPrices(*both, costs[name]) for name, both in errors.items()}


def _costs(network: NetworkFile, spec: ChipSpec) -> dict[str, Floats]:
    """Energy and reading time of each layer, (weights, codes), as shares of those of the network at its most bits."""
    tables: dict[str, NDArray[np.float64]] = {}
    for w, a in np.ndindex(len(WEIGHTS), len(CODES)):
        work = unplaced_workload(network.graph, weight_bits=WEIGHTS[w], activation_bits=CODES[a])
        work = placed(work, spec, enlarge=True)
        cost = estimate(work, replace(spec, macros=max(spec.macros, work.highest_macro + 1)))
        for layer in cost.layers:
            if layer.macros:
                table = tables.setdefault(layer.name, np.zeros((2, len(WEIGHTS), len(CODES))))
                table[:, w, a] = math.fsum(layer.energy_pj.values()), layer.chip_time_ns
    whole = np.sum([table[:, -1, -1] for table in tables.values()], axis=0)
    return {name: (table / whole[:, None, None]).sum(0) for name, table in tables.items()}
