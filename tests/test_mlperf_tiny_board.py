"""The text commands of MLPerf Tiny's runner, over a pseudo-terminal."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import serial
from numpy.typing import NDArray

from cim.chip.file import load_chip
from mapping.compile import compile_network
from mapping.network.file import load_network
from mapping.program.execute import IdealMultiply, run
from mapping.quantise.weight_scales import ScaleRule

from .hil.small_net import write_files
from .scripts import loaded

PATH = Path(__file__).parent.parent / "examples" / "mlperf_tiny_board.py"
INPUT_BYTES = 12
Ask = Callable[[str], list[str]]


example = loaded(PATH)


def shares(data: bytes) -> NDArray[np.float64]:
    """Stands for a network: how often each of three pixel values comes."""
    return np.bincount(np.frombuffer(data, np.uint8), minlength=3)[:3] / len(data)


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Sends one command to a board served on a pseudo-terminal; gives the lines up to ``m-ready``."""
    times = iter(range(0, 10**9, 250))
    board = example.TextBoard("ic01", INPUT_BYTES, shares, lambda: next(times))
    path: queue.Queue[str] = queue.Queue()
    done = threading.Event()
    thread = threading.Thread(target=example.serve, args=(board, path.put, done.is_set), daemon=True)
    thread.start()
    with serial.Serial(path.get(timeout=600), 115200, timeout=600) as port:

        def send(command: str) -> list[str]:
            port.write(f"{command}%".encode())
            lines: list[str] = []
            while not lines or lines[-1] != "m-ready":
                line = port.readline()
                assert line.endswith(b"\r\n"), (command, lines, line)
                lines.append(line.decode().strip())
            return lines[:-1]

        yield send
    done.set()
    thread.join(timeout=600)


def loaded(ask: Ask, data: bytes, at_once: int = 5) -> list[str]:
    lines = ask(f"db load {len(data)}")
    for at in range(0, len(data), at_once):
        lines += ask(f"db {data[at : at + at_once].hex()}")
    return lines


def test_a_board_says_who_it_is(ask: Ask) -> None:
    assert ask("name") == ["m-name-dut-[rram-hil]"]
    assert ask("profile") == ["m-profile-[rram-hil MLPerf Tiny board]", "m-model-[ic01]"]
    assert ask("timestamp") == ["m-lap-us-0"]
    assert any("infer N" in line for line in ask("help"))


def test_an_image_goes_in_by_hexadecimal_pieces_and_its_results_come_back(ask: Ask) -> None:
    assert loaded(ask, bytes([0, 1, 1, 2] * 3)) == [f"m-[Expecting {INPUT_BYTES} bytes]", "m-load-done"]
    assert ask("db print") == ["m-buffer-00-01-01-02-00-01-01-02", "m-buffer-00-01-01-02"]
    assert ask("infer 2 0") == [
        "m-warmup-start-0", "m-warmup-done", "m-infer-start-2", "m-lap-us-0", "m-lap-us-250", "m-infer-done",
        "m-results-[0.250,0.500,0.250]",
    ]  # fmt: skip
    assert ask("results") == ["m-results-[0.250,0.500,0.250]"]


def test_a_second_image_replaces_the_first(ask: Ask) -> None:
    loaded(ask, bytes(INPUT_BYTES))
    ask("infer 1 0")
    loaded(ask, bytes([2] * INPUT_BYTES))
    assert ask("infer 1")[0] == "m-warmup-start-10"
    assert ask("results") == ["m-results-[0.000,0.000,1.000]"]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("fly", "Unknown command: fly"),
        ("", "Unknown command: "),
        ("db", "requires a subcommand"),
        ("db load", "requires the # of bytes"),
        ("db load 99999999999", f"an input has {INPUT_BYTES}"),
        ("db load 0", f"an input has {INPUT_BYTES}"),
        ("db 00", "No 'db load' before"),
        ("db 0", "Hexadecimal digits in pairs"),
        ("db zz", "Hexadecimal digits in pairs"),
        ("infer 1", f"0 of {INPUT_BYTES} bytes are loaded"),
        ("infer 0", "Inferences from 1"),
        ("infer -3", "Inferences from 1"),
        ("infer 999999999", "Inferences from 1"),
        ("results", "No inference yet"),
        ("x" * 500, "longer than 80 bytes"),
        ("m-ready]\x1b[2J", r"Unknown command: m-ready???2J"),
    ],
)
def test_what_is_no_command_gets_an_error_and_the_board_goes_on(ask: Ask, command: str, error: str) -> None:
    (line,) = ask(command)
    assert line.startswith("e-[")
    assert error in line
    assert ask("name") == ["m-name-dut-[rram-hil]"]


def test_bytes_beyond_an_input_are_left_out(ask: Ask) -> None:
    ask(f"db load {INPUT_BYTES}")
    assert ask("db " + "01" * (INPUT_BYTES + 5)) == ["m-load-done"]
    assert ask("db 02") == []
    ask("infer 1 0")
    assert ask("results") == ["m-results-[0.000,1.000,0.000]"]


def test_the_example_puts_a_network_on_a_chip_and_answers_with_its_probabilities(tmp_path: Path) -> None:
    net, _ = write_files(tmp_path)
    program = compile_network(load_network(net), load_chip("lab-128", macros=4), scale_rule=ScaleRule.OUTPUT)
    image = program.calibration_images[:1]
    logits = run(program, image, IdealMultiply(program))[0] * float(program.scales[program.steps[-1].name])
    expected = np.exp(logits) / np.exp(logits).sum()
    line = [sys.executable, str(PATH), str(net), "--address", "emulated:lab-128?seed=7&macros=4", "--macros", "4"]
    with subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as board:
        try:
            assert board.stdout is not None
            said = board.stdout.readline()
            assert said.startswith("emulated chip, text interface on /dev/")
            with serial.Serial(said.split()[-1], 115200, timeout=600) as port:
                pieces = "".join(f"db {image.tobytes()[at : at + 31].hex()}%" for at in range(0, image.size, 31))
                port.write(f"db load {image.size}%{pieces}infer 1 0%".encode())
                found = next(text for text in iter(lambda: port.readline().decode(), "") if "m-results" in text)
        finally:
            board.terminate()
    values = [float(v) for v in found.split("[")[1].split("]")[0].split(",")]
    assert np.abs(np.array(values) - expected).max() < 0.3
