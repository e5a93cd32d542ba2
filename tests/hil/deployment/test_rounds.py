"""Networks larger than the chip: rounds give the same answers, and every part says what it writes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import idealised, load_chip, parse_chip, render_chip
from cim.chip.spec import ChipSpec
from cim.record.file import load_record
from firmware_protocols.messages import Capability, CellReadings, ProgramTile, Progress, ReadCells, TileProgrammed
from hil.cli import run as cli
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import DeployOptions, deploy, deploy_on
from hil.deployment.inference import measured_multiply
from hil.deployment.options import usual_recipe
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.deployment.targets.wired import program_chip
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect
from hil.driver.samples import READ_EARLY
from hil.emulator.chip import ALL_CAPABILITIES, EmulatedChip
from hil.errors import ExitCode, UsageError
from hil.report.run_data import read_run
from hil.transports.in_process import InProcessTransport
from hil.verdict.agreement import AgreementReport
from hil.verdict.verdict import Verdict
from hil.watch import Watch
from mapping.bits import BitWidths
from mapping.compile import CannotMap, LayoutOptions, compile_network, plan
from mapping.errors import ProgramFileError
from mapping.layout.lay_out import idle_copies, lay_out
from mapping.layout.place import Placement
from mapping.layout.tile import MatrixShape
from mapping.operators.step import ProgramRecordError
from mapping.program.checks import check_program
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.corrections import nominal_corrections
from mapping.program.counts import by_layer, tile_counts
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, save_program
from mapping.program.rounds import RoundRun, part_of_round, step_rounds

from ...mapping.small_networks import every_node, network
from ..conftest import Small
from ..small_net import small_network, write_files

ROUNDS = LayoutOptions(Placement.SPREAD, rounds=True)
LEAST = ALL_CAPABILITIES & ~(Capability.LAYER | Capability.SUMS | Capability.SWEEP)


def compiled(
    chip: str = "lab-128", macros: int = 3, bits: int = 8, options: LayoutOptions = ROUNDS
) -> ConductanceProgram:
    spec = idealised(load_chip(chip, macros=macros))
    rng = np.random.default_rng(3)
    spec = parse_chip(render_chip(spec), "ideal.toml", macros=macros)
    return compile_network(network(every_node(rng), rng, bits, images=7), spec, options=options)


def open_ideal(program: ConductanceProgram, capabilities: Capability = ALL_CAPABILITIES) -> ChipDriver:
    chip = EmulatedChip(program.spec, 0, capabilities=capabilities)
    return connect(InProcessTransport(chip, "ideal"), chip=program.spec)


def measured(
    program: ConductanceProgram, capabilities: Capability, **options: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Logits of two passes through all rounds on an ideal chip, and the conversions of each layer."""
    counts: dict[str, int] = {}
    with (
        open_ideal(program, capabilities) as driver,
        RoundRun(program, program.calibration_images, (0, 1000), batch=3, **options) as rounds,
    ):
        for number in range(program.rounds):
            part = part_of_round(program, number)
            program_chip(driver, part, sample=number, watch=Watch())
            chip = measured_multiply(driver, part, nominal_corrections(part))
            rounds.run(number, chip)
            for name, count in chip.conversions.items():
                counts[name] = counts.get(name, 0) + count.total
        assert driver.held_program() is None
        return rounds.logits, counts


@pytest.mark.parametrize("capabilities", [ALL_CAPABILITIES, LEAST], ids=["layers", "raw"])
@pytest.mark.parametrize(("chip", "macros"), [("lab-128", 3), ("lab-128", 2), ("a111", 8), ("neurram-256", 4)])
def test_rounds_give_the_ideal_answer_bit_for_bit(chip: str, macros: int, capabilities: Capability) -> None:
    program = compiled(chip, macros)
    assert program.rounds > 1
    logits, counts = measured(program, capabilities)
    wanted = run(program, program.calibration_images, IdealMultiply(program))
    assert np.array_equal(logits, np.stack([wanted, wanted]))
    images = 2 * len(program.calibration_images)
    assert counts == {name: images * c.conversions for name, c in by_layer(tile_counts(program)).items()}


def test_a_layer_larger_than_the_chip_goes_over_several_rounds() -> None:
    program = compiled(macros=2)
    split = [m.name for m in program.matrices if len(step_rounds(program)[m.name]) > 1]
    assert split
    assert all(len({t.macro for t in part_of_round(program, r).matrices[0].group.tiles}) <= 2 for r in range(3))


def test_activations_beyond_the_bound_wait_on_disk_and_are_the_same(tmp_path: Path) -> None:
    program = compiled(macros=2)
    wanted = run(program, program.calibration_images, IdealMultiply(program))
    for memory in (0, 3000):
        with RoundRun(program, program.calibration_images, (0,), batch=2, memory_bytes=memory) as rounds:
            for number in range(program.rounds):
                rounds.run(number, IdealParts(program))
            assert rounds.spilled_bytes > 0
            assert np.array_equal(rounds.logits[0], wanted)


class IdealParts:
    """Exact products of whatever part of a layer a round holds."""

    def __init__(self, program: ConductanceProgram) -> None:
        self.program = program

    def sums(self, step: MatrixStep, codes: np.ndarray, sample: int) -> np.ndarray:
        from mapping.program.exact_product import ExactProduct

        return ExactProduct(step.group)(codes)


def test_rounds_run_in_their_order_and_once() -> None:
    program = compiled()
    with RoundRun(program, program.calibration_images, (0,)) as rounds:
        with pytest.raises(ValueError, match="round 1 when round 0 is next"):
            rounds.run(1, IdealParts(program))
        with pytest.raises(ValueError, match=r"0 of \d rounds have run"):
            _ = rounds.logits


def test_copies_and_rounds_go_together() -> None:
    program = compiled("lab-128", 4, 4, LayoutOptions(Placement.PACKED, 4, rounds=True))
    assert program.rounds == 1  # it fits, so it is written once
    program = compiled("lab-128", 3, 4, LayoutOptions(Placement.SPREAD, 3, rounds=True))
    assert program.rounds > 1
    assert any(m.group.copies > 1 for m in program.matrices)
    logits, _ = measured(program, ALL_CAPABILITIES)
    assert np.array_equal(logits[0], run(program, program.calibration_images, IdealMultiply(program)))


def test_the_fewest_rounds_are_as_even_as_they_can_be() -> None:
    shapes = [MatrixShape(f"layer{n}", 2 * 126, 64) for n in range(5)]  # two whole macros each
    for macros, wanted in ((8, [0, 0, 0, 1, 1]), (5, [0, 0, 1, 1, 2]), (10, [0, 0, 0, 0, 0])):
        _, places = lay_out(shapes, load_chip("lab-128", macros=macros), BitWidths(4, 8, {}), ROUNDS)
        assert [{at.round for at in spots} for spots in places.values()] == [{number} for number in wanted]


def test_copies_whose_sums_are_added_may_take_every_macro_in_every_round() -> None:
    spec = load_chip("lab-128", macros=5)
    layout = lay_out([MatrixShape(f"layer{n}", 2 * 126, 64) for n in range(3)], spec, BitWidths(4, 8, {}), ROUNDS)
    copies = idle_copies(layout, spec)
    assert [(a.macro, a.round) for a in copies["layer2"][0]] == [(2, 1), (3, 1)]
    assert list(copies) == ["layer2"]
    program = compiled(options=LayoutOptions(Placement.SPREAD, rounds=True, averaged=True))
    assert program.rounds > 1
    assert all(len(m.group.tiles) % 4 == 0 for m in program.matrices)
    logits, _ = measured(program, ALL_CAPABILITIES)
    assert np.array_equal(logits[0], run(program, program.calibration_images, IdealMultiply(program)))


def test_a_layer_that_goes_over_several_rounds_is_not_copied() -> None:
    program = compiled(macros=2, options=LayoutOptions(Placement.SPREAD, 2, rounds=True))
    check_program(program)
    split = [m for m in program.matrices if len(step_rounds(program)[m.name]) > 1]
    assert split
    assert all(m.group.copies == 1 for m in split)


def test_a_network_that_is_larger_than_the_chip_is_refused_without_being_asked_for_rounds() -> None:
    with pytest.raises(CannotMap, match="hil compile --with rounds, which writes the chip again"):
        compiled(options=LayoutOptions(Placement.SPREAD))


def test_the_plan_says_what_each_round_writes() -> None:
    program = compiled()
    summary = plan(program)
    assert [r.number for r in summary.rounds] == list(range(program.rounds))
    assert sum(r.cells for r in summary.rounds) == 2 * sum(
        t.levels.size for m in program.matrices for t in m.group.tiles
    )
    text = "\n".join(summary.lines())
    assert f"{program.rounds} rounds: the chip is written {program.rounds} times" in text
    assert "round 1: " in text


def test_a_program_of_rounds_comes_back_from_its_file(tmp_path: Path) -> None:
    program = compiled()
    save_program(program, tmp_path / "program.h5")
    assert load_program(tmp_path / "program.h5").digest == program.digest
    assert load_program(tmp_path / "program.h5").rounds == program.rounds


def test_rounds_with_a_gap_or_out_of_order_are_no_program() -> None:
    program = compiled()
    for number in (99, 0):
        steps = list(program.steps)
        step = steps[-1]
        assert isinstance(step, MatrixStep)
        tiles = tuple(dataclasses.replace(t, round=number) for t in step.group.tiles)
        steps[-1] = dataclasses.replace(step, group=dataclasses.replace(step.group, tiles=tiles))
        with pytest.raises(ProgramRecordError, match="is in round"):
            check_program(dataclasses.replace(program, steps=tuple(steps)))


def test_several_rounds_at_once_are_refused_by_those_who_know_one() -> None:
    program = compiled()
    with open_ideal(program) as driver:
        for call in (
            lambda: program_chip(driver, program, sample=0, watch=Watch()),
            lambda: measured_multiply(driver, program, nominal_corrections(program)),
        ):
            with pytest.raises(UsageError, match="rounds, the chip rewritten for each"):
                call()


# --- hil deploy ----------------------------------------------------------------------------

ONE_MACRO = "emulated:lab-128?seed=3&macros=1"


@pytest.fixture(scope="module")
def program_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network on a chip of one macro: two rounds."""
    path = tmp_path_factory.mktemp("rounds") / "program.h5"
    program = compile_network(small_network(), load_chip("lab-128", macros=1), options=ROUNDS)
    assert program.rounds == 2
    save_program(program, path)
    return path


@pytest.fixture(scope="module")
def finished(program_file: Path, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rounds-runs") / "run"
    options = DeployOptions(samples=300, repeats=2, virtual_chips=10, tolerance=0.03)
    deploy(program_file, ONE_MACRO, data=str(small.data), out=folder, options=options)
    return folder


def test_deploy_takes_a_network_through_its_rounds_and_agrees_with_the_simulation(finished: Path, small: Small) -> None:
    report = AgreementReport.from_text((finished / "report.json").read_text("utf-8"))
    assert report.verdict is Verdict.AGREE
    assert report.data.images == 300
    assert report.chip.macros_used == 1
    assert report.cells.total == 2 * report.network.weights
    assert report.causes is not None
    assert [layer.layer for layer in report.layers] == ["conv", "fc"]
    low, high = report.age_range_s
    assert 3600 <= low <= high < 3700
    notes = [n for n in report.notes if n.startswith("round ")]
    assert len(notes) == 2
    assert all("pulses" in n and "s of chip time to write" in n for n in notes)
    cells = read_run(finished / "data.h5").macros
    assert sorted(cells) == [0, 1]  # one macro in two rounds
    assert sum(int(np.isfinite(c.targets_us).sum()) for c in cells.values()) == report.cells.total


class Numbered(EmulatedChip):
    """A chip that notes the sample numbers by which it is written and read."""

    def __init__(self, spec: ChipSpec) -> None:
        super().__init__(spec, 3)
        self.written: list[int] = []
        self.read: list[int] = []

    def program_tile(self, request: ProgramTile) -> Generator[Progress | None, None, TileProgrammed]:
        self.written.append(request.sample)
        return super().program_tile(request)

    def read_cells(self, request: ReadCells) -> CellReadings:
        self.read.append(request.sample)
        return super().read_cells(request)


def test_rewrites_of_every_round_draw_noise_of_their_own_from_the_seed_of_the_run(
    program_file: Path, finished: Path, small: Small
) -> None:
    program, record = load_program(program_file), load_record(finished / "record.h5")
    written, before = {}, {}
    for seed in (0, 5):
        chip = Numbered(program.spec)
        options = DeployOptions(
            samples=20,
            repeats=1,
            virtual_chips=2,
            seed=seed,
            causes=False,
            recipe=usual_recipe("rewrite=1", without=["tune"]),
        )
        with connect(InProcessTransport(chip, ONE_MACRO), chip=program.spec) as driver:
            deploy_on(driver, program, load_dataset(small.data, "test"), record=record, options=options)
        written[seed] = set(chip.written)
        before[seed] = {number for number in chip.read if number >> 56 == READ_EARLY >> 56}
    assert len(written[0]) == len(written[5]) == 4  # both rounds are written, and written again
    assert not written[0] & written[5]
    assert len(before[0]) == 2  # read before a rewrite, in each round


def test_a_network_larger_than_the_chip_is_deployed_in_rounds_where_that_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["deploy", "--emulated", "--macros=12", "--dry-run", "--json"]
    assert cli([*command, "--data", "fashion-mnist-bundled"]) == ExitCode.CANNOT_MAP
    assert "--with rounds" in capsys.readouterr().err
    assert cli([*command, "--with", "rounds"]) == 0
    assert json.loads(capsys.readouterr().out)["rounds"] == 2


def test_the_same_rounds_twice_give_the_same_answers(
    finished: Path, program_file: Path, small: Small, tmp_path: Path
) -> None:
    first = AgreementReport.from_text((finished / "report.json").read_text("utf-8"))
    options = DeployOptions(samples=300, repeats=2, virtual_chips=10, tolerance=0.03)
    again = deploy(program_file, ONE_MACRO, data=str(small.data), out=tmp_path / "run", options=options)
    assert again.data.answers == first.data.answers
    assert again.cells == first.cells


def test_prediction_runs_a_program_of_rounds(
    program_file: Path, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    for age in ("1h", "1h,1d"):
        command = ["simulate", str(program_file), "--data", str(small.data), "--samples", "100", "--chips", "3"]
        assert cli([*command, "--age", age, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)


def test_a_dry_run_counts_every_round(program_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, data = write_files(tmp_path)
    asked = ["deploy", str(program_file), "--data", str(data), "--emulated", "--macros=1"]
    assert cli([*asked, "--dry-run", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert cost["cells"] == 2 * (8 * 9 + 4 * 128)
    assert cost["images"] == 2000
    assert cost["rounds"] == 2


def test_a_damaged_program_of_rounds_is_refused(program_file: Path, tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "program.h5"
    path.write_bytes(program_file.read_bytes())
    with h5py.File(path, "r+") as file:
        record = json.loads(bytes(file["description"][()]))
        record["steps"][-1]["group"]["tiles"][0]["round"] = 0
        del file["description"]
        file["description"] = np.frombuffer(json.dumps(record).encode(), np.uint8)
    with pytest.raises(ProgramFileError):
        load_program(path)


def test_sums_of_a_split_layer_need_something_that_gives_sums() -> None:
    program = compiled(macros=2)

    class OnlyLayers:
        def layer(self, step: MatrixStep, codes: np.ndarray, sample: int) -> np.ndarray:
            raise AssertionError

    with (
        RoundRun(program, program.calibration_images, (0,)) as rounds,
        pytest.raises(ValueError, match="goes over several rounds, and OnlyLayers gives no sums"),
    ):
        rounds.run(0, OnlyLayers())


def test_measured_sums_alone_run_rounds_too() -> None:
    program = compiled()
    with open_ideal(program) as driver, RoundRun(program, program.calibration_images, (0,)) as rounds:
        for number in range(program.rounds):
            part = part_of_round(program, number)
            program_chip(driver, part, sample=number, watch=Watch())
            rounds.run(number, MeasuredSums(driver, nominal_corrections(part)))
        wanted = run(program, program.calibration_images, IdealMultiply(program))
        assert np.array_equal(rounds.logits[0], wanted)
