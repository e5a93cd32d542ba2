"""Code of other packages, found by entry points: a broken one is named and left out, whatever it raises."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from cim.errors import CimFileError

log = logging.getLogger(__name__)


class BrokenPlugIn(CimFileError, ImportError):
    """The code of an entry point cannot be loaded; the message names it."""


def load(entry: EntryPoint) -> Any:
    """The object of an entry point; raises ``BrokenPlugIn`` whatever its code raises, except for Ctrl-C."""
    try:
        return entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: it would end every command
        why = f"{type(error).__name__}: {error}".rstrip(": ")
        raise BrokenPlugIn(f"{entry.name} ({entry.value}): {why}") from error


def installed(
    group: str, ours: Mapping[str, str], is_one: Callable[[EntryPoint, Any], bool]
) -> Iterator[tuple[EntryPoint, Any]]:
    """Entry points of a group with their loaded objects, built-in ones first; a broken one is logged and left out."""
    for entry in (*(EntryPoint(*item, group) for item in ours.items()), *entry_points(group=group)):
        try:
            found = load(entry)
            if not is_one(entry, found):
                raise BrokenPlugIn(f"{entry.name} ({entry.value}): it is something else")
        except BrokenPlugIn as error:
            log.warning("note: %s of %s is left out", error, group)
            continue
        yield entry, found
