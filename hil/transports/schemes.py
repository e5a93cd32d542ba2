"""What an address may begin with: lines, and boards in this process; ours, and those of installed packages.

A package of one's own names them in its pyproject.toml, in the form of the tables below:

    [project.entry-points."hil.boards"]       # hil deploy --port acme:REST
    acme = "acme_board:open_board"            # REST -> a chip role (firmware_protocols.handlers.ChipHandlers)

    [project.entry-points."hil.transports"]
    pipe = "acme_board:open_pipe"             # (REST, baud=, timeout_s=) -> hil.transports.base.Transport
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from cim.plug_ins import BrokenPlugIn, load
from hil.errors import PortError
from hil.transports.base import Transport

LINES, BOARDS = "hil.transports", "hil.boards"
OURS = {
    LINES: {
        "tcp": "hil.transports.sockets:open_tcp",
        "unix": "hil.transports.sockets:open_unix",
        "visa": "hil.transports.visa:open_visa",
        "arc2": "hil.transports.arc_two:open_arc_two",
        "replay": "hil.transports.replay:open_replay",
    },
    BOARDS: {"emulated": "hil.transports.emulated:emulated_board", "bench": "hil.server.bench.chip:open_bench"},
}
IN_PROCESS = ("replay",)  # a line that does not outlive its transport, as no board in this process does


@functools.cache
def schemes(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group by the word before the colon of an address, in small letters.

    Raises:
        PortError: two packages name the same.
    """
    found: dict[str, EntryPoint] = {}
    for entry in (*(EntryPoint(*item, group) for item in OURS[group].items()), *entry_points(group=group)):
        if found.setdefault(entry.name, entry).value != entry.value:
            raise PortError(f"two packages give {entry.name}: a meaning: {found[entry.name].value}, {entry.value}")
    return found


def loaded(group: str, scheme: str) -> Callable[..., Any]:
    """Raises ``PortError`` where the code of a package cannot be loaded."""
    entry = schemes(group)[scheme]
    try:
        opened: Callable[..., Any] = load(entry)
    except BrokenPlugIn as error:
        raise PortError(f"{scheme}: addresses are opened by code that fails to load: {error}") from error
    return opened


def board_lines(address: str, scheme: str, rest: str) -> Callable[[], Transport]:
    """Make the board of an address, and open one line to it after the other: it stays on between them."""
    from hil.transports.in_process import InProcessTransport, chip_role  # imports NumPy, which hil --help does without

    return functools.partial(InProcessTransport, chip_role(loaded(BOARDS, scheme)(rest)), address)
