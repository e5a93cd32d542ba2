"""Bodies of the messages of plans, one writer and one reader each; their fields are in docs/file-formats.md."""

from __future__ import annotations

import numpy as np

from firmware_protocols.errors import LocalProtocolError, MalformedMessage
from firmware_protocols.layouts import layout
from firmware_protocols.packing import BodyReader, BodyWriter
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan

_LOAD = layout("load_plan")
_RUN = layout("run_plan")
_RESULT = layout("plan_result")


def write_load_plan(w: BodyWriter, m: LoadPlan) -> None:
    w.fields(_LOAD, m.total, m.offset, len(m.words))
    w.ints(m.words, (len(m.words),), np.int32)


def read_load_plan(r: BodyReader) -> LoadPlan:
    total, offset, count = r.fields(_LOAD)
    if offset + count > total:
        raise MalformedMessage(f"words {offset} to {offset + count} of a plan of {total}")
    return LoadPlan(total, offset, r.ints((count,), np.int32))


def write_run_plan(w: BodyWriter, m: RunPlan) -> None:
    if m.pixels.ndim != 4 or m.pixels.dtype != np.uint8:
        raise LocalProtocolError(f"images are uint8 (images, height, width, channels), not {m.pixels.shape}")
    w.fields(_RUN, m.passes, m.sample, m.pass_step, *m.pixels.shape)
    w.raw(m.pixels.tobytes(), m.pixels.size)


def read_run_plan(r: BodyReader) -> RunPlan:
    passes, sample, pass_step, *shape = r.fields(_RUN)
    if not passes or 0 in shape:
        raise MalformedMessage(f"{passes} passes over images of {shape}: each number is at least 1")
    images, height, width, channels = shape
    pixels = np.frombuffer(r.raw(images * height * width * channels), np.uint8).reshape(shape)
    return RunPlan(passes, sample, pass_step, pixels)


def write_plan_result(w: BodyWriter, m: PlanResult) -> None:
    if m.values.ndim != 3 or m.saturated.shape != m.conversions.shape:
        raise LocalProtocolError(f"answers are (passes, images, codes), not {m.values.shape}")
    w.fields(_RESULT, *m.values.shape, len(m.saturated))
    for counted in (m.saturated, m.conversions):
        w.ints(counted, counted.shape, np.uint32)
    w.ints(m.values, m.values.shape, np.int32)


def read_plan_result(r: BodyReader) -> PlanResult:
    passes, images, codes, steps = r.fields(_RESULT)
    saturated, conversions = (r.ints((steps,), np.uint32) for _ in range(2))
    return PlanResult(saturated, conversions, r.ints((passes, images, codes), np.int32))
