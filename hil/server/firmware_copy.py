"""A folder of one's own to port the firmware in: sources, a board to start from, the configuration of a chip file."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path

from cim.chip.spec import ChipSpec
from hil.errors import OutputError, UsageError
from hil.server.firmware_build import SOURCES, config_header
from hil.server.firmware_targets import SAME_BITS, TOOLCHAINS, FirmwareTarget

STUBS = "template"
STARTS = (STUBS, *(target.value for target, tools in TOOLCHAINS.items() if tools.script))  # boards to start from
PARTS = ("core", "coding", "plan", "nonvolatile", "generated", "die", "zephyr")


def new_board(folder: Path, spec: ChipSpec, start: str = STUBS) -> list[str]:
    """Make ``folder``, whose last name is that of the board; the lines of what to do next.

    Args:
        spec: of the chip that the board carries.
        start: a board to start from: stubs, or one that is complete.

    Raises:
        UsageError: the folder is there, no such board, or a chip that the firmware cannot drive.
        OutputError: it cannot be written.
    """
    if start not in STARTS:
        raise UsageError(f"there is no board {start!r} to start from", hint=f"one of {', '.join(STARTS)}")
    if folder.exists():
        raise UsageError(f"{folder} is there already", hint="another name")
    config, name = config_header(spec, 0, {}, "0001"), folder.name.replace("-", "_")
    sources, script = _files_of(start)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
            root = Path(made) / "board"
            for part in PARTS:
                shutil.copytree(SOURCES / part, root / part)
            boards = root / "boards"
            boards.mkdir()
            shutil.copy(SOURCES / "CMakeLists.txt", root)
            (root / "chip_config.h").write_text(config, "utf-8")
            for number, source in enumerate(sources):
                shutil.copy(source, boards / (f"{name}.c" if not number else source.name))
                header = source.with_suffix(".h")
                if header.exists():
                    shutil.copy(header, boards)
            if script is not None:
                shutil.copy(script, boards / f"{name}.ld")
                (root / "build.sh").write_text(_build_words(name, start), "utf-8")
            root.rename(folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}", hint="another folder") from error
    return _next_steps(folder, name, start)


def _files_of(start: str) -> tuple[list[Path], Path | None]:
    boards = SOURCES / "boards"
    if start == STUBS:
        return [boards / "template.c"], None
    tools = TOOLCHAINS[FirmwareTarget(start)]
    return [boards / source for source in tools.boards], boards / tools.script


def _build_words(name: str, start: str) -> str:
    """A script that compiles the board and all else."""
    tools = TOOLCHAINS[FirmwareTarget(start)]
    sizes = " ".join(f"-D{size}={value}" for size, value in tools.limits.items())
    boards = " ".join(f"boards/{name}.c" if not number else f"boards/{b}" for number, b in enumerate(tools.boards))
    return "\n".join(
        (
            "#!/bin/sh",
            f"# {name} with the model of a die; sizes are those of core/limits.h.",
            'cd "$(dirname "$0")" || exit 1',
            f"exec {tools.compiler} {shlex.join(('-std=c99', *SAME_BITS, *tools.flags))} {sizes} \\",
            f"    -I . -I core -I die core/*.c coding/*.c plan/*.c nonvolatile/*.c die/*.c {boards} \\",
            f"    -T boards/{name}.ld -lgcc -o firmware\n",
        )
    )


def _next_steps(folder: Path, name: str, start: str) -> list[str]:
    said = [f"board     {folder}/boards/{name}.c, from {start}", f"chip      {folder}/chip_config.h"]
    if start != STUBS:
        return [*said, f"try       sh {folder}/build.sh"]
    board = f"-D RRAM_HIL_BOARD=boards/{name}.c"
    return [*said, f"try       cmake -S {folder} -B {folder}/build {board} && make -C {folder}/build"]
