"""A plan of the sequencer beside the same steps asked for one by one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.correction import round_shift
from cim.chip.spec import SignedInput
from firmware_protocols.messages import Capability, LayerTile, LoadLayer
from firmware_protocols.plans import instructions as plan
from firmware_protocols.plans.instructions import RescaleRule
from firmware_protocols.plans.plan import PIXELS, Plan, PlanStep, PlanValue
from hil.driver.selftest.bench import Bench
from hil.driver.selftest.digital_checks import alike
from hil.driver.selftest.written_tile import codes_of, first_tile, widest

IMAGES, PASSES, PASS_STEP, TURN, LAYER = 3, 2, 1 << 20, 1 << 28, 7
LOW, HIGH = -100, 90  # where the answers are clamped
NONE = np.zeros(0, np.int32)


def plans_are_their_steps(bench: Bench) -> str:
    """A plan is its steps: a layer read twice, rescaled, subtracted, clamped, joined, for each image of each pass."""
    tile, rng = first_tile(bench), np.random.default_rng(8)
    rows, outputs, macro = tile.rows, tile.outputs, bench.spec.macro
    bits, signed = min(macro.inputs.bits, 8), macro.inputs.signed is SignedInput.PLANE
    codes = codes_of(bench, IMAGES, rows, bits=bits, signed=signed)
    pixels = (codes + (signed << (bits - 1))).astype(np.uint8)[:, :, None, None]
    gain, zeros = rng.integers(1 << 16, 1 << 18, outputs).astype(np.int32), np.zeros(outputs, np.int32)
    offset, bias = np.zeros(outputs, np.int64), rng.integers(-99, 99, outputs).astype(np.int32)
    layer = LoadLayer(
        LAYER, rows, outputs, -1000, 1000, bias, zeros + 1, zeros + 3,
        (LayerTile(tile, 0, 0, 1, 18, gain, offset, zeros),),
    )  # fmt: skip
    drive: dict[str, Any] = {"range_code": widest(bench), "input_bits": bits, "input_signed": signed}
    with bench.driver(Capability.PLAN, Capability.LAYER) as driver:

        def by_steps() -> NDArray[np.int64]:
            found = []
            for number in range(PASSES):
                first, again = (
                    driver.run_layer(LAYER, codes, **drive, sample=5 + number * PASS_STEP + turn * TURN).values
                    for turn in (0, 1)
                )
                less = 3 * first.astype(np.int64) - round_shift(again.astype(np.int64), 1)
                found.append(np.concatenate([first, np.clip(round_shift(less, 1), LOW, HIGH)], axis=1))
            return np.stack(found)

        def planned() -> NDArray[np.int32]:
            return driver.run_plan(pixels, sample=5, passes=PASSES, pass_step=PASS_STEP).values

        driver.load_layer(layer)
        driver.load_plan(_plan(rows, outputs, bits, signed, widest(bench)))
        how = alike(by_steps, planned)
    return f"{PASSES} passes of {IMAGES} images, {2 * outputs} codes each, {how}"


def _plan(rows: int, outputs: int, bits: int, signed: bool, range_code: int) -> Plan:
    """A column of pixels, each an input code."""
    shapes = ((1, rows, 1), (rows,), (outputs,), (outputs,), (outputs,), (2 * outputs,))
    values, end = list[PlanValue](), 0
    for shape in shapes:
        values.append(PlanValue(end, 4, shape))
        end += 4 * math.prod(shape)
    table = np.arange(PIXELS) % (1 << bits) - (signed << (bits - 1))
    layers = [
        plan.RunLayers(
            range_code, bits, int(signed), 0, turn, NONE, NONE, NONE, np.array([LAYER, 0, 1, 0, 1], np.int32)
        )
        for turn in (0, 1)
    ]
    subtract = plan.AddCodes(1, _rule(3, 0), _rule(1, 1), _rule(1, 1, LOW, HIGH))
    steps = (
        PlanStep(plan.ReshapeCodes(), (0,), 1),
        PlanStep(layers[0], (1,), 2),
        PlanStep(layers[1], (1,), 3),
        PlanStep(subtract, (2, 3), 4),
        PlanStep(plan.JoinCodes(0, (_rule(1, 0), _rule(1, 0))), (2, 4), 5),
    )
    return Plan(end, table.astype(np.int16)[None], tuple(values), steps)


def _rule(multiplier: int, shift: int, low: int = -(1 << 31), high: int = (1 << 31) - 1) -> RescaleRule:
    return RescaleRule(np.array([multiplier], np.int32), np.array([shift], np.int32), low, high)


PLANS = (plans_are_their_steps,)
