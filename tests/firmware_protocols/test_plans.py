"""Plans as words: what is sent is what is read, and what is no plan is refused before anything is taken."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_protocols.errors import MalformedMessage
from firmware_protocols.plans import instructions as plan
from firmware_protocols.plans.instructions import KINDS, Instruction, RescaleRule
from firmware_protocols.plans.messages import LoadPlan
from firmware_protocols.plans.plan import HEAD_WORDS, Plan, PlanStep, PlanUpload, PlanValue, plan_of

TABLE = np.tile(np.arange(256, dtype=np.int16), (2, 1))


def ints(*numbers: int) -> Any:
    return np.array(numbers, np.int32)


RULE = RescaleRule(ints(1 << 30), ints(31), -128, 127)
INSTRUCTIONS: tuple[Instruction, ...] = (
    plan.RunLayers(1, 8, 1, 0, 2, ints(3, 3, 1, 1, 1, 1, 1, 1), ints(1, 0), ints(), ints(4, 0, 4, 0, 4)),
    plan.RescaleCodes(RULE),
    plan.AddCodes(1, RULE, RULE, RULE),
    plan.JoinCodes(0, (RULE, RULE)),
    plan.PoolLargest(ints(2, 2, 2, 2, 0, 0)),
    plan.PoolMean(ints(2, 2, 2, 2, 0, 0), RULE),
    plan.ReshapeCodes(),
    plan.PadCodes(ints(0, 1, 1)),
    plan.SliceCodes(ints(0, 0, 0), ints(1, 2, 2)),
    plan.LookUpCodes(-3, ints(1, 2, 3)),
    plan.ScaleCodes(ints(2, 3).reshape(2, 1, 1), ints(5).reshape(1, 1, 1), ints(), RULE),
    plan.MultiplyCodes(RULE),
    plan.MultiplyMatrices(3, RULE),
    plan.SumCodes(ints(1, 2), 4, RULE),
    plan.ExtremeCodes(ints(0), 1),
    plan.PermuteAxes(ints(2, 0, 1)),
    plan.TakeCodes(0, -7, ints(1, -1)),
    plan.ResampleMaps(ints(1, 2).reshape(1, 2), ints(3, 4).reshape(1, 2), 2, RULE),
    plan.NormaliseCodes(ints(0), 1, 4, 5, 6, ints(1).reshape(1, 1, 1), ints(2).reshape(1, 1, 1), RULE),
    plan.SoftmaxCodes(0, ints(65536, 1), RULE),
)


def of(*instructions: Instruction) -> Plan:
    """A plan whose words mean nothing but that they are well-formed."""
    values = (PlanValue(0, 2, (2, 4, 4)), PlanValue(64, 4, (2, 4, 4)))
    steps = [PlanStep(one, (0, 1) if i else (0,), 1) for i, one in enumerate((plan.ReshapeCodes(), *instructions))]
    return Plan(192, TABLE, values, tuple(steps))


def plain(item: Any) -> Any:
    """An instruction or rule as values that can be compared."""
    if dataclasses.is_dataclass(item):
        return type(item).__name__, [plain(getattr(item, f.name)) for f in dataclasses.fields(item)]
    if isinstance(item, np.ndarray):
        return (item.shape, item.tolist()) if item.size else "none"
    return tuple(map(plain, item)) if isinstance(item, tuple) else item


def test_every_instruction_is_read_back_from_its_words() -> None:
    assert {type(one) for one in INSTRUCTIONS} == set(KINDS.values())
    sent = of(*INSTRUCTIONS)
    read = plan_of(sent.words())
    assert (read.arena, read.values) == (sent.arena, sent.values)
    assert np.array_equal(read.table, sent.table)
    for got, meant in zip(read.steps, sent.steps, strict=True):
        assert plain(got.instruction) == plain(meant.instruction)
        assert (got.inputs, got.output) == (meant.inputs, meant.output)
    assert np.array_equal(read.words(), sent.words())


@given(st.integers(0, of(*INSTRUCTIONS).words().size - 1), st.integers(-(1 << 31), (1 << 31) - 1))
def test_a_changed_word_gives_a_plan_or_a_refusal_and_nothing_else(at: int, word: int) -> None:
    words = of(*INSTRUCTIONS).words().copy()
    words[at] = word
    try:
        read = plan_of(words)
    except MalformedMessage:
        return
    assert all(value.end <= read.arena for value in read.values)


@given(st.integers(0, of(*INSTRUCTIONS).words().size - 1))
def test_a_plan_that_ends_early_is_refused(size: int) -> None:
    with pytest.raises(MalformedMessage):
        plan_of(of(*INSTRUCTIONS).words()[:size])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"values": (PlanValue(0, 2, (2, 4, 4)), PlanValue(96, 4, (2, 4, 4)))}, "memory has 192 bytes"),
        ({"values": (PlanValue(0, 3, (2, 4, 4)), PlanValue(64, 4, (2, 4, 4)))}, "value 0"),
        ({"values": (PlanValue(2, 2, (2, 4, 4)), PlanValue(64, 4, (2, 4, 4)))}, "value 0"),
        ({"values": (PlanValue(0, 2, (2, 4, 4)), PlanValue(64, 4, (2, 4, 0)))}, "value 1"),
        ({"steps": ()}, "has steps"),
        ({"steps": (PlanStep(plan.ReshapeCodes(), (1,), 1),)}, "reads values"),
        ({"steps": (PlanStep(plan.ReshapeCodes(), (0,), 2),)}, "gives 2"),
        ({"table": TABLE[:1]}, "table of the pixels"),
    ],
)
def test_a_plan_that_would_leave_its_memory_cannot_exist(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MalformedMessage, match=words):
        dataclasses.replace(of(), **changes)


def test_parts_of_a_plan_are_joined_in_order_and_begin_anew_at_0() -> None:
    words, parts = of(*INSTRUCTIONS).words(), PlanUpload()
    assert parts.take(LoadPlan(len(words), 0, words[:HEAD_WORDS])) is None
    with pytest.raises(MalformedMessage, match="the next one is 7"):
        parts.take(LoadPlan(len(words), 9, words[9:]))
    assert parts.take(LoadPlan(len(words), 0, words[:10])) is None
    read = parts.take(LoadPlan(len(words), 10, words[10:]))
    assert read is not None
    assert np.array_equal(read.words(), words)
