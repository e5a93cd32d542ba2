"""Targets of a search: a chip file, or the field's scale (MNSIM 2.0)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, replace
from typing import Protocol

from cim.chip.file import ChipFileError, description, is_cost_model, load_chip
from cim.chip.spec import ChipSpec
from cim.cost.network_cost import NoCostModel, estimate
from cim.cost.workload import Workload
from cim.mnsim import MnsimConfig, MnsimCost, MnsimError, estimate_mnsim, load_mnsim
from mapping.layout.lay_out import LayoutOptions
from mapping.recipe.recipe import Recipe
from mapping.tune.low_rank import with_adapters
from mapping.workload import placed
from search.space.candidate import CandidateCost

LARGER_GRIDS = 6  # doublings of the grid for a network that is too large for it


@dataclass(frozen=True, slots=True)
class ArraySize:
    """Size of the part of a weight matrix that one array holds."""

    rows: int
    outputs: int


EACH_ONCE = LayoutOptions()


class Target(Protocol):
    """Frozen and picklable; ``digest`` changes when any cost may."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def macros(self) -> int: ...
    @property
    def array(self) -> ArraySize: ...
    @property
    def input_bits(self) -> int:
        """Widest codes that word lines take."""

    @property
    def adc_bits(self) -> int:
        """Bits of its converters as they are."""

    def cost(self, work: Workload) -> CandidateCost:
        """Cost of one image, also of a network with too many macros."""


@dataclass(frozen=True, slots=True)
class ChipTarget:
    """A chip with a [cost] section, by ``cim.cost.network_cost``. Macros are its macros.

    ``layout``: with the copies on idle cells that a deployment writes, or with each layer once.
    """

    chip: ChipSpec
    layout: LayoutOptions = EACH_ONCE
    adapter_rank: int = 0  # of the digital adapter that a tune gives each layer

    @classmethod
    def of(cls, chip: ChipSpec, recipe: Recipe) -> ChipTarget:
        """A chip with what a recipe writes to it."""
        return cls(chip, recipe.laid_out(LayoutOptions()), recipe.tune_plan.rank)

    def __post_init__(self) -> None:
        if self.chip.cost is None:
            raise NoCostModel(self.chip.name)

    @property
    def name(self) -> str:
        return self.chip.name

    @property
    def digest(self) -> str:
        assert self.chip.cost is not None
        what = description(self.chip) | {"cost": dataclasses.asdict(self.chip.cost)}
        if self.layout != EACH_ONCE or self.adapter_rank:
            what |= {"layout": dataclasses.asdict(self.layout), "adapters": self.adapter_rank}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    @property
    def macros(self) -> int:
        return self.chip.macros

    @property
    def array(self) -> ArraySize:
        return ArraySize(self.chip.macro.logical_rows, self.chip.macro.outputs)

    @property
    def input_bits(self) -> int:
        return self.chip.macro.inputs.bits

    @property
    def adc_bits(self) -> int:
        return self.chip.macro.adc.bits

    def cost(self, work: Workload) -> CandidateCost:
        lying = placed(with_adapters(work, self.adapter_rank), self.chip, self.layout, enlarge=not self.layout.rounds)
        chip = replace(self.chip, macros=max(self.macros, lying.highest_macro + 1))
        found = estimate(lying, chip)
        return CandidateCost(found.latency_ns, found.energy_pj, lying.highest_macro + 1, self.macros)


@dataclass(frozen=True, slots=True)
class MnsimTarget:
    """A configuration of MNSIM 2.0, on whose scale the field states its EDP. Macros are its tiles."""

    config: MnsimConfig

    @property
    def name(self) -> str:
        return self.config.source.removesuffix(".toml")

    @property
    def digest(self) -> str:
        return hashlib.sha256(repr(replace(self.config, source="")).encode()).hexdigest()

    @property
    def macros(self) -> int:
        return self.config.chip.tile_rows * self.config.chip.tile_columns

    @property
    def array(self) -> ArraySize:
        return ArraySize(self.config.array.rows, self.config.array.columns)

    @property
    def input_bits(self) -> int:
        return 16

    @property
    def adc_bits(self) -> int:
        return self.config.adc.chosen.bits

    def cost(self, work: Workload) -> CandidateCost:
        found = self._estimate(work)
        return CandidateCost(found.latency_ns, found.energy_total_nj * 1e3, found.tiles, self.macros)

    def _estimate(self, work: Workload) -> MnsimCost:
        config = self.config
        for _ in range(LARGER_GRIDS):
            try:
                return estimate_mnsim(work, config)
            except MnsimError:
                config = replace(config, chip=replace(config.chip, tile_rows=2 * config.chip.tile_rows))
        return estimate_mnsim(work, config)


def load_target(
    name_or_path: str,
    *,
    macros: int | None = None,
    recipe: Recipe | None = None,
) -> Target:
    """A chip file or an MNSIM configuration, shipped (by name) or a user's (a path ending in ``.toml``).

    Args:
        macros: another macro count than the chip file's; an MNSIM configuration takes none.
        recipe: what a deployment does to the network (copies, adapters). MNSIM lays networks out by itself.

    Raises:
        ChipFileError: unknown name, unreadable file, or a wrong value (with its line).
        NoCostModel: a chip file without [cost].
    """
    if not is_cost_model(str(name_or_path)):
        chip = load_chip(name_or_path, macros=macros)
        return ChipTarget(chip) if recipe is None else ChipTarget.of(chip, recipe)
    if macros is not None:
        raise ChipFileError(name_or_path, 0, "", "is a configuration of MNSIM 2.0; its tiles are set in the file")
    return MnsimTarget(load_mnsim(name_or_path))
