"""Exit codes of errors, by class: the kinds of the rooms below, and those of ``hil`` that bring their own."""

from __future__ import annotations

import cim.errors as cim
import firmware_protocols.errors as protocol
import mapping.errors as mapping
import search.errors as search
from hil.errors import ExitCode, HilError

# The first kind that an error is one of decides: a newer file is a mismatch before it is a bad file.
EXIT_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (cim.CimMismatch, ExitCode.MISMATCH),
    (cim.CimFileError, ExitCode.BAD_FILE),
    (cim.CimUsageError, ExitCode.USAGE),
    (cim.CannotExpress, ExitCode.CANNOT_MAP),
    (cim.CimMeasurementError, ExitCode.DEVICE),
    (mapping.MappingMismatch, ExitCode.MISMATCH),
    (mapping.MappingFileError, ExitCode.BAD_FILE),
    (mapping.MappingUsageError, ExitCode.USAGE),
    (mapping.NotMappable, ExitCode.CANNOT_MAP),
    (search.SearchMismatch, ExitCode.MISMATCH),
    (search.SearchFileError, ExitCode.BAD_FILE),
    (search.SearchError, ExitCode.CANNOT_MAP),
    (protocol.VersionMismatch, ExitCode.MISMATCH),
    (protocol.ChipProblem, ExitCode.DEVICE),
    (protocol.RemoteProtocolError, ExitCode.LINK),
    (protocol.LinkFailed, ExitCode.LINK),
)


def code_of(error: Exception) -> ExitCode | None:
    """The exit code of an error that was raised on purpose; None for a bug."""
    if isinstance(error, HilError):
        return None if error.exit_code is ExitCode.BUG else error.exit_code
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), None)
