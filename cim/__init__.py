"""One compute-in-memory macro and its physics: specification, converters, calibration record, simulator, cost.

The names below are the public ones of this package; everything else is internal. Each name is
imported when it is first used, so that ``import cim`` loads neither torch nor numba.
The cost model of MNSIM 2.0 is a package of its own, :mod:`cim.mnsim`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cim.public_names import imported, public_names

if TYPE_CHECKING:  # the public names, said once
    from cim.cells.read_noise import ReadNoise as ReadNoise
    from cim.chip.converters import quantise_adc as quantise_adc, split_planes as split_planes
    from cim.chip.correction import (
        Correction as Correction,
        apply_correction as apply_correction,
        nominal_correction as nominal_correction,
    )
    from cim.chip.encoding import (
        EncodedTile as EncodedTile,
        WeightForm as WeightForm,
        cell_lines as cell_lines,
        encode_tile as encode_tile,
    )
    from cim.chip.file import (
        ChipFileError as ChipFileError,
        NewerChipFile as NewerChipFile,
        chip_names as chip_names,
        load_chip as load_chip,
    )
    from cim.chip.spec import ChipSpec as ChipSpec, MacroSpec as MacroSpec
    from cim.chip.windows import Window as Window
    from cim.cost.network_cost import (
        Cost as Cost,
        LayerCost as LayerCost,
        NoCostModel as NoCostModel,
        estimate as estimate,
    )
    from cim.cost.workload import LayerWork as LayerWork, Workload as Workload
    from cim.record.calibration import (
        CalibrationRecord as CalibrationRecord,
        MacroCalibration as MacroCalibration,
        NotCalibrated as NotCalibrated,
    )
    from cim.record.file import (
        NewerRecord as NewerRecord,
        RecordFileError as RecordFileError,
        load_record as load_record,
        save_record as save_record,
    )
    from cim.record.published import nominal_record as nominal_record, published_model as published_model
    from cim.simulator.training_errors import ArrayNoise as ArrayNoise, array_noise as array_noise

_HOMES = public_names(__file__)
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    return imported(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return __all__
