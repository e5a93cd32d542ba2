"""The C reference firmware, built for one chip file: its configuration header, the compilers, the sizes.

A build lies in a cache folder named by the digest of everything that went into it, so that a second
one of the same chip costs nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import firmware_protocols
from cim.chip.spec import ChipSpec, Encoding, InputCoding, PairSubtraction, ReadPath, SignedInput
from hil.errors import UsageError
from hil.server.firmware_targets import SAME_BITS, STRICT, TOOLCHAINS, FirmwareTarget

SOURCES = Path(firmware_protocols.__file__).parent / "reference_firmware"
MOST_WEAR = 0xF0000000  # pulses of one macro that the firmware can count
MOST_ROWS = 256  # a driven row is one byte in the firmware


@dataclass(frozen=True, slots=True)
class FirmwareSizes:
    """Memory that a build takes, bytes; ``stack`` is the deepest frame of one function."""

    flash: int
    ram: int
    largest_frame: int


# --- configuration ------------------------------------------------------------------------------


def check_spec(spec: ChipSpec) -> None:
    """Raise ``UsageError`` for chips that the firmware's array logic cannot drive."""
    m = spec.macro
    unable = [
        text
        for text, wrong in (
            (f"encoding {m.encoding}", m.encoding is not Encoding.DIFFERENTIAL_COLUMNS),
            (f"{m.inputs.coding} inputs", m.inputs.coding is not InputCoding.BIT_SERIAL),
            (f"signed inputs by {m.inputs.signed}", m.inputs.signed not in (SignedInput.PLANE, SignedInput.NONE)),
            (f"{m.rows} word lines", m.rows > MOST_ROWS),
            ("an ADC transfer table", bool(m.adc.codes)),
        )
        if wrong
    ]
    if unable:
        raise UsageError(
            f"the reference firmware cannot be a {spec.name}: {', '.join(unable)}",
            likely="it drives differential columns with bit-serial inputs",
            hint="hil emulate --firmware native --chip lab-128",
        )


def config_header(spec: ChipSpec, seed: int, settings: Mapping[str, float], serial: str) -> str:
    """``chip_config.h``: the facts of a chip file that the firmware needs, and the seed and settings of its die.

    Args:
        spec: of the chip that the firmware stands for.
        seed: of its die.
        settings: of its die by name, as an emulated chip takes them.
        serial: number that the board gives as its own.

    Returns:
        text of the C header.

    Example:
        >>> text = config_header(cim.load_chip("lab-128", macros=1), seed=3, settings={}, serial="board-7")
        >>> text.splitlines()[0]
        '/* Generated from the chip file of lab-128. Do not edit. */'
    """
    check_spec(spec)
    macro, timing, limits = spec.macro, spec.timing, spec.limits
    lines = [line for pair in macro.word_lines for line in pair]
    signed = macro.adc_signed
    half = 1 << (macro.adc.bits - 1)
    low, high = (-half, half - 1) if signed else (0, 2 * half - 1)
    digital = macro.pair_subtraction is PairSubtraction.DIGITAL
    values: dict[str, str] = {
        "NAME": _text(spec.name),
        "REVISION": _text(spec.revision),
        "SPEC_DIGEST": _list(f"0x{byte:02x}" for byte in bytes.fromhex(spec.digest)),
        "MACROS": f"{spec.macros}u",
        "ROWS": f"{macro.rows}u",
        "COLUMNS": f"{macro.columns}u",
        "LOGICAL_ROWS": f"{len(lines)}u",
        "ROWS_PER_READ": f"{macro.logical_rows}u",
        "OUTPUTS": f"{macro.outputs}u",
        "WORD_LINES": _list(map(str, lines)),
        "BIT_LINES_USED": f"{2 * macro.outputs}u",
        "BIT_LINES": _list(map(str, macro.column_order[: 2 * macro.outputs])),
        "PAIR_DIGITAL": str(int(digital)),
        "INPUT_BITS": f"{macro.inputs.bits}u",
        "SIGNED_PLANE": str(int(macro.inputs.signed is SignedInput.PLANE)),
        "ADC_BITS": str(macro.adc.bits),
        "ADC_LOW": str(low),
        "ADC_HIGH": str(high),
        "ADC_SHARED": f"{macro.adc.shared_by}u",
        "ADC_RANGES": f"{len(macro.adc.full_scales_us)}u",
        "ADC_LSB_US": _list(_float(macro.lsb_us(r)) for r in range(len(macro.adc.full_scales_us))),
        "G_LOW_US": _float(macro.levels_us[0]),
        "G_HIGH_US": _float(macro.levels_us[-1]),
        "READ_BY_COLUMN": str(int(macro.read_path is ReadPath.COLUMN_ADC)),
        "LINES_A_CONVERSION": "1u" if digital else "2u",
        "LIMIT_SET_MV": f"{round(limits.set_v * 1000)}u",
        "LIMIT_RESET_MV": f"{round(limits.reset_v * 1000)}u",
        "LIMIT_WIDTH_NS": f"{round(limits.pulse_width_ns)}u",
        "LIMIT_PULSES": f"{limits.pulses_per_cell}u",
        "LIMIT_WEAR": f"{min((spec.life_pulses or MOST_WEAR) * macro.rows * macro.columns, MOST_WEAR)}u",
        "PULSE_NS": f"{round(timing.pulse_ns)}u",
        "VERIFY_NS": f"{round(timing.verify_ns)}u",
        "CELL_READ_NS": f"{round(timing.cell_read_ns)}u",
        "ROW_SETUP_NS": f"{round(timing.row_setup_ns)}u",
        "INPUT_CYCLE_NS": f"{round(timing.input_cycle_ns)}u",
        "CONVERSION_NS": f"{round(timing.conversion_ns)}u",
    }
    rows = [
        f"/* Generated from the chip file of {spec.name}. Do not edit. */",
        "#ifndef CHIP_CONFIG_H",
        "#define CHIP_CONFIG_H",
        *(f"#define CHIP_{name} {value}" for name, value in values.items()),
        f'#define DIE_SERIAL "{serial}"',
        f"#define DIE_SEED {seed}u",
        "#define DIE_SETTINGS(set) " + " ".join(f'set("{n}", {_float(v)})' for n, v in sorted(settings.items())),
        "#endif",
    ]
    return "\n".join(rows) + "\n"


def _text(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9 ._+-]{1,64}", text):
        raise UsageError(f"{text!r} cannot be the name of a chip in firmware")
    return f'"{text}"'


def _list(values: Iterable[str]) -> str:
    return "{" + ", ".join(values) + "}"


def _float(value: float) -> str:
    return f"{float(value)!r}f"


# --- compilers ------------------------------------------------------------------------------------


def compiler(target: FirmwareTarget) -> str:
    """Path of the compiler for a target.

    Raises:
        UsageError: it is not installed; says which package brings it.
    """
    toolchain = TOOLCHAINS[target]
    found = shutil.which(toolchain.compiler)
    if found is None:
        raise UsageError(
            f"no {toolchain.compiler} on this machine",
            hint=f"apt-get install --no-install-recommends {toolchain.package}",
        )
    return found


def build(
    target: FirmwareTarget,
    config: str,
    *,
    board: Path | None = None,
    die: bool = True,
    limits: Mapping[str, int] | None = None,
    cache: Path | None = None,
) -> Path:
    """Compile the firmware with a configuration header; the path of the program.

    Args:
        board: the board's source; None takes those of the target.
        die: with the die model; False for a board that drives macros of its own (``core/macro.h``).
        limits: sizes of ``core/limits.h`` in place of the target's.
        cache: where builds are kept; None takes the user's cache folder.
    """
    toolchain = TOOLCHAINS[target]
    boards = [board] if board else [SOURCES / "boards" / name for name in toolchain.boards]
    folders = ("core", "coding", "plan", "nonvolatile", "die") if die else ("core", "coding", "plan", "nonvolatile")
    sources = [*(path for folder in folders for path in sorted((SOURCES / folder).glob("*.c"))), *boards]
    if not toolchain.script:
        sources.remove(SOURCES / "core" / "bytes.c")  # this machine's C library has them
    sizes = {**toolchain.limits, **(limits or {})}
    flags = [*STRICT, *SAME_BITS, *toolchain.flags, *(f"-D{n}={v}" for n, v in sorted(sizes.items()))]
    tail = ["-T", str(SOURCES / "boards" / toolchain.script), "-lgcc"] if toolchain.script else []
    program = compiler(target)
    digest = hashlib.sha256("\0".join([program, *flags, str(die), config]).encode())
    for path in (*sorted(SOURCES.rglob("*.[chl]*")), *boards):
        digest.update(path.read_bytes())
    folder = (cache or cache_folder()) / f"{target}-{digest.hexdigest()[:16]}"
    if (folder / "firmware").exists():
        return folder / "firmware"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as made:
        (Path(made) / "chip_config.h").write_text(config, "utf-8")
        include = ["-I", made, "-I", str(SOURCES / "core"), "-I", str(SOURCES / "die")]
        _run([program, *flags, *include, *map(str, sources), "-o", "firmware", *tail], Path(made))
        try:
            Path(made).rename(folder)
        except OSError:  # another build of the same sources was ready first, and may run already
            if not (folder / "firmware").exists():
                raise
    return folder / "firmware"


def sizes(firmware: Path) -> FirmwareSizes:
    """Flash, RAM and the deepest stack frame of a bare-metal build."""
    target = FirmwareTarget(firmware.parent.name.rpartition("-")[0])
    tool = TOOLCHAINS[target].compiler.replace("gcc", "size")
    listed = _run([tool, str(firmware)], firmware.parent).splitlines()[-1].split()
    text, data, bss = map(int, listed[:3])
    frames = [
        int(row.split("\t")[1]) for path in firmware.parent.glob("*.su") for row in path.read_text("utf-8").splitlines()
    ]
    return FirmwareSizes(text + data, data + bss, max(frames, default=0))


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(
            f"the firmware does not build: {Path(command[0]).name} ended with {done.returncode}",
            likely=done.stderr.strip()[:2000],
            hint="fewer macros, when a region overflowed: --macros 1" if "overflowed" in done.stderr else "",
        )
    return done.stdout


def cache_folder() -> Path:
    """Where builds are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hil" / "firmware"
