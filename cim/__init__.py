"""One compute-in-memory macro and its physics: specification, converters, calibration record, simulator, cost.

The names below are the public ones of this package; everything else is internal. Each name is
imported when it is first used, so that ``import cim`` loads neither torch nor numba.
The cost model of MNSIM 2.0 is a package of its own, :mod:`cim.mnsim`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cim.cells.read_noise import ReadNoise
    from cim.chip.converters import quantise_adc, split_planes
    from cim.chip.correction import Correction, apply_correction, nominal_correction
    from cim.chip.encoding import EncodedTile, WeightForm, cell_lines, encode_tile
    from cim.chip.file import ChipFileError, NewerChipFile, chip_names, load_chip
    from cim.chip.spec import ChipSpec, MacroSpec
    from cim.chip.windows import Window
    from cim.cost.network_cost import Cost, LayerCost, NoCostModel, estimate
    from cim.cost.workload import LayerWork, Workload
    from cim.record.calibration import CalibrationRecord, MacroCalibration, NotCalibrated
    from cim.record.estimates import Estimate, scalar_estimates
    from cim.record.file import NewerRecord, RecordFileError, load_record, save_record
    from cim.record.published import nominal_record, published_model
    from cim.simulator.training_errors import ArrayNoise, array_noise
    from cim.simulator.training_layers import CimConv2d, CimLayer, CimLinear

__all__ = [
    "ArrayNoise",
    "CalibrationRecord",
    "ChipFileError",
    "ChipSpec",
    "CimConv2d",
    "CimLayer",
    "CimLinear",
    "Correction",
    "Cost",
    "EncodedTile",
    "Estimate",
    "LayerCost",
    "LayerWork",
    "MacroCalibration",
    "MacroSpec",
    "NewerChipFile",
    "NewerRecord",
    "NoCostModel",
    "NotCalibrated",
    "ReadNoise",
    "RecordFileError",
    "WeightForm",
    "Window",
    "Workload",
    "apply_correction",
    "array_noise",
    "cell_lines",
    "chip_names",
    "encode_tile",
    "estimate",
    "load_chip",
    "load_record",
    "nominal_correction",
    "nominal_record",
    "published_model",
    "quantise_adc",
    "save_record",
    "scalar_estimates",
    "split_planes",
]

_HOMES = {
    "cim.cells.read_noise": ("ReadNoise",),
    "cim.chip.converters": ("quantise_adc", "split_planes"),
    "cim.chip.correction": ("Correction", "apply_correction", "nominal_correction"),
    "cim.chip.encoding": ("EncodedTile", "WeightForm", "cell_lines", "encode_tile"),
    "cim.chip.file": ("ChipFileError", "NewerChipFile", "chip_names", "load_chip"),
    "cim.chip.spec": ("ChipSpec", "MacroSpec"),
    "cim.chip.windows": ("Window",),
    "cim.cost.network_cost": ("Cost", "LayerCost", "NoCostModel", "estimate"),
    "cim.cost.workload": ("LayerWork", "Workload"),
    "cim.record.calibration": ("CalibrationRecord", "MacroCalibration", "NotCalibrated"),
    "cim.record.estimates": ("Estimate", "scalar_estimates"),
    "cim.record.file": ("NewerRecord", "RecordFileError", "load_record", "save_record"),
    "cim.record.published": ("nominal_record", "published_model"),
    "cim.simulator.training_errors": ("ArrayNoise", "array_noise"),
    "cim.simulator.training_layers": ("CimConv2d", "CimLayer", "CimLinear"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'cim' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
