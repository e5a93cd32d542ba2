"""Evaluation of the networks of a search on chips: accuracy, latency and energy.

``SimulatedEvaluator`` says the same as ``hil simulate`` and ``hil estimate``, ``DeployedEvaluator`` the same as
``hil deploy``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cim.chip.spec import ChipSpec
from cim.cost.network_cost import Cost
from cim.record.calibration import CalibrationRecord
from cim.simulator.modes import SimulationMode
from hil.cost.as_deployed import cost_as_deployed
from hil.datasets.image_set import Dataset
from hil.deployment.deploy import deploy_on
from hil.deployment.options import DeployOptions
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import open_chip
from hil.prediction.predict import predict
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.network.file import load_network
from mapping.workload import unplaced_workload
from search.space.candidate import CandidateCost
from search.space.target import Target


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of a network file on ``chips`` chips; accuracies are fractions of the same ``images`` images.

    ``low`` and ``high`` are a 95 % prediction interval of the next chip's accuracy. Latency and energy
    are of one image. ``source`` says how it was found: "simulated from …" or "measured on …".
    """

    accuracy_mean: float
    accuracy_worst: float
    low: float
    high: float
    chips: int
    images: int
    latency_ns: float
    energy_pj: float
    source: str

    def __post_init__(self) -> None:
        if not 0 <= self.accuracy_worst <= self.accuracy_mean <= 1 or min(self.chips, self.images) < 1:
            raise ValueError(f"no evaluation: {self}")

    @property
    def edp_mj_ms(self) -> float:
        """Energy · latency."""
        return self.energy_pj * 1e-9 * self.latency_ns * 1e-6


@dataclass(frozen=True)
class SimulatedEvaluator:
    """Virtual chips of one description, drawn from ``record`` (None: from the models of the chip file).

    ``data``: images that nothing was trained or calibrated on. ``target``: array that prices networks; None: the chip.
    """

    spec: ChipSpec
    data: Dataset
    record: CalibrationRecord | None = None
    options: DeployOptions = field(default_factory=DeployOptions)
    mode: SimulationMode | str = SimulationMode.EXACT
    watch: Watch = field(default_factory=Watch)
    target: Target | None = None

    def evaluate(self, network: Path) -> Evaluation:
        """Raises ``CannotMap`` when it does not fit, ``NoCostModel`` when the chip file has no prices."""
        file = load_network(network)
        program = compile_network(file, self.spec, options=self.options.layout)
        cost: Cost | CandidateCost
        if self.target is None:
            cost = cost_as_deployed(program, self.options.recipe_of(program), network.stem)
        else:
            work = unplaced_workload(
                file.graph,
                weight_bits=file.weight_bits,
                activation_bits=file.activation_bits,
                layer_bits=file.layer_bits,
            )
            cost = self.target.cost(work)
        found = predict(program, self.data, self.record, self.options, self.watch, mode=self.mode)
        low, high = found.at(0).one_chip
        return Evaluation(
            accuracy_mean=float(found.chips.mean()),
            accuracy_worst=float(found.chips.min()),
            low=low,
            high=high,
            chips=len(found.chips),
            images=found.images,
            latency_ns=cost.latency_ns,
            energy_pj=cost.energy_pj,
            source=f"simulated ({self.mode}): {found.source}",
        )


@dataclass(frozen=True)
class DeployedEvaluator:
    """One chip at ``address``, on which each network is deployed: accuracy and chip time come over its wire.

    No chip of ours tells its energy, so that is the cost model's; latency is the cost model's, times the chip
    time that images took over the chip time that the model expects of them.
    """

    address: str
    spec: ChipSpec
    data: Dataset
    record: CalibrationRecord | None = None
    options: DeployOptions = field(default_factory=DeployOptions)
    watch: Watch = field(default_factory=Watch)

    def evaluate(self, network: Path) -> Evaluation:
        """Raises what ``hil.deployment.deploy.deploy_on`` raises; outputs of the chip are off on every way out."""
        file = load_network(network)
        program = compile_network(file, self.spec, options=self.options.layout)
        cost = cost_as_deployed(program, self.options.recipe_of(program), network.stem)
        with open_chip(self.address, chip=self.spec) as driver:
            clock = ChipClock(driver, self.watch)
            report, _ = deploy_on(
                driver, program, self.data, graph=file.graph, record=self.record, options=self.options, watch=clock,
                network_name=network.stem,
            )  # fmt: skip
        judged = report.decisive
        taken = clock.measuring_ns / (report.data.images * judged.repeats) / cost.chip_time_ns
        return Evaluation(
            accuracy_mean=judged.measured.mean,
            accuracy_worst=judged.measured.mean,
            low=judged.measured.low,
            high=judged.measured.high,
            chips=1,
            images=report.data.images,
            latency_ns=cost.latency_ns * taken,
            energy_pj=cost.energy_pj,
            source=f"{report.backend_words}, {report.chip.name} {report.chip.serial}: {judged.verdict.value} with the "
            f"simulated {100 * judged.simulated.mean:.2f} %; chip time {taken:.3f} times the model's; energy modelled",
        )


class ChipClock(Watch):
    """Passes progress on, and adds up the chip time of measuring."""

    def __init__(self, driver: ChipDriver, watch: Watch) -> None:
        super().__init__()
        self.driver, self.watch, self.measuring_ns, self._since_ns = driver, watch, 0, 0

    def begin(self, name: str) -> None:
        self._since_ns = self.driver.chip_time_ns

    def end(self, name: str) -> None:
        if name == "measuring":
            self.measuring_ns += self.driver.chip_time_ns - self._since_ns

    def step(self, done: int, total: int, what: str = "", of: str = "") -> None:
        self.watch.step(done, total, what, of)

    def message(self, text: str) -> None:
        self.watch.message(text)
