"""The golden vectors of every digital operation and of taps, run by the sequencers of the emulated chip and of the C
firmware.

A plan of one operation: its inputs stand in the image, a channel a code, and are cut out and shaped before it.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.chip.file import load_chip
from firmware_protocols.plans import instructions as plan
from firmware_protocols.plans.instructions import Instruction, RescaleRule
from firmware_protocols.plans.plan import Plan, PlanStep, PlanValue
from hil.deployment.plans.network_plan import PlanWriting, as_flat, flat_codes, instruction_of
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import open_chip
from hil.server.firmware_build import FirmwareTarget
from hil.server.firmware_launch import running_firmware
from mapping.tune.fit_limits import some_places

from ...mapping.program.test_tensor_steps import GOLDEN, step_of

SPEC = load_chip("lab-128", macros=1)
OPERATIONS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "mapping" / "golden" / "digital_ops.json").read_text("utf-8")
)
Codes = NDArray[np.int16]


def rule(plain: dict[str, Any]) -> RescaleRule:
    multiplier, shift = (np.array(plain[k], np.int32) for k in ("multiplier", "shift"))
    return RescaleRule(multiplier, shift, plain["low"], plain["high"])


def window(case: dict[str, Any]) -> NDArray[np.int32]:
    return np.array([*case["kernel"], *case["stride"], *case["padding"]], np.int32)


def digital() -> Iterator[tuple[str, Instruction, list[Any], Any]]:
    """Name, instruction, inputs and expected codes of one image."""
    for case in OPERATIONS["requantise"]:
        yield "requantise", plan.RescaleCodes(rule(case["rule"])), [case["values"][0]], case["expected"][0]
    for case in OPERATIONS["add"]:
        rules = (*map(rule, case["rescale"]), rule(case["rule"]))
        yield "add", plan.AddCodes(0, *rules), [case["first"][0], case["second"][0]], case["expected"][0]
    for case in OPERATIONS["concat"]:
        joined = plan.JoinCodes(0, tuple(map(rule, case["rescale"])))
        yield "concat", joined, [part[0] for part in case["parts"]], case["expected"][0]
    for case in OPERATIONS["max_pool"]:
        yield "max pool", plan.PoolLargest(window(case)), [case["codes"][0]], case["expected"][0]
    for case in OPERATIONS["avg_pool"]:
        yield "mean pool", plan.PoolMean(window(case), rule(case["rule"])), [case["codes"][0]], case["expected"][0]
    for case in GOLDEN:
        made = instruction_of(step_of(case), np.shape(case["expected"]), {}, {}, SPEC.macro)
        yield case["step"], made, case["inputs"], case["expected"]


def small(codes: Any) -> bool:
    """Whether codes fit the 16 bits of an image's."""
    return bool(np.abs(np.asarray(codes, np.int64)).max() < 1 << 15)


CASES = [case for case in digital() if all(map(small, case[2]))]


def plan_of_one(instruction: Instruction, inputs: list[Codes], expected: NDArray[np.int32]) -> Plan:
    """Inputs lie side by side in the channels of an image of one pixel."""
    flat = np.concatenate([codes.ravel() for codes in inputs])
    values, steps, place = [PlanValue(0, 2, (len(flat), 1, 1))], [], 4 * len(flat)
    starts = np.cumsum([0, *(codes.size for codes in inputs)])

    def value(shape: tuple[int, ...], item: int = 2) -> int:
        nonlocal place
        values.append(PlanValue(place, item, shape))
        place = -(-values[-1].end // 4) * 4
        return len(values) - 1

    given = []
    for codes, start in zip(inputs, starts, strict=False):
        cut, shaped = value((codes.size, 1, 1)), value(codes.shape)
        first = np.array([start, 0, 0], np.int32)
        steps.append(PlanStep(plan.SliceCodes(first, np.ones(3, np.int32)), (0,), cut))
        steps.append(PlanStep(plan.ReshapeCodes(), (cut,), shaped))
        given.append(shaped)
    steps.append(PlanStep(instruction, tuple(given), value(expected.shape, 4)))
    table = np.repeat(flat.astype(np.int16)[:, None], 256, axis=1)
    return Plan(place, table, tuple(values), tuple(steps))


TAPS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "mapping" / "golden" / "taps.json").read_text("utf-8")
)


@pytest.fixture(scope="module", params=["emulated", "native C", "sanitized C"])
def chip(request: pytest.FixtureRequest) -> Iterator[ChipDriver]:
    if request.param == "emulated":
        with open_chip("emulated:lab-128?seed=1&macros=1") as driver:
            yield driver
        return
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    target = FirmwareTarget.NATIVE if request.param == "native C" else FirmwareTarget.SANITIZED
    with running_firmware(target, SPEC, seed=2, where="127.0.0.1:0") as address, open_chip(address) as driver:
        yield driver


@pytest.mark.parametrize("case", CASES, ids=[f"{n}: {case[0]}" for n, case in enumerate(CASES)])
def test_a_chip_gives_the_golden_codes(case: tuple[str, Instruction, list[Any], Any], chip: ChipDriver) -> None:
    _, instruction, given, wanted = case
    inputs, expected = [np.array(codes, np.int16) for codes in given], np.array(wanted, np.int32)
    chip.load_plan(plan_of_one(instruction, inputs, expected))
    pixel = np.zeros((1, 1, 1, math.prod(np.shape(np.concatenate([c.ravel() for c in inputs])))), np.uint8)
    (found,) = chip.run_plan(pixel).values
    assert found.reshape(expected.shape).tolist() == expected.tolist()


@pytest.mark.parametrize("case", TAPS, ids=[str(np.shape(case["codes"])) for case in TAPS])
def test_a_tap_gives_the_golden_places_of_a_map(case: dict[str, Any], chip: ChipDriver) -> None:
    codes, expected = np.array(case["codes"], np.int32), case["expected"]
    low, high, shape = int(codes.min()), int(codes.max()), codes.shape
    writing = PlanWriting(flat_codes(shape, low))
    writing.shaped("map", shape, low, high)
    writing.some_places("map")
    chip.load_plan(writing.plan())
    (found,) = chip.run_plan(as_flat(codes[None], low)).values
    assert found.reshape(np.shape(expected)).tolist() == expected
    assert some_places(codes[None])[0].tolist() == expected
