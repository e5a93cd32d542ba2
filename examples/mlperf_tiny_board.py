"""A board for the runner of MLPerf Tiny: its text commands on a pseudo-terminal, a network on a CIM chip behind them.

    python examples/mlperf_tiny_board.py ic_resnet8_int8.tflite --data cifar10 --address emulated:lab-128?seed=7

prints the terminal's path once the chip holds the network (``docs/ci.md``). Commands end in ``%``,
answers are lines of which the last is ``m-ready``: ``name``, ``profile``, ``timestamp``, ``db load N``, ``db HEX``,
``db print``, ``infer N W``, ``results``, ``help``. They are those of benchmark/api in https://github.com/mlcommons/tiny.

Bytes of ``db`` are the pixels of one image, row by row, RGB. ``infer`` runs it on the chip; ``results`` are
probabilities. Times (``m-lap-us``) are those of the chip's clock: what the array does, without the host's share.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import re
import select
import sys
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cim.chip.file import load_chip
from cim.record.file import load_record
from hil.calibration.procedure import calibrate
from hil.deployment.deploy import DeployOptions, write_whole
from hil.deployment.network_source import open_network
from hil.deployment.options import NetworkOptions
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import open_chip
from hil.watch import Watch
from mapping.compile import LayoutOptions, compile_network
from mapping.operators.norms import SoftmaxStep
from mapping.program.conductance import ConductanceProgram
from mapping.program.training_inputs import training_inputs
from mapping.quantise.weight_scales import ScaleRule

Reals = NDArray[np.float64]
COMMAND_BYTES = 80  # most of one command, as EE_CMD_SIZE
MOST_INFERENCES = 100_000  # of one command
FIRMWARE = "rram-hil MLPerf Tiny board"
HELP = (
    "name, profile, timestamp, help",
    "db load N      : expect N bytes",
    "db HH[HH]*     : next bytes, hexadecimal",
    "db print       : the bytes so far",
    "infer N [W=10] : N inferences after W to warm up",
    "results        : the last result",
)


class TextBoard:
    """The commands of the suite's text interface, one board: a buffer of one input and a network behind it.

    Args:
        model: what the runner looks its script up by: ``ic01``, ``kws01``, ``vww01``, ``ad01``.
        input_bytes: of one input.
        infer: results of one input (bytes), called once an inference.
        now_us: the board's clock.
    """

    def __init__(
        self,
        model: str,
        input_bytes: int,
        infer: Callable[[bytes], Reals],
        now_us: Callable[[], int],
        vendor: str = "rram-hil",
    ) -> None:
        self.model, self.input_bytes, self.vendor = model, input_bytes, vendor
        self._infer, self._now_us = infer, now_us
        self._waiting = bytearray()
        self._buffer, self._expected = bytearray(), 0
        self._results: Reals | None = None
        self._overlong = False

    def feed(self, data: bytes) -> Iterator[str]:
        """Take bytes of the line as they come; gives lines of answers, without their ends, one after the other."""
        for byte in data:
            if byte != ord("%"):
                if byte not in b"\r\n\0":
                    self._overlong |= len(self._waiting) >= COMMAND_BYTES
                    if not self._overlong:
                        self._waiting.append(byte)
                continue
            text, overlong = self._waiting.decode("ascii", "replace"), self._overlong
            self._waiting.clear()
            self._overlong = False
            if overlong:
                yield f"e-[Command longer than {COMMAND_BYTES} bytes]"
            else:
                yield from self._answer(text.split())
            yield "m-ready"

    def _answer(self, words: list[str]) -> Iterator[str]:
        match words:
            case ["name"]:
                yield f"m-name-dut-[{self.vendor}]"
            case ["profile"]:
                yield f"m-profile-[{FIRMWARE}]"
                yield f"m-model-[{self.model}]"
            case ["timestamp"]:
                yield self._lap()
            case ["help"]:
                yield from HELP
            case ["db", *rest]:
                yield from self._bytes(rest)
            case ["infer", *numbers] if len(numbers) <= 2:
                yield from self._inferences(numbers)
            case ["results"]:
                yield self._said() if self._results is not None else "e-[No inference yet]"
            case _:
                yield f"e-[Unknown command: {printable(' '.join(words))}]"

    def _bytes(self, words: list[str]) -> Iterator[str]:
        match words:
            case []:
                yield "e-[Command 'db' requires a subcommand]"
            case ["load", count] if count.isdecimal():
                if int(count) != self.input_bytes:
                    yield f"e-[{int(count)} bytes, an input has {self.input_bytes}]"
                    return
                self._buffer.clear()
                self._expected = int(count)
                yield f"m-[Expecting {self._expected} bytes]"
            case ["load", *_]:
                yield "e-[Command 'db load' requires the # of bytes]"
            case ["print"]:
                for at in range(0, len(self._buffer), 8):
                    yield "m-buffer-" + self._buffer[at : at + 8].hex("-")
            case [digits] if not re.fullmatch(r"(?:[0-9a-fA-F]{2})+", digits):
                yield "e-[Hexadecimal digits in pairs are expected]"
            case [digits]:
                if not self._expected:
                    yield "e-[No 'db load' before]"
                    return
                room = self._expected - len(self._buffer)
                self._buffer += bytes.fromhex(digits)[:room]
                if room > 0 and len(self._buffer) == self._expected:
                    yield "m-load-done"
            case _:
                yield "e-[Command 'db' takes one subcommand]"

    def _inferences(self, numbers: list[str]) -> Iterator[str]:
        if not all(n.isdecimal() and int(n) <= MOST_INFERENCES for n in numbers) or (numbers and not int(numbers[0])):
            yield f"e-[Inferences from 1 to {MOST_INFERENCES}, those to warm up from 0]"
            return
        if not self._expected or len(self._buffer) < self._expected:
            yield f"e-[{len(self._buffer)} of {self.input_bytes} bytes are loaded]"
            return
        count, warm = (int(n) for n in [*numbers, *("1", "10")[len(numbers) :]])
        image = bytes(self._buffer)
        yield f"m-warmup-start-{warm}"
        for _ in range(warm):
            self._infer(image)
        yield "m-warmup-done"
        yield f"m-infer-start-{count}"
        yield self._lap()
        for _ in range(count):
            self._results = self._infer(image)
        yield self._lap()
        yield "m-infer-done"
        yield self._said()

    def _lap(self) -> str:
        return f"m-lap-us-{self._now_us()}"

    def _said(self) -> str:
        assert self._results is not None
        return "m-results-[" + ",".join(f"{value:.3f}" for value in self._results) + "]"


def printable(text: str) -> str:
    """``text`` as one short line of ASCII without the signs of an answer's end."""
    return re.sub(r"[^ -~]|[\[\]%]", "?", text)[:COMMAND_BYTES]


def serve(board: TextBoard, ready: Callable[[str], None], stop: Callable[[], bool] = lambda: False) -> None:
    """Answer on a new pseudo-terminal until Ctrl-C, or until ``stop`` says so; ``ready`` gets its path."""
    master, slave = os.openpty()
    try:
        tty.setraw(slave)  # it stays open here, so that clients may come and go
        ready(os.ttyname(slave))
        while not stop():
            if not select.select([master], [], [], 0.1)[0]:
                continue
            for line in board.feed(os.read(master, 4096)):
                rest = memoryview(f"{line}\r\n".encode("ascii"))
                while rest:
                    rest = rest[os.write(master, rest) :]
    finally:
        os.close(master)
        os.close(slave)


def answering(driver: ChipDriver, program: ConductanceProgram, given: argparse.Namespace) -> Callable[[bytes], Reals]:
    """Write the network on the chip, correct and tune it; gives the function from pixels to probabilities."""
    watch, options = Watch(), DeployOptions(repeats=1, causes=False)
    if given.calibration:
        record = load_record(given.calibration)
    else:
        record = calibrate(driver, program.macros, age_s=options.age_s, watch=watch)
    recipe = options.recipe_of(program)
    program = recipe.prepared(program, record, watch)
    inputs, targets, first = training_inputs(program), recipe.targets(program, watch), program.calibration_images[:2]
    whole = write_whole(driver, program, record, inputs, targets, first, options, watch, force=True)
    channels, height, width = program.input.shape
    last = program.steps[-1]
    scale, done = float(program.scales[last.name]), any(isinstance(s, SoftmaxStep) for s in program.steps[-2:])
    numbers = itertools.count()

    def infer(data: bytes) -> Reals:
        image = np.frombuffer(data, np.uint8).reshape(1, height, width, channels)
        values = whole.measure(image, next(numbers), watch)[0, 0] * scale
        raised = values if done else np.exp(values - values.max())
        return np.asarray(raised / raised.sum())

    return infer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, help="net.pt, model.tflite or model.onnx")
    parser.add_argument("--address", default="emulated:lab-128?seed=7", help="as hil deploy --port")
    parser.add_argument("--chip", default="lab-128")
    parser.add_argument("--macros", type=int)
    parser.add_argument("--data", default="cifar10", help="whose training images choose ranges, for TFLite and ONNX")
    parser.add_argument("--calibration", type=Path, help="record of this chip; default: it is measured")
    parser.add_argument("--residual-slices", type=int, default=0, metavar="N", help="as hil deploy; default: 0")
    parser.add_argument("--model", default="ic01", help="the suite's name of the task")
    given = parser.parse_args()
    network = open_network(given.network, NetworkOptions(data=given.data))
    layout = LayoutOptions(residual=given.residual_slices)
    spec = load_chip(given.chip, macros=given.macros)
    program = compile_network(network, spec, scale_rule=ScaleRule.OUTPUT, options=layout)
    with open_chip(given.address, chip=program.spec) as driver:
        infer = answering(driver, program, given)
        board = TextBoard(given.model, math.prod(program.input.shape), infer, lambda: driver.chip_time_ns // 1000)
        try:
            serve(board, lambda path: print(f"{driver.description.kind} chip, text interface on {path}", flush=True))
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
