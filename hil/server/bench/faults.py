"""What can go wrong on a bench."""

from __future__ import annotations

from hil.errors import DeviceError, FileError, LinkError


class BenchFileError(FileError):
    """A bench file, a wiring file or a model file is missing or wrong; holds path, line and key."""

    def __init__(self, path: str, line: int, key: str, text: str, hint: str = "") -> None:
        super().__init__(f"{path}:{line}: {key}: {text}" if key else f"{path}: {text}", where=path, hint=hint)
        self.path, self.line, self.key, self.text = path, line, key, text


class InstrumentSilent(LinkError):
    """An instrument does not answer an order, or its answer ends early."""


class InstrumentFault(DeviceError):
    """An instrument reports an error, answers what no such order answers, or holds other limits than it was given."""
