"""Memory that a package of C takes, read from its compiled objects: RAM, flash, and the deepest chain of calls.

Counted are the objects of the network (``FLIGHT`` of its Makefile), without the board's own code behind the four
callbacks. GCC writes the frame of each function and whom it calls (``-fcallgraph-info=su``); no function calls itself.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hil.errors import FileError, UsageError
from hil.payload.pack import packed_program, packed_run, write_package
from hil.server.firmware_build import config_header
from mapping.program.conductance import ConductanceProgram

TARGETS = {"cortex-m4": "arm-none-eabi-gcc", "rv32": "riscv64-unknown-elf-gcc", "": "gcc"}  # the first that is there
NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*?(\d+) bytes \(')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')


@dataclass(frozen=True, slots=True)
class BuiltMemory:
    """Bytes of RAM, with the stack of the deepest chain of calls, and of flash, with two slots for updates. None: not
    known, and ``source`` says why."""

    source: str
    ram: int | None = None
    flash: int | None = None

    def beside(self, ram: int, flash: int) -> tuple[int | None, int | None]:
        """RAM and flash with what the board's own code takes."""
        return self.ram and self.ram + ram, self.flash and self.flash + flash


def built_memory(program: ConductanceProgram, run: Path | None = None) -> BuiltMemory:
    """Compile the package of a run, or of a program as a nominal chip would run it, and read its objects."""
    try:
        return _built(program, run)
    except UsageError as error:
        return BuiltMemory(f"not built: {error.what}")


def _built(program: ConductanceProgram, run: Path | None) -> BuiltMemory:
    contents, made_for = packed_program(program), "a nominal chip"
    if run is not None and run.is_dir():
        with suppress(FileError, UsageError):  # its chip did not run the network as a plan
            contents, made_for = packed_run(run), "the chip of the run"
    target = next((target for target, name in TARGETS.items() if shutil.which(name)), None)
    if target is None:
        raise UsageError(f"none of {', '.join(TARGETS.values())} on this machine")
    compiler = TARGETS[target]
    with tempfile.TemporaryDirectory() as made:
        package, objects = Path(made) / "package", Path(made) / "objects"
        sizes = write_package(package, contents, config_header(program.spec, 0, {}, "none"))
        asked = (f"O={objects}", f"TARGET={target}", "PROTECT=-fcallgraph-info=su", f"CC={compiler}", "objects")
        _said("make", "-s", "-C", str(package), *asked)
        graph = "".join(path.read_text("utf-8") for path in objects.rglob("*.ci"))
        listed = _said(compiler.replace("gcc", "size"), "-t", *map(str, objects.rglob("*.o")))
    text, data, bss = map(int, listed.splitlines()[-1].split()[:3])
    stack, slots = deepest(graph), 2 * 4 * sizes["SLOT_WORDS"]
    source = (
        f"built for {made_for} by {compiler} {_said(compiler, '-dumpfullversion').strip()}: data {data + bss:,} and "
        f"stack {stack:,}, code and network {text + data:,} and two update slots {slots:,} bytes"
    )
    return BuiltMemory(source, data + bss + stack, text + data + slots)


def _said(*words: str) -> str:
    """What a command prints."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"{words[0]} ended with {done.returncode}: {done.stderr.strip()[:200]}")
    return done.stdout


def deepest(graph: str) -> int:
    """Bytes of the deepest chain of calls in call graphs of GCC; functions without a frame there count nothing.

    Example: main of 16 bytes that calls f of 40 and g of 8, f calling g: 64.
    """
    frames = {name: int(size) for name, size in NODE.findall(graph)}
    called = defaultdict(set)
    for caller, callee in EDGE.findall(graph):
        called[caller].add(callee)

    @functools.cache
    def below(name: str) -> int:
        return frames.get(name, 0) + max(map(below, called[name]), default=0)

    return max(map(below, frames), default=0)
