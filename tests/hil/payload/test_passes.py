"""Passes: files that end with the same bytes, an update alone, commands, XTCE, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as xml

import numpy as np
import pytest

pytest.importorskip("spacepackets")

from cim.chip.file import load_chip
from hil.cli import run as command
from hil.errors import FileError, LinkError, MismatchError, NotAuthorised, UsageError
from hil.payload.facts_file import FactsFileError
from hil.payload.passes.cfdp import FileReceiver, FileSender, Transaction
from hil.payload.passes.commands import (
    CHIP_MESSAGE,
    TAKE_PROGRAM,
    TAKE_UPDATE,
    FlightComputer,
    function_call,
    ping,
    read_telemetry,
)
from hil.payload.passes.flight_image import flight_program, load_image, pack_image
from hil.payload.passes.interruptions import interrupt
from hil.payload.passes.transfer import plan_transfer, run_transfer
from hil.payload.passes.update import apply_update, pack_update
from hil.payload.passes.windows import ContactWindow, load_passes
from hil.payload.passes.xtce import write_xtce
from hil.payload.radiation.run import FaultContext
from hil.payload.settings import LinkFigures
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import program_digest, save_program
from mapping.tune.channel_affine import tune_channels, tune_targets

from ..fitting import every_answer_fits as every_answer_fits

CLEAN = LinkFigures(64_000, 256_000)
ROUGH = LinkFigures(64_000, 64_000, bit_errors=1e-5, delay_s=0.5, bus_delay_s=0.2, lost_share=0.02, reordered_share=0.1)
DATA = np.random.default_rng(0).integers(0, 256, 20_000, dtype=np.uint8).tobytes()


def windows(*seconds: float) -> tuple[ContactWindow, ...]:
    return tuple(ContactWindow(5600.0 * i, 5600.0 * i + s) for i, s in enumerate(seconds))


@pytest.fixture(scope="module")
def tuned(program: ConductanceProgram, bench: FaultContext) -> ConductanceProgram:
    """The program tuned to a virtual chip."""
    targets = tune_targets(program, program.calibration_images)
    return tune_channels(program, targets, bench.virtual).program


@pytest.mark.parametrize("figures", [CLEAN, ROUGH, replace(ROUGH, bit_errors=1e-4, delay_s=5.0)])
@pytest.mark.parametrize("up", [True, False])
def test_a_file_resumes_over_passes_and_has_the_same_digest(figures: LinkFigures, up: bool) -> None:
    contact = windows(2.0, 14.0, 1.0, 12.0, 300.0, 300.0)
    plan = plan_transfer("file", len(DATA), contact, figures, up=up)
    done = run_transfer(plan, DATA, contact, figures, seed=3, up=up)
    assert done.identical
    assert plan.passes is not None
    assert done.passes <= plan.passes <= done.passes + 1


def test_bytes_are_identical_after_thirty_random_interruptions(program: ConductanceProgram) -> None:
    found = interrupt(pack_image(flight_program(program)), 30, seed=1)
    assert found.identical
    assert found.ended_passes + found.restarts >= 30
    assert found.ended_passes > 0
    assert found.restarts > 0


def test_passes_that_end_too_early_are_an_error_with_what_is_there() -> None:
    plan = plan_transfer("file", len(DATA), windows(0.5), CLEAN)
    assert plan.passes is None
    with pytest.raises(LinkError, match=r"end with .* of 20,000 bytes"):
        run_transfer(plan, DATA, windows(0.5), CLEAN, seed=0)


@pytest.mark.parametrize("figures", [{"bit_errors": 0.5}, {"delay_s": 6.0}, {"lost_share": 1.0}, {"up_bit_per_s": 0.0}])
def test_a_link_that_cannot_be_is_refused(figures: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        replace(CLEAN, **figures)


def test_a_receiver_takes_no_file_above_its_size_and_no_foreign_packet() -> None:
    transaction = Transaction(1, 2, 7)
    receiver = FileReceiver(transaction, 1.0, most_bytes=1000)
    sender = FileSender(transaction, "file", DATA, 1.0)
    other = FileSender(Transaction(1, 2, 8), "file", DATA[:100], 1.0)
    for _ in range(60):
        for packet in (sender.next_packet(0.0), other.next_packet(0.0), b"\x00" * 40):
            if packet:
                receiver.take(packet, 0.0)
    assert not receiver.complete
    assert "20,000 bytes, over 1,000" in receiver.refused
    assert len(receiver.data) <= 1000
    with pytest.raises(FileError, match="damaged"):
        FileReceiver.restore(receiver.snapshot()[:-1])


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


def test_an_update_gives_both_sides_the_same_program_that_answers_as_the_tuned_one(
    program: ConductanceProgram, tuned: ConductanceProgram, bench: FaultContext
) -> None:
    update = pack_update(program, tuned, 5)
    made, counter = apply_update(program, update, 4)
    assert counter == 5
    assert len(update) < 200
    assert made.held_digest == program.held_digest
    assert made.digest == apply_update(program, update, 0)[0].digest
    pixels = program.calibration_images
    wanted, found = (run(p, pixels, bench.virtual).astype(np.float64) for p in (tuned, made))
    assert np.abs(wanted - found).max() < 0.02 * np.abs(wanted).max()


def test_an_expired_counter_a_truncated_or_a_foreign_update_is_refused(
    program: ConductanceProgram, tuned: ConductanceProgram
) -> None:
    update = pack_update(program, tuned, 5)
    with pytest.raises(NotAuthorised, match="counter 5, 5 was applied"):
        apply_update(program, update, 5)
    with pytest.raises(FileError, match="truncated"):
        apply_update(program, update[:-3], 0)
    with pytest.raises(FileError, match="checksum"):
        apply_update(program, update[:50] + b"x" + update[51:], 0)
    with pytest.raises(MismatchError, match="on board"):
        apply_update(tuned, update, 0)
    with pytest.raises(MismatchError, match="other gains"):
        pack_update(program, replace(tuned, held_as="0" * 64), 1)


def test_the_flight_computer_verifies_commands_and_keeps_what_it_had_when_it_refuses(
    program: ConductanceProgram, tuned: ConductanceProgram
) -> None:
    board = FlightComputer(program.spec, chip=lambda message: message[::-1])
    flying = flight_program(program)

    def answers(packet: bytes) -> list[tuple[int, int, bytes]]:
        return [(t.service, t.subservice, t.content) for t in map(read_telemetry, board.take(packet))]

    assert [a[:2] for a in answers(ping(1))] == [(1, 1), (17, 2), (1, 7)]
    assert answers(function_call(CHIP_MESSAGE, b"abc", 2))[1] == (8, 129, b"cba")
    assert [a[:2] for a in answers(function_call(99, b"", 3))] == [(1, 2)]
    assert answers(b"\x00" * 20) == []
    assert [a[:2] for a in answers(function_call(TAKE_UPDATE, b"u", 4))] == [(1, 1), (1, 8), (5, 3)]
    for name, data in (
        ("p", pack_image(flying)),
        ("broken", pack_image(flying)[:-9]),
        ("u", pack_update(flying, tuned, 1)),
    ):
        board.keep(name, data)
    assert answers(function_call(TAKE_PROGRAM, b"p", 5))[-1][:2] == (1, 7)
    assert answers(function_call(TAKE_UPDATE, b"u", 6))[-1][:2] == (1, 7)
    held = board.program
    assert answers(function_call(TAKE_PROGRAM, b"broken", 7))[1][2][-1] == 1
    assert answers(function_call(TAKE_UPDATE, b"u", 8))[1][2][-1] == 3  # an expired counter
    assert board.program is held
    with pytest.raises(FileError, match="no telemetry"):
        read_telemetry(b"abc")


def test_an_upset_bit_of_a_file_on_board_is_mended_and_two_in_a_word_are_refused(program: ConductanceProgram) -> None:
    board, flying = FlightComputer(program.spec), flight_program(program)
    board.keep("p", pack_image(flying))
    board.files["p"] = board.files["p"].struck(np.array([5, 700, board.files["p"].bits - 1]))
    answers = [read_telemetry(packet) for packet in board.take(function_call(TAKE_PROGRAM, b"p", 1))]
    assert (answers[-1].service, answers[-1].subservice) == (1, 7)
    assert board.program is not None
    assert board.program.digest == flying.digest
    assert board.alarms == 3
    assert board.file("p") == pack_image(flying)
    assert board.alarms == 3  # it was written back whole
    board.files["p"] = board.files["p"].struck(np.array([5, 6]))
    answers = [read_telemetry(packet) for packet in board.take(function_call(TAKE_PROGRAM, b"p", 2))]
    assert (answers[1].service, answers[1].subservice, answers[1].content[-1]) == (1, 8, 1)
    assert board.program.digest == flying.digest


def test_telemetry_is_read_back_by_space_packet_parser(program: ConductanceProgram, tmp_path: Path) -> None:
    parser = pytest.importorskip("space_packet_parser")
    write_xtce(tmp_path / "hil.xml")
    definition = parser.load_xtce(tmp_path / "hil.xml")
    board = FlightComputer(program.spec, temperature_c=-3.25, images=77, program=program)
    found = definition.parse_bytes(board.housekeeping())
    assert (found["SERVICE"], found["SUBSERVICE"], found["IMAGES"]) == (3, 25, 77)
    assert found["TEMPERATURE_CENTI_C"] == -325
    assert int(found["PROGRAM_DIGEST"]) == int(program.digest[:16], 16)
    for packet in board.take(ping(9)):
        assert definition.parse_bytes(packet)["SERVICE"] == read_telemetry(packet).service


def test_commands_are_read_back_by_space_packet_parser_with_their_content(tmp_path: Path) -> None:
    parser = pytest.importorskip("space_packet_parser")
    write_xtce(tmp_path / "hil.xml")
    definition = parser.load_xtce(tmp_path / "hil.xml")
    found = definition.parse_bytes(ping(9))
    assert (found["TYPE"], found["SERVICE"], found["SUBSERVICE"]) == (1, 17, 1)
    for number, content in ((TAKE_PROGRAM, b"program.hilf"), (TAKE_UPDATE, b"u"), (CHIP_MESSAGE, bytes(range(200)))):
        found = definition.parse_bytes(function_call(number, content, 3))
        assert (found["SERVICE"], found["SUBSERVICE"], found["FUNCTION"]) == (8, 1, number)
        assert bytes(found["CONTENT"]) == content


def test_a_ground_system_that_fills_in_the_command_definitions_makes_the_same_bytes(tmp_path: Path) -> None:
    write_xtce(tmp_path / "hil.xml")
    space = {"x": "http://www.omg.org/spec/XTCE/20180204"}
    metas = xml.parse(tmp_path / "hil.xml").getroot().findall(".//x:MetaCommand", space)
    assert {meta.get("name") for meta in metas} == {"AreYouThere", "TakeProgram", "TakeUpdate", "ChipMessage"}
    for meta, sent in ((metas[0], ping(5)), (metas[1], function_call(TAKE_PROGRAM, b"p.hilf", 5))):
        fixed = meta.find(".//x:FixedValueEntry", space)
        assert fixed is not None
        filled = bytes.fromhex(fixed.get("binaryValue", ""))
        filled += b"p.hilf" if meta.find(".//x:ArgumentRefEntry", space) is not None else b""
        assert sent[6:-2] == filled


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


def test_the_command_sends_everything_and_ends_with_identical_digests(
    program: ConductanceProgram, tuned: ConductanceProgram, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_program(program, tmp_path / "program.h5")
    save_program(tuned, tmp_path / "tuned.h5")
    (tmp_path / "passes.csv").write_text("start,end\n0,3\n100,103\n200,260\n", "utf-8")
    asked = ["mission", "passes", str(tmp_path / "program.h5"), "--passes", str(tmp_path / "passes.csv")]
    options = ["--tuned", str(tmp_path / "tuned.h5"), "--dump", "20000", "--ber", "1e-5", "--rate", "16k", "--json"]
    assert command([*asked, *options, "--xtce", str(tmp_path / "hil.xml")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["identical"]
    assert [t["name"] for t in found["transfers"]] == ["program.hilf", "update.hilu", "telemetry.bin"]
    assert found["ground_digest"] == found["board_digest"]
    assert (tmp_path / "hil.xml").exists()
    assert command([*asked, "--rate", "fast"]) == 2
