"""What the reference firmware is built for: compilers, flags, board sources and sizes of each target."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class FirmwareTarget(enum.StrEnum):
    """What the firmware is built for."""

    NATIVE = "native"  # this machine: a pseudo-terminal or a TCP port
    SANITIZED = "sanitized"  # the same under address and undefined-behaviour checks
    QEMU = "qemu"  # bare metal, board mps2-an386 (Cortex-M4)
    VIRT = "virt"  # bare metal, board virt (RISC-V, rv32imac, no floating point unit)
    NUCLEO = "nucleo-h743zi"  # a board that can be bought (Cortex-M7)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """How a target is built. ``script``: of the linker; empty where a C library is there.

    ``machine``: what QEMU calls the board, with the program that runs it and the addresses of boot word and key.
    """

    compiler: str
    package: str
    flags: tuple[str, ...]
    boards: tuple[str, ...]
    script: str = ""
    limits: dict[str, int] = field(default_factory=dict)
    machine: QemuMachine | None = None


@dataclass(frozen=True, slots=True)
class QemuMachine:
    """A board under QEMU, and where its firmware looks for what is set from outside."""

    qemu: str
    package: str
    words: tuple[str, ...]
    boot_word: int
    key_place: int


STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror")
SAME_BITS = ("-ffp-contract=off",)  # a fused product would round otherwise on one of the machines
_FREESTANDING = (
    "-ffreestanding", "-fno-builtin", "-fno-tree-loop-distribute-patterns", "-nostdlib", "-fno-math-errno",
    "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-fstack-usage",
    '-DNOT_CLEARED=__attribute__((section(".noinit")))',
)  # fmt: skip
_LARGE = {
    "LINK_PAYLOAD": 4096, "LINK_WINDOW": 32, "MAX_MESSAGE": 1 << 20, "LAYER_BYTES": 1 << 23, "LAYER_OUTPUTS": 4096,
    "MEMORY_BYTES": 12 << 20, "PLAN_WORDS": 1 << 21, "PLAN_VALUES": 4096, "PLAN_STEPS": 4096, "PLAN_MEMORY": 1 << 24,
}  # fmt: skip
_SMALL_PLANS = {"PLAN_WORDS": 1 << 13, "PLAN_MEMORY": 1 << 15}
_SMALL = {"MAX_MESSAGE": 1 << 14, **_SMALL_PLANS}
_CHECKED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-math-errno")
_M4 = ("-O2", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
_M7 = ("-O2", "-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-d16")
_RV32 = ("-O2", "-march=rv32imac_zicsr", "-mabi=ilp32", "-mcmodel=medany")
_MPS2 = QemuMachine("qemu-system-arm", "qemu-system-arm", ("-M", "mps2-an386"), 0x203FFFF0, 0x00300000)
_VIRT = QemuMachine(
    "qemu-system-riscv32", "qemu-system-riscv", ("-M", "virt", "-bios", "none"), 0x842FFFF0, 0x84200000
)  # fmt: skip
_ARM, _RISCV = ("arm-none-eabi-gcc", "gcc-arm-none-eabi"), ("riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf")

TOOLCHAINS: dict[FirmwareTarget, Toolchain] = {
    FirmwareTarget.NATIVE: Toolchain("gcc", "gcc", ("-O3", "-fno-math-errno"), ("posix.c",), limits=_LARGE),
    FirmwareTarget.SANITIZED: Toolchain("gcc", "gcc", _CHECKED, ("posix.c",), limits=_LARGE),
    FirmwareTarget.QEMU: Toolchain(
        *_ARM, (*_M4, *_FREESTANDING), ("mps2.c",), "mps2.ld", _SMALL, _MPS2
    ),
    FirmwareTarget.VIRT: Toolchain(
        *_RISCV, (*_RV32, *_FREESTANDING), ("virt.c",), "virt.ld", _SMALL, _VIRT
    ),
    FirmwareTarget.NUCLEO: Toolchain(
        *_ARM, (*_M7, *_FREESTANDING), ("nucleo_h743zi.c", "flash_log.c"), "nucleo_h743zi.ld",
        {"MAX_MESSAGE": 4096, "MEMORY_BYTES": 48 << 10, "JOURNAL_SLOTS": 4, "LAYER_BYTES": 32 << 10, **_SMALL_PLANS},
    ),
}  # fmt: skip
