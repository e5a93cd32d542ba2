"""Whole deployments on the C firmware, native and under QEMU, and the memory that the bare-metal build takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from firmware_protocols.messages import TileAddress
from hil.calibration.procedure import calibrate
from hil.deployment.deploy import DeployOptions, deploy
from hil.driver.open_chip import open_chip
from hil.errors import UsageError
from hil.server.firmware_build import SOURCES, build, config_header, sizes
from hil.server.firmware_launch import die_serial, read_settings, running_firmware
from hil.server.firmware_targets import FirmwareTarget
from hil.verdict.agreement import AgreementReport
from hil.verdict.verdict import Verdict
from mapping.compile import LayoutOptions, compile_network
from mapping.program.execute import IdealMultiply, run
from mapping.quantise.weight_scales import ScaleRule

from .one_macro_net import READS_AN_IMAGE, images, one_macro_network, write_files
from .qemu_monitor import QemuMonitor, symbols

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-gcc") is None,
    reason="no qemu-system-arm or no arm-none-eabi-gcc",
)
SPEC = load_chip("lab-128", macros=1)
QUICK = {"virtual_chips": 10, "tolerance": 0.03, "causes": False}
FLASH_BYTES, RAM_BYTES, STACK_BYTES = 32 << 10, 1200 << 10, 4 << 10  # most that the build for one macro may take
ROOM_BYTES = 768  # of its flash, for what is to come
PLAN_FLASH_BYTES = 12 << 10  # that plans take on top


def deployed(address: str, folder: Path, count: int, **options: object) -> AgreementReport:
    """One run of the one-macro network on all of ``count`` images."""
    net, data = write_files(folder, count)
    chosen = DeployOptions(samples=count, **{**QUICK, **options})  # type: ignore[arg-type]
    return deploy(net, address, macros=1, data=str(data), out=folder / "run", options=chosen)


def ideal_accuracy(count: int) -> float:
    """Of the network in Python's exact integers."""
    pixels, labels = images(count, seed=3)
    program = compile_network(
        one_macro_network(), SPEC, options=LayoutOptions(averaged=True), scale_rule=ScaleRule.OUTPUT
    )
    logits = run(program, pixels, IdealMultiply(program))
    return float(np.mean(logits.argmax(1) == labels))


@needs_gcc
def test_a_network_on_the_native_firmware_agrees_with_its_simulation(tmp_path: Path) -> None:
    with running_firmware(FirmwareTarget.NATIVE, SPEC, seed=3, where="127.0.0.1:0") as address:
        report = deployed(address, tmp_path, 300, repeats=3)
    judged = report.decisive
    assert report.verdict is Verdict.AGREE, judged.text
    assert report.chip.firmware.endswith("(native)")
    assert judged.ideal.mean == pytest.approx(ideal_accuracy(300))
    assert judged.measured.mean > 0.9
    assert READS_AN_IMAGE == 40


@needs_gcc
def test_an_effect_that_no_simulator_models_flips_the_verdict(tmp_path: Path) -> None:
    settings = {"residue": 0.6}  # a converter remembers the sample before; costs more than the tolerance of 3 points
    with running_firmware(FirmwareTarget.NATIVE, SPEC, seed=3, settings=settings) as address:
        report = deployed(address, tmp_path, 300, repeats=2)
    assert report.verdict is Verdict.DISAGREE, report.decisive.text


@needs_gcc
def test_calibration_finds_the_read_noise_that_was_set() -> None:
    settings = {"read_noise_us": 2.0, "telegraph_us": 0.0}
    with (
        running_firmware(FirmwareTarget.NATIVE, SPEC, seed=4, settings=settings) as address,
        open_chip(address, chip=SPEC) as chip,
    ):
        found = calibrate(chip, (0,)).read_noise
    assert np.all(np.abs(found.variance_us2 - 4.0) <= 3.0 * found.se_us2)
    assert np.all(found.se_us2 < 0.3)


@needs_qemu
def test_native_and_bare_metal_firmware_are_one_chip_to_the_bit() -> None:
    codes = np.random.default_rng(0).integers(0, 256, (4, 128)).astype(np.int16)
    targets = np.full((128, 128), np.nan, np.float32)
    targets[:8, :64] = np.random.default_rng(1).choice(SPEC.macro.levels_us, (8, 64))
    seen = []
    for target in (FirmwareTarget.NATIVE, FirmwareTarget.QEMU):
        with (
            running_firmware(target, SPEC, seed=5, settings={"line_ohm": 1.0}) as address,
            open_chip(address, chip=SPEC) as chip,
        ):
            chip.program_cells(0, targets)
            tile = TileAddress(0, 0, 128, 0, 64)
            seen.append((chip.read_cells(0), chip.mvm(tile, codes, range_code=4, sample=2).values))
    for native, bare in zip(*seen, strict=True):
        assert np.array_equal(native, bare)


@needs_qemu
def test_a_network_runs_on_bare_metal_within_its_memory(tmp_path: Path) -> None:
    monitor = tmp_path / "qmp"
    with running_firmware(FirmwareTarget.QEMU, SPEC, seed=3, monitor=monitor) as address:
        report = deployed(address, tmp_path, 100, repeats=2)
        stack = deepest_stack(monitor, firmware())
    judged = report.decisive
    assert report.chip.firmware.endswith("(mps2-an386)")
    assert judged.ideal.mean == pytest.approx(ideal_accuracy(100))
    assert judged.verdict is not Verdict.DISAGREE, judged.text
    assert judged.measured.mean > 0.85
    used = sizes(firmware())
    print(f"flash {used.flash:,} bytes, RAM {used.ram:,}, stack {stack:,}, largest frame {used.largest_frame:,}")
    assert used.flash <= FLASH_BYTES + PLAN_FLASH_BYTES - ROOM_BYTES
    assert sizes(firmware({"PLAN_WORDS": 0, "PACKED_BODIES": 0})).flash <= FLASH_BYTES - ROOM_BYTES
    assert used.ram <= RAM_BYTES
    assert 0 < stack <= STACK_BYTES


def firmware(limits: dict[str, int] | None = None) -> Path:
    return build(FirmwareTarget.QEMU, config_header(SPEC, 3, {}, die_serial(SPEC, 3)), limits=limits)


def deepest_stack(monitor: Path, program: Path) -> int:
    """Bytes of the stack that are no longer as they were painted at the start."""
    found = symbols(program)
    bottom, top = found["stack_bottom"], found["stack_top"]
    dump = monitor.with_name("stack")
    with QemuMonitor(monitor) as board:
        board.execute("pmemsave", val=bottom, size=top - bottom, filename=str(dump))
    words = np.fromfile(dump, "<u4")
    return 4 * (len(words) - int(np.argmax(words != 0x5EAF00D5)))


@needs_gcc
def test_what_the_firmware_cannot_be_is_refused_before_it_is_built() -> None:
    with pytest.raises(UsageError, match="row_pairs"):
        config_header(load_chip("yao-2020"), 0, {}, "x")
    with pytest.raises(UsageError, match="NAME=NUMBER"):
        read_settings(["line_ohm"])


@needs_gcc
def test_the_board_of_stubs_builds(tmp_path: Path) -> None:
    board = SOURCES / "boards" / "template.c"
    assert build(
        FirmwareTarget.NATIVE, config_header(SPEC, 0, {}, "x"), board=board, die=False, cache=tmp_path
    ).exists()
