"""Commands of the bench: chips, ports, first measurements, a stand-in chip, firmware of a board of one's own."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer

from hil.cli.options import (
    Baud,
    Chip,
    ChipOptions,
    Emulated,
    Json,
    Macros,
    Port,
    chip_address,
    output_file,
    print_result,
    screen,
    seconds,
)
from hil.cli.terminal.completion import chips as chip_files
from hil.cli.terminal.completion import one_of
from hil.cli.terminal.lines import complain
from hil.errors import ExitCode, UsageError
from hil.pages.tables import Table, labelled
from hil.transports import DEFAULT_BAUD


def emulate(
    chip: Chip = "lab-128",
    macros: Macros = None,
    chip_seed: Annotated[int, typer.Option(help="seed of the hidden chip")] = 0,
    pty: Annotated[bool, typer.Option("--pty", help="serve on a new pseudo-terminal")] = False,
    tcp: Annotated[str | None, typer.Option(help="serve on HOST:PORT", show_default=False)] = None,
    unix: Annotated[Path | None, typer.Option(help="serve on a socket file", show_default=False)] = None,
    firmware: Annotated[
        str | None,
        typer.Option(
            help="run the C reference firmware instead: native, qemu (Cortex-M4) or virt (RISC-V)", show_default=False
        ),
    ] = None,
    die: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="NAME=VALUE of the firmware's die; of stand-ins: settling_s, reading_s, working_s, hang_up_after, "
            "silent_after",
            show_default=False,
        ),
    ] = None,
    chip_key: Annotated[
        Path | None, typer.Option(help="file with the key that hosts must prove", show_default=False)
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option(help="stand in for the instruments of this bench file, at the ports it names", show_default=False),
    ] = None,
    outputs_log: Annotated[
        Path | None,
        typer.Option(help="with --bench: write each switching of outputs with its time", show_default=False),
    ] = None,
) -> int:
    """Serve an emulated chip to any client, or stand-ins of instruments before one, until Ctrl-C."""
    if bench is not None:
        return _emulate_bench(bench, chip_seed, outputs_log, die or [])
    from hil.driver.keys import others_may_read
    from hil.emulator.address import chip_from_address
    from hil.server.serve import serve_pty, serve_tcp, serve_unix

    if sum(map(bool, (pty, tcp, unix))) != 1:
        raise UsageError("name one of --pty, --tcp HOST:PORT, --unix PATH")
    if chip_key is not None and chip_key.exists() and others_may_read(chip_key):
        complain(f"warning: others may read the key of the chip in {chip_key}\n  try     chmod 600 {chip_key}")
    if firmware:
        return _emulate_firmware(firmware, chip, macros, chip_seed, None if unix else tcp or "pty", die or [], chip_key)
    more = {"macros": macros, "key": chip_key}
    query = urlencode({"seed": chip_seed, **{name: value for name, value in more.items() if value is not None}})
    served = chip_from_address(f"emulated:{chip}?{query}")

    def ready(where: str) -> None:
        print(where, flush=True)
        complain(f"emulated {chip} (NOT SILICON) serves {where}; Ctrl-C ends it")

    if pty:
        serve_pty(served, ready)
    elif tcp:
        serve_tcp(served, tcp, ready)
    elif unix:
        serve_unix(served, str(unix), ready)
    return ExitCode.DONE


def _emulate_bench(path: Path, seed: int, outputs_log: Path | None, settings: list[str]) -> int:
    """Stand-ins for the instruments of a bench file, before an emulated chip of its chip file."""
    from hil.emulator.chip import EmulatedChip
    from hil.server.bench import bench_file, stand_in, stand_in_serve

    bench, behaviour = bench_file.load_bench(path), stand_in.Behaviour.parse(settings)

    def ready(where: list[str]) -> None:
        print("\n".join(where), flush=True)
        complain(f"stand-ins of {bench.name} (NOT SILICON) serve an emulated {bench.chip.name}; Ctrl-C ends them")

    with contextlib.ExitStack() as closing:
        log = None if outputs_log is None else closing.enter_context(outputs_log.open("w", encoding="utf-8"))
        chip = EmulatedChip(bench.chip, seed)
        stand_in_serve.serve_bench(bench, chip, ready, outputs_log=log, behaviour=behaviour)
    return ExitCode.DONE


def _emulate_firmware(
    firmware: str, chip: str, macros: int | None, seed: int, where: str | None, settings: list[str], key: Path | None
) -> int:
    from cim.chip.file import load_chip
    from hil.server.firmware_launch import serve_firmware
    from hil.server.firmware_targets import FirmwareTarget

    if firmware not in ("native", "qemu", "virt") or where is None:
        raise UsageError("--firmware is native, qemu or virt, with --pty or --tcp")

    def ready(address: str) -> None:
        print(address, flush=True)
        complain(f"{firmware} firmware as {chip} (NOT SILICON) serves {address}; Ctrl-C ends it")

    spec = load_chip(chip, macros=macros)
    serve_firmware(FirmwareTarget(firmware), spec, where, ready, seed=seed, settings=settings, key_file=key)
    return ExitCode.DONE


def chips(
    action: Annotated[
        str | None, typer.Argument(help="show or copy", show_default=False, autocompletion=one_of(("show", "copy")))
    ] = None,
    name: Annotated[
        str | None, typer.Argument(help="name or path of a chip file", show_default=False, autocompletion=chip_files)
    ] = None,
    copy: Annotated[Path | None, typer.Argument(help="file that a copy is written to", show_default=False)] = None,
    macros: Macros = None,
    as_json: Json = False,
) -> int:
    """List chip files with a measured number each, show one with its digest, or copy it: chips copy NAME my.toml."""
    from cim.chip.file import chip_names, description, load_chip
    from hil.driver.chip_text import chip_tables, gallery_record, gallery_rows

    if action is None:
        specs = [load_chip(n) for n in chip_names()]
        rows = [row for s in specs for row in gallery_rows(s)]
        record = {"chips": [s.name for s in specs], "gallery": [gallery_record(s) for s in specs]}
        print_result([labelled("Chips", *rows)], record, as_json)
        return ExitCode.DONE
    if action not in ("show", "copy"):
        raise UsageError(f"hil chips {action} is not a command", hint="hil chips, hil chips show NAME, or copy it")
    if name is None:
        raise UsageError(f"hil chips {action} needs the name or path of a chip file", hint="hil chips lists the names")
    if action == "copy":
        return _copy_chip(name, copy, as_json)
    spec = load_chip(name, macros=macros)
    print_result(
        chip_tables(spec), {**description(spec), "digest": spec.digest, "provenance": spec.provenance}, as_json
    )
    return ExitCode.DONE


def _copy_chip(name: str, copy: Path | None, as_json: bool) -> int:
    from cim.gallery import own_copy
    from hil.atomic import write_text

    if copy is None or copy.suffix != ".toml":
        raise UsageError("hil chips copy needs a file that ends in .toml", hint=f"hil chips copy {name} my-chip.toml")
    if copy.exists():
        raise UsageError(f"{copy} is there already", hint="name another file, or remove that one")
    output_file(copy)
    write_text(copy, own_copy(name, copy.stem))
    lines = [f"{copy}: a chip file of your own, begun as {name}", f"then          hil chips show ./{copy}"]
    print_result(lines, {"file": str(copy), "name": copy.stem, "begun_as": name}, as_json)
    return ExitCode.DONE


def ports(as_json: Json = False) -> int:
    """List serial ports, likely boards first."""
    from hil.transports.ports import list_ports

    found = list_ports()
    table = Table("Ports", ("", ""), tuple((p.device, p.description) for p in found))
    print_result(
        [table if found else "no serial port found; hil deploy --emulated needs none"],
        {"ports": [{"device": p.device, "description": p.description} for p in found]},
        as_json,
    )
    return ExitCode.DONE


def info(
    port: Port = None,
    emulated: Emulated = False,
    chip: ChipOptions = None,
    macros: Macros = None,
    baud: Baud = DEFAULT_BAUD,
    as_json: Json = False,
) -> int:
    """Show a chip's identity, capabilities and state."""
    from hil.driver.chip_text import info_record, info_table
    from hil.driver.open_chip import open_chip

    with open_chip(chip_address(port, emulated, chip, macros), chip=chip, macros=macros, baud=baud) as driver:
        status = driver.known_status()
        print_result([info_table(driver, status)], info_record(driver, status), as_json)
    return ExitCode.DONE


def selftest(
    port: Port = None,
    emulated: Emulated = False,
    chip: ChipOptions = None,
    macros: Macros = None,
    only: Annotated[str | None, typer.Option(help="groups of checks, as frames,safety", show_default=False)] = None,
    power_cycle: Annotated[
        str | None,
        typer.Option(help="ask, or a command that takes the chip's power and gives it back", show_default=False),
    ] = None,
    within: Annotated[str, typer.Option(help="time for all of it; what is left then is not tried")] = "15m",
    baud: Baud = DEFAULT_BAUD,
    as_json: Json = False,
) -> int:
    """Check that a chip keeps the wire protocol and its limits; cells of up to three macros are overwritten."""
    from cim.chip.file import load_chip
    from hil.driver.selftest.power import power_cut
    from hil.driver.selftest.suite import GROUPS, run_suite

    groups = only.split(",") if only else list(GROUPS)
    if not set(groups) <= set(GROUPS):
        raise UsageError(f"--only {only!r} names no groups", hint=f"some of {','.join(GROUPS)}")
    spec = load_chip(chip, macros=macros) if chip else None
    cut = None if power_cycle is None else power_cut(power_cycle, _ask)
    with screen(quiet=as_json) as watch:
        found = run_suite(
            chip_address(port, emulated, chip, macros), spec,
            groups=groups, baud=baud, cut_power=cut, within_s=seconds(within), watch=watch,
        )  # fmt: skip
    print_result(found.lines(), found.to_json(), as_json)
    if found.interrupted:
        return ExitCode.CTRL_C
    return ExitCode.DONE if found.passed and not found.out_of_time else ExitCode.OUTSIDE_TOLERANCE


def _ask(text: str) -> None:
    """Show a text and wait until a person presses Enter."""
    complain(text)
    if not sys.stdin.readline():
        raise UsageError("nobody is there to answer", hint="hil selftest --power-cycle ask")


def doctor(as_json: Json = False) -> int:
    """Check this machine: versions, ports and permissions, data sets, room for results."""
    from hil.cli.doctor import checks

    found = checks()
    table = Table("Checks", ("", "", ""), tuple((c.word, c.name, c.text) for c in found))
    print_result([table], {c.name: {"ok": c.ok, "text": c.text} for c in found}, as_json)
    return ExitCode.DONE


def mvm(
    port: Port = None,
    emulated: Emulated = False,
    chip: ChipOptions = None,
    macros: Macros = None,
    macro: Annotated[int, typer.Option(help="number of the macro")] = 0,
    rows: Annotated[int, typer.Option(help="logical rows driven, from row 0")] = 16,
    outputs: Annotated[int, typer.Option(help="outputs read, from output 0")] = 8,
    level: Annotated[int | None, typer.Option(help="program this level everywhere first", show_default=False)] = None,
    code: Annotated[
        int | None, typer.Option(help="input code on every row; default the largest", show_default=False)
    ] = None,
    repeat: Annotated[int, typer.Option(help="reads")] = 4,
    range_code: Annotated[
        int | None, typer.Option(help="ADC range; default the smallest that holds the sum", show_default=False)
    ] = None,
    baud: Baud = DEFAULT_BAUD,
    as_json: Json = False,
) -> int:
    """Multiply one vector by one tile, several times: the first measurement on a bench."""
    from hil.driver.bench import first_mvm
    from hil.driver.open_chip import open_chip

    with open_chip(chip_address(port, emulated, chip, macros), chip=chip, macros=macros, baud=baud) as driver:
        result = first_mvm(
            driver,
            macro=macro,
            rows=rows,
            outputs=outputs,
            level=level,
            code=code,
            repeat=repeat,
            range_code=range_code,
        )
    print_result(result.lines(), result.to_json(), as_json)
    return ExitCode.DONE


def cells(
    port: Port = None,
    emulated: Emulated = False,
    chip: ChipOptions = None,
    macros: Macros = None,
    macro: Annotated[int, typer.Option(help="number of the macro")] = 0,
    reads: Annotated[int, typer.Option(help="reads to average")] = 4,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="CSV of all readings to write, µS", show_default=False, callback=output_file),
    ] = None,
    baud: Baud = DEFAULT_BAUD,
    as_json: Json = False,
) -> int:
    """Read every cell of a macro."""
    from hil.driver.bench import cell_map
    from hil.driver.open_chip import open_chip

    with open_chip(chip_address(port, emulated, chip, macros), chip=chip, macros=macros, baud=baud) as driver:
        result = cell_map(driver, macro=macro, reads=reads)
    if out:
        result.write_csv(out)
    print_result(result.lines(), result.to_json(), as_json)
    return ExitCode.DONE


firmware = typer.Typer(help="Firmware of a board of one's own.", no_args_is_help=True, rich_markup_mode=None)


@firmware.callback()
def firmware_root() -> None:
    """Options of ``hil firmware`` itself."""


@firmware.command("new")
def new(
    folder: Annotated[Path, typer.Argument(help="to be made; its last name is that of the board")],
    chip: Chip = "lab-128",
    macros: Macros = None,
    start: Annotated[str, typer.Option("--from", help="template (stubs), qemu, virt or nucleo-h743zi")] = "template",
    as_json: Json = False,
) -> int:
    """Copy the reference firmware to port it: sources, a board to start from, chip_config.h, CMake, Zephyr."""
    from cim.chip.file import load_chip
    from hil.server.firmware_copy import new_board

    lines = new_board(folder, load_chip(chip, macros=macros), start)
    print_result(lines, {"folder": str(folder), "chip": str(chip), "from": start}, as_json)
    return ExitCode.DONE
