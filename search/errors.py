"""Errors of a search: files and requests of a user, each with its place and a way out.

One base; ``SearchFileError`` and ``SearchMismatch`` are the kinds that a caller tells apart from it
(``hil.cli.failures``).
"""

from __future__ import annotations


class SearchError(Exception):
    """A search cannot be done as asked."""


class SearchFileError(SearchError):
    """A file of a search is missing or wrong; holds the path, line (0: none), field and reason."""

    def __init__(self, path: str, line: int, field: str, text: str) -> None:
        where = f"{path}:{line}: " if line else f"{path}: "
        super().__init__(f"{where}{field}: {text}" if field else where + text)
        self.path, self.line, self.field, self.text = path, line, field, text


class SearchMismatch(SearchError):
    """Files or networks that belong to other settings, or to a newer major version."""


class NewerFile(SearchFileError, SearchMismatch):
    """The file was written for a newer major version of its format."""


class CodeRefused(SearchFileError):
    """A space file names Python code, and its reader did not allow that."""


class SpaceError(SearchError):
    """A space that holds no network, or an architecture that is none of a space's."""


class NothingFits(SpaceError):
    """A position of a space has no operator left on a chip; ``reasons`` say why each one went."""

    def __init__(self, space: str, target: str, position: str, reasons: tuple[str, ...]) -> None:
        lines = [f"space {space} on {target}: no operator is left at {position}"]
        lines += [f"  {reason}" for reason in reasons]
        lines.append("  try     operators that fill arrays, or other widths; --least-share 0 keeps those that do not")
        super().__init__("\n".join(lines))
        self.space, self.target, self.position, self.reasons = space, target, position, reasons
