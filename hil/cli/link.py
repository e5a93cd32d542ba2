"""Commands of the link itself: a simulation of bad lines and failing boards, and wire logs message by message."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hil.cli.options import Json, print_result, say, screen
from hil.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from firmware_protocols.line_simulation.vopr import VoprResult

MOST_MINUTES = 10_000.0


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
            seed, 60.0 * minutes, watch=lambda so_far: shown.step(round(so_far.cpu_s), round(60 * minutes))
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


trace = typer.Typer(help="Wire logs: print one message by message.", no_args_is_help=True, rich_markup_mode=None)


@trace.command("decode")
def decode(wire_log: Annotated[Path, typer.Argument(help="wire.log of a run folder, finished or not")]) -> int:
    """Print a wire log message by message: time, direction, number, content in short."""
    from hil.driver.wire_trace import trace_lines
    from hil.transports.wire_log import read_wire_log

    for line in trace_lines(read_wire_log(wire_log)):
        say(line)
    return ExitCode.DONE


@trace.callback()
def root() -> None:
    """Options of ``hil trace`` itself."""
