"""Hardware in the loop: deploy a network on a chip, calibrate, predict, measure and judge.

The names below are the public ones of this package; everything else is internal and may change
without notice. ``import hil`` is fast: each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hil.calibration.procedure import calibrate
    from hil.cost.estimate import estimate_network
    from hil.datasets.image_set import Dataset, load_dataset
    from hil.deployment.adaptation import adapt_to_record
    from hil.deployment.deploy import deploy, deploy_on
    from hil.deployment.import_weights import import_network
    from hil.deployment.options import DeployOptions
    from hil.device_fit.inputs import fit_source
    from hil.driver.bench import CellMap, MvmReading, cell_map, first_mvm
    from hil.driver.chip_driver import ChipDriver
    from hil.driver.open_chip import open_chip
    from hil.errors import (
        DeviceError,
        ExitCode,
        FileError,
        HilError,
        Interrupted,
        LinkError,
        MismatchError,
        OutputError,
        PortError,
        UsageError,
    )
    from hil.improvement.finetuning.on_chip import finetune_on_chip
    from hil.improvement.finetuning.on_chip_result import OnChipResult
    from hil.improvement.finetuning.run import FinetuneResult, finetune
    from hil.improvement.finetuning.settings import FinetuneSettings, OnChipSettings
    from hil.improvement.retune import retune
    from hil.prediction.judge import judge
    from hil.prediction.predict import predict
    from hil.prediction.text import Prediction
    from hil.report.run_data import RunData, read_run
    from hil.searching.evaluator import DeployedEvaluator, SimulatedEvaluator
    from hil.searching.folder import SearchFolder, begin_folder, open_folder
    from hil.searching.run import run_search
    from hil.searching.settings import SearchSettings
    from hil.server.board import Board
    from hil.server.firmware_build import config_header
    from hil.server.serve import serve_tcp, serve_unix
    from hil.verdict.agreement import AgreementReport
    from hil.verdict.baseline import BaselineChange, compare_reports, read_baseline
    from hil.watch import Watch

__all__ = [
    "AgreementReport",
    "BaselineChange",
    "Board",
    "CellMap",
    "ChipDriver",
    "Dataset",
    "DeployOptions",
    "DeployedEvaluator",
    "DeviceError",
    "ExitCode",
    "FileError",
    "FinetuneResult",
    "FinetuneSettings",
    "HilError",
    "Interrupted",
    "LinkError",
    "MismatchError",
    "MvmReading",
    "OnChipResult",
    "OnChipSettings",
    "OutputError",
    "PortError",
    "Prediction",
    "RunData",
    "SearchFolder",
    "SearchSettings",
    "SimulatedEvaluator",
    "UsageError",
    "Watch",
    "__version__",
    "adapt_to_record",
    "begin_folder",
    "calibrate",
    "cell_map",
    "compare_reports",
    "config_header",
    "deploy",
    "deploy_on",
    "estimate_network",
    "finetune",
    "finetune_on_chip",
    "first_mvm",
    "fit_source",
    "import_network",
    "judge",
    "load_dataset",
    "open_chip",
    "open_folder",
    "predict",
    "read_baseline",
    "read_run",
    "retune",
    "run_search",
    "serve_tcp",
    "serve_unix",
]

_HOMES = {
    "hil.calibration.procedure": ("calibrate",),
    "hil.searching.evaluator": ("DeployedEvaluator", "SimulatedEvaluator"),
    "hil.searching.run": ("run_search",),
    "hil.searching.folder": ("SearchFolder", "begin_folder", "open_folder"),
    "hil.searching.settings": ("SearchSettings",),
    "hil.cost.estimate": ("estimate_network",),
    "hil.datasets.image_set": ("Dataset", "load_dataset"),
    "hil.deployment.adaptation": ("adapt_to_record",),
    "hil.deployment.deploy": ("deploy", "deploy_on"),
    "hil.deployment.import_weights": ("import_network",),
    "hil.deployment.options": ("DeployOptions",),
    "hil.device_fit.inputs": ("fit_source",),
    "hil.driver.bench": ("CellMap", "MvmReading", "cell_map", "first_mvm"),
    "hil.driver.chip_driver": ("ChipDriver",),
    "hil.driver.open_chip": ("open_chip",),
    "hil.errors": (
        "DeviceError",
        "ExitCode",
        "FileError",
        "HilError",
        "Interrupted",
        "LinkError",
        "MismatchError",
        "OutputError",
        "PortError",
        "UsageError",
    ),
    "hil.improvement.finetuning.on_chip": ("finetune_on_chip",),
    "hil.improvement.finetuning.on_chip_result": ("OnChipResult",),
    "hil.improvement.finetuning.run": ("FinetuneResult", "finetune"),
    "hil.improvement.finetuning.settings": ("FinetuneSettings", "OnChipSettings"),
    "hil.improvement.retune": ("retune",),
    "hil.prediction.judge": ("judge",),
    "hil.prediction.predict": ("predict",),
    "hil.prediction.text": ("Prediction",),
    "hil.report.run_data": ("RunData", "read_run"),
    "hil.server.board": ("Board",),
    "hil.server.firmware_build": ("config_header",),
    "hil.server.serve": ("serve_tcp", "serve_unix"),
    "hil.verdict.agreement": ("AgreementReport",),
    "hil.verdict.baseline": ("BaselineChange", "compare_reports", "read_baseline"),
    "hil.watch": ("Watch",),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name == "__version__":
        return _version()
    if name not in _MODULES:
        raise AttributeError(f"module 'hil' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("rram-hil")
    except PackageNotFoundError:  # the folder alone, not installed
        return "unknown"
