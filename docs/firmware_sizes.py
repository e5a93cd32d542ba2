"""Sizes of the reference firmware for one macro of lab-128 with its die model: built, and written into the page.

    python docs/firmware_sizes.py            # writes the table in docs/my-board.md
    python docs/firmware_sizes.py --check    # exit code 1 if a build takes other sizes than the page says

Other versions of the compilers give other sizes. The page names its own; with others a check allows 3 % to each number.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from cim.chip.file import load_chip
from hil.server.firmware_build import FirmwareSizes, build, compiler, config_header, sizes
from hil.server.firmware_launch import die_serial
from hil.server.firmware_targets import FirmwareTarget

PAGE = Path(__file__).parent / "my-board.md"
BEGIN, END = "<!-- sizes: made by docs/firmware_sizes.py -->", "<!-- end of sizes -->"
BUILDS: tuple[tuple[str, str, FirmwareTarget, dict[str, int]], ...] = (
    ("`mps2.c`", "Cortex-M4", FirmwareTarget.QEMU, {}),
    ("without plans", "Cortex-M4", FirmwareTarget.QEMU, {"PLAN_WORDS": 0}),
    ("without packing of bodies", "Cortex-M4", FirmwareTarget.QEMU, {"PACKED_BODIES": 0}),
    ("without both", "Cortex-M4", FirmwareTarget.QEMU, {"PLAN_WORDS": 0, "PACKED_BODIES": 0}),
    ("`nucleo_h743zi.c`", "Cortex-M7", FirmwareTarget.NUCLEO, {}),
    ("`virt.c`", "rv32imac", FirmwareTarget.VIRT, {}),
)
OTHER_COMPILER = 0.03  # by which sizes of another version may differ


def built(target: FirmwareTarget, limits: dict[str, int]) -> FirmwareSizes:
    spec = load_chip("lab-128", macros=1)
    return sizes(build(target, config_header(spec, 3, {}, die_serial(spec, 3)), limits=limits))


def compilers() -> str:
    """Names and versions of the compilers, in the order of their first board."""
    names = dict.fromkeys(compiler(target) for _, _, target, _ in BUILDS)
    versions = [
        subprocess.run([name, "-dumpfullversion"], capture_output=True, text=True, check=True).stdout.strip()
        for name in names
    ]
    return ", ".join(f"{Path(name).name} {version}" for name, version in zip(names, versions, strict=True))


def table() -> str:
    rows = ["| board | processor | flash | RAM | deepest frame |", "|---|---|---:|---:|---:|"]
    for name, processor, target, limits in BUILDS:
        found = built(target, limits)
        rows.append(f"| {name} | {processor} | {found.flash:,} | {found.ram:,} | {found.largest_frame:,} |")
    return "\n".join([BEGIN, *rows, "", f"By {compilers()}.", END])


def numbers(text: str) -> list[int]:
    """Sizes in a table, in its order."""
    return [int(cell.replace(",", "")) for cell in re.findall(r"(?<=\| )[0-9,]+(?= \|)", text)]


def is_held(page: str, now: str) -> bool:
    """Whether the page says the sizes of today: the same text, or nearly the same numbers of other compilers."""
    if re.findall("By .*", page) == re.findall("By .*", now):
        return page == now
    pairs = zip(numbers(page), numbers(now), strict=True)
    return all(abs(held - found) <= OTHER_COMPILER * held for held, found in pairs)


def main() -> int:
    text = PAGE.read_text("utf-8")
    (held,) = re.findall(f"{BEGIN}.*?{END}", text, re.DOTALL)
    now = table()
    if "--check" not in sys.argv:
        PAGE.write_text(text.replace(held, now), "utf-8")
        return 0
    if is_held(held, now):
        return 0
    print(f"{PAGE} says\n{held}\nand the builds give\n{now}\nWrite it anew: python docs/firmware_sizes.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
