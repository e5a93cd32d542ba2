"""Boards of the reference firmware: those of the tree build and fit, and run where they can; one's own begins."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from firmware_protocols.messages import Returns, TileAddress
from hil.cli import run
from hil.driver.open_chip import connect
from hil.driver.selftest.line import Bench
from hil.driver.selftest.suite import CheckOutcome, run_on
from hil.server import firmware_build
from hil.server.firmware_build import SOURCES, build, config_header, sizes
from hil.server.firmware_launch import running_firmware
from hil.server.firmware_targets import TOOLCHAINS, FirmwareTarget
from hil.transports import open_transport

from ..scripts import loaded

SPEC = load_chip("lab-128", macros=1)
HERE = Path(__file__).parent
FIRMWARE_SIZES = loaded(HERE.parents[1] / "docs" / "firmware_sizes.py")


def needs(*tools: str) -> pytest.MarkDecorator:
    lacking = next((tool for tool in tools if shutil.which(tool) is None), "")
    return pytest.mark.skipif(bool(lacking), reason=f"no {lacking}")


ARM, RISCV, QEMU = "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc", "qemu-system-riscv32"


@needs("gcc")
def test_a_build_that_another_one_overtakes_leaves_the_program_that_runs(monkeypatch, tmp_path: Path) -> None:
    def built() -> Path:
        return build(FirmwareTarget.NATIVE, config_header(SPEC, 3, {}, "two"), cache=tmp_path)

    def overtaken(*compiled: object) -> str:
        monkeypatch.undo()
        running.append(
            subprocess.Popen([built(), "--pty", "--tether"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        )
        return firmware_build._run(*compiled)

    running: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(firmware_build, "_run", overtaken)
    assert built() == built()
    running[0].kill()
    running[0].communicate()
    assert len(list(tmp_path.iterdir())) == 1


@needs(ARM, RISCV)
@pytest.mark.parametrize(
    ("target", "flash_kib", "ram_kib"),
    [(FirmwareTarget.QEMU, 44, 1200), (FirmwareTarget.NUCLEO, 45, 780), (FirmwareTarget.VIRT, 62, 1200)],
)
def test_every_board_of_the_tree_builds_and_stays_within_its_sizes(
    target: FirmwareTarget, flash_kib: int, ram_kib: int
) -> None:
    found = sizes(build(target, config_header(SPEC, 3, {}, "sizes")))
    assert found.flash <= flash_kib << 10
    assert found.ram <= ram_kib << 10
    assert found.largest_frame <= 1024


@needs(ARM, RISCV)
def test_the_page_says_the_sizes_that_the_builds_of_today_take() -> None:
    done = subprocess.run(
        [sys.executable, FIRMWARE_SIZES.__file__, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs("gcc")
def test_the_root_of_processors_without_one_is_rounded_as_theirs(tmp_path: Path) -> None:
    (tmp_path / "root.c").write_text(
        """#include <stdio.h>
#include <math.h>
#include "real.h"
int main(void) {
    uint32_t bits = 1, wrong = 0;
    for (uint32_t i = 0; i < 3000000; i++) {
        union { uint32_t word; float value; } x;
        bits = bits * 1664525u + 1013904223u;
        x.word = bits & 0x7FFFFFFFu;
        if (x.word < 0x00800000u || x.word >= 0x7F800000u) continue;
        wrong += real_root(x.value) != sqrtf(x.value);
    }
    printf("%u %g %g %g ", wrong, (double)real_root(0.0f), (double)real_root(-1.0f), (double)real_root(4.0f));
    return 0;
}
""",
        "utf-8",
    )
    words = ["gcc", "-O2", "-I", str(SOURCES / "die"), str(tmp_path / "root.c"), str(SOURCES / "die" / "real.c")]
    subprocess.run([*words, "-lm", "-o", str(tmp_path / "root")], check=True)
    said = subprocess.run([tmp_path / "root"], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["0", "0", "0", "2"]


@needs("gcc")
def test_numbers_of_a_refusal_are_the_floats_that_a_compiler_makes_of_them(tmp_path: Path) -> None:
    (tmp_path / "numbers.c").write_text(
        """#include <stdio.h>
#include <string.h>
#include "messages.h"
static int same(double a, double b) { return !memcmp(&a, &b, sizeof a); }
int main(void) {
    uint64_t bits = 1;
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < 3000000; i++) {
        union { uint32_t word; float value; } x;
        bits = bits * 6364136223846793005ull + 1442695040888963407ull;
        const int64_t number = (int64_t)bits >> (11 + i % 53);
        x.word = (uint32_t)(bits >> 32);
        const uint32_t exponent = x.word >> 23 & 0xFF;
        wrong += !same(f64_of_int(number), (double)number);
        if (exponent && exponent < 255) wrong += !same(f64_of_float(x.value), (double)x.value);
    }
    wrong += !same(f64_of_float(0.0f), 0.0) + !same(f64_of_float(-0.0f), -0.0);
    wrong += f64_of_float(__builtin_nanf("")) == f64_of_float(__builtin_nanf("")); /* not a number */
    wrong += !same(f64_of_float(-__builtin_inff()), -__builtin_inf());
    printf("%u", wrong);
    return 0;
}
""",
        "utf-8",
    )
    words = ["gcc", "-std=c99", "-O2", "-I", str(SOURCES / "core"), "-I", str(SOURCES), str(tmp_path / "numbers.c")]
    subprocess.run([*words, str(SOURCES / "core" / "messages.c"), "-o", str(tmp_path / "numbers")], check=True)
    said = subprocess.run([tmp_path / "numbers"], capture_output=True, text=True, check=True).stdout
    assert said == "0"


@needs("gcc", RISCV, QEMU)
def test_a_board_of_another_architecture_without_floats_is_the_same_die_to_the_bit() -> None:
    def answers(target: FirmwareTarget) -> list[object]:
        with running_firmware(target, SPEC, seed=5) as address, connect(open_transport(address), chip=SPEC) as driver:
            levels = np.random.default_rng(1).integers(-7, 8, (8, 4)).astype(np.int8)
            tile = TileAddress(0, 0, 8, 0, 4)
            written = driver.program_tile(tile, levels, sample=3)
            read = driver.read_cells(0, reads=3, lines=range(8))
            sums = driver.mvm(tile, np.arange(80).reshape(10, 8).astype(np.int16), returns=Returns.SUMS).values
        return [written.pulses.tobytes(), written.readings_us.tobytes(), read.tobytes(), sums.tobytes()]

    assert answers(FirmwareTarget.VIRT) == answers(FirmwareTarget.NATIVE)


@needs(RISCV, QEMU)
def test_a_board_of_another_architecture_keeps_the_protocol() -> None:
    with running_firmware(FirmwareTarget.VIRT, SPEC, seed=2) as address:
        found = run_on(Bench(address, lambda: open_transport(address), SPEC), ["frames", "messages", "limits"])
    assert [f"{r.name}: {r.text}" for r in found.results if r.outcome is CheckOutcome.FAILED] == []


@needs("gcc")
def test_a_write_to_a_flash_of_large_sectors_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    program = tmp_path / "flash"
    checked = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-std=c99", "-O1"]
    limits = ["-DFLASH_SECTOR=4096u", "-DMEMORY_BYTES=1500", "-DJOURNAL_SLOTS=2", "-DMAX_MESSAGE=1024"]
    sources = [HERE / "flash_bench.c", SOURCES / "boards" / "flash_log.c", SOURCES / "core" / "frame.c"]
    words = ["gcc", *checked, *limits, "-I", str(SOURCES / "core"), *map(str, sources), "-o", str(program)]
    subprocess.run(words, check=True)
    said = subprocess.run([program, "3000"], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout
    lost, kept = map(int, said.stdout.split())
    assert lost + kept == 3000
    assert lost > 1000
    assert kept > 10


@needs(ARM)
def test_the_board_that_can_be_bought_starts_where_its_processor_looks() -> None:
    firmware = build(FirmwareTarget.NUCLEO, config_header(SPEC, 3, {}, "sizes"))
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", str(firmware), str(firmware) + ".bin"], check=True)
    image = Path(f"{firmware}.bin").read_bytes()
    stack, reset = int.from_bytes(image[:4], "little"), int.from_bytes(image[4:8], "little")
    assert 0x20000000 < stack <= 0x20020000
    assert stack % 8 == 0
    assert reset & 1  # Thumb
    assert 0x08000000 < reset < 0x08000000 + len(image)


# --- a board of one's own --------------------------------------------------------------------------------


@needs("gcc", "cmake")
def test_a_new_board_builds_at_once_by_the_command_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my_board"
    assert run(["board", "firmware", str(folder), "--chip", "lab-128", "--macros", "2"]) == 0
    command = capsys.readouterr().out.split("try       ")[1].strip()
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert (folder / "build" / "firmware").exists()
    assert "#define CHIP_MACROS 2u" in (folder / "chip_config.h").read_text("utf-8")
    assert run(["board", "firmware", str(folder)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert run(["board", "firmware", str(tmp_path / "other"), "--from", "toaster"]) == 2
    assert not (tmp_path / "other").exists()


@needs(ARM, RISCV)
@pytest.mark.parametrize("start", ["qemu", "virt", "nucleo-h743zi"])
def test_a_new_board_from_a_complete_one_builds_by_its_script(start: str, tmp_path: Path) -> None:
    folder = tmp_path / "my-board"
    assert run(["board", "firmware", str(folder), "--from", start, "--macros", "1"]) == 0
    subprocess.run(["sh", str(folder / "build.sh")], check=True, capture_output=True)
    assert (folder / "firmware").exists()


ZEPHYR = """
set(CONFIG_RRAM_HIL y)
set(CONFIG_RRAM_HIL_DIE y)
set(APPLICATION_SOURCE_DIR /app)
set(CONFIG_RRAM_HIL_CONFIG_DIR config)
set(CONFIG_RRAM_HIL_MAX_MESSAGE 4096)
function(zephyr_library_named name)
endfunction()
function(zephyr_library_sources)
  foreach(path ${ARGV})
    message("source ${path}")
  endforeach()
endfunction()
function(zephyr_library_compile_options)
endfunction()
function(zephyr_include_directories)
  message("include ${ARGV}")
endfunction()
function(zephyr_compile_definitions)
  message("define ${ARGV}")
endfunction()
include("@FOLDER@/zephyr/CMakeLists.txt")
"""


@needs("cmake")
def test_the_zephyr_module_names_every_source_and_every_size_that_its_menu_offers(tmp_path: Path) -> None:
    script = tmp_path / "module.cmake"
    script.write_text(ZEPHYR.replace("@FOLDER@", str(SOURCES)), "utf-8")
    said = subprocess.run(["cmake", "-P", str(script)], capture_output=True, text=True, check=True).stderr
    named = {Path(line.split()[1]).name for line in said.splitlines() if line.startswith("source ")}
    here = {
        path.name for part in ("core", "coding", "plan", "nonvolatile", "die") for path in (SOURCES / part).glob("*.c")
    }
    assert named == here - {"bytes.c"}
    assert "define MAX_MESSAGE=4096" in said
    menu = set(re.findall(r"^config RRAM_HIL_(\w+)", (SOURCES / "zephyr" / "Kconfig").read_text("utf-8"), re.MULTILINE))
    offered = {re.split("[ =]", line)[1] for line in said.splitlines() if line.startswith("define ")}
    assert menu - {"CONFIG_DIR", "DIE"} == offered
    assert all(f"#ifndef {size}" in (SOURCES / "core" / "limits.h").read_text("utf-8") for size in offered)


def test_boards_to_start_from_are_those_that_run_without_a_system() -> None:
    assert {target for target, tools in TOOLCHAINS.items() if tools.script} == {
        FirmwareTarget.QEMU,
        FirmwareTarget.VIRT,
        FirmwareTarget.NUCLEO,
    }
