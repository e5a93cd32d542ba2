"""Who takes a chip's power and gives it back: a person who is asked, or a command of theirs."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable

from hil.errors import DeviceError, UsageError

ASK = "ask"
COMMAND_S = 120.0  # that a command may take


def power_cut(text: str, ask: Callable[[str], None]) -> Callable[[], None]:
    """What cuts the power: ``ask`` a person, or run the command that ``text`` is.

    Raises:
        UsageError: no words of a command.
    """
    if text == ASK:
        return lambda: ask("take the power from the chip, give it back, then press Enter")
    try:
        words = shlex.split(text)
    except ValueError as error:
        words, why = [], str(error)
    else:
        why = "it is empty"
    if not words:
        raise UsageError(
            f"{text!r} is not a command that cuts the power: {why}", hint="hil board selftest --power-cycle ask"
        )
    return lambda: _run(words)


def _run(words: list[str]) -> None:
    said = " ".join(words)
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(
            f"the power was not cut: {said}: {error}", hint="hil board selftest --power-cycle ask"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
        raise DeviceError(f"the power was not cut: {said} ended with {done.returncode}: {last}")
