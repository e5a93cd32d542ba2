"""A bench file is checked before anything is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.server.bench.bench_file import load_bench
from hil.server.bench.faults import BenchFileError
from hil.server.bench.model_file import load_model, model_names
from tests.hil.bench.benches import write_bench


def test_a_bench_of_one_instrument_gives_it_every_role_that_its_model_can_play(bench_path: Path) -> None:
    bench = load_bench(bench_path)
    assert set(bench.roles) == {"address", "drive", "sense", "power", "thermal"}
    assert bench.computes_products


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("averages = 1", "averages = 0", "read.averages: 0 is not a whole number from 1 to 65535"),
        ("averages", "avarages", "read.avarages: is not known; there are settle_s, averages"),
        ("columns_at_once = 32", "columns_at_once = 33", "33 is not a whole number from 1 to 32"),
        ('model = "row-board"', 'model = "row-bord"', "no such model; there are"),
        ("current_a = 5e-4", "current_a = -1", "safety.current_a: -1 is not a number from 1e-12 to 10"),
        ("rows_at_once = 1", 'rows_at_once = 1\nrows = ["1A01"]', "the chip has 32 such lines"),
        ('port = "PORT"', "", "instruments.board.port: is missing"),
        ("[read]", '[roles]\naddress = "bord"\n[read]', "'bord' is no instrument of this file; there are board"),
    ],
)  # fmt: skip
def test_an_error_of_a_bench_file_names_line_key_value_and_what_may_stand_there(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    old, new = old.replace("PORT", "/dev/none"), new.replace("PORT", "/dev/none")
    path = write_bench(tmp_path, edit={old: new})
    with pytest.raises(BenchFileError) as error:
        load_bench(path)
    assert said in str(error.value)
    assert f"{path}:" in str(error.value)


def test_a_wiring_table_that_leaves_a_line_out_is_refused_with_its_number(tmp_path: Path) -> None:
    lines = [f"row,{n},{n}" for n in range(32)] + [f"column,{n},{n}" for n in range(31)]
    (tmp_path / "wiring.csv").write_text("line,number,contact\n" + "\n".join(lines))
    path = write_bench(tmp_path, edit={"rows_at_once = 1": 'rows_at_once = 1\ntable = "wiring.csv"'})
    with pytest.raises(BenchFileError, match="column: 31 has no contact"):
        load_bench(path)


def test_a_chip_whose_voltages_an_instrument_cannot_give_is_refused(tmp_path: Path) -> None:
    path = write_bench(tmp_path)
    chip = tmp_path / "macro-32.toml"
    chip.write_text(chip.read_text().replace("set_v = { value = 4.0", "set_v = { value = 6.0"))
    with pytest.raises(BenchFileError, match=r"highest SET voltage of .* is 6 V, and row-board goes from -5 to 5 V"):
        load_bench(path)


@pytest.mark.parametrize("name", model_names())
def test_every_model_of_ours_is_read(name: str) -> None:
    model = load_model(name, Path())
    assert model.off_by_itself


WAITING = """\
format = "hil.instrument"
version = "1.0"
instrument = { name = "a", source = "made up" }
link = { form = "lines" }
off = { by_itself = "nothing", settle_s = 0.0 }

[orders.off]
send = "OFF"
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"OFF"', '"OFF"\nthen = "B"', "orders.off.then: stands without until"),
        ('"OFF"', '"OFF"\nuntil = { ask = "B?", done = "1", busy = "" , within_s = 1 }', "until.busy: says no word"),
        ('"OFF"', '"OFF"\nuntil = { ask = "B?", done = "1", busy = "0" }', "orders.off.until.within_s: is missing"),
    ],
)
def test_an_order_that_waits_without_saying_for_what_is_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in WAITING
    (tmp_path / "a.toml").write_text(WAITING.replace(old, new))
    with pytest.raises(BenchFileError) as error:
        load_model("a.toml", tmp_path)
    assert said in str(error.value)
