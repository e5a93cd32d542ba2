"""The state diagrams of docs/protocol.md, drawn from the tables of ``firmware_protocols.states``.

python -m firmware_protocols.state_diagrams docs/protocol.md     # writes them anew
"""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firmware_protocols.states import ASKS, JOBS, LINK, Role

DIAGRAMS: dict[str, Mapping[Any, Mapping[Any, Any]]] = {
    "the link at the host": LINK[Role.HOST],
    "the link at the chip": LINK[Role.CHIP],
    "a request at the host": ASKS,
    "a request at the chip": JOBS,
}
_BLOCK = re.compile(r"<!-- states of (?P<name>[a-z ]+) -->\n.*?<!-- end -->", re.DOTALL)


def diagram(table: Mapping[Any, Mapping[Any, Any]]) -> str:
    """A Mermaid state diagram; the first state of the table is the start, events of one arrow share it."""
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(table)).value}"]
    for state, row in table.items():
        arrows: dict[enum.Enum, list[str]] = {}
        for event, following in row.items():
            arrows.setdefault(following, []).append(event.value)
        lines += [f"    {state.value} --> {to.value}: {' / '.join(events)}" for to, events in arrows.items()]
    return "\n".join(lines)


def with_diagrams(page: str) -> str:
    """``page`` with every block ``<!-- states of NAME -->`` … ``<!-- end -->`` drawn anew.

    Raises:
        KeyError: a block of another name than those of ``DIAGRAMS``.
    """
    return _BLOCK.sub(_drawn, page)


def _drawn(block: re.Match[str]) -> str:
    name = block["name"]
    return f"<!-- states of {name} -->\n```mermaid\n{diagram(DIAGRAMS[name])}\n```\n<!-- end -->"


if __name__ == "__main__":
    for place in map(Path, sys.argv[1:]):
        place.write_text(with_diagrams(place.read_text("utf-8")), "utf-8")
