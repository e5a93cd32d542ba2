"""Input planes and output codes: the ideal converters that compiler, simulator and chip share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import Encoding, InputCoding, InputSpec, MacroSpec, PairSubtraction, SignedInput
from cim.errors import CimUsageError


@dataclass(frozen=True, slots=True)
class Plane:
    """One read of a multi-bit input: ``width`` bits from bit ``shift``; its result counts ``weight`` times."""

    shift: int
    width: int
    weight: int


class CodeOutOfRange(CimUsageError, ValueError):
    """An input code does not fit its bit width, or the chip takes no signed codes."""


def input_planes(inputs: InputSpec, bits: int, signed: bool) -> tuple[Plane, ...]:
    """The reads that one input code takes, lowest bits first.

    Unsigned codes are cut into pieces of ``bits_per_cycle``. Signed codes depend on the chip:
    ``plane`` adds a last read of the sign bit with weight −2^(bits−1); ``ternary`` sends the
    magnitude with its sign; ``offset`` is sent as unsigned (see ``to_offset``). Unary codes take a read for each pulse
    of the largest; those of code k begin where those of k − 1 end, in a circle, so that no read has the pulses of all.

    Example:
        >>> spec = InputSpec(InputCoding.BIT_SERIAL, 8, 1, SignedInput.PLANE)
        >>> [p.weight for p in input_planes(spec, 4, True)]
        [1, 2, 4, -8]
    """
    if not 1 <= bits <= inputs.bits:
        raise CodeOutOfRange(f"{bits}-bit inputs; this chip takes 1 to {inputs.bits} bits")
    if signed and inputs.signed is SignedInput.NONE:
        raise CodeOutOfRange("signed inputs; this chip takes none")
    in_sign = signed and inputs.signed is not SignedInput.OFFSET
    magnitude = bits - 1 if in_sign else bits
    if inputs.coding is InputCoding.UNARY:
        return (Plane(0, 1, 1),) * ((1 << magnitude) - 1)
    step = inputs.bits_per_cycle
    planes = [Plane(s, min(step, magnitude - s), 1 << s) for s in range(0, magnitude, step)]
    if in_sign and inputs.signed is SignedInput.PLANE:
        planes.append(Plane(bits - 1, 1, -(1 << (bits - 1))))
    return tuple(planes)


def to_offset(codes: NDArray[np.int16], bits: int) -> NDArray[np.int16]:
    """Signed codes as the unsigned ones that an offset chip takes: code + 2^(bits−1)."""
    return (codes + (1 << (bits - 1))).astype(np.int16)


def check_codes(codes: NDArray[np.integer], bits: int, signed: bool) -> None:
    """Raise ``CodeOutOfRange`` when a code does not fit ``bits``."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if codes.size and (int(codes.min()) < low or int(codes.max()) > high):
        raise CodeOutOfRange(f"codes {codes.min()}..{codes.max()} do not fit {low}..{high}")


def split_planes(codes: NDArray[np.integer], inputs: InputSpec, bits: int, signed: bool) -> NDArray[np.int16]:
    """Input plane of one read.

    Args:
        codes: (..., rows), signed or unsigned ``bits``-bit codes; for an offset chip already
            unsigned (``to_offset``).
        inputs: of the macro: width and kind of an input unit.
        bits: of a code, 1 to 8.
        signed: whether codes may be below zero.

    Returns:
        int16 (planes, ..., rows), input units: 0..2^width − 1, or −1..1 when ternary.

    Example:
        >>> split_planes(np.array([5, 2]), spec.macro.inputs, 8, signed=False)[:3]  # lowest bits first
        array([[1, 0],
               [0, 1],
               [1, 0]], dtype=int16)
    """
    offset = inputs.signed is SignedInput.OFFSET
    check_codes(codes, bits, signed and not offset)
    wide = codes.astype(np.int32)
    planes = input_planes(inputs, bits, signed)
    size, sign = (np.abs(wide), np.sign(wide)) if inputs.signed is SignedInput.TERNARY else (wide, np.int32(1))
    if inputs.coding is InputCoding.UNARY:
        after = (np.arange(len(planes)).reshape(-1, *[1] * size.ndim) - size * (size - 1) // 2) % len(planes)
        return np.asarray(sign * (after < size), np.int16)
    return np.stack([(sign * ((size >> p.shift) & ((1 << p.width) - 1))).astype(np.int16) for p in planes])


def quantise_adc(sums_us: NDArray[np.floating], lsb_us: float, bits: int, signed: bool) -> NDArray[np.int32]:
    """The ideal converter: clip(⌊x / lsb + ½⌋).

    Rounding is the floor of x + ½, not to even, so that two converted halves of a pair keep
    their exact difference. Signed codes run from −2^(bits−1) to 2^(bits−1) − 1.

    Args:
        sums_us: converted quantities x, µS times input unit.
        lsb_us: step of the converter, in the same unit.
        bits: of a code.
        signed: whether codes may be below zero.

    Returns:
        codes, int32, of the shape of the sums.

    Example:
        >>> quantise_adc(np.array([-3.2, 0.4, 900.0]), lsb_us=1.0, bits=8, signed=True)
        array([ -3,   0, 127], dtype=int32)
    """
    low, high = code_limits(bits, signed)
    codes: NDArray[np.int32] = np.clip(np.floor(sums_us / lsb_us + 0.5), low, high).astype(np.int32)
    return codes


def code_limits(bits: int, signed: bool) -> tuple[int, int]:
    """Lowest and highest ADC code."""
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def conversions(spec: MacroSpec, outputs: int) -> int:
    """Conversions in one read of ``outputs`` outputs.

    Order within a read: analog pairs and single-ended cells, the outputs; digital pairs, all
    plus halves then all minus halves; offset column, the outputs then the reference.
    """
    if spec.encoding is Encoding.OFFSET_COLUMN:
        return outputs + 1
    if spec.paired and spec.pair_subtraction is PairSubtraction.DIGITAL:
        return 2 * outputs
    return outputs


def shift_add(codes: NDArray[np.integer], spec: MacroSpec, planes: tuple[Plane, ...]) -> NDArray[np.int32]:
    """Sums from raw codes: subtract pairs or the reference, then Σ weight · code over planes.

    Args:
        codes: (vectors, planes, conversions), order as in ``conversions``.

    Returns:
        int32 (vectors, outputs).
    """
    wide = codes.astype(np.int32)
    if spec.encoding is Encoding.OFFSET_COLUMN:
        wide = wide[..., :-1] - wide[..., -1:]
    elif spec.paired and spec.pair_subtraction is PairSubtraction.DIGITAL:
        half = wide.shape[-1] // 2
        wide = wide[..., :half] - wide[..., half:]
    weights = np.array([p.weight for p in planes], np.int32)
    sums: NDArray[np.int32] = np.einsum("vpo,p->vo", wide, weights).astype(np.int32)
    return sums


def sum_limits(spec: MacroSpec, planes: tuple[Plane, ...], reads: int = 1) -> tuple[int, int]:
    """Lowest and highest sum that ``shift_add`` gives, times the number of repeated ``reads`` that are added.

    Example: 8 signed bits, planes of weight 1 and 2: -384 to 381.
    """
    low, high = code_limits(spec.adc.bits, spec.adc_signed)
    digital = spec.paired and spec.pair_subtraction is PairSubtraction.DIGITAL
    if digital or spec.encoding is Encoding.OFFSET_COLUMN:
        low, high = low - high, high - low
    ends = [sorted((p.weight * low, p.weight * high)) for p in planes]
    return reads * sum(least for least, _ in ends), reads * sum(most for _, most in ends)


def input_cycles(inputs: InputSpec, plane: Plane) -> int:
    """Input cycles of one read: one a pulse of the largest unit where pulses are counted, else one."""
    return (1 << plane.width) - 1 if inputs.coding is InputCoding.PULSE_COUNT else 1
