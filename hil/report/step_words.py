"""Text of a next step: a shell command, or a Python call for a run that was made in Python."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hil.datasets.demos import name_of
from hil.verdict.agreement import AgreementReport
from mapping.recipe.lower_slices import LowerSlices
from mapping.recipe.recipe import Recipe, recipe_of_effort

FLAGS = ("--recalibrate", "--all-images")  # of ``Redeployment``: options without a value
USUAL_DATA = "fashion-mnist"  # that the bundled images are of; its training images are not bundled
MADE_IN = "made_in"  # key of ``AgreementReport.asked``: "python" for a network or samples that are in no file


@dataclass(frozen=True, slots=True)
class Redeployment:
    """A change of settings for another deployment: as command-line options, and as an argument of ``hil.deploy``."""

    options: str
    argument: str


RECALIBRATED = Redeployment("--recalibrate", "record=chip.calibrate()")
REWRITTEN = Redeployment(
    "--with rewrite=3", 'options=hil.DeployOptions(recipe=hil.TechniqueOptions(having=("rewrite=3",)).recipe())'
)


def with_options(options: str, **fields: str | int) -> Redeployment:
    return Redeployment(options, f"options=hil.DeployOptions({', '.join(f'{k}={v}' for k, v in fields.items())})")


def words_for(report: AgreementReport) -> InPython | InShell:
    return InPython(report.run) if report.asked.get(MADE_IN) == "python" else InShell(report)


@dataclass(frozen=True, slots=True)
class InPython:
    """Calls of a run whose network or samples are in no file: names are those of the documents."""

    run: str

    def deployed(self, change: Redeployment) -> str:
        return f"hil.deploy(program, chip, test, {change.argument})"

    def with_more_samples(self) -> str:
        return "hil.deploy(program, chip, more_test)"

    def simulated(self) -> str:
        return 'hil.simulate(program, record, test, ages=["1d", "30d"])'

    def improved(self) -> str:
        return f"hil.improve(module, chip, train, out={self.run + '-improved'!r})"

    def trained(self) -> str:
        return f"hil.finetune(module, chip, train, out={self.run + '-tuned.pt'!r})"


@dataclass(frozen=True, slots=True)
class InShell:
    """Complete command lines, with the files of the run."""

    report: AgreementReport

    def deployed(self, change: Redeployment) -> str:
        """The command of the run with a change; options that the change sets are left out of what was typed."""
        return " ".join(["hil deploy", *self._typed(change.options.split()), change.options])

    def with_more_samples(self) -> str:
        return " ".join(["hil deploy", *self._typed(["--data"]), "--data DATA"])

    def simulated(self) -> str:
        asked = self.report.asked
        words = [w for w in (asked.get("network"),) if w]
        words += ["--data", asked["data"]] if "data" in asked else []
        words += self._given("--chip", "--macros")
        used = Recipe.of_words(self.report.plan.recipe).techniques if self.report.plan else ()
        usual = recipe_of_effort(1).techniques
        weighed = [word for t in used if t not in usual for word in ("--with", str(t))]
        words += self._given("--with", "--without", "--effort") or weighed
        residual = any(isinstance(t, LowerSlices) for t in used)
        ages = "30d" if residual else "1d,30d"  # cells of residual slices are drawn for one age
        return " ".join(["hil simulate", *map(word_of, words)]) + f"{self._record()} --age {ages}"

    def improved(self) -> str:
        return f"hil improve {self._trained_on()} --out {word_of(self.report.run + '-improved')}"

    def trained(self) -> str:
        return f"hil finetune {self._trained_on()} --out {word_of(self.report.run + '-tuned.pt')}"

    def _typed(self, changed: list[str]) -> list[str]:
        """Words of the command that made the run, without those that say what the change says."""
        report, leave = self.report, {word for word in changed if word.startswith("--")}
        leave |= {"--out", "-o", "--resume", "--calibration", "--record-age"}
        typed = self._groups
        if typed[:2] == [("hil",), ("deploy",)]:
            words = [word for group in typed[2:] if group[0] not in leave for word in group]
        else:
            words = [report.asked.get("network", ""), "--port", report.chip.address]
            words += ["--data", report.asked["data"]] if "data" in report.asked and "--data" not in leave else []
        return [word_of(word) for word in words if word]

    def _trained_on(self) -> str:
        """Options for a command that trains: the network, and the data set with training images, if any."""
        asked, chip = self.report.asked, self._given("--chip", "--macros")
        network = asked.get("network") or "demo:fashion_mnist"
        chip_words = "".join(f" {word_of(word)}" for word in chip)
        return trained_on(network, chip_words, asked.get("data")) + self._record()

    def _given(self, *options: str) -> list[str]:
        """The options that the user typed among ``options``, with their values."""
        return [word for group in self._groups if group[0] in options for word in group]

    @property
    def _groups(self) -> list[tuple[str, ...]]:
        return grouped(shlex.split(self.report.environment.get("command", "")))

    def _record(self) -> str:
        """The record of the run as an option; empty for answers measured elsewhere."""
        return "" if self.report.chip.told_by else f" --calibration {word_of(self.report.run + '/record.h5')}"


def grouped(typed: Sequence[str]) -> list[tuple[str, ...]]:
    """Words of a command: an option with its value is one group, each other word another."""
    groups, words = list[tuple[str, ...]](), list(typed)
    while words:
        name, equals, value = (word := words.pop(0)).partition("=")
        if equals and name.startswith("--"):
            groups.append((name, value))
        elif word.startswith("-") and word not in FLAGS and words and not words[0].startswith("-"):
            groups.append((word, words.pop(0)))
        else:
            groups.append((word,))
    return groups


def trained_on(network: str, chip: str, data: str | None) -> str:
    """Network, chip and data set for a command that trains; the bundled images have no training images."""
    return f"{word_of(network)}{chip} --data {word_of(data or USUAL_DATA)}"


def word_of(text: str) -> str:
    """A word of a shell, a path below this folder as it is seen from here."""
    path = Path(text := name_of(text))
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        text = str(path.relative_to(Path.cwd()))
    return shlex.quote(text)
