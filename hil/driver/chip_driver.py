"""The chip as a Python object: program cells, read them, multiply.

The driver does not know what kind of chip is behind its address. It checks every limit before
it sends, cuts requests to what the chip takes, and does on the host what the chip cannot do;
``fallbacks`` names those things.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.messages import Capability, HoldProgram, OutputsOff, Reset, Status, StatusReply, Wait
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from firmware_protocols.plans.plan import Plan
from hil.driver.cells import CellOutcome, CellVerbs
from hil.driver.checked_chip import OpenChip
from hil.driver.errors import after_failed_off
from hil.driver.products import ProductVerbs
from hil.errors import FirmwareLacks, HilError, OutputError, UsageError
from hil.watch import Watch

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


__all__ = ["CellOutcome", "ChipDriver"]

_LONGEST_WAIT_S, _MOST_WAITS = 60.0, 60  # a wait is cut so that a dead board is noticed

UNTOLD_C = 25.0
WAITED_ENOUGH = 0.9  # of a wait: less is said


class ChipDriver(CellVerbs, ProductVerbs, PlanVerbs):
    """One chip, open. Use it as a context manager: its outputs go off however the block ends.

    ``program_cells`` and ``read_cells`` (hil/driver/cells.py) work on conductances in µS,
    ``mvm``, ``sweep``, ``load_layer`` and ``run_layer`` (hil/driver/products.py) on integer codes, ``load_plan`` and
    ``run_plan`` (hil/driver/chip_driver.py) on whole networks.

    Example:
        >>> with open_chip("emulated:lab-128", macros=1) as driver:
        ...     print(driver.read_cells(0).shape)
        (128, 128)
        >>> isinstance(driver, ChipDriver)
        True
    """

    def status(self) -> StatusReply:
        """Temperature, outputs and wear as the chip reports them; raises ``FirmwareLacks`` without STATUS."""
        return self._session.ask(Status())

    def known_status(self) -> StatusReply | None:
        """STATUS of the chip; None of a minimum board without STATUS."""
        try:
            return self.status()
        except FirmwareLacks:
            self.fall_back(f"status: temperature taken as {UNTOLD_C:g} °C, wear not counted (the chip has no STATUS)")
            return None

    @property
    def temperature_c(self) -> float:
        """Temperature of the chip, °C; room temperature for a chip that does not report it."""
        status = self.known_status()
        return UNTOLD_C if status is None or math.isnan(status.temperature_c) else status.temperature_c

    def hold_program(self, digest: bytes) -> None:
        """Let the chip remember the 32-byte digest of the program it holds, if it can."""
        if Capability.HELD_PROGRAM in self.capabilities:
            self._session.ask(HoldProgram(digest))
            self._held = digest

    def held_program(self) -> bytes | None:
        """Digest of the program that the chip holds, as it reported or was given since; None: no program."""
        return self._held if any(self._held) else None

    def wait(self, seconds: float, watch: Watch | None = None) -> float:
        """Let chip time pass, s; the host sleeps for a chip without WAIT. ``watch`` is told how long the wait lasts.

        Returns:
            time passed, s, by chip time, or by the host's if it slept; if it is too short, ``fallbacks`` says so.
        """
        if not 0 <= seconds < math.inf:
            raise UsageError(f"cannot wait {seconds} s")
        with (watch or Watch()).waiting(self.lasting_s(seconds)):
            return self._wait(seconds)

    def lasting_s(self, seconds: float) -> float:
        """How long a wait lasts by the host's clock, s; an emulated chip with WAIT advances its own clock."""
        by_clock = self.description.kind == "silicon" or Capability.WAIT not in self.capabilities
        return seconds if by_clock else 0.0

    def _wait(self, seconds: float) -> float:
        if Capability.WAIT not in self.capabilities:
            self.fall_back("wait: the host sleeps (the chip has no WAIT)")
            self._sleep(seconds)
            return seconds
        left_ns = round(seconds * 1e9)
        longest_ns = round(max(_LONGEST_WAIT_S, seconds / _MOST_WAITS) * 1e9)
        begun_ns, begun_s = self.chip_time_ns, self._clock()
        while left_ns > 0:
            part_ns = min(left_ns, longest_ns)
            self._session.ask(Wait(part_ns), allow_s=part_ns * 1e-9)
            left_ns -= part_ns
        passed_s, host_s = (self.chip_time_ns - begun_ns) * 1e-9, self._clock() - begun_s
        if passed_s < WAITED_ENOUGH * seconds:
            moved = f"moved by {passed_s:g} s" if passed_s >= 0 else f"was set back by {-passed_s:g} s"
            told = f"the chip answered WAIT of {seconds:g} s after {host_s:.3g} s by the host's clock"
            self.fall_back(f"wait: {told}, its own {moved}")
        return max(passed_s, 0.0)

    def reset(self) -> None:
        if Capability.RESET not in self.capabilities:
            raise self._unable("reset", "no RESET")
        self._session.ask(Reset())

    def outputs_off(self) -> None:
        """Take every voltage off the array."""
        self._session.ask(OutputsOff())

    def close(self) -> None:
        """Outputs off, then close. May be called twice; raises what went wrong on the way."""
        self._leave(None)

    def leave(self) -> HilError | None:
        """Switch the outputs off and return the chip's or the line's error, for callers that must go on.

        Raises:
            OutputError: the wire log cannot be written.
        """
        try:
            self._leave(None)
        except OutputError:
            raise
        except HilError as error:
            return error
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        """Switch off and close; an error that is already on its way is not hidden by another."""
        if self._session.closed:
            return
        failed: HilError | None = None
        try:
            failed = self._session.outputs_off()
        finally:
            try:
                self._session.close(ending="" if error is None else f"{type(error).__name__}: {error}"[:500])
            except OutputError as full:
                failed = failed or full
        if failed is None:
            return
        if error is None:
            raise failed
        error.add_note(failed.what if isinstance(failed, OutputError) else after_failed_off(failed, self.whole_name))
