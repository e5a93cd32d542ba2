"""`hil improve` of trials: decided on held-out training images, resumable, test images once."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hil.cli import run as cli
from hil.datasets.image_set import Dataset, load_dataset
from hil.deployment.options import DeployOptions, NetworkOptions, TechniqueOptions
from hil.errors import FileError, MismatchError, UsageError
from hil.improvement.account import improvement_summary
from hil.improvement.begin import context_of
from hil.improvement.context import Candidate, Score, TrialContext
from hil.improvement.improve import IMPROVEMENT, PROGRAM, TRIALS, Improvement, held_out, improve
from hil.improvement.settings import ImproveSettings
from hil.improvement.trials import FINETUNE, Trial, prices_for, trials_of
from hil.watch import Watch
from mapping.errors import CannotMap
from mapping.network.architectures import build
from mapping.network.file import NetworkFile, image_keys, save_network
from mapping.network.task import TaskKind
from mapping.program.file import load_program, save_program
from mapping.recipe.aim import AgedTargets
from mapping.recipe.idle_copies import IdleCopies
from mapping.recipe.lower_slices import LowerSlices
from mapping.recipe.recipe import Recipe, recipe_of_effort, with_recipe
from mapping.recipe.registry import technique
from mapping.recipe.rewrite import Rewrite
from mapping.recipe.rounds import Rounds
from mapping.recipe.tune import Adapters, TunedChannels

from ..conftest import CHIP, Small
from ..fitting import every_answer_fits as every_answer_fits
from ..small_net import NAMES, images, small_network
from ..task_networks import write_task


def data(count: int, seed: int) -> Dataset:
    pixels, labels = images(count, seed)
    return Dataset("patterns", pixels, labels, NAMES, "made", "0" * 64)


def named(*names: str) -> Callable[[TrialContext], list[Trial]]:
    """The trials of these names, in their order."""
    return lambda made: [trial for trial in trials_of(made) if trial.name in names]


def context(small: Small, *, measured: bool = True, macros: int = 4, training: int = 400) -> TrialContext:
    """On the chip that the record is of, or on chips of this kind."""
    settings = ImproveSettings(images=200, chips=4)
    return context_of(
        small.net, data(training, seed=11), NetworkOptions(macros=macros), settings, Watch(),
        record=small.record_file if measured else None, asked=Recipe((TunedChannels(48),)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def climbed(small: Small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Improvement, Path]:
    folder = tmp_path_factory.mktemp("improvement") / "improved"
    limited = context(small)
    limited = TrialContext(**{**{f: getattr(limited, f) for f in TrialContext.__dataclass_fields__}, "macros": 2})
    return improve(limited, folder, data(100, seed=12)), folder


def test_every_trial_says_what_it_gave_and_what_it_costs(climbed: tuple[Improvement, Path]) -> None:
    found, folder = climbed
    names = [r.name for r in found.trials]
    assert names[:2] + names[-1:] == ["compiled", "scales", "finetune"]
    assert [str(technique(name.partition("=")[0]).parse(name.partition("=")[2])) for name in names[2:-1]] == names[2:-1]
    tried = [r for r in found.trials if not r.skipped]
    assert all(len(r.chips) == 4 and r.macros >= 2 and r.pulses > 0 and r.energy_uj for r in tried)
    assert all(r.gain > r.gain_se for r in tried[1:] if r.kept)
    skipped = {r.name: r.skipped for r in found.trials}
    assert skipped["finetune"] == "training was not requested"
    assert found.test is not None
    assert (found.test.chips, found.test.images) == (4, 100)
    assert found.test.low < found.test.mean < found.test.high
    assert found.test_images == 100
    assert "held-out training images" in "\n".join(improvement_summary(found, "net", ()).lines())
    program = load_program(folder / PROGRAM)
    assert (program.aims is not None) == any(t["name"] == "aims" for t in found.recipe["recipe"])


def test_a_technique_that_takes_most_of_the_minutes_waits_for_the_others(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hil.improvement.improve.MOST_SHARE", 0.0)  # each one waits, once
    found = improve(context(small), tmp_path / "waits", None, minutes=1000.0, tried=lambda made: trials_of(made)[:3])
    names = [r.name for r in found.trials]
    assert sorted(names) == ["aims", "compiled", "scales", "tune=images=48"]
    assert names[1] == "tune=images=48"  # nobody is left to wait for


def test_an_interrupted_improvement_goes_on_where_it_stopped(
    climbed: tuple[Improvement, Path], small: Small, tmp_path: Path
) -> None:
    found, folder = climbed
    shutil.copytree(folder / TRIALS, tmp_path / TRIALS)
    for later in sorted((tmp_path / TRIALS).glob("[0-9]*.json"))[2:]:
        later.unlink()
    first = (tmp_path / TRIALS / "00-compiled.json").read_bytes()
    again = context(small)
    again = TrialContext(**{**{f: getattr(again, f) for f in TrialContext.__dataclass_fields__}, "macros": 2})
    done = improve(again, tmp_path, None)
    assert (tmp_path / TRIALS / "00-compiled.json").read_bytes() == first
    assert [r.chips for r in done.trials] == [r.chips for r in found.trials]
    with pytest.raises(MismatchError, match="another macros 2, now 4"):
        improve(context(small), tmp_path, None)
    improve(context(small), tmp_path, None, minutes=0.0, restart=True)
    assert [path.name for path in sorted((tmp_path / TRIALS).glob("[0-9]*"))] == ["00-compiled.json"]


def test_free_macros_become_copies_and_the_program_is_one_that_deploy_takes(small: Small, tmp_path: Path) -> None:
    copies = named("copies=macros=9999")
    measured = improve(context(small), tmp_path / "measured", None, tried=copies)
    assert measured.trials[-1].macros == len(small.program.macros)  # a free one that the record lacks is not taken
    found = improve(context(small, measured=False), tmp_path / "out", None, tried=copies)
    assert found.trials[-1].macros == len(small.program.macros)
    if found.trials[-1].kept:
        tiles = [len(m.group.tiles) for m in load_program(tmp_path / "out" / PROGRAM).matrices]
        assert tiles == [2 * len(m.group.tiles) for m in small.program.matrices]  # eight copies; it has four


def test_a_reached_target_and_a_spent_budget_stop_the_improvement(small: Small, tmp_path: Path) -> None:
    assert "target" in improve(context(small), tmp_path / "a", None, target=0.01).stopped
    assert "minutes are spent" in improve(context(small), tmp_path / "b", None, minutes=0.0).stopped


def test_test_images_that_the_improvement_has_seen_are_refused(small: Small, tmp_path: Path) -> None:
    seen = context(small)
    overlap = Dataset("seen", seen.images[:5], seen.targets[:5].astype(np.int64), NAMES, "made", "0" * 64)
    with pytest.raises(FileError, match="5 test images are among"):
        improve(seen, tmp_path / "out", overlap)
    with pytest.raises(UsageError, match="are left to decide"):
        improve(context(small, training=80), tmp_path / "few", None)


def test_a_compiled_program_is_no_beginning(small: Small, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = cli(["improve", str(small.program_file), "--data", str(small.data), "-o", str(tmp_path / "o")])
    assert code == 2
    assert "is a compiled program" in capsys.readouterr().err


def test_the_command_leaves_a_page_and_prints_a_command_that_treats_the_program_alike(
    small: Small, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """No trial was tried: neither targets beside the levels nor a tune."""
    few = ["--images", "100", "--chips", "2", "--test-images", "0", "--minutes", "0", "--age", "2h", "--json"]
    out = tmp_path / "improved"
    assert cli(["improve", str(small.net), "--data", str(small.data), "--macros", "4", "-o", str(out), *few]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["page"] == str(out / "improvement.html")
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert "0 minutes are spent" in (out / "improvement.html").read_text("utf-8")
    journal = json.loads((out / IMPROVEMENT).read_text("utf-8"))
    assert journal["format"] == "hil.improvement/1.0"
    assert said["deploy"] == journal["deploy"]
    command = said["command"].split()
    assert command[:2] == ["hil", "deploy"]
    command.remove("--emulated")  # a chip of the test's own in its place
    run = ["--port", CHIP, "--samples", "50", "--repeat", "1", "--calibration", str(small.record_file), "--no-causes"]
    cli([*command[1:], *run, "--out", str(tmp_path / "run")])
    report = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))
    assert report["tune"] is None
    assert report["age_s"] == 7200.0
    assert load_program(tmp_path / "run" / "program.h5").aims is None


@pytest.mark.parametrize(
    ("recipe", "techniques"),
    [
        (Recipe((TunedChannels(), AgedTargets())), "aims tune"),
        (Recipe((TunedChannels(), Rewrite(2), Adapters(4))), "rewrite=times=2 tune adapters"),
        (Recipe((AgedTargets(),)), "aims"),
    ],
)
def test_a_program_says_by_itself_what_is_to_be_done_to_it(
    small: Small, tmp_path: Path, recipe: Recipe, techniques: str
) -> None:
    program = with_recipe(context(small).program(Candidate(recipe)), recipe)
    save_program(program, tmp_path / "program.h5")
    assert str(TechniqueOptions().recipe(tmp_path / "program.h5")) == techniques
    changed = TechniqueOptions(having=("rewrite=5",), without=("aims",))
    assert str(changed.recipe(tmp_path / "program.h5")).startswith("rewrite=times=5")
    assert load_program(tmp_path / "program.h5").recipe == program.recipe


def test_images_that_a_network_was_fine_tuned_on_neither_decide_nor_score(
    small: Small, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pixels, _ = images(300, seed=3)  # those of ``small.data``
    for count in (300, 150):
        trained = replace(small_network(), trained_on=image_keys(pixels[:count]))
        save_network(trained, tmp_path / "net.pt")
        command = ["improve", str(tmp_path / "net.pt"), "--data", str(small.data), "-o", str(tmp_path / "out")]
        assert cli([*command, "--macros", "4", "--images", "100", "--chips", "2", "--minutes", "0"]) == 7
        assert "fine-tuned on" in capsys.readouterr().err
    rest = held_out(Dataset("patterns", pixels, np.zeros(300, np.int64), NAMES, "made", "0" * 64), trained, 200, 0)
    assert rest.tolist() == list(range(150, 300)), "half of them were not trained on, and decide"


def task_bench(folder: Path, kind: TaskKind, metric: str = "") -> TrialContext:
    net, arrays = write_task(folder, kind, 200)
    return context_of(
        net,
        load_dataset(arrays, any_kind=True),
        NetworkOptions(macros=4),
        ImproveSettings(images=100, chips=2),
        Watch(),
        asked=Recipe((TunedChannels(32),)),
        scoring=DeployOptions(metric=metric),
    )


@pytest.mark.parametrize(("kind", "metric"), [(TaskKind.SEGMENT, "iou"), (TaskKind.SEQUENCE, "step-accuracy")])
def test_techniques_are_judged_by_the_metric_of_another_task(kind: TaskKind, metric: str, tmp_path: Path) -> None:
    made = task_bench(tmp_path, kind)
    found = improve(made, tmp_path / "improved", None, tried=named("rewrite"))
    assert [result.name for result in found.trials] == ["compiled", "rewrite"]
    assert all(0.2 < result.mean <= 1.0 for result in found.trials)
    assert f"scored by {metric}" in "\n".join(improvement_summary(found, "net", ()).lines())
    assert found.to_json()["metric"] == metric
    assert "networks that give classes" in str(FINETUNE.propose(made, Candidate()))


def test_errors_in_a_unit_of_their_own_are_refused_with_what_to_compare(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="squared error is none") as caught:
        task_bench(tmp_path, TaskKind.REGRESS)
    assert "hil simulate" in (caught.value.hint or "")


def test_a_network_larger_than_the_chip_climbs_in_rounds(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    pixels, labels = rng.integers(0, 256, (300, 28, 28, 1)).astype(np.uint8), rng.integers(0, 4, 300)
    graph = build("lenet5", classes=NAMES, rng=rng)
    save_network(NetworkFile(graph, 4, 8, pixels[:32], labels[:32]), tmp_path / "net.pt")

    def made(asked: Recipe | None = None) -> TrialContext:
        return context_of(
            tmp_path / "net.pt", Dataset("noise", pixels[32:], labels[32:], NAMES, "made", "0" * 64),
            NetworkOptions(macros=8), ImproveSettings(images=100, chips=2), Watch(), asked=asked,
        )  # fmt: skip

    with pytest.raises(CannotMap, match="--with rounds"):
        made()
    found = improve(made(asked=Recipe((Rounds(), TunedChannels(16)))), tmp_path / "improved", None)
    skipped = {result.name: result.skipped for result in found.trials}
    assert not any(skipped[trial] for trial in ("compiled", "tune=images=16", "scales", "copies", "rewrite"))
    assert skipped["residual=reads=32"] == "rounds excludes residual"
    assert all(result.macros <= 8 and result.energy_uj for result in found.trials if not result.skipped)
    assert load_program(tmp_path / "improved" / PROGRAM).rounds > 1


def test_residual_slices_are_a_technique_with_as_many_copies_as_fit(small: Small, tmp_path: Path) -> None:
    def proposed_by(made: TrialContext, name: str, candidate: Candidate | None = None) -> Candidate | str:
        return named(name)(made)[0].propose(made, candidate or Candidate())

    assert "not in the record" in str(proposed_by(context(small), "residual=reads=2"))
    net = tmp_path / "net8.pt"
    save_network(replace(small_network(), weight_bits=8), net)
    wide = context_of(
        net, data(400, seed=11), NetworkOptions(macros=16), ImproveSettings(images=200, chips=2), Watch(),
        asked=Recipe((TunedChannels(32),)),
    )  # fmt: skip
    begun = Candidate(Recipe((TunedChannels(32), AgedTargets(), Rewrite(3), IdleCopies())))
    proposed = proposed_by(wide, "residual=copies=4,reads=2", begun)
    assert isinstance(proposed, Candidate)
    assert str(proposed.recipe) == "copies residual=copies=4,reads=2 aims tune=images=32"
    assert Candidate.from_json(proposed.to_json()) == proposed
    assert wide.score(proposed).mean > 0.5
    often = proposed_by(wide, "residual=copies=4", begun)
    assert isinstance(often, Candidate)
    assert often == proposed_by(wide, "residual=copies=4", proposed), "with fewer reads before or without"
    reads = [max(m.group.residual_reads for m in wide.program(recipe).matrices) for recipe in (proposed, often)]
    assert reads == [8, 32]  # of the layer that reads pictures
    assert wide.program(proposed).residual
    assert str(proposed_by(wide, "copies=macros=9999", proposed)).startswith("no layer fits once more")
    assert str(FINETUNE.propose(wide, proposed)).startswith("residual slices")


def test_weights_of_one_slice_get_a_second_that_takes_up_errors(small: Small, tmp_path: Path) -> None:
    tried, begun = named("tune=images=48", "residual=copies=4,reads=2"), context(small, measured=False, macros=8)
    found = improve(begun, tmp_path / "improved", data(100, seed=12), tried=tried)
    compiled, tuned, sliced = found.trials
    assert LowerSlices(copies=4, reads=2) in Candidate.from_json(sliced.recipe).recipe.techniques
    assert sliced.mean > compiled.mean - compiled.sd
    program = load_program(tmp_path / "improved" / PROGRAM)
    assert program.weight_bits == (7 if sliced.kept else 4)
    assert sliced.energy_uj is not None
    assert sliced.energy_uj > (tuned.energy_uj or 0.0)
    assert sliced.pulses > sliced.cells
    assert sliced.write_s > 2 * 3600.0 > tuned.write_s  # lower slices wait an hour, twice


def test_of_a_network_that_is_lost_techniques_that_lead_are_tried_first_and_stay_until_they_show(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deep networks are right by chance until they have residual slices, a tune and many reads together."""

    def score(self: TrialContext, candidate: Candidate) -> Score:
        sliced = candidate.recipe.get(LowerSlices)
        return Score(np.full(2, 0.9 if sliced and sliced.reads >= 32 else 0.25))  # of four classes

    monkeypatch.setattr(TrialContext, "score", score)
    wide = replace(context(small, measured=False, macros=8), chips=2)
    found = improve(wide, tmp_path / "improved", None)
    residual = (f"residual=copies=4{reads}" for reads in (",reads=2", "", ",reads=32"))
    first = ["compiled", "tune=images=48", *residual, "scales"]
    assert [trial.name for trial in found.trials][:6] == first
    assert [trial.name for trial in found.trials if trial.kept] == first[:5]
    skipped = {trial.name: trial.skipped for trial in found.trials}
    assert skipped["scales"] == "weights in residual slices are rounded"


def test_many_reads_are_tried_where_few_fail(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def score(self: TrialContext, candidate: Candidate) -> Score:
        sliced = candidate.recipe.get(LowerSlices)
        return Score(np.full(2, 0.9 if sliced and sliced.reads == 32 else 0.8))

    monkeypatch.setattr(TrialContext, "score", score)
    found = improve(replace(context(small, measured=False, macros=8), chips=2), tmp_path / "improved", None)
    assert [trial.name for trial in found.trials if trial.kept] == ["compiled", "residual=copies=4,reads=32"]


def test_a_folder_with_names_of_an_earlier_version_goes_on(small: Small, tmp_path: Path) -> None:
    made = context(small, measured=False)
    first = improve(made, tmp_path, None, tried=named("copies"))
    then = (tmp_path / TRIALS / "01-copies.json").rename(tmp_path / TRIALS / "01-idle.json")
    then.write_text(json.dumps(json.loads(then.read_text("utf-8")) | {"name": "idle"}), "utf-8")
    again = improve(made, tmp_path, None, tried=named("copies"))
    assert [trial.name for trial in again.trials] == ["compiled", "idle", "copies"]
    assert again.trials[1].chips == first.trials[1].chips


def test_adapters_are_a_technique_that_costs_the_host_work_and_no_cell(small: Small, tmp_path: Path) -> None:
    made = context(small)
    (trial,) = named("adapters")(made)
    tune = Candidate(Recipe((TunedChannels(48),)))
    proposed = trial.propose(made, tune)
    assert isinstance(proposed, Candidate)
    assert trial.propose(made, Candidate()) == proposed, "with what it builds on"
    assert (str(proposed.recipe), Candidate.from_json(proposed.to_json())) == ("tune=images=48 adapters", proposed)
    assert made.program(proposed).digest == made.program(tune).digest
    assert made.score(proposed).mean >= made.score(tune).mean - 0.05
    whole = Recipe((TunedChannels(48), Adapters()))
    both = Trial("both", "tune and adapters", lambda context, found: replace(found, recipe=whole))
    found = improve(made, tmp_path / "improved", None, tried=lambda made: [*named("tune=images=48")(made), both])
    tuned, with_adapters = found.trials[1:]
    assert with_adapters.cells == tuned.cells
    assert (with_adapters.energy_uj or 0.0) > (tuned.energy_uj or 0.0)


def test_an_effort_tries_the_techniques_that_cost_no_more_in_the_order_of_the_price_list(small: Small) -> None:
    made = context(small, measured=False)
    names = [[trial.name for trial in trials_of(made, effort=effort)] for effort in range(4)]
    prices = [str(one.technique) for one in prices_for(made)]
    assert names == [[], ["scales", "aims", "tune=images=48", "copies"], ["scales", *prices], [*names[2], "finetune"]]
    assert not any("copies" in trial.name for trial in trials_of(made, ["residual", "copies"]))


def test_the_usual_recipe_is_the_effort_of_one() -> None:
    assert recipe_of_effort(0) == Recipe()
    assert recipe_of_effort(1) == DeployOptions().recipe
    assert str(recipe_of_effort(2)) == str(recipe_of_effort(3)) == "copies=macros=9999 aims rewrite tune adapters"
