"""Commands of the link itself: how fast it is, what a wire log holds, and a simulation of bad lines."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.options import Baud, ChipAsked, Emulated, Json, Macros, Port, chip_address, print_result, screen
from hil.cli.terminal.lines import say
from hil.errors import ExitCode, LinkError, UsageError
from hil.transports import DEFAULT_BAUD

if TYPE_CHECKING:
    from firmware_protocols.line_simulation.faults import LineFaults
    from firmware_protocols.line_simulation.vopr import VoprResult

MOST_MINUTES = 10_000.0
MOST_VIRTUAL_S = 100_000.0

trace = typer.Typer(help="Wire logs: print one message by message.", no_args_is_help=True, rich_markup_mode=None)
bench = typer.Typer(help="Rates of a line and a chip.", no_args_is_help=True, rich_markup_mode=None)


@trace.callback()
def trace_root() -> None:
    """Options of ``hil trace`` itself."""


@trace.command("decode")
def decode(wire_log: Annotated[Path, typer.Argument(help="wire.log of a run folder, finished or not")]) -> int:
    """Print a wire log message by message: time, direction, number, content in short."""
    from hil.driver.wire_trace import trace_lines
    from hil.transports.wire_log import read_wire_log

    for line in trace_lines(read_wire_log(wire_log)):
        say(line)
    return ExitCode.DONE


@bench.callback()
def bench_root() -> None:
    """Options of ``hil bench`` itself."""


@bench.command("link")
def bench_link(
    port: Port = None,
    emulated: Emulated = False,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="a simulated line of --baud in virtual time; needs no chip")
    ] = False,
    chip: ChipAsked = None,
    macros: Macros = None,
    seconds: Annotated[float, typer.Option(help="how long input codes are sent")] = 10.0,
    loss: Annotated[float, typer.Option(min=0.0, max=0.99, help="--virtual: share of frames lost")] = 0.0,
    bit_errors: Annotated[float, typer.Option(min=0.0, max=0.1, help="--virtual: share of wrong bits")] = 0.0,
    round_trip_ms: Annotated[float, typer.Option(min=0.0, max=10_000.0, help="--virtual: there and back")] = 18.0,
    seed: Annotated[int, typer.Option(help="--virtual: of the faults")] = 0,
    baud: Baud = DEFAULT_BAUD,
    as_json: Json = False,
) -> int:
    """Report how fast a line carries input codes, beside its wire rate; no cell is written."""
    if virtual:
        if port or emulated:
            raise UsageError("--virtual has a line of its own", hint="leave --port and --emulated out")
        faults = _line_faults(loss, bit_errors, round_trip_ms, baud)
        return _bench_virtual(faults, seconds, seed, as_json)
    if loss or bit_errors:
        raise UsageError("--loss and --bit-errors are of a simulated line", hint="add --virtual")
    from hil.driver.goodput import measured_goodput
    from hil.driver.open_chip import open_chip
    from hil.transports import is_serial

    address = chip_address(port, emulated, chip, macros)
    with open_chip(address, chip=chip, macros=macros, baud=baud) as driver:
        found = measured_goodput(driver, seconds, baud=baud if is_serial(address) else None)
    print_result(found.lines(), found.to_json(), as_json)
    return ExitCode.DONE


def _line_faults(loss: float, bit_errors: float, round_trip_ms: float, baud: int) -> LineFaults:
    from firmware_protocols.line_simulation.faults import LineFaults
    from hil.driver.wire_cost import BITS_PER_BYTE

    if baud < 1:
        raise UsageError(f"--baud {baud} is not a rate", hint=f"--baud {DEFAULT_BAUD}")
    return LineFaults(loss=loss, bit_errors=bit_errors, delay_s=round_trip_ms / 2000, bytes_per_s=baud / BITS_PER_BYTE)


def _bench_virtual(faults: LineFaults, seconds: float, seed: int, as_json: bool) -> int:
    from firmware_protocols.errors import LinkFailed
    from firmware_protocols.line_simulation.goodput import virtual_goodput

    if not 0 < seconds <= MOST_VIRTUAL_S:
        raise UsageError(f"{seconds:g} s is not between 0 and {MOST_VIRTUAL_S:g} s", hint="--seconds 10")
    try:
        found = virtual_goodput(faults, seconds=seconds, seed=seed)
    except LinkFailed as error:
        raise LinkError(f"the simulated line was lost: {error.text}", likely="too much is lost") from None
    repeated = found.counters.retransmissions + found.counters.fast_retransmissions
    lines = [
        f"{100 * found.share:.1f} % of {faults.bytes_per_s / 1e3:.1f} kB/s are input codes, in "
        f"{found.seconds:.1f} s of virtual time; {repeated:,} frames repeated"
    ]
    record = {"share": found.share, "seconds": found.seconds, "wire_bytes_per_s": faults.bytes_per_s}
    print_result(lines, {**record, "virtual": True, "frames_repeated": repeated}, as_json)
    return ExitCode.DONE


def vopr(
    seed: Annotated[int, typer.Option(min=0, help="of all that happens")] = 0,
    minutes: Annotated[float, typer.Option(help="CPU time of the simulation, minutes")] = 1.0,
    episode: Annotated[
        int | None,
        typer.Option(min=0, help="replay this episode of the seed, with its events", show_default=False),
    ] = None,
    cover: Annotated[
        bool,
        typer.Option(
            "--cover",
            help="exit code 1 also where a day of line, 10,000 requests, 1,000 faults a kind were not reached",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress")] = False,
    as_json: Json = False,
) -> int:
    """Simulate host and chip on bad lines in virtual time, and check at every step what must hold."""
    from firmware_protocols.line_simulation.vopr import run_vopr

    if episode is not None:
        return _replay(seed, episode)
    if not 0 < minutes <= MOST_MINUTES:
        raise UsageError(f"--minutes {minutes:g} is outside 0 to {MOST_MINUTES:g}", hint=f"hil vopr --seed {seed}")
    with screen(quiet or as_json) as shown, shown.stage("vopr"):
        found = run_vopr(
            seed,
            60.0 * minutes,
            clock=time.process_time,
            watch=lambda so_far: shown.step(round(so_far.cpu_s), round(60 * minutes)),
        )
    print_result(_lines(found), _record(found), as_json)
    return ExitCode.OUTSIDE_TOLERANCE if found.failed or (cover and found.short) else ExitCode.DONE


def _replay(seed: int, number: int) -> int:
    from firmware_protocols.line_simulation.vopr import run_episode

    found = run_episode(seed, number, say)
    say(found.broken or "all held")
    return ExitCode.OUTSIDE_TOLERANCE if found.broken else ExitCode.DONE


def _lines(found: VoprResult) -> list[str]:
    from firmware_protocols.line_simulation.vopr import source_digest

    lines = [
        f"seed {found.seed}, sources {source_digest()}: {found.episodes} episodes, {found.cpu_s:.0f} s of CPU time",
        f"{found.open_s / 86400:.2f} days of line with a request open, {found.requests:,} requests, "
        f"{found.steps:,} steps",
        *(f"  {kind.value:<26} {times:,}" for kind, times in found.faults.items()),
        f"chip reset in {len(found.resets)} of {len(found.states)} states of both ends; one end held "
        f"{found.most_held_bytes:,} bytes at most",
        *(f"a full minute covers more: {text}" for text in found.short),
    ]
    for number, text in found.failed:
        lines += [f"episode {number}: {text}", f"  replay  hil vopr --seed {found.seed} --episode {number}"]
    return lines if found.failed else [*lines, "all held"]


def _record(found: VoprResult) -> dict[str, Any]:
    from firmware_protocols.line_simulation.vopr import source_digest

    return {
        "seed": found.seed,
        "sources": source_digest(),
        "episodes": found.episodes,
        "cpu_s": found.cpu_s,
        "open_s": found.open_s,
        "requests": found.requests,
        "steps": found.steps,
        "faults": {kind.name.lower(): times for kind, times in found.faults.items()},
        "states": len(found.states),
        "states_reset": len(found.resets),
        "most_held_bytes": found.most_held_bytes,
        "digest": found.digest,
        "short": found.short,
        "failed": [{"episode": number, "text": text} for number, text in found.failed],
    }
