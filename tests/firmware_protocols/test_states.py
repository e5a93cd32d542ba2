"""The tables of states: what the code moves by, what the page shows, and that nothing else happens."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from firmware_protocols import connection
from firmware_protocols.connection import Connection, LinkLimits
from firmware_protocols.errors import LocalProtocolError
from firmware_protocols.messages import Hello, HelloReply, Status
from firmware_protocols.states import ASKS, JOBS, LINK, AskEvent, AskState, JobEvent, LinkEvent, Role, State, moved

from .state_tables import TABLES, state_table, with_tables

PAGE = Path(__file__).parents[2] / "docs" / "file-formats.md"
Table = Mapping[Any, Mapping[Any, Any]]


def no_greeting(hello: Hello, version: int) -> tuple[HelloReply, int]:
    raise AssertionError("no hello was sent")


def test_the_page_shows_the_tables_as_they_are() -> None:
    page = PAGE.read_text("utf-8")
    for name in TABLES:
        assert f"<!-- states of {name} -->\n\n{state_table(TABLES[name])}\n" in page, name
    assert with_tables(page) == page, "python -m tests.firmware_protocols.state_tables docs/file-formats.md"


@pytest.mark.parametrize("name", TABLES)
def test_every_state_of_a_table_is_reached_and_every_end_is_in_the_table(name: str) -> None:
    table = TABLES[name]
    reached = [next(iter(table))]
    for state in reached:
        reached += [following for following in table[state].values() if following not in reached]
    assert set(reached) == set(table)


@pytest.mark.parametrize(
    ("events", "tables"),
    [(LinkEvent, list(LINK.values())), (AskEvent, [ASKS]), (JobEvent, [JOBS])],
    ids=["link", "asks", "jobs"],
)
def test_every_event_happens_somewhere(events: type[enum.Enum], tables: list[Table]) -> None:
    assert {event for table in tables for row in table.values() for event in row} == set(events)


@pytest.mark.parametrize("role", Role)
def test_an_end_of_the_link_moves_by_the_table(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a row taken out, the move that it allowed is refused."""
    host = Connection(Role.HOST, LinkLimits(), nonce=3)
    host.open(0.0)
    assert host.state is State.OPENING
    monkeypatch.delitem(connection.LINK[role][State.CLOSED], LinkEvent.CLOSE)
    end = host if role is Role.HOST else Connection(role, LinkLimits(), greet=no_greeting)
    if role is Role.HOST:
        end.close()
    with pytest.raises(LocalProtocolError, match="CLOSE cannot happen when closed"):
        end.close()


def test_a_chip_does_not_open_the_link() -> None:
    chip = Connection(Role.CHIP, LinkLimits(), greet=no_greeting)
    with pytest.raises(LocalProtocolError, match="the host opens"):
        chip.open(0.0)


def test_a_move_that_the_table_lacks_names_event_and_state() -> None:
    with pytest.raises(LocalProtocolError, match="AskEvent SEND cannot happen when answered"):
        moved(ASKS, AskState.ANSWERED, AskEvent.SEND)


def test_every_move_of_a_noisy_run_is_in_the_tables(
    make_line: Callable[..., Any], kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lost frames, a lost session and another host: no end leaves its table, and all requests end answered."""
    line = make_line(faults=kit.Faults(loss=0.1, duplicate=0.1, corrupt=0.05), seed=5)
    seen: set[tuple[State, State]] = set()
    for number in range(30):
        line.host.request(Status())
        if number == 10:
            line.chip.connection.close()  # as a board that lost its session
        assert line.run(lambda: not line.host.waiting or line.host.failure is not None, 60.0)
        seen.add((line.host.connection.state, line.chip.connection.state))
        line.host.check()
    assert (State.UP, State.UP) in seen
    assert line.host.counters.resyncs == 1
    assert not line.chip.unanswered
