"""Errors of ``cim``: one base class, and the kinds that a caller distinguishes (``hil.cli.failures``).

Each error class of the room is one of these kinds and stands beside the code that raises it. A kind that corresponds to
a built-in error (``ValueError``, ``LookupError``) derives from it too.
"""

from __future__ import annotations


class CimError(Exception):
    """Base of everything that ``cim`` raises on purpose."""


class CimFileError(CimError):
    """A chip file, a record or a configuration is missing, broken, or lacks a part that is needed."""


class CimMismatch(CimError):
    """A file of a newer major version, or a record of other macros than those in use."""


class CimUsageError(CimError):
    """The caller wants something that the chip or the library does not have."""


class CannotExpress(CimError):
    """A cost model has no equation for this network on this configuration."""


class CimMeasurementError(CimError):
    """What was measured is too little for a fit, or contradicts itself."""
