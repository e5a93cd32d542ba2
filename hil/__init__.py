"""Hardware in the loop: deploy a network on a chip, calibrate, predict, measure and judge.

The names below are the public ones of this package; everything else is internal and may change
without notice. ``import hil`` is fast: each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cim.public_names import imported, public_names

if TYPE_CHECKING:  # the public names, said once
    from hil.cost.estimate import estimate_network as estimate_network
    from hil.datasets.image_set import Dataset as Dataset, load_dataset as load_dataset
    from hil.deployment.import_weights import import_network as import_network
    from hil.deployment.options import DeployOptions as DeployOptions, TechniqueOptions as TechniqueOptions
    from hil.device_fit.result import fit_source as fit_source
    from hil.driver.chip_driver import ChipDriver as ChipDriver
    from hil.errors import (
        DeviceError as DeviceError,
        ExitCode as ExitCode,
        FileError as FileError,
        HilError as HilError,
        Interrupted as Interrupted,
        LinkError as LinkError,
        MismatchError as MismatchError,
        OutputError as OutputError,
        PortError as PortError,
        UsageError as UsageError,
    )
    from hil.improvement.finetuning.settings import (
        FinetuneSettings as FinetuneSettings,
        OnChipSettings as OnChipSettings,
    )
    from hil.improvement.settings import ImproveSettings as ImproveSettings
    from hil.prediction.text import Prediction as Prediction
    from hil.python.answers import Report as Report, Simulation as Simulation
    from hil.python.chip import Chip as Chip, open_chip as open_chip
    from hil.python.improving import Improved as Improved, improve as improve
    from hil.python.judging import judge as judge
    from hil.python.networks import CompiledNetwork as CompiledNetwork, compile as compile
    from hil.python.runs import deploy as deploy, simulate as simulate
    from hil.python.searching import FinishedSearch as FinishedSearch, search as search
    from hil.python.training import (
        FinetunedNetwork as FinetunedNetwork,
        FinetunedOnChip as FinetunedOnChip,
        finetune as finetune,
    )
    from hil.python.tuning import Retuned as Retuned, tune as tune
    from hil.report.run_data import RunData as RunData, read_run as read_run
    from hil.searching.pruning import PruneResult as PruneResult, prune as prune
    from hil.searching.evaluator import DeployedEvaluator as DeployedEvaluator, SimulatedEvaluator as SimulatedEvaluator
    from hil.searching.settings import SearchSettings as SearchSettings
    from hil.server.board import Board as Board
    from hil.server.firmware_build import config_header as config_header
    from hil.server.serve import serve_tcp as serve_tcp, serve_unix as serve_unix
    from hil.server.whole_layers import run_layer as run_layer, run_plan as run_plan
    from hil.verdict.agreement import AgreementReport as AgreementReport
    from hil.verdict.baseline import (
        BaselineChange as BaselineChange,
        compare_reports as compare_reports,
        read_baseline as read_baseline,
    )
    from hil.watch import Watch as Watch

_HOMES = public_names(__file__)
__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    return _version() if name == "__version__" else imported(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("rram-hil")
    except PackageNotFoundError:  # the folder alone, not installed
        return "unknown"
