"""What a network of a search is worth on a chip: accuracy on simulated chips, latency and energy.

The ``Evaluator`` that ``search`` asks for; it says the same as ``hil simulate`` and ``hil estimate``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cim.calibration import CalibrationRecord
from cim.cost import estimate
from cim.spec import ChipSpec
from hil.data import Dataset
from hil.job import DeployOptions
from hil.predict import predict
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.netfile import load_network
from mapping.workload import program_workload
from search.evaluator import Evaluation


@dataclass(frozen=True)
class SimulatedEvaluator:
    """Virtual chips of one description, drawn from ``record`` (None: from the models of the chip file).

    ``data``: images that nothing was trained or calibrated on.
    """

    spec: ChipSpec
    data: Dataset
    record: CalibrationRecord | None = None
    options: DeployOptions = field(default_factory=DeployOptions)
    engine: str = "exact"
    watch: Watch = field(default_factory=Watch)

    def evaluate(self, network: Path) -> Evaluation:
        """Raises ``CannotMap`` when it does not fit, ``NoCostModel`` when the chip file has no prices."""
        program = compile_network(load_network(network), self.spec)
        cost = estimate(program_workload(program, network.stem), self.spec)
        found = predict(program, self.data, self.record, self.options, self.watch, engine=self.engine)
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
            source=f"simulated ({self.engine}): {found.source}",
        )
