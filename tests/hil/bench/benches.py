"""Bench files for tests, with a chip file of a macro of 32 x 32 cells whose currents are measured to 16 bits."""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np

from cim.chip.spec import ChipSpec

_ANY = random.SystemRandom()  # tests that run beside each other are seeded alike
_BELOW_THOSE_GIVEN = range(20_000, 32_000)
BENCH = """\
format = "hil.bench"
version = "1.0"

[bench]
name = "row board"
chip = "macro-32.toml"
serial = "die 4"

[instruments.board]
model = "row-board"
port = "PORT"

[wiring]
rows_at_once = 1
columns_at_once = 32

[read]
averages = 1

[safety]
current_a = 5e-4
off_within_s = 0.5
"""


@dataclass
class StillClock:
    """Time of the cells behind a bench; a test or an order moves it, not the load of the machine."""

    at_ns: int = 0

    def now_ns(self) -> int:
        return self.at_ns

    def pause(self, seconds: float) -> None:
        self.at_ns += round(seconds * 1e9)


def between_readings_us(spec: ChipSpec, reads: int) -> float:
    """Five standard errors of the difference of two means of so many reads of one cell."""
    return float(5.0 * np.sqrt(2.0 * spec.sample["read_variance_us2"] / reads))


def chip_text(side: int = 32, macros: int = 1, **other: str) -> str:
    """lab-128 with macros of another size; ``other``: values of keys in TOML."""
    text = resources.files("cim").joinpath("chips", "lab-128.toml").read_text("utf-8")
    values = {
        "name": f'"macro-{side}"', "macros": str(macros), "rows": str(side), "columns": str(side),
        "rows_per_read": str(side), "shared_by": "1", **other,
    }  # fmt: skip
    for key, value in values.items():
        text, count = re.subn(
            rf"^{key} = {{ value = [^\n]*?, source", f"{key} = {{ value = {value}, source", text, count=1, flags=re.M
        )
        assert count == 1, key
    converters = 'bits = { value = 8, source = "borrowed from: 8-bit converters'
    assert converters in text
    return text.replace(converters, converters.replace("8", "16", 1))


def write_bench(folder: Path, *, port: str = "/dev/none", edit: dict[str, str] | None = None) -> Path:
    """A bench file and its chip file in a folder; ``edit``: texts of the bench file and what stands in their place."""
    (folder / "macro-32.toml").write_text(chip_text())
    text = BENCH.replace("PORT", port)
    for old, new in (edit or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "bench.toml"
    path.write_text(text)
    return path


ARC_TWO = """\
format = "hil.bench"
version = "1.0"

[bench]
name = "ArC TWO"
chip = "macro-32.toml"

[instruments.arc]
model = "arc-two"
port = "PORT"

[wiring]
rows_at_once = 1
columns_at_once = 16
rows = ROWS
columns = COLUMNS

[safety]
current_a = 5e-4
off_within_s = 0.5
without_compliance = true
"""
OPENMENA = """\
format = "hil.bench"
version = "1.0"

[bench]
name = "OpenMENA"
chip = "macro-8.toml"

[instruments.board]
model = "openmena"
port = "PORT"
baud = 115200

[wiring]
rows_at_once = 8
columns_at_once = 8

[safety]
current_a = 5e-4
off_within_s = 0.5
without_compliance = true
"""
SMU_ROLES = """
[instruments.decoder]
model = "row-board"
port = "BOARD"

[roles]
address = "decoder"
drive = "smu"
sense = "smu"
power = ["smu", "decoder"]

[wiring]"""


def write_smu_bench(folder: Path) -> Path:
    """The bench file of a B1500A behind the decoder of a row board, on pseudo-terminals."""
    edit = {
        "[instruments.board]": "[instruments.smu]",
        'model = "row-board"': 'model = "b1500a"',
        "columns_at_once = 32": "columns_at_once = 1",
        "\n[wiring]": SMU_ROLES.replace("BOARD", str(folder / "decoder")),
        "off_within_s = 0.5": "off_within_s = 5.0",
    }
    path = write_bench(folder, port=str(folder / "smu"), edit=edit)
    text = chip_text()  # pulses of a source-measure unit last half a millisecond at least
    for short, long in (("1000.0", "1000000.0"), ("10000.0", "10000000.0")):
        assert f"pulse_width_ns = {{ value = {short}," in text
        text = text.replace(f"pulse_width_ns = {{ value = {short},", f"pulse_width_ns = {{ value = {long},")
    (folder / "macro-32.toml").write_text(text)
    return path


STATION = """\
format = "hil.bench"
version = "1.0"

[bench]
name = "probe station"
chip = "macro-32.toml"
serial = "die 4"

[instruments.smu]
model = "SMU"
port = "visa:TCPIP0::127.0.0.1::PORT0::SOCKET"

[instruments.pulser]
model = "keysight-33500b"
port = "visa:TCPIP0::127.0.0.1::PORT1::SOCKET"

[instruments.switch]
model = "SWITCH"
port = "visa:TCPIP0::127.0.0.1::PORT2::SOCKET"

[roles]
address = "switch"
drive = ["smu", "pulser"]
sense = "smu"
power = ["smu", "pulser"]

[wiring]
rows_at_once = 1
columns_at_once = 1
rows = ROWS
columns = COLUMNS

[safety]
current_a = 5e-4
off_within_s = 0.5
"""
LOW_VOLTAGES = {  # a recipe within 1.4 V
    "set_start_v": "0.8", "set_step_v": "0.05", "set_stop_v": "1.35", "reset_start_v": "0.8", "reset_step_v": "0.05",
    "reset_stop_v": "1.35", "set_v": "1.4", "reset_v": "1.4",
}  # fmt: skip
CONTACTS = {  # crosspoints of a row of the matrix, by its letter and number, with column n
    "keithley-707b": "1{letter}{n:02d}",
    "keithley-3706a": "1{number}{n:03d}",
    "keithley-7001": "1!{number}!{n}",
}


def write_arc_two(folder: Path) -> Path:
    """The bench file of an ArC TWO, at a port of this machine where its stand-in is to be."""
    (folder / "macro-32.toml").write_text(chip_text())
    path = folder / "arc.toml"
    lines = {"ROWS": [*range(16), *range(32, 48)], "COLUMNS": [*range(16, 32), *range(48, 64)]}
    text = ARC_TWO.replace("PORT", f"tcp://127.0.0.1:{free_ports(1)[0]}")
    for name, channels in lines.items():
        text = text.replace(name, str(channels))
    path.write_text(text)
    return path


def write_openmena(folder: Path) -> Path:
    """The bench file of an OpenMENA behind a pseudo-terminal, before 8 x 8 cells."""
    (folder / "macro-8.toml").write_text(chip_text(8, 1, **LOW_VOLTAGES))
    path = folder / "openmena.toml"
    path.write_text(OPENMENA.replace("PORT", str(folder / "board")))
    return path


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nobody listens, below those that a system gives to whoever asks for any.

    A stand-in listens a second after its port was written down: by then some line may have taken one of the others.
    """
    found: list[int] = []
    while len(found) < count:
        port = _ANY.choice(_BELOW_THOSE_GIVEN)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found += [port] if port not in found else []
    return found


def write_station(folder: Path, *, smu: str, switch: str, current_a: str = "5e-4") -> Path:
    """The bench file of a source-measure unit, a pulse generator and a switch; without one the unit with a decoder."""
    (folder / "macro-32.toml").write_text(chip_text())
    text = STATION.replace("current_a = 5e-4", f"current_a = {current_a}").replace('"SMU"', f'"{smu}"')
    if switch:
        of_rows, of_columns = (
            json.dumps([CONTACTS[switch].format(letter=letter, number=number, n=first + n) for n in range(32)])
            for letter, number, first in (("A", 1, 1), ("E", 5, 33))
        )
        text = text.replace("ROWS", of_rows).replace("COLUMNS", of_columns).replace('"SWITCH"', f'"{switch}"')
    else:
        text = re.sub(r"\[instruments.switch\].*?\n\n", "", text, flags=re.S).replace('"switch"', '"smu"')
        text = text.replace("ROWS", "{ first = 0 }").replace("COLUMNS", "{ first = 0 }")
        text = text.replace("columns_at_once = 1", "columns_at_once = 32")
    for number, port in enumerate(free_ports(3)):
        text = text.replace(f"PORT{number}", str(port))
    path = folder / "bench.toml"
    path.write_text(text)
    return path


def _row_board(folder: Path) -> Path:
    return write_bench(folder, port=f"tcp://127.0.0.1:{free_ports(1)[0]}")


def _behind_decoder(folder: Path) -> Path:
    """A B1500A on a VISA socket, and its decoder on another."""
    path, (smu, decoder) = write_smu_bench(folder), free_ports(2)
    text = path.read_text().replace(str(folder / "smu"), f"visa:TCPIP0::127.0.0.1::{smu}::SOCKET")
    path.write_text(text.replace(str(folder / "decoder"), f"tcp://127.0.0.1:{decoder}"))
    return path


def write_source(folder: Path, *, model: str) -> Path:
    """The bench file of one instrument that reads and pulses, behind a switch."""
    path = write_station(folder, smu=model, switch="keithley-707b")
    text = re.sub(r"\[instruments.pulser\].*?\n\n", "", path.read_text(), flags=re.S)
    text = text.replace('["smu", "pulser"]', '"smu"')
    text = text.replace("off_within_s = 0.5", "off_within_s = 0.5\nwithout_compliance = true")
    path.write_text(text)
    return path


WRITTEN: Mapping[str, Callable[[Path], Path]] = {  # bench files of each family, on ports of this machine
    "row-board": _row_board,
    "b1500a": _behind_decoder,
    "visa-station": partial(write_station, smu="keithley-2400", switch="keithley-707b"),
    "keithley-2450": partial(write_station, smu="keithley-2450", switch="keithley-3706a"),
    "keithley-2450-3706a": partial(write_station, smu="keithley-2450-3706a", switch=""),
    "keithley-2600": partial(write_station, smu="keithley-2600", switch=""),
    "keithley-4200a": partial(write_station, smu="keithley-4200a", switch="keithley-707b"),
    "keithley-4200a-pmu": partial(write_source, model="keithley-4200a-pmu"),
    "keysight-b2900": partial(write_station, smu="keysight-b2900", switch="keithley-7001"),
    "yokogawa-gs610": partial(write_station, smu="yokogawa-gs610", switch="keithley-7001"),
    "arc-two": write_arc_two,
    "openmena": write_openmena,
}
