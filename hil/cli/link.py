"""Commands of the link itself: how fast it is, and what a wire log holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hil.cli.options import Baud, ChipOptions, Emulated, Json, Macros, Port, chip_address, output_file, print_result
from hil.cli.terminal.lines import print_line
from hil.errors import ExitCode, LinkError, UsageError
from hil.transports import DEFAULT_BAUD

if TYPE_CHECKING:
    from firmware_protocols.line_simulation.faults import LineFaults

MOST_VIRTUAL_S = 100_000.0

trace = typer.Typer(help="Wire logs: print one message by message.", no_args_is_help=True, rich_markup_mode=None)
bench = typer.Typer(help="Benches of instruments; rates of a line.", no_args_is_help=True, rich_markup_mode=None)


@trace.callback()
def trace_root() -> None:
    """Options of ``hil trace`` itself."""


@trace.command("decode")
def decode(wire_log: Annotated[Path, typer.Argument(help="wire.log of a run folder, finished or not")]) -> int:
    """Print a wire log message by message: time, direction, number, content in short."""
    from hil.driver.wire_trace import trace_lines
    from hil.transports.wire_log import read_wire_log

    for line in trace_lines(read_wire_log(wire_log)):
        print_line(line)
    return ExitCode.DONE


@bench.callback()
def bench_root() -> None:
    """Options of ``hil bench`` itself."""


@bench.command("check")
def bench_check(
    bench_file: Annotated[Path, typer.Argument(help="bench file: instruments, roles, wiring, safety")],
    as_json: Json = False,
) -> int:
    """Check a bench file and its instruments: who they are, limits, outputs, and the rate of row reads."""
    from hil.server.bench.check import check_bench

    found = check_bench(bench_file)
    print_result(found.lines(), found.to_json(), as_json)
    return ExitCode.DONE


@bench.command("export")
def bench_export(
    model: Annotated[str, typer.Argument(help="model of an instrument: a name of ours, or the path of its file")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="file for pyvisa-sim to write", callback=output_file, show_default=False)
    ],
    as_json: Json = False,
) -> int:
    """Write a model of an instrument for pyvisa-sim, to test programs of others without a bench."""
    from hil.atomic import write_text
    from hil.server.bench.model_file import load_model
    from hil.server.bench.sim_export import RESOURCE, sim_devices

    found = load_model(model, Path())
    try:
        text = sim_devices(found)
    except ValueError as error:
        raise UsageError(str(error), hint="hil emulate --bench is a stand-in for these") from error
    write_text(out, text)
    lines = [f"{out}: {found.name} at {RESOURCE}", f'then          pyvisa.ResourceManager("{out}@sim")']
    print_result(lines, {"file": str(out), "model": found.name}, as_json)
    return ExitCode.DONE


@bench.command("link")
def bench_link(
    port: Port = None,
    emulated: Emulated = False,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="a simulated line of --baud in virtual time; needs no chip")
    ] = False,
    chip: ChipOptions = None,
    macros: Macros = None,
    seconds: Annotated[float, typer.Option(help="how long input codes are sent, and images")] = 10.0,
    loss: Annotated[float, typer.Option(min=0.0, max=0.99, help="--virtual: share of frames lost")] = 0.0,
    bit_errors: Annotated[float, typer.Option(min=0.0, max=0.1, help="--virtual: share of wrong bits")] = 0.0,
    round_trip_ms: Annotated[float, typer.Option(min=0.0, max=10_000.0, help="--virtual: there and back")] = 18.0,
    seed: Annotated[int, typer.Option(help="--virtual: of the faults")] = 0,
    baud: Baud = DEFAULT_BAUD,
    as_json: Json = False,
) -> int:
    """Report how fast a line carries codes of products and images of a plan, beside its own rate; writes no cell."""
    if virtual:
        if port or emulated:
            raise UsageError("--virtual has a line of its own", hint="leave --port and --emulated out")
        faults = _line_faults(loss, bit_errors, round_trip_ms, baud)
        return _bench_virtual(faults, seconds, seed, as_json)
    if loss or bit_errors:
        raise UsageError("--loss and --bit-errors are of a simulated line", hint="add --virtual")
    from hil.driver.goodput import measured_goodput, plan_goodput
    from hil.driver.open_chip import open_chip
    from hil.transports import is_serial

    address = chip_address(port, emulated, chip, macros)
    with open_chip(address, chip=chip, macros=macros, baud=baud) as driver:
        rate = baud if is_serial(address) else None
        products, images = measured_goodput(driver, seconds, baud=rate), plan_goodput(driver, seconds, baud=rate)
    lines = products.lines("products") + (
        ["plan: none, the chip runs no plans"] if images is None else images.lines("plan")
    )
    print_result(lines, {**products.to_json(), "plan": images and images.to_json()}, as_json)
    return ExitCode.DONE


def _line_faults(loss: float, bit_errors: float, round_trip_ms: float, baud: int) -> LineFaults:
    from firmware_protocols.line_simulation.faults import LineFaults
    from hil.driver.counting.wire_cost import BITS_PER_BYTE

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
