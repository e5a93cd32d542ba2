"""The command that says what a word means: ``hil words``."""

from __future__ import annotations

from typing import Annotated

import typer

from hil.cli.options import Json, print_result
from hil.errors import ExitCode, UsageError


def words(
    word: Annotated[
        str | None, typer.Argument(help="word, or a part of one; default: all of them", show_default=False)
    ] = None,
    as_json: Json = False,
) -> int:
    """Print the meaning of a word of the reports, as the pages and documents have it."""
    from hil.pages.words import word_list

    every = word_list()
    found = {name: meaning for name, meaning in every.items() if word is None or word.lower() in name.lower()}
    if not found:
        raise UsageError(f"no word of the list has {word!r} in it", hint="hil words prints all of them")
    width = max(map(len, found))
    lines = [f"{name:<{width}}  {meaning}" for name, meaning in found.items()]
    print_result(lines, {"words": found}, as_json)
    return ExitCode.DONE
