"""Chip specification: the typed form of one chip file (``cim/chips/*.toml``).

A specification is what the maker says of every chip of that name; what one chip really
does is measured (``cim.record.calibration``) or, for the emulated chip, hidden (``hil.emulator``).
Loading and checking of the files is in ``cim.chip.file``.

The integer weights of a chip's conductance levels.

    g_k ≈ g_0 + unit · v_k,   v_0 = 0 < v_1 < … < v_n

Evenly spaced levels have v_k = k and their distance as the unit. Others, such as 2, 4, 8, 16, 32 µS,
have larger integers: 0, 1, 3, 7, 15 of 2 µS. Weights then take only values that cells hold.
"""

from __future__ import annotations

import enum
import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cim.chip.evidence import MeasuredNumber


class Encoding(enum.StrEnum):
    """Encoding of a signed weight level by cells."""

    DIFFERENTIAL_COLUMNS = "differential_columns"  # bit lines 2j (+) and 2j+1 (−) of one row
    ROW_PAIRS = "row_pairs"  # word lines 2r (+) and 2r+1 (−) of one bit line (2T2R)
    OFFSET_COLUMN = "offset_column"  # one cell a weight, the last logical column holds the middle level
    SINGLE_ENDED = "single_ended"  # one cell a weight, the middle is subtracted digitally


class PairSubtraction(enum.StrEnum):
    """Subtraction of the two halves of a pair: before the converter or after it."""

    ANALOG = "analog"
    DIGITAL = "digital"


class InputCoding(enum.StrEnum):
    """Coding of an input on the word lines."""

    BIT_SERIAL = "bit_serial"  # one bit a read, 0 or v_read
    PULSE_COUNT = "pulse_count"  # bits_per_cycle bits a read, as that many equal pulses
    AMPLITUDE = "amplitude"  # bits_per_cycle bits a read, as a voltage
    TERNARY = "ternary"  # one signed bit a read: −v_read, 0, +v_read
    UNARY = "unary"  # so many signed pulses as the code is large, one a read, all of weight 1


class SignedInput(enum.StrEnum):
    """Form of inputs below zero."""

    PLANE = "plane"  # two's complement, the sign plane is one more read of weight −2^(b−1)
    OFFSET = "offset"  # 2^(b−1) is added to each code, the correction is digital
    TERNARY = "ternary"  # sign and magnitude, planes in −1, 0, +1
    NONE = "none"


class WordLine(enum.StrEnum):
    """Effect of a word line on its cells."""

    GATE = "gate"  # opens their transistors (1T1R): an undriven cell hangs on nothing
    ROW = "row"  # drives a voltage through them: the network is the same for every input


class Sensing(enum.StrEnum):
    """The quantity that a column passes to its converter."""

    CURRENT = "current"  # Σ G u
    VOLTAGE = "voltage"  # Σ G u / Σ G: the line floats and settles at the mean of its inputs, weighted by conductance


class CellIv(enum.StrEnum):
    LINEAR = "linear"  # I = G V
    CUBIC = "cubic"  # I = G V (1 + k V²), k by level


class AdcTransfer(enum.StrEnum):
    LINEAR = "linear"
    TABLE = "table"


class ReadPath(enum.StrEnum):
    """Circuit that verifies and reads single cells."""

    SENSE = "sense"  # a sense amplifier of its own: cell readings are free of column errors
    COLUMN_ADC = "column_adc"  # the column's converter: only cell times column gain is seen


@dataclass(frozen=True, slots=True)
class InputSpec:
    coding: InputCoding
    bits: int  # widest input code, 2..8
    bits_per_cycle: int  # bits driven in one read
    signed: SignedInput


@dataclass(frozen=True, slots=True)
class AdcSpec:
    """The column converter.

    ``full_scales_us`` lists the selectable ranges, ascending: the conductance sum in µS
    (current divided by ``v_read_v`` and by the input unit) that reaches the end of the scale.
    ``codes`` (transfer ``table``) are the true codes at evenly spaced inputs over the scale.
    """

    bits: int
    full_scales_us: tuple[float, ...]
    shared_by: int  # converted columns (pairs where subtraction is analog) that share one ADC
    transfer: AdcTransfer = AdcTransfer.LINEAR
    codes: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class MacroSpec:
    """One array with its drivers and converters.

    ``levels_us[k]`` is the conductance in µS of level k; the table is the truth, nothing
    computes it from its ends. Weights and level sums count in ``level_step_us``: level k is
    worth ``values.values[k]`` of them (k itself where levels are even). Logical rows and
    outputs are what tiles are placed on; the cells behind them follow from ``encoding``,
    ``column_order`` and the rows kept out.
    """

    rows: int  # word lines
    columns: int  # bit lines
    levels_us: tuple[float, ...]
    tolerance_us: float  # write-verify window, ± µS
    encoding: Encoding
    pair_subtraction: PairSubtraction
    inputs: InputSpec
    rows_per_read: int  # most logical rows driven in one read
    cell_iv: CellIv
    cell_iv_k_per_v2: tuple[float, ...]  # one a level; empty when linear
    adc: AdcSpec
    column_order: tuple[int, ...]  # physical bit line of each logical column
    reserved_rows: tuple[int, ...]  # word lines kept for bias or test
    dead_rows: tuple[int, ...]  # word lines that do not work
    read_path: ReadPath
    v_read_v: float
    word_line: WordLine = WordLine.GATE
    sensing: Sensing = Sensing.CURRENT

    @property
    def paired(self) -> bool:
        return self.encoding in (Encoding.DIFFERENTIAL_COLUMNS, Encoding.ROW_PAIRS)

    @property
    def values(self) -> LevelValues:
        """The integer that each level stands for, with its unit and error."""
        return level_values(self.levels_us, self.tolerance_us)

    @property
    def even_levels(self) -> bool:
        """Whether the levels of a cell are worth 0, 1, 2, …, evenly spaced."""
        return self.values.even

    @property
    def zero_level(self) -> int:
        """The level of a cell that holds weight 0: the lowest of a pair, else the one nearest the middle."""
        if self.paired:
            return 0
        v = self.values.values
        return min(range(len(v)), key=lambda k: (abs(2 * v[k] - v[-1]), k))

    @property
    def weight_values(self) -> tuple[int, ...]:
        """Signed values that one weight position can hold, ascending.

        Pairs: ±v_k. Single cells: v_k − v_zero; of an even number of even levels the highest is not used.
        """
        v = self.values.values
        if self.paired:
            return (*(-x for x in v[:0:-1]), *v)
        signed = tuple(x - v[self.zero_level] for x in v)
        return signed[:-1] if self.even_levels and len(v) % 2 == 0 else signed

    @property
    def max_level(self) -> int:
        """Largest weight magnitude that one weight position holds with either sign."""
        if self.even_levels:
            top = len(self.levels_us) - 1
            return top if self.paired else top // 2
        return min(-self.weight_values[0], self.weight_values[-1])

    @property
    def level_step_us(self) -> float:
        """The unit of weight values and level sums, µS: the distance of neighbouring levels where they are even."""
        return self.values.unit_us

    @property
    def level_gap_us(self) -> float:
        """Mean distance of two neighbouring levels, µS."""
        return (self.levels_us[-1] - self.levels_us[0]) / (len(self.levels_us) - 1)

    @property
    def word_lines(self) -> tuple[tuple[int, ...], ...]:
        """Physical word lines of each logical row: (r,), or (plus, minus) for row pairs."""
        return _word_lines(self.rows, (*self.reserved_rows, *self.dead_rows), self.encoding is Encoding.ROW_PAIRS)

    @property
    def logical_rows(self) -> int:
        """Rows a tile can use: those in service, at most ``rows_per_read``."""
        return min(len(self.word_lines), self.rows_per_read)

    @property
    def outputs(self) -> int:
        """Weight columns a macro offers."""
        if self.encoding is Encoding.DIFFERENTIAL_COLUMNS:
            return self.columns // 2
        return self.columns - (self.encoding is Encoding.OFFSET_COLUMN)

    @property
    def adc_signed(self) -> bool:
        """Whether a converted current can be negative."""
        analog_pair = self.paired and self.pair_subtraction is PairSubtraction.ANALOG
        return analog_pair or self.inputs.signed is SignedInput.TERNARY

    def lsb_us(self, range_code: int) -> float:
        """One ADC code in µS times input unit, at a range: full scale / 2^(bits−1) when signed, / 2^bits if not."""
        return self.adc.full_scales_us[range_code] / float(1 << (self.adc.bits - self.adc_signed))


@dataclass(frozen=True, slots=True)
class WriteRecipe:
    """Write-verify: what the chip (or the host, pulse by pulse) does to reach a window."""

    set_start_v: float
    set_step_v: float
    set_stop_v: float
    reset_start_v: float
    reset_step_v: float
    reset_stop_v: float
    pulse_width_ns: float
    max_pulses: int  # per cell and programming
    verify_reads: int  # reads averaged in one verify


@dataclass(frozen=True, slots=True)
class FormRecipe:
    """Forming of fresh cells: SET pulses, the voltage growing from start to stop, until a reading reaches a target."""

    formed: bool  # whether chips of this kind come with formed cells
    start_v: float
    step_v: float
    stop_v: float  # at most ``Limits.set_v``
    pulse_width_ns: float
    pulses: int  # at each voltage
    target_us: float  # a cell that reads this much is formed
    lost_us: float  # one that reads more than this broke down
    fresh_us: float  # one that reads less than this was never formed

    @property
    def most_pulses(self) -> int:
        """Pulses that a cell has received when forming gives up."""
        return (math.floor((self.stop_v - self.start_v) / self.step_v + 1e-9) + 1) * self.pulses

    @property
    def staircase_v(self) -> tuple[float, ...]:
        """Voltage of each forming pulse, in order."""
        return tuple(round(self.start_v + k // self.pulses * self.step_v, 6) for k in range(self.most_pulses))


@dataclass(frozen=True, slots=True)
class Limits:
    """Absolute limits, refused by host and chip alike."""

    set_v: float
    reset_v: float
    read_v: float
    pulse_width_ns: float
    pulses_per_cell: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Duration of each operation on the chip."""

    pulse_ns: float  # one programming pulse with its set-up
    verify_ns: float  # one read in a verify
    cell_read_ns: float
    row_setup_ns: float  # once per read of a macro
    input_cycle_ns: float  # one input plane
    conversion_ns: float  # one ADC conversion


@dataclass(frozen=True, slots=True)
class MacroGroups:
    """Rules of placement on chips whose macros come in groups (a tile of the A111: eight arrays).

    A group works in one of ``modes``, each a list of parts in macros; each part, a run of
    neighbouring macros, belongs to one layer, and no layer has two parts of a group. Layers of one group run
    one after the other. ``joined`` neighbouring macros, counted from a multiple of it, can work as one.
    """

    size: int  # macros of a group
    modes: tuple[tuple[int, ...], ...]
    joined: int = 1


class CellModel(enum.StrEnum):
    """Programming and relaxation of cells before a chip was measured: a published model, or one's own."""

    WAN_2022 = "wan-2022"
    WAN_2022_CUBIC = "wan-2022-cubic"
    CMO_HFOX = "cmo-hfox"
    CMO_HFOX_2 = "cmo-hfox-2"
    PCM_LIKE = "pcm-like"
    PCM_LIKE_PAIR = "pcm-like-pair"  # two in parallel
    MILO = "milo"
    JOSHI_PCM = "joshi-pcm"
    POLYNOMIAL = "polynomial"  # coefficients in the chip file


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Belief about chips of this kind before one was measured (``cim.record.published.nominal_record``).

    ``polynomial``: sigma of conductance − target in µS is Σ c_i (G / G_max)^i at each of ``programming_ages_s``, one
    row of ``programming_sigma_us`` an age, lowest power first. ``ranges``: lowest and highest of values that are known
    only roughly, by field; the value itself is the likeliest. ``programming_mean_us`` gives the mean of conductance −
    target as such a polynomial; empty: zero.
    """

    programming: CellModel
    programming_ages_s: tuple[float, ...]  # polynomial only
    programming_sigma_us: tuple[tuple[float, ...], ...]  # polynomial only
    read_variance_us2: float  # new at every single read
    conversion_noise_codes: float
    wire_ohm: float  # per cell pitch of each line
    stuck_low_share: float
    stuck_high_share: float
    unreached_share: float
    unreached_us: tuple[float, ...] = ()  # errors of cells that missed their window; none: they end where others do
    cell_error_factor: float = 1.0  # of the errors that the law of another lab gives its cells
    product_error: float = 0.0  # share by which a cell in a product differs from itself read alone, always the same
    column_gain_sigma: float = 0.0
    column_offset_codes: float = 0.0
    inl_codes: float = 0.0  # of a converter's curve, rms over its scale
    programming_mean_us: tuple[tuple[float, ...], ...] = ()  # polynomial only
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CostSpec:
    """Costs of events on chips of this kind (``cim.cost.network_cost``): energy, rates, leakage, area.

    Times of reads and conversions are in ``Timing``. A conversion takes ``adc_fj_per_step`` · 2^bits.
    """

    input_activity: float  # mean of input unit / largest unit
    mean_cell_us: float  # mean conductance of a cell under a tile
    row_pj: float  # driver and DAC of one word line, per input cycle
    read_pj: float  # fixed, per read of a macro
    sample_hold_pj: float  # per conversion
    adc_fj_per_step: float
    shift_add_pj: float  # per conversion
    accumulate_pj: float  # per partial sum added
    activation_pj: float  # per output code
    pool_pj: float  # per input of a pool or an addition
    partial_sum_bits: int
    buffer_read_pj_per_bit: float
    buffer_write_pj_per_bit: float
    buffer_bits_per_ns: float  # of one macro
    digital_ops_per_ns: float  # of one macro's activation and pooling unit
    hop_pj_per_bit: float
    link_bits_per_ns: float
    hop_ns: float
    host_pj_per_bit: float
    host_bits_per_ns: float
    macro_leakage_uw: float
    buffer_leakage_nw_per_bit: float
    pulse_pj: float
    verify_pj: float
    mean_pulses: float  # of a cell in one programming
    endurance_cycles: float  # programmings that a cell survives
    cell_um2: float
    row_um2: float  # driver and DAC of one word line
    column_um2: float  # multiplexer and sample-and-hold of one bit line
    adc_um2_per_bit: float
    macro_digital_um2: float  # shift-add, accumulators, control
    activation_um2: float  # of one macro's activation and pooling unit
    router_um2: float
    buffer_um2_per_bit: float
    multiply_pj: float | None = None  # per product of activations in chip logic; None: the host's


@dataclass(frozen=True, slots=True)
class ChipSpec:
    """Content of one chip file.

    ``sample`` holds the parameters from which the emulated chip draws its truth; the simulator and the calibration
    never read it (a test checks). ``provenance`` maps each dotted key to where its value comes from. ``digest`` is the
    SHA-256 of the canonical description, 64 hex digits; the chip sends the same. ``text`` is the file itself.
    ``models`` holds the simulator's assumptions until a chip is measured; the emulated chip never reads it. Also
    optional are ``cost``, prices for ``cim.cost.network_cost``, ``groups``, rules for placing layers, and ``form``, how
    fresh cells are formed; no board's reply to a request depends on these sections, so the digest does not cover them.
    ``evidence`` is a published measurement of chips of this kind, ``technology`` the device technology of their cells;
    both are optional.
    """

    name: str
    revision: str
    process: str
    source: str
    macros: int
    macro: MacroSpec
    write: WriteRecipe
    limits: Limits
    timing: Timing
    sample: Mapping[str, float]
    provenance: Mapping[str, str]
    digest: str
    text: str = field(repr=False, default="")
    models: ModelSpec | None = None
    cost: CostSpec | None = None
    groups: MacroGroups | None = None
    form: FormRecipe | None = None
    evidence: MeasuredNumber | None = None
    technology: str = ""

    @property
    def life_pulses(self) -> int | None:
        """Pulses that a cell bears in its life; None: the chip file does not say."""
        return None if self.cost is None else round(self.cost.endurance_cycles * self.cost.mean_pulses)


@functools.lru_cache(maxsize=64)
def _word_lines(rows: int, out: tuple[int, ...], pairs: bool) -> tuple[tuple[int, ...], ...]:
    """Word lines in service of each logical row, (plus, minus) for pairs; cached for all tiles of a chip."""
    dead = set(out)
    lines: list[tuple[int, ...]] = [(r, r + 1) for r in range(0, rows - 1, 2)] if pairs else [(r,) for r in range(rows)]
    return tuple(line for line in lines if not dead.intersection(line))


LARGEST_VALUE = 127  # a signed weight value is one byte
WINDOW_SHARE = 0.25  # of the write-verify window: an error this small is lost in what writing leaves


@dataclass(frozen=True, slots=True)
class LevelValues:
    """``values`` of the levels, the ``unit_us`` of one, and the largest |g_k − g_0 − unit · v_k|."""

    values: tuple[int, ...]
    unit_us: float
    error_us: float

    @property
    def even(self) -> bool:
        return self.values[-1] == len(self.values) - 1


@functools.cache
def level_values(levels_us: tuple[float, ...], tolerance_us: float) -> LevelValues:
    """The smallest integers that give every level to within a quarter of the write-verify window.

    The highest level is exact: unit = (g_n − g_0) / v_n. Where no v_n up to 127 is close enough,
    the one of the least error is taken.

    Args:
        levels_us: ascending, µS.
        tolerance_us: the window is ± this.

    Raises:
        ValueError: two levels are closer than 1/127 of the span, so no integers tell them apart.

    Example:
        >>> level_values((2.0, 4.0, 8.0, 16.0, 32.0), 0.5)
        LevelValues(values=(0, 1, 3, 7, 15), unit_us=2.0, error_us=0.0)
    """
    best = None
    even = len(levels_us) - 1
    for top in (even, *range(even + 1, LARGEST_VALUE + 1)):
        unit = (levels_us[-1] - levels_us[0]) / top
        values = tuple(round((g - levels_us[0]) / unit) for g in levels_us)
        if any(a >= b for a, b in itertools.pairwise(values)):
            continue
        error = max(abs(g - levels_us[0] - unit * v) for g, v in zip(levels_us, values, strict=True))
        if best is None or error < best.error_us:
            best = LevelValues(values, unit, error)
        if error <= WINDOW_SHARE * tolerance_us:
            return LevelValues(values, unit, error)
    if best is None:
        raise ValueError(f"two of {len(levels_us)} levels are closer than 1/{LARGEST_VALUE} of their span")
    return best
