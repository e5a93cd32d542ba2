"""Verbs of whole networks: a plan is loaded once, then images go in and answers come out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.messages import Capability
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from firmware_protocols.plans.plan import Plan
from hil.driver.checked_chip import OpenChip
from hil.errors import UsageError

FIXED = 128  # more bytes than the fixed part of any message of a plan
WORD = 4  # bytes, the widest item


class PlanVerbs(OpenChip):
    """The sequencer of the chip (capability PLAN)."""

    _plan: Plan | None = None

    def load_plan(self, plan: Plan) -> None:
        """Give the chip a plan, unless it was the last that it was given; the layers that it names must be loaded.

        Raises:
            BeyondLimit: the chip has no room for it. DeviceError: it has no PLAN.
        """
        if Capability.PLAN not in self.capabilities:
            raise self._unable("plans", "no PLAN")
        words, most = plan.words(), max(1, (self._most - FIXED) // WORD)
        if self._plan is not None and np.array_equal(words, self._plan.words()):
            return
        self._plan = None
        for offset in range(0, len(words), most):
            self._session.ask(LoadPlan(len(words), offset, words[offset : offset + most]))
        self._plan = plan

    def takes_images(self, plan: Plan) -> bool:
        """Whether one image of a plan and its answer fit the chip's longest message."""
        return FIXED + max(plan.values[0].size, WORD * plan.answer.size) <= self._most

    def run_plan(
        self, images: NDArray[np.uint8], *, sample: int = 0, passes: int = 1, pass_step: int = 0
    ) -> PlanResult:
        """Run the loaded plan on images.

        Args:
            images: uint8 (n, height, width, channels).
            sample: number of image 0 in pass 0; image i of pass p is ``sample + p · pass_step + i``.

        Returns:
            values (passes, n, codes); conversions of each step, all images and passes.
        """
        plan = self._plan
        if plan is None:
            raise UsageError("no plan is loaded", hint="driver.load_plan first")
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != plan.image_shape or not len(images):
            raise UsageError(f"images are {images.dtype} {images.shape}, the plan takes uint8 (n, {plan.image_shape})")
        room = self._most - FIXED - 2 * WORD * len(plan.steps)
        each = max(1, min(room // images[0].size, room // (WORD * passes * plan.answer.size)))
        requests = (
            RunPlan(passes, sample + first, pass_step, np.ascontiguousarray(images[first : first + each]))
            for first in range(0, len(images), each)
        )
        parts = list(self._session.ask_all(requests))
        saturated, conversions = (
            sum((getattr(part, name).astype(np.uint64) for part in parts), np.zeros(len(plan.steps), np.uint64))
            for name in ("saturated", "conversions")
        )
        return PlanResult(saturated, conversions, np.concatenate([part.values for part in parts], axis=1))
