"""The state tables of docs/file-formats.md, written from those of ``firmware_protocols.states``.

python -m tests.firmware_protocols.state_tables docs/file-formats.md     # writes them anew
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firmware_protocols.states import ASKS, JOBS, LINK, Role

TABLES: dict[str, Mapping[Any, Mapping[Any, Any]]] = {
    "the link at the host": LINK[Role.HOST],
    "the link at the chip": LINK[Role.CHIP],
    "a request at the host": ASKS,
    "a request at the chip": JOBS,
}
_BLOCK = re.compile(r"<!-- states of (?P<name>[a-z ]+) -->\n.*?<!-- end of states -->", re.DOTALL)


def state_table(table: Mapping[Any, Mapping[Any, Any]]) -> str:
    """A Markdown table: a row for each state, a column for each event, in the cell the next state."""
    events = list(dict.fromkeys(event for row in table.values() for event in row))
    rows = [["when", *(f"*{event.value}*" for event in events)], ["---"] * (1 + len(events))]
    rows += [
        [f"**{state.value}**", *(row[event].value if event in row else "" for event in events)]
        for state, row in table.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_tables(page: str) -> str:
    """``page`` with every block ``<!-- states of NAME -->`` … ``<!-- end of states -->`` written anew.

    Raises:
        KeyError: a block of another name than those of ``TABLES``.
    """
    return _BLOCK.sub(_written, page)


def _written(block: re.Match[str]) -> str:
    name = block["name"]
    return f"<!-- states of {name} -->\n\n{state_table(TABLES[name])}\n\n<!-- end of states -->"


if __name__ == "__main__":
    for place in map(Path, sys.argv[1:]):
        place.write_text(with_tables(place.read_text("utf-8")), "utf-8")
