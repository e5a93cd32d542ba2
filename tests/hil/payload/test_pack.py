"""Packages of runs: compiled without a warning, they give the answers of the run, bit for bit."""

from __future__ import annotations

import binascii
import json
import re
import shutil
import subprocess
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.chip.file import load_chip
from firmware_protocols import codec
from firmware_protocols.messages import LoadLayer, ProgramTile
from hil.cli import run as command
from hil.deployment.running.network_runs import network_run
from hil.deployment.targets.wired import program_chip
from hil.driver.open_chip import open_chip
from hil.errors import FileError, UsageError
from hil.payload.pack import FLIGHT, GROUP, pack_run, packed_run, store_words
from hil.payload.radiation.campaign import report_digest
from hil.payload.radiation.report import FORMAT as REPORT_FORMAT
from hil.report.files import report_text
from hil.server.firmware_launch import running_firmware
from hil.server.firmware_targets import FirmwareTarget
from hil.transports import wire_log
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.program.corrections import nominal_corrections
from mapping.program.file import load_program, save_program

from ...firmware_protocols.one_macro_net import images, one_macro_network
from ..invented_run import synthetic_run

FLIGHTS = Path(__file__).parent / "flights.c"
XTCE = "{http://www.omg.org/spec/XTCE/20180204}"
IMAGES, SEED, EMULATED = 12, 5, "emulated:lab-128?seed=3&macros=1"


def run_of(folder: Path, address: str = "") -> NDArray[np.int32]:
    """A run of the small network in a folder, on the C die or at an address; the logits of its first repeat."""
    spec = load_chip("lab-128", macros=1)
    program = compile_network(one_macro_network(), spec)
    folder.mkdir()
    save_program(program, folder / "program.h5")
    die = running_firmware(FirmwareTarget.NATIVE, spec, seed=SEED, where="127.0.0.1:0")
    with nullcontext(address) if address else die as where, open_chip(where, log=folder / "wire.log") as driver:
        program_chip(driver, program, sample=1, watch=Watch())
        driver.wait(3600.0)
        planned = network_run(driver, program, nominal_corrections(program))
        planned.logits(images(2, seed=8)[0], 9)  # as a tune asks before
        return np.asarray(planned.logits(images(IMAGES, seed=3)[0], 40, 2)[0])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.int32]]:
    """A package beside its run, and the logits of the run."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    folder = tmp_path_factory.mktemp("packed")
    logits = run_of(folder / "run")
    assert command(["mission", "pack", str(folder / "run"), "-o", str(folder / "payload")]) == 0
    return folder / "payload", logits


def built(package: Path, to: Path, *words: str) -> Path:
    """A copy of a package in which ``make`` has run."""
    shutil.copytree(package, to)
    made = subprocess.run(["make", "-C", to, *words], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return to


def answered(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["./payload", "images.bin"], cwd=folder, capture_output=True, text=True, check=False)


TARGETS = {
    "CC=gcc": ("gcc",),
    "CC=clang": ("clang",),
    "TARGET=cortex-m4": ("arm-none-eabi-gcc", "qemu-system-arm"),
    "TARGET=rv32": ("riscv64-unknown-elf-gcc", "qemu-system-riscv32"),
    "TARGET=powerpc": ("powerpc-linux-gnu-gcc", "qemu-ppc"),  # big-endian
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_package_gives_the_answers_of_its_run_bit_for_bit_whatever_compiles_and_runs_it(
    packed: tuple[Path, NDArray[np.int32]], tmp_path: Path, target: str
) -> None:
    if any(shutil.which(tool) is None for tool in TARGETS[target]):
        pytest.skip(f"no {TARGETS[target]}")
    folder = built(packed[0], tmp_path / "made", "check", target)
    flags = "-std=c99 -O2 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"
    assert flags in (folder / "Makefile").read_text("utf-8")
    assert np.array_equal(np.loadtxt(folder / "answers.txt", dtype=np.int64), packed[1])


def test_a_package_and_a_check_of_its_run_have_the_same_budget_of_built_memory(
    packed: tuple[Path, NDArray[np.int32]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, mission = packed[0].parent / "run", str(Path(__file__).parents[3] / "examples" / "orbit" / "mission.toml")
    report = synthetic_run(images=300)[0]
    network = load_program(run / "program.h5").network_digest
    same = replace(report, digests={**report.digests, "network": network})
    (run / "report.json").write_text(report_text(same), "utf-8")
    campaign: dict[str, Any] = {
        "format": REPORT_FORMAT,
        "settings": {"program": load_program(run / "program.h5").digest},
        "kinds": {"image-level": {"upsets_per_day": 8.0}, "row-enable": {"upsets_per_day": 0.1}},
        "timeline": {"years": [3.0], "chips": 20, "images": 500, "scenarios": {"scrubbed": [{"low": 0.9}]}},
    }
    text = json.dumps({**campaign, "digests": {"report": report_digest(campaign)}})
    (tmp_path / "campaign.json").write_text(text, "utf-8")
    assert command(["mission", "check", str(run), mission, "--campaign", str(tmp_path), "--json"]) == 0
    checked = json.loads(capsys.readouterr().out)
    package = tmp_path / "made"
    assert command(["mission", "pack", str(run), mission, str(tmp_path), "-o", str(package), "--json"]) == 0
    types = ElementTree.parse(package / "telemetry.xml").iter(f"{XTCE}IntegerParameterType")
    limits = {
        kind.get("name"): [float(r.get("maxInclusive", "")) for r in kind.iter(f"{XTCE}WarningRange")] for kind in types
    }
    # once in 10,000 days a Poisson of 9 upsets, check bits too, passes 22, and one of 0.1 passes 3
    assert np.allclose([limits["mended_count"], limits["registers_count"]], [[22 / 86400], [3 / 86400]])
    assert limits["lost_count"] == limits["golden_count"] == limits["refused_count"] == [0.0]
    assert json.loads(capsys.readouterr().out)["budget"].items() <= checked.items()
    lines = {line["name"]: line for line in checked["lines"]}
    assert lines["host RAM"]["source"].startswith("built for the chip of the run by arm-none-eabi-gcc")
    assert 12_000 < lines["host RAM"]["value"] < 40_000


def test_the_network_needs_its_callbacks_and_string_h_alone_and_refuses_a_damaged_store(
    packed: tuple[Path, NDArray[np.int32]], tmp_path: Path
) -> None:
    folder = built(packed[0], tmp_path / "made")
    flight = [p for name in ("plan/*.o", "onboard/*.o", "network.o") for p in (folder / "build").glob(name)]
    flight += [folder / "build" / "core" / f"{name}.o" for name in FLIGHT]
    listed = subprocess.run(["nm", *flight], capture_output=True, text=True, check=True).stdout.splitlines()
    names = [line.split()[-2:] for line in listed if len(line.split()) > 1]
    beyond = {name for kind, name in names if kind == "U"} - {name for kind, name in names if kind != "U"}
    assert beyond <= {"memcpy", "memmove", "memset", "memcmp", "__stack_chk_fail"}
    source = folder / "network.c"
    source.write_text(source.read_text("utf-8").replace("0x4b50494c", "0x4b50494f"), "utf-8")
    subprocess.run(["make", "-C", folder], capture_output=True, check=True)
    assert (answered(folder).returncode, answered(folder).stdout) == (2, "")
    assert "refused: no whole network is stored" in answered(folder).stderr


@pytest.fixture(scope="module")
def flights(packed: tuple[Path, NDArray[np.int32]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with a program that puts faults into it (``flights.c``)."""
    folder = built(packed[0], tmp_path_factory.mktemp("flights") / "made")
    sizes = (folder / "sizes.mk").read_text("utf-8").partition("=")[2].split()
    objects = [path for path in (folder / "build").rglob("*.o") if path.name != "main.o"]
    words = ["gcc", "-std=c99", "-O2", *sizes, "-I.", "-Icore", "-Idie", "-o", "flights", FLIGHTS, *objects]
    subprocess.run(words, cwd=folder, check=True)
    return folder


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ("upsets 3000", "wrong 0 refused 0 struck 0 mended 3000 lost 0"),  # of stored words, one before each image
        ("registers 500", "wrong 0 refused 0 repeated 500"),  # a read under a wrong range, one in each image
        ("golden 500", "alarms 0 of 500, of a dead macro 1"),
        # two hours of a virtual clock, with a watchdog of 30 ms
        ("restarts 100", "restarts 100 images 762 wrong 0 late 0 watchdog 0"),
    ],
)
def test_code_read_back_golden_and_slices_do_in_c_what_they_promise(flights: Path, faults: str, said: str) -> None:
    asked = ["./flights", *faults.split()]
    assert subprocess.run(asked, cwd=flights, capture_output=True, text=True, check=True).stdout.strip() == said


def changed_groups(old: list[int], new: list[int]) -> dict[int, list[int]]:
    """An update from one slot to another: groups by number, the first always (``hil_update_begin``)."""
    groups = {at // GROUP: new[at : at + GROUP] for at in range(0, len(new), GROUP)}
    return {n: words for n, words in groups.items() if not n or words != old[n * GROUP : (n + 1) * GROUP]}


def test_power_that_fails_at_any_write_call_of_an_update_leaves_the_old_network_or_the_new_one(
    packed: tuple[Path, NDArray[np.int32]], flights: Path
) -> None:
    old = packed_run(packed[0].parent / "run")
    number, data = next(iter(old.layers.items()))
    layer = codec.decode(data).message
    assert isinstance(layer, LoadLayer)
    tuned = codec.encode(replace(layer, bias=layer.bias + 50))
    groups = changed_groups(store_words(old), store_words(replace(old, layers={**old.layers, number: tuned}), 2))
    update = np.array([[number, *words] for number, words in groups.items()], "<u4").tobytes()
    assert len(update) <= 3000
    (flights / "update.bin").write_bytes(update)
    said = subprocess.run(["./flights", "update"], cwd=flights, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"calls \d+ old [1-9]\d* new [1-9]\d* mixed 0 refused 0 differ 1\n", said)


def test_a_package_in_a_beam_reports_each_loop_in_64_bytes_with_a_sum(
    packed: tuple[Path, NDArray[np.int32]], tmp_path: Path
) -> None:
    asked = ["./payload", "--beam", "3"]
    said = subprocess.run(
        asked, cwd=built(packed[0], tmp_path / "beam"), capture_output=True, text=True, check=True
    ).stdout
    for loop, report in enumerate(map(bytes.fromhex, said.split()), 1):
        word, total = np.frombuffer(report, "<u4"), 0
        for byte in report[:-4]:
            total = (31 * total + byte) % 2**32
        assert (len(report), report[:4], word[1], word[-1]) == (64, b"BEAM", loop, total)
        assert word[2:6].tolist() == [0, 0, 0, 0]  # no alarm, mended or lost word, or repeated read without a beam
        assert word[6] <= 3 * loop  # of 32,768 cells few wander by an eighth of the window
    assert loop == 3


def test_telemetry_is_a_housekeeping_report_of_pus_that_its_description_decodes(
    packed: tuple[Path, NDArray[np.int32]], tmp_path: Path
) -> None:
    parser, folder = pytest.importorskip("space_packet_parser"), built(packed[0], tmp_path / "made")
    subprocess.run(["./payload", "images.bin", "sent.bin"], cwd=folder, capture_output=True, check=True)
    schema = Path(parser.__file__).parent / "xtce" / "schemas" / "SpaceSystem.xsd"
    assert parser.validate_xtce(folder / "telemetry.xml", local_xsd=schema).valid
    sent = list(parser.ccsds_generator((folder / "sent.bin").read_bytes()))
    assert [binascii.crc_hqx(packet, 0xFFFF) for packet in sent] == [0] * IMAGES
    found = [parser.load_xtce(folder / "telemetry.xml").parse_bytes(packet) for packet in sent]
    assert [(packet["service"], packet["subtype"], packet["apid"]) for packet in found] == [(3, 25, 42)] * IMAGES
    assert [(packet["images"], packet["sequence"]) for packet in found] == [(n + 1, n) for n in range(IMAGES)]
    assert {packet[name] for packet in found for name in ("refused", "golden", "mended", "lost", "registers")} == {0}


def test_the_same_run_gives_the_same_digest_and_a_folder_that_is_there_is_kept(
    packed: tuple[Path, NDArray[np.int32]], tmp_path: Path
) -> None:
    run = packed[0].parent / "run"
    first, second = (pack_run(run, tmp_path / name) for name in ("one", "two"))
    assert first.digest == second.digest
    assert (first.seed, first.images) == (SEED, IMAGES)
    with pytest.raises(UsageError, match="is there already"):
        pack_run(run, tmp_path / "one")


def test_a_run_on_another_chip_says_that_answers_differ_and_what_cannot_be_packed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(tmp_path / "run", EMULATED)
    assert "not the chip of the run" in "\n".join(pack_run(tmp_path / "run", tmp_path / "made").summary().lines())
    with open_chip(EMULATED, log=tmp_path / "wire.log") as driver:
        driver.read_cells(0)
    with pytest.raises(UsageError, match="did not run the network as a plan"):
        packed_run(tmp_path)
    monkeypatch.setattr(wire_log, "Mvm", ProgramTile)  # a log of before kept digests of all long requests
    run_of(tmp_path / "old", EMULATED)
    with pytest.raises(FileError, match="keeps a digest of request"):
        packed_run(tmp_path / "old")
