"""Commands that follow from a report, complete, with the files of its run: what one does after this answer."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from hil.pages.summary import NextStep
from hil.report.losses import lost_to
from hil.report.tables import worst_layers
from hil.verdict.agreement import AgreementReport, Verdict
from hil.verdict.statistics import FEWEST_IMAGES, FEWEST_REPEATS

MOST_STEPS = 3
USUAL_DATA = "fashion-mnist"  # that the bundled images are of; its training images are not bundled
BUNDLED_NETWORK = Path(__file__).parents[1] / "datasets" / "bundled" / "fashion_mnist.pt"
CELLS = {"programming", "relaxation", "programming and relaxation"}  # causes that writing again can mend


def next_steps(report: AgreementReport) -> tuple[NextStep, ...]:
    """At most three commands, by verdict and loss, the most useful first."""
    if report.moved and report.verdict is not Verdict.DISAGREE:
        steps = _after_moved(report)
    elif report.verdict is Verdict.DISAGREE:
        steps = _after_disagree(report)
    elif report.verdict is Verdict.INCONCLUSIVE:
        steps = _after_inconclusive(report)
    elif lost_to(report).seen:
        steps = _after_loss(report)
    else:
        steps = _after_agree(report)
    return tuple(steps)[:MOST_STEPS]


def _after_agree(report: AgreementReport) -> Iterator[NextStep]:
    yield NextStep(_simulate(report, "hil simulate --age 1d,30d"), "does it last?")
    yield NextStep(f"hil estimate {_file(report.run, 'program.h5')}", "cost of every layer")
    yield NextStep(f"hil show {_word(report.run)} --all", "every number of this run")


def _after_moved(report: AgreementReport) -> Iterator[NextStep]:
    yield NextStep(_again(report, "hil deploy --recalibrate"), "a record of the chip as it is now")
    yield NextStep(f"hil show {_word(report.run)} --all", "what moved, layer by layer")


def _after_loss(report: AgreementReport) -> Iterator[NextStep]:
    largest = next(iter(lost_to(report).told), None)
    if largest is not None and largest.name in CELLS and not report.chip.told_by and report.rewrite is None:
        yield NextStep(_again(report, "hil deploy --with rewrite=3"), "writes cells again that left their window")
    network, data, record = _network(report), _training_data(report), _record(report)
    folder = _word(f"{report.run}-improved")
    yield NextStep(f"hil improve {network} {data}{record} --out {folder}", "techniques from cheap to dear")
    tuned = _word(f"{report.run}-tuned.pt")
    yield NextStep(f"hil finetune {network} {data}{record} --out {tuned}", "trains it for the errors of this chip")


def _after_disagree(report: AgreementReport) -> Iterator[NextStep]:
    if not report.chip.told_by:
        yield NextStep(_again(report, "hil deploy --recalibrate"), "measures what the simulator knows of the chip anew")
    worst = worst_layers(report)
    if worst:
        yield NextStep(f"hil show {_word(report.run)} --all", f"the layers that are off: {', '.join(worst)}")
    if report.chip.told_by:
        yield NextStep(f"hil show {_word(report.run)} --all", "every number that the verdict rests on")
    else:
        yield NextStep(f"hil mvm --port {_word(report.chip.address)} --level 3", "one product that is known, by itself")


def _after_inconclusive(report: AgreementReport) -> Iterator[NextStep]:
    j = report.decisive
    enough = j.power.images_enough
    if report.chip.told_by:
        yield NextStep(f"hil show {_word(report.run)} --all", "every number that the verdict rests on")
        return
    few, once = j.n < FEWEST_IMAGES, j.repeats < FEWEST_REPEATS
    if few and once:
        yield NextStep(_again(report, "hil deploy --samples 2000 --repeat 3"), "enough for a verdict")
    elif few:
        yield NextStep(_again(report, "hil deploy --samples 2000"), "enough images for a verdict")
    elif once:
        yield NextStep(_again(report, "hil deploy --repeat 3"), "enough passes for a verdict")
    elif enough is not None and j.n < enough <= report.data.available:
        yield NextStep(_again(report, f"hil deploy --samples {enough} --all-images"), "enough images for a verdict")
    else:
        other = report.seeds.get("host", 0) + 1
        yield NextStep(_again(report, f"hil deploy --seed {other}"), "other images, other virtual chips")
    yield NextStep(f"hil show {_word(report.run)} --all", "every number that the verdict rests on")


def _again(report: AgreementReport, change: str) -> str:
    """The command of the run with a change; options that the change sets are left out of what was typed."""
    typed = shlex.split(report.environment.get("command", ""))
    change = change.removeprefix("hil deploy ")
    changed = {word for word in change.split() if word.startswith("--")}
    if typed[:2] == ["hil", "deploy"]:
        words = list(_without(typed[2:], changed | {"--out", "-o", "--resume", "--calibration", "--record-age"}))
    else:
        words = [_network_asked(report), "--port", report.chip.address]
        words += [w for name in ("data", "data_dir") if (v := report.asked.get(name)) for w in (_option(name), v)]
    return " ".join(["hil deploy", *map(_word, filter(None, words)), change])


def _without(words: list[str], options: set[str]) -> Iterator[str]:
    """A command line without some options and what stands behind them."""
    leave = False
    for word in words:
        if word.split("=")[0] in options:
            leave = "=" not in word and word not in ("--recalibrate", "--all-images")
        elif leave and not word.startswith("-"):
            leave = False
        else:
            leave = False
            yield word


def _simulate(report: AgreementReport, command: str) -> str:
    name, options = command[: len("hil simulate")], command[len("hil simulate") :]
    network, data = report.asked.get("network"), report.asked.get("data")
    words = [name, *([_word(network)] if network else []), *(["--data", _word(data)] if data else [])]
    words += ["--data-dir", _word(report.asked["data_dir"])] if "data_dir" in report.asked else []
    return " ".join(words) + _record(report) + options


def _network_asked(report: AgreementReport) -> str:
    return report.asked.get("network", "")


def _network(report: AgreementReport) -> str:
    return _word(report.asked.get("network") or str(BUNDLED_NETWORK))


def _training_data(report: AgreementReport) -> str:
    """Options of the data set whose training images serve; the bundled images have none."""
    place = f" --data-dir {_word(report.asked['data_dir'])}" if "data_dir" in report.asked else ""
    if "data" in report.asked:
        return f"--data {_word(report.asked['data'])}{place}"
    return f"--data {USUAL_DATA}{place} --download"


def _record(report: AgreementReport) -> str:
    """The record of the run as an option; none where answers were measured elsewhere."""
    return "" if report.chip.told_by else f" --calibration {_file(report.run, 'record.h5')}"


def _file(run: str, name: str) -> str:
    return _word(f"{run}/{name}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _word(text: str) -> str:
    """A word of a shell, a path below this folder as it is seen from here."""
    path = Path(text)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        text = str(path.relative_to(Path.cwd()))
    return shlex.quote(text)
