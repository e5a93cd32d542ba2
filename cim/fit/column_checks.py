"""How well a record predicts reads that its columns were not fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.array.input_drive import InputDrive, driven_units
from cim.array.wire_law import Wire
from cim.array.wires import converted_sums_us
from cim.cells.read_noise import ReadNoise
from cim.chip.converters import code_limits, input_planes, split_planes
from cim.chip.encoding import tile_halves_us
from cim.chip.spec import MacroSpec
from cim.fit.columns import QUANTISATION, ColumnFit, predicted_variance_us2
from cim.fit.curves import Converters
from cim.fit.measured import Idle, NetworkProducts


@dataclass(frozen=True, slots=True)
class NetworkCheck:
    """How well the record predicts products with inputs like a network's: every conversion's line
    fitted on half of the vectors, tested on the other half."""

    r2: float
    slope: float  # of measured over predicted, mean over conversions
    residual_codes: float
    expected_codes: float  # the noise that the record predicts

    @classmethod
    def of(
        cls,
        spec: MacroSpec,
        products: NetworkProducts,
        readings_us: NDArray[np.float32],
        noise: ReadNoise,
        final: ColumnFit,
        wire: Wire,
        drive: InputDrive | None = None,
    ) -> NetworkCheck:
        """Sums over planes, Σ weight · code, of each conversion, measured and predicted."""
        halves = np.asarray(
            tile_halves_us(np.nan_to_num(readings_us), spec, 0, spec.logical_rows, 0, spec.outputs), np.float64
        )
        bits = spec.inputs.bits
        units = driven_units(split_planes(products.inputs, spec.inputs, bits, False), drive)
        limits = code_limits(spec.adc.bits, spec.adc_signed)
        lsb = spec.lsb_us(products.range_code)
        setup = Converters(lsb, limits, final.adc)
        measured = np.zeros((len(products.inputs), len(final.gain)))
        predicted, variance = np.zeros_like(measured), np.zeros_like(measured)
        for number, plane in enumerate(input_planes(spec.inputs, bits, False)):
            sums = converted_sums_us(spec, 0, halves, units[number], wire)
            measured += plane.weight * products.codes[:, number]
            predicted += plane.weight * np.clip(final.expected_codes(sums, setup), *limits)
            reads = predicted_variance_us2(spec, halves, units[number], noise)
            code2 = final.conversion_noise_codes**2 + QUANTISATION + final.read_scale * (final.gain / lsb) ** 2 * reads
            variance += plane.weight**2 * code2
        half = np.arange(len(measured)) % 2 == 0
        x, y = predicted[half], measured[half]
        slope = ((x - x.mean(0)) * (y - y.mean(0))).sum(0) / ((x - x.mean(0)) ** 2).sum(0)
        offset = y.mean(0) - slope * x.mean(0)
        rest = measured[~half] - slope * predicted[~half] - offset
        total = np.square(measured[~half] - measured[~half].mean(0)).sum()
        return cls(
            float(1.0 - np.square(rest).sum() / total),
            float(slope.mean()),
            float(np.sqrt(np.square(rest).mean())),
            float(np.sqrt(variance.mean())),
        )


def idle_disagreement(spec: MacroSpec, idle: Mapping[int, Idle], finals: Mapping[int, ColumnFit]) -> float:
    """Mean distance in codes of idle codes, measured and of the fitted columns, beyond the ½ code of rounding."""
    far = []
    for macro, final in finals.items():
        limits = code_limits(spec.adc.bits, spec.adc_signed)
        expected = final.expected_codes(np.zeros((1, len(final.gain))), Converters(1.0, limits, final.adc))[0]
        gap = np.abs(idle[macro].mean_codes - np.clip(expected, *limits))
        far.append(np.maximum(gap - 0.5, 0.0))
    return float(np.mean(far))
