"""The simulation of bad lines: it repeats itself to the bit, sees every kind of fault, and finds what is planted."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from firmware_protocols import chip, connection, host, receiving, request_states, sending
from firmware_protocols.errors import LocalProtocolError
from firmware_protocols.extensions import authority, images, memory
from firmware_protocols.extensions.memory import BoardPower, SupplyFailed
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import Done, ErrorCode, OutputsOff
from hil.cli import run
from hil.transports import journal
from tests.line_simulation import firmware_floor, floors, proving
from tests.line_simulation.__main__ import COMMAND, main
from tests.line_simulation.direction import LineDirection
from tests.line_simulation.ends import Ends, episode_of
from tests.line_simulation.episode import EpisodeResult
from tests.line_simulation.faults import Gaps, LineFault, LineFaults
from tests.line_simulation.firmware_floor import below_firmware_floor
from tests.line_simulation.floors import below_floors
from tests.line_simulation.goodput import virtual_goodput
from tests.line_simulation.plan import plan_of
from tests.line_simulation.seen import Met
from tests.line_simulation.simulation import SimulationResult, run_simulation


def short_episode(number: int, ends: Ends = Ends.ANY_HOST_PYTHON) -> EpisodeResult:
    """A few minutes of one line, with all that may happen to it."""
    return episode_of(replace(plan_of(f"short/{number}"), requests=25, tile_share=0.05, bad_s=400.0), ends)


@pytest.mark.parametrize("ends", Ends)
def test_an_episode_repeats_itself_to_the_bit(ends: Ends) -> None:
    one, other = short_episode(1, ends), short_episode(1, ends)
    assert one.digest == other.digest
    assert (one.steps, one.requests, one.faults) == (other.steps, other.requests, other.faults)
    assert one.digest != short_episode(2, ends).digest


def test_all_holds_on_lines_of_every_kind_of_fault() -> None:
    found = SimulationResult(0)
    for number in range(16):
        found.add(number, short_episode(number))
    assert not found.failed
    assert found.requests == 16 * 25
    assert all(found.faults[kind] for kind in LineFault), found.faults
    assert len(found.resets) > 3


@pytest.mark.parametrize("ends", [Ends.DRIVER_PYTHON, Ends.ANY_HOST_C, Ends.DRIVER_C])
def test_all_holds_with_the_driver_and_with_the_firmware_at_the_ends(ends: Ends) -> None:
    found = SimulationResult(0)
    for number in range(6):
        found.add(number, short_episode(number, ends))
    assert not found.failed
    assert found.requests == 6 * 25


def test_a_run_ends_with_its_time_or_its_first_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_simulation(1, 0.01, clock=time.process_time).episodes == 1
    monkeypatch.setattr(request_states, "CACHED_REPLIES", 4)
    found = run_simulation(0, 60.0, clock=time.process_time)
    ((number, text),) = found.failed
    assert "the chip forgot its answer to request" in text
    assert number == found.episodes - 1


def taken_whatever_it_is(self: authority.ChipAuthority, counter: int) -> None:
    if counter and counter <= self._counter:
        raise Refusal(ErrorCode.NOT_AUTHORISED, "this counter was used before")
    self._counter = max(self._counter, counter)
    self._keep()


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (chip.ChipServer, "_lose_host", lambda self: self._forget_queue()),
        (chip.ChipServer, "miss_host", lambda self: None),
        (connection.Connection, "receive", lambda self, *bytes_at: heard_by_any_bytes(self, *bytes_at)),
        (chip.ChipServer, "_greet", lambda self, *said: handed_over_as_it_is(self, *said)),
        (chip.ChipServer, "_call", lambda self, job: answered_only(self, job)),
        (chip.ChipServer, "_stop_all", lambda self, why: stopped_in_words(self, why)),
        (images, "hashlib", SimpleNamespace(sha256=lambda data: SimpleNamespace(digest=lambda: data and b"?"))),
        (host.HostLink, "_restart", lambda self: None),
        (receiving.ReceiveWindow, "selective", property(lambda self: 1 if self._early else 0)),
        (chip.ChipServer, "_recall", lambda self, nonce: None),
        (memory.SlotRing, "_number", lambda self, slot: self._head(slot)[0]),
        (authority.ChipAuthority, "take", taken_whatever_it_is),
        (proving, "sealer_after", lambda said, key, before: authority.Sealer(key, said.counter)),
    ],
    ids=[
        "outputs stay on",
        "the dead-man timer does nothing",
        "any bytes are a sign of the host",
        "another host finds the outputs on",
        "outputs off is answered only",
        "what waits is answered and goes on",
        "right images are refused",
        "unanswered requests are not repeated",
        "a frame is acknowledged that did not arrive",
        "the journal is not read after a restart",
        "a record that was not finished is taken",
        "the chip follows a counter that was forged",
        "the host follows a counter that was forged",
    ],
)
def test_a_planted_bug_is_found(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, broken: Callable[..., object] | property
) -> None:
    monkeypatch.setattr(owner, name, broken)
    assert any(short_episode(number).broken for number in range(40))  # each is found by one of the first 27


def test_a_driver_that_takes_a_refusal_from_its_journal_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chip fails a request now and then, and does it when it is asked again."""
    found = SimulationResult(0)
    for number in range(4):
        found.add(number, short_episode(number, Ends.DRIVER_PYTHON))
    assert found.met[Met.TRIPPED]
    assert not found.failed
    monkeypatch.setattr(journal, "ErrorReply", ())  # no reply is a refusal
    broken = (short_episode(number, Ends.DRIVER_PYTHON).broken for number in range(4))
    assert any("the driver's journal answers for the chip" in text for text in broken)


def test_the_firmware_keeps_above_its_floor_where_its_numbers_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    assert below_firmware_floor() == []
    monkeypatch.setattr(firmware_floor, "LONG_S", 3.0)
    monkeypatch.setattr(firmware_floor, "LONGEST_PAUSE_S", -1.0)
    assert ["stands still" in text for text in below_firmware_floor()] == [True, True]


def test_transfers_keep_above_their_floors_also_where_numbers_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    assert below_floors() == []
    monkeypatch.setattr(sending, "LATER_MEANS_LOST", 1 << 20)  # lost frames wait for their timer
    monkeypatch.setattr(floors, "FLOORS", floors.FLOORS[1:3])
    assert ["must be" in text for text in below_floors()] == [True, True]


def answered_only(self: chip.ChipServer, job: Any) -> Any:
    """OUTPUTS_OFF is answered, and nothing is switched off."""
    return Done() if isinstance(job.request, OutputsOff) else CALLED(self, job)


def stopped_in_words(self: chip.ChipServer, why: str) -> None:
    """What waits is answered STOPPED, and is done all the same."""
    waiting = list(self._queue)
    STOPPED(self, why)
    self._queue.extend(waiting)


STOPPED = chip.ChipServer._stop_all
CALLED, GREETED, TOOK = chip.ChipServer._call, chip.ChipServer._greet, connection.Connection.receive


def heard_by_any_bytes(self: connection.Connection, data: bytes, now_s: float) -> None:
    """What is no whole frame counts as one of the host."""
    self.last_heard_s = None if self.last_heard_s is None else now_s
    TOOK(self, data, now_s)


def handed_over_as_it_is(self: chip.ChipServer, *said: Any) -> Any:
    """Another host takes the chip over, and nothing is switched off."""
    noting: Any = self.handlers
    were_on = noting.outputs_on
    reply = GREETED(self, *said)
    noting.outputs_on = were_on
    return reply


def test_a_failed_episode_is_named_with_the_command_that_replays_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--seed", "5", "--minutes", "0.001"]) == 0
    said = capsys.readouterr().out
    assert "days of line with a request open" in said
    assert "all held" in said
    assert main(["--seed", "5", "--minutes", "0.001", "--cover"]) == 1
    assert "a full minute covers more: requests" in capsys.readouterr().out
    monkeypatch.setattr(request_states, "CACHED_REPLIES", 4)
    assert main(["--seed", "0", "--minutes", "1"]) == 1
    command = capsys.readouterr().out.split(f"replay  {COMMAND} ")[1].split("\n")[0]
    assert main(command.split()) == 1
    assert "the chip forgot its answer to request" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["--minutes", "0"])


def test_the_simulation_is_run_as_a_module_and_is_no_command_of_hil() -> None:
    asked = [sys.executable, *COMMAND.split()[1:], "--seed", "5", "--minutes", "0.001"]
    assert "all held" in subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert run(["vopr", "--seed", "5"]) == 2


def test_gaps_hit_as_often_as_their_chance() -> None:
    gaps, hits = Gaps(0.01, random.Random(1)), 0
    for _ in range(2000):
        hits += len(gaps.hits(100))
    assert hits == pytest.approx(2000, rel=0.1)
    assert not Gaps(0.0, random.Random(1)).hits(1 << 40)


def test_a_stalled_line_gives_late_what_it_held_and_a_deaf_one_loses_it() -> None:
    faults = LineFaults(delay_s=0.01, bytes_per_s=1000.0)
    for deaf, arrives in ((False, 1), (True, 0)):
        direction = LineDirection(faults, random.Random(0), {})
        direction.stall(5.0, deaf=deaf)
        direction.put(b"\0frame\0", 0.0)
        assert not direction.take(4.9)
        assert len(direction.take(5.0)) == arrives


def test_power_fails_at_the_step_that_was_named() -> None:
    power = BoardPower()
    power.spend(1000)
    power.steps_left = 2
    power.spend(2)
    with pytest.raises(SupplyFailed):
        power.spend()
    power.spend(1000)


def test_goodput_needs_a_line_with_a_byte_rate() -> None:
    with pytest.raises(LocalProtocolError, match="byte rate"):
        virtual_goodput(LineFaults())
