"""Passes: contact windows, the plan of a file over them, and flight images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from hil.cli import run as command
from hil.errors import FileError, MismatchError, UsageError
from hil.payload.facts_file import FactsFileError
from hil.payload.flight_image import flight_program, load_image, pack_image
from hil.payload.passes import ContactWindow, load_passes, plan_transfer
from hil.payload.settings import LinkFigures
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import program_digest, save_program

CLEAN = LinkFigures(64_000, 256_000)


def test_a_clean_link_needs_the_seconds_of_its_bytes_and_a_lossy_one_more() -> None:
    windows = (ContactWindow(0.0, 2.0), ContactWindow(100.0, 102.0))
    clean = plan_transfer("file", 20_000, windows, CLEAN)
    assert clean.packets == 42  # of 512 bytes, and two that begin and end the file
    assert clean.on_air_s == pytest.approx(8 * (20_000 + 42 * 24) / 64_000)
    assert clean.passes == 2
    lossy = plan_transfer("file", 20_000, windows, replace(CLEAN, lost_share=0.5, delay_s=0.5))
    assert lossy.on_air_s == pytest.approx(2 * clean.on_air_s)
    assert lossy.waits_s > 7.0  # rounds of a second until less than half of 42 packets' last one is missing
    assert lossy.passes is None


@pytest.mark.parametrize("figures", [{"bit_errors": 0.5}, {"delay_s": 6.0}, {"lost_share": 1.0}, {"up_bit_per_s": 0.0}])
def test_a_link_that_cannot_be_is_refused(figures: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        replace(CLEAN, **figures)


def test_a_flight_image_is_the_program_without_its_calibration_images(program: ConductanceProgram) -> None:
    flying = flight_program(program)
    image = pack_image(flying)
    loaded = load_image(image, program.spec)
    assert loaded.digest == flying.digest == program.digest
    pixels = program.calibration_images[:5]
    assert np.array_equal(run(loaded, pixels, IdealMultiply(loaded)), run(program, pixels, IdealMultiply(program)))
    keyed = replace(program, trained_on=np.arange(5), digest="")
    keyed = replace(keyed, digest=program_digest(keyed))
    assert load_image(pack_image(flight_program(keyed)), program.spec).held_digest == keyed.digest


def test_a_truncated_damaged_or_foreign_image_is_refused(program: ConductanceProgram) -> None:
    image = pack_image(flight_program(program))
    with pytest.raises(FileError, match="truncated"):
        load_image(image[:-10], program.spec)
    with pytest.raises(FileError, match="checksum"):
        load_image(image[:-1] + bytes([image[-1] ^ 1]), program.spec)
    with pytest.raises(FileError, match="no flight image"):
        load_image(b"nothing", program.spec)
    with pytest.raises(MismatchError, match=r"for another file than yao-2020\.toml is"):
        load_image(image, load_chip("yao-2020"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("start,end\n0,100\n90,200\n", r":3: start: begins before"),
        ("start,end\n0,100\n200,150\n", r":3: end: a pass of -50 s"),
        ("start,end\n0,soon\n", r":2: end: 'soon' is neither"),
        ("begin,end\n0,1\n", r":1: start: no such column"),
        ("start,end\n", r":1: start: no pass"),
        ("", r":1: start: the file is empty"),
    ],
)
def test_a_wrong_file_of_passes_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "passes.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(FactsFileError, match=message):
        load_passes(path)


def test_passes_are_read_as_seconds_or_utc(tmp_path: Path) -> None:
    path = tmp_path / "passes.csv"
    path.write_text("name,start,end\na,2030-01-01T10:00:00Z,2030-01-01T10:08:00Z\n\nb,1893497400,1893497500\n", "utf-8")
    first, second = load_passes(path)
    assert (first.start_s, first.end_s) == (0.0, 480.0)
    assert second.start_s == 5400.0


def test_the_command_plans_all_files_and_writes_the_image_that_goes_up(
    program: ConductanceProgram, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_program(program, tmp_path / "program.h5")
    (tmp_path / "passes.csv").write_text("start,end\n0,3\n100,103\n200,260\n", "utf-8")
    image = tmp_path / "program.hilf"
    asked = ["mission", "passes", str(tmp_path / "program.h5"), "--passes", str(tmp_path / "passes.csv"), "--json"]
    assert command([*asked, "--dump", "20000", "--ber", "1e-5", "--rate", "16k", "-o", str(image)]) == 0
    up, down = json.loads(capsys.readouterr().out)["files"]
    assert (up["name"], up["bytes"]) == ("program.hilf", image.stat().st_size)
    assert (down["name"], down["passes"]) == ("telemetry dump", 1)
    assert load_image(image.read_bytes(), program.spec).digest == program.digest
    assert command([*asked, "--rate", "100"]) == 1  # bit/s: windows are too few
    assert command([*asked, "--rate", "fast"]) == 2
