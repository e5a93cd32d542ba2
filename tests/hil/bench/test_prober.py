"""`hil bench move`: a prober goes to another die while no output is on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.cli import run
from hil.emulator.chip import EmulatedChip
from hil.errors import ExitCode
from hil.server.bench.bench_file import load_bench
from hil.server.bench.stand_in_serve import bench_served
from tests.hil.bench.benches import behind_needles, free_ports, write_bench

PROBER = """\
format = "hil.instrument"
version = "1.0"

[instrument]
name = "prober"
identity = "PROBER"
source = "made up"

[link]
form = "lines"

[off]
by_itself = "its chuck stays; it drives nothing"
settle_s = 0.0
no_error = "none"

[orders.identity]
send = "ID?"
reply = { form = "text" }

[orders.errors]
send = "ERR?"
reply = { form = "text" }

[orders.off]
send = "SEPARATE"

[orders.move]
send = "SEPARATE;DIE {die_x:.0f} {die_y:.0f};CONTACT;DONE?"
reply = { form = "text" }
"""


@contextmanager
def moved(folder: Path, error: str = "none") -> Iterator[tuple[Path, list[str]]]:
    """A bench with a prober that reports an error once it moved: its file, and the lines that the prober is sent."""
    lines, errors = list[str](), [error]
    port = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    (folder / "board").mkdir()
    board = load_bench(write_bench(folder / "board", port=port))  # the prober is another program
    (folder / "prober.toml").write_text(PROBER)

    def answer(line: str) -> str:
        if line == "ERR?":
            return errors.pop() if errors and any("DIE" in sent for sent in lines) else "none"
        return "PROBER" if line == "ID?" else "done"

    def serve() -> None:
        client, _ = listener.accept()
        with client, client.makefile("r") as sent:
            for line in map(str.strip, sent):
                lines.append(line)
                if line.endswith("?"):
                    client.sendall(f"{answer(line)}\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as listener, bench_served(board, EmulatedChip(board.chip, 7)):
        threading.Thread(target=serve, daemon=True).start()
        tables = behind_needles("prober.toml", f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        yield write_bench(folder, port=port, edit={"\n[wiring]": f"{tables}\n[wiring]"}), lines


def test_a_prober_moves_to_a_die_with_outputs_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with moved(tmp_path) as (path, lines):
        assert run(["bench", "move", str(path), "3", "4"]) == 0
    assert "SEPARATE;DIE 3 4;CONTACT;DONE?" in lines
    assert "die 3, 4, outputs off" in capsys.readouterr().out


def test_an_error_of_the_prober_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with moved(tmp_path, "no such die") as (path, _):
        assert run(["bench", "move", str(path), "99", "4"]) == ExitCode.DEVICE
    assert "no such die when it moved" in capsys.readouterr().err


def test_a_bench_without_a_prober_moves_nothing(tmp_path: Path) -> None:
    board = load_bench(path := write_bench(tmp_path, port=str(tmp_path / "line")))
    with bench_served(board, EmulatedChip(board.chip, 7)):
        assert run(["bench", "move", str(path), "3", "4"]) == ExitCode.USAGE
