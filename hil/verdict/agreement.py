"""The whole answer of a run, as `report.json` holds it: four accuracies, two questions, and where they come from.

The statistics are in ``hil.verdict.statistics``, one question is judged in ``hil.verdict.verdict``; here their
answers meet the identity of the chip, the digests, ages, cells, link counters and seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.files import read_text
from cim.json_text import parse_json
from hil.cost.plan import DeploymentPlan
from hil.errors import ExitCode, FileError, MismatchError
from hil.verdict.as_calibrated import AsCalibrated
from hil.verdict.cause_split import CauseSplit
from hil.verdict.fidelity import ReadbackShift
from hil.verdict.image_cost import ImageCost
from hil.verdict.json_record import JsonRecordError, decode, encode
from hil.verdict.layers import LayerStatistics
from hil.verdict.metric import Metric
from hil.verdict.survival import Survival, survival
from hil.verdict.tune_harm import TuneHarm
from hil.verdict.tuning import TuneSummary
from hil.verdict.verdict import INTERVAL_HOLDS, Interval, Judgement, Verdict
from mapping.recipe.rewrite import Rewrite

SCHEMA = "hil.report/2.1"
MARKS = {"silicon": "MEASURED ELSEWHERE", "emulated": "NOT SILICON, ELSEWHERE"}  # of answers from a file
MAX_REPORT_BYTES = 1 << 25


@dataclass(frozen=True, slots=True)
class ChipIdentity:
    """The chip that answered; ``kind`` is the chip's own word, "silicon" or "emulated".

    ``told_by``: the file whose word it is, of answers that were measured elsewhere (then "unknown" too); empty: the
    chip was asked over a wire.
    """

    kind: str
    name: str
    revision: str
    serial: str
    firmware: str
    address: str
    macros: int
    macros_used: int
    rows: int
    columns: int
    temperature_c: float | None = None
    told_by: str = ""

    @property
    def silicon(self) -> bool:
        return self.kind == "silicon"

    @property
    def mark(self) -> str:
        """Reservation beside the chip's name, wherever it stands; empty of silicon that answered over a wire."""
        if self.told_by:
            return MARKS.get(self.kind, "ELSEWHERE, BACKEND UNKNOWN")
        return "" if self.silicon else "NOT SILICON"

    @property
    def reservation(self) -> str:
        """What answered, and why nothing of it was measured on hardware, as a sentence; empty for silicon."""
        if not self.told_by:
            return "" if self.silicon else f"An {self.kind} chip answered; nothing here was measured on hardware."
        if self.kind == "unknown":
            return f"Answers measured elsewhere; their file, {self.told_by}, does not say on what."
        word = "" if self.silicon else " Nothing here was measured on hardware."
        return f"Answers measured elsewhere, by their file, {self.told_by}: {self.kind}.{word}"


@dataclass(frozen=True, slots=True)
class NetworkIdentity:
    name: str
    layers: int  # with weights
    weights: int
    weight_bits: int
    activation_bits: int


@dataclass(frozen=True, slots=True)
class DataUse:
    """Images that were scored. ``answers``: number of right repeats of each image, in run order (base 36)."""

    name: str
    split: str
    images: int  # scored
    available: int  # in the set that they were drawn from
    classes: int
    order_digest: str  # SHA-256 of the permuted image numbers and labels of the whole plan
    answers: str = ""


@dataclass(frozen=True, slots=True)
class CellSummary:
    """Cells written for this program; errors are last read-back minus target, µS."""

    total: int
    unreached: int | None  # None: the chip held the program, and nothing was written
    stuck: int  # listed by the calibration
    pulses: int
    used_share: float  # of the cells of the macros in use
    error_mean_us: float | None = None
    error_sigma_us: float | None = None
    error_p99_us: float | None = None  # 99 % of |error| below


@dataclass(frozen=True, slots=True, repr=False)
class AgreementReport:
    """One run. At least one of the two questions was judged; *this chip* decides when there is a read-back."""

    chip: ChipIdentity
    network: NetworkIdentity
    data: DataUse
    float_accuracy: float | None  # None when only program.h5 was given
    this_chip: Judgement | None
    other_chips: Judgement | None
    layers: tuple[LayerStatistics, ...]
    cells: CellSummary
    link: Mapping[str, float]  # frames, bytes, retransmissions, …
    digests: Mapping[str, str]  # network, program, chip description, calibration, data files
    seeds: Mapping[str, int]
    saturated_share: float | None  # conversions of the chip at the end of the scale; None: answers from a file
    simulated_saturated_share: float | None
    age_s: float  # planned time from programming to inference
    age_range_s: tuple[float, float]  # of the tiles, as measured by chip time
    readback: ReadbackShift | None = None  # before against after the run
    untuned: Judgement | None = None  # the first images without the tune, once; None when the chip was not tuned
    tuned_alike: Judgement | None = None  # the same images as ``untuned``, with the tune
    tune: TuneSummary | None = None
    as_calibrated: AsCalibrated | None = None  # None: nothing tells
    tune_harm: TuneHarm | None = None  # None: the tune does not make the chip worse; absent before 1.6
    causes: CauseSplit | None = None  # where the gap comes from; None when it was not asked for
    readback_reads: int = 0  # reads averaged in the read-back that conditions the virtual chips
    timing_s: Mapping[str, float] = field(default_factory=dict)  # wall time of each part
    environment: Mapping[str, str] = field(default_factory=dict)  # versions, platform, command
    notes: tuple[str, ...] = ()  # fall-backs taken, UNVERIFIED, warnings
    created: str = ""  # ISO 8601, UTC
    run: str = ""  # name of the run folder
    task: str = "classify"  # ``mapping.network.task.TaskKind``
    rewrite: Rewrite | None = None  # how cells that left their window were written again; None: they were not
    cost: ImageCost | None = None  # of one image, estimated; None: not estimated
    # network and data as files or names, none: usual; made_in: "python" where these are in no file
    asked: Mapping[str, str] = field(default_factory=dict)
    plan: DeploymentPlan | None = None  # what was done to the network, and its price; None: answers from a file

    def __post_init__(self) -> None:
        if self.this_chip is None and self.other_chips is None:
            raise ValueError("a report needs a judgement of at least one question")

    def __repr__(self) -> str:
        return f"<AgreementReport {self.run}: {self.headline}; {self.decisive.text}>"

    @property
    def backend(self) -> str:
        return self.chip.kind

    @property
    def backend_words(self) -> str:
        """Title of the measured column on screen, in files and on the page."""
        chip = self.chip
        if chip.told_by:
            return {"silicon": "measured elsewhere", "emulated": "emulated (NOT SILICON)"}.get(
                chip.kind, "unknown backend"
            )
        return "measured" if chip.silicon else f"{chip.kind} (NOT SILICON)"

    @property
    def decisive(self) -> Judgement:
        """The judgement whose verdict is the run's."""
        judged = self.this_chip or self.other_chips
        assert judged is not None  # as checked when the report was made
        return judged

    @property
    def verdict(self) -> Verdict:
        return self.decisive.verdict

    @property
    def moved(self) -> bool:
        """Whether the chip is known not to be as it was calibrated."""
        return self.as_calibrated is not None and not self.as_calibrated.holds

    @property
    def headline(self) -> str:
        """The verdict in one line: *agree*, or *agree after tuning; the chip is not as calibrated: …*."""
        moved = f"; {self.as_calibrated.text}" if self.as_calibrated and self.moved else ""
        return self.verdict_words + moved

    @property
    def measured_twice(self) -> bool:
        """Whether the chip was measured with its tune and then, as it harms, without it."""
        return self.tune_harm is not None and self.tune_harm.left_out

    @property
    def verdict_words(self) -> str:
        """The verdict, with what was done to the chip to reach it."""
        tuned = " after tuning" if self.moved and self.tune is not None else ""
        return f"{self.verdict.value}{', measured twice' if self.measured_twice else tuned}"

    @property
    def survival(self) -> Survival | None:
        """What became of a network that loses much of its accuracy on the chip; None of one that keeps it.

        None too where the metric is no share: how much of it is much, nobody knows.
        """
        j = self.decisive
        if not (j.metric.share and j.metric.greater):
            return None
        return survival(
            ideal=j.ideal.mean,
            simulated=j.simulated.mean,
            measured=j.measured.mean,
            tolerance=j.tolerance,
        )

    @property
    def exit_code(self) -> ExitCode:
        """Done where measured and simulated agree on a chip that is as it was calibrated."""
        return ExitCode.OUTSIDE_TOLERANCE if self.moved or self.verdict is not Verdict.AGREE else ExitCode.DONE

    def to_json(self) -> dict[str, Any]:
        """The object of report.json: the short answer first, then every field of the report."""
        j = self.decisive
        content = {f.name: encode(getattr(self, f.name)) for f in fields(self)}
        questions = {"this_chip": content.pop("this_chip"), "other_chips": content.pop("other_chips")}
        for judgement, question in zip((self.this_chip, self.other_chips), questions.values(), strict=True):
            if judgement is not None:
                question["lost"] = encode(judgement.lost)
        content.pop("task")
        answer = {
            "schema": SCHEMA,
            "backend": self.backend,
            "silicon": self.chip.silicon,
            "verdict": j.verdict.value,
            "verdict_text": j.text,
            "as_calibrated": content.pop("as_calibrated"),
            "survival": encode(self.survival),
            "task": self.task,
            "metric": encode(j.metric),
            "tolerance": j.tolerance,
            "accuracy": {
                "float": content.pop("float_accuracy"),
                "ideal": j.ideal.mean,
                "simulated": {**encode(j.simulated), "interval": "prediction of one chip on these images"},
                "measured": {**encode(j.measured), "interval": measured_interval(j.metric)},
            },
            "difference": {
                "mean": j.difference,
                "low": j.interval90[0],
                "high": j.interval90[1],
                "low95": j.interval95[0],
                "high95": j.interval95[1],
                "interval": INTERVAL_HOLDS,
                "same_answers": None if j.fidelity is None else j.fidelity.same_answers,
            },
            "questions": questions,
        }
        return {**answer, **content}

    @classmethod
    def from_json(cls, value: Any, origin: str = "report.json") -> AgreementReport:
        """The report of an object that ``to_json`` wrote, this or an earlier version."""
        hint = "hil deploy --json writes such a file"
        if not isinstance(value, dict) or not isinstance(value.get("schema"), str):
            raise FileError(f"{origin} is not a report of hil: it has no schema", hint=hint)
        name, _, version = value["schema"].partition("/")
        if name != "hil.report":
            raise FileError(f"{origin} is not a report of hil: its schema is {value['schema']}", hint=hint)
        if version.partition(".")[0] != "2":
            raise MismatchError(
                f"{origin} has schema {value['schema']}, this version reads {SCHEMA}",
                hint="hil show of the version that wrote it, or hil deploy again",
            )
        try:
            questions, accuracy = value["questions"], value["accuracy"]
            flat = {**value, **questions, "float_accuracy": accuracy["float"]}
            return _sensible(decode(cls, flat))
        except (JsonRecordError, KeyError, TypeError, ValueError) as error:
            raise FileError(f"{origin} is damaged: {error}", hint="run hil deploy again") from error

    @classmethod
    def from_text(cls, text: str, origin: str = "report.json") -> AgreementReport:
        try:
            value = parse_json(text)
        except ValueError as error:
            raise FileError(f"{origin} is not JSON: {error}", hint="run hil deploy again") from error
        return cls.from_json(value, origin)

    @classmethod
    def read(cls, path: Path) -> AgreementReport:
        """The report of a run folder, or of its report.json.

        Raises:
            FileError: no such report, or a damaged one. MismatchError: its schema is of a later major version.
        """
        path = path / "report.json" if path.is_dir() else path
        try:
            text = read_text(path, MAX_REPORT_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"no report at {path}", likely=str(error), hint="hil show runs/0001") from error
        return cls.from_text(text, str(path))


def measured_interval(metric: Metric) -> str:
    """Name of the interval beside a measured value."""
    if metric.binary:
        return "Wilson 95 % over images"
    return "Student's t 95 % over samples" if metric.paired else "bootstrap 95 % over samples"


def interval_words(i: Interval, metric: Metric) -> str:
    """88.01 … 90.12 %, or 0.0121 … 0.0144."""
    if metric.share:
        return f"{100 * i.low:.2f} … {100 * i.high:.2f} %"
    return f"{metric.value(i.low)} … {metric.value(i.high)}"


def _sensible(report: AgreementReport) -> AgreementReport:
    """The report, unless its counts cannot be."""
    for judgement in filter(None, (report.this_chip, report.other_chips)):
        if judgement.repeats < 1 or judgement.n < 1:
            raise ValueError(f"{judgement.n} images in {judgement.repeats} repeats")
    if len(report.data.answers) > report.data.images:
        raise ValueError(f"{len(report.data.answers)} answers for {report.data.images} images")
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"[: min(report.decisive.repeats, 35) + 1]
    if not set(report.data.answers) <= set(digits):
        raise ValueError("answers are not counts of repeats")
    return report


def correct_answers(logits: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the largest logit is the label: (…, n, classes) and (n,) -> (…, n); the first of equals wins."""
    right: NDArray[np.bool_] = logits.argmax(axis=-1) == labels
    return right


def count_answers(measured_correct: NDArray[np.bool_]) -> str:
    """Right repeats of each image, one base-36 digit an image (m, n) -> n characters; "" above 35 repeats."""
    if len(measured_correct) > 35:
        return ""
    return "".join(np.base_repr(int(k), 36).lower() for k in measured_correct.sum(axis=0))


def summarise_cells(
    targets_us: NDArray[Any], readings_us: NDArray[Any], *, unreached: int | None, stuck: int, pulses: int
) -> CellSummary:
    """Counts and read-back errors of all macros in use, (macros, rows, columns), NaN where nothing is written."""
    written = np.isfinite(targets_us)
    error = (np.asarray(readings_us, np.float64) - targets_us)[written & np.isfinite(readings_us)]
    known = error.size > 0
    return CellSummary(
        total=int(written.sum()),
        unreached=unreached,
        stuck=stuck,
        pulses=pulses,
        used_share=float(written.mean()),
        error_mean_us=float(error.mean()) if known else None,
        error_sigma_us=float(error.std()) if known else None,
        error_p99_us=float(np.quantile(np.abs(error), 0.99)) if known else None,
    )
