"""Errors as the user meets them: one base class, one exit code per kind.

A message says what failed; ``where``, ``likely`` and ``hint`` follow on lines of their own.
The rooms below raise their own errors; ``hil.cli.failures`` maps their kinds to exit codes.
"""

from __future__ import annotations

import enum

from firmware_protocols.outputs import OutputState


class ExitCode(enum.IntEnum):
    """Exit codes of the command line; each error class has one."""

    DONE = 0
    OUTSIDE_TOLERANCE = 1
    USAGE = 2
    PORT = 3
    LINK = 4
    DEVICE = 5
    CANNOT_MAP = 6
    BAD_FILE = 7
    MISMATCH = 8
    NOT_AUTHORISED = 9
    INTERRUPTED = 10
    CANNOT_WRITE = 11
    BUG = 70
    CTRL_C = 130


class HilError(Exception):
    """An error with a place, a likely cause and a next command; ``outputs``: state of the outputs, if known."""

    exit_code: ExitCode = ExitCode.BUG

    def __init__(
        self, what: str, *, where: str = "", likely: str = "", hint: str = "", outputs: OutputState | None = None
    ) -> None:
        super().__init__(what)
        self.outputs = outputs
        self.what, self.where, self.likely, self.hint = what, where, likely, hint

    def __str__(self) -> str:
        extra = (("where", self.where), ("likely", self.likely), ("try", self.hint))
        return "\n".join([self.what, *(f"  {name:<7} {text}" for name, text in extra if text)])


class UsageError(HilError):
    """A command or a call that asks for something that is not possible."""

    exit_code = ExitCode.USAGE


class NothingLearned(HilError):
    """Work was done, but its result gives no answer to the question."""

    exit_code = ExitCode.OUTSIDE_TOLERANCE


class PortError(HilError):
    """The port is missing, busy, not permitted, or cannot be opened."""

    exit_code = ExitCode.PORT


class LinkError(HilError):
    """The far side is silent, lost, or does not speak the protocol."""

    exit_code = ExitCode.LINK


class DeviceError(HilError):
    """The chip refused or failed a request."""

    exit_code = ExitCode.DEVICE


class FirmwareLacks(DeviceError):
    """The chip's firmware does not know the operation."""


class BeyondLimit(DeviceError):
    """The request exceeds a limit of the chip: of its memory, or of its cells' voltage, width or pulses."""


class NotAuthorised(DeviceError):
    """The chip wants a key for this operation."""

    exit_code = ExitCode.NOT_AUTHORISED


class FileError(HilError):
    """A file or data set is missing, broken or unsafe."""

    exit_code = ExitCode.BAD_FILE


class MismatchError(HilError):
    """Versions or descriptions differ; both values are in the text."""

    exit_code = ExitCode.MISMATCH


class OutputError(HilError):
    """An output cannot be written: disk full, no permission."""

    exit_code = ExitCode.CANNOT_WRITE


class Interrupted(HilError):
    """Ctrl-C ended the work; finished parts are kept, and the same command resumes it."""

    exit_code = ExitCode.INTERRUPTED
