"""Commands for emulated chips and benches of instruments: ``hil emulate``, ``hil bench``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer

from hil.cli.help_groups import group
from hil.cli.options import Chip, Macros
from hil.cli.settings_options import Told
from hil.errors import ExitCode, UsageError
from hil.report.terminal.lines import complain


def emulate(
    chip: Chip = "lab-128",
    macros: Macros = None,
    chip_seed: Annotated[int, typer.Option(help="seed of the emulated chip's hidden parameters")] = 0,
    pty: Annotated[bool, typer.Option("--pty", help="serve on a new pseudo-terminal")] = False,
    tcp: Annotated[str | None, typer.Option(help="serve on HOST:PORT", show_default=False)] = None,
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
            help="NAME=VALUE: a parameter of the firmware's die; of the stand-in instruments: settling_s, reading_s, "
            "working_s, hang_up_after, silent_after",
            show_default=False,
        ),
    ] = None,
    chip_key: Annotated[
        Path | None, typer.Option(help="file with the secret key that hosts must have", show_default=False)
    ] = None,
    bench: Annotated[
        Path | None,
        typer.Option(help="emulate the instruments of this bench file, at the ports it names", show_default=False),
    ] = None,
    outputs_log: Annotated[
        Path | None,
        typer.Option(help="with --bench: log file of outputs switched on and off, with times", show_default=False),
    ] = None,
) -> int:
    """Serve an emulated chip, or emulated instruments wired to one, to any client until Ctrl-C."""
    if bench is not None:
        return _emulate_bench(bench, chip_seed, outputs_log, die or [])
    from hil.driver.keys import others_may_read
    from hil.emulator.address import chip_from_address
    from hil.server.serve import serve_pty, serve_tcp

    if pty == bool(tcp):
        raise UsageError("name one of --pty, --tcp HOST:PORT")
    if chip_key is not None and chip_key.exists() and others_may_read(chip_key):
        complain(f"warning: others may read the key of the chip in {chip_key}\n  try     chmod 600 {chip_key}")
    if firmware:
        return _emulate_firmware(firmware, chip, macros, chip_seed, tcp or "pty", die or [], chip_key)
    more = {"macros": macros, "key": chip_key}
    query = urlencode({"seed": chip_seed, **{name: value for name, value in more.items() if value is not None}})
    served = chip_from_address(f"emulated:{chip}?{query}")

    def ready(where: str) -> None:
        print(where, flush=True)
        complain(f"emulated {chip} (NOT SILICON) serves {where}; Ctrl-C ends it")

    if tcp:
        serve_tcp(served, tcp, ready)
    else:
        serve_pty(served, ready)
    return ExitCode.DONE


def _emulate_bench(path: Path, seed: int, outputs_log: Path | None, settings: list[str]) -> int:
    """Serve emulated instruments of a bench file, wired to an emulated chip of the bench's chip file."""
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
    firmware: str, chip: str, macros: int | None, seed: int, where: str, settings: list[str], key: Path | None
) -> int:
    from cim.chip.file import load_chip
    from hil.server.firmware_launch import serve_firmware
    from hil.server.firmware_targets import FirmwareTarget

    if firmware not in ("native", "qemu", "virt"):
        raise UsageError("--firmware is native, qemu or virt")

    def ready(address: str) -> None:
        print(address, flush=True)
        complain(f"{firmware} firmware as {chip} (NOT SILICON) serves {address}; Ctrl-C ends it")

    spec = load_chip(chip, macros=macros)
    serve_firmware(FirmwareTarget(firmware), spec, where, ready, seed=seed, settings=settings, key_file=key)
    return ExitCode.DONE


def check(
    bench_file: Annotated[Path, typer.Argument(help="bench file: instruments, roles, wiring, safety")],
) -> Told:
    """Check a bench file and its instruments: identities, limits, outputs, and the rate of row reads."""
    from hil.server.bench.check import check_bench

    found = check_bench(bench_file)
    return Told(found.lines(), found.to_json())


bench = group("Benches of instruments.", check)
