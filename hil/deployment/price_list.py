"""Prices of what techniques offer, on one network and chip: what ``hil help techniques`` prints, and the order in
which ``hil improve`` tries them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hil.deployment.options import USUAL_RECIPE, NetworkOptions
from hil.pages.tables import Table, duration
from hil.watch import Watch
from mapping.errors import CannotMap
from mapping.recipe.recipe import Recipe
from mapping.recipe.registry import offers, techniques
from mapping.recipe.technique import Gave, Offer, RecipeError, Technique

if TYPE_CHECKING:
    from hil.cost.plan import DeploymentPlan
    from mapping.layout.lay_out import LayoutOptions
    from mapping.program.conductance import ConductanceProgram


@dataclass(frozen=True, slots=True)
class Priced:
    """An offer of a technique in the first of its settings for which the chip has room.

    ``plan``: of the network with this technique and those it requires; None: no room, for the reason in ``why``.
    """

    technique: Technique
    offer: Offer
    plan: DeploymentPlan | None
    why: str = ""

    @property
    def price(self) -> tuple[float, ...]:
        """Sort key from cheap to dear: EDP, word-line reads, cells, wear, writing time; infinite without a plan."""
        plan = self.plan
        if plan is None:
            return (math.inf,)
        wear = plan.pulses + plan.pulses_again
        return (plan.edp_mj_ms or 0.0, plan.reads, plan.cells, wear, plan.write_s, plan.tune_images)


def price_list(
    planned: Callable[[Recipe], DeploymentPlan],
    watch: Watch,
    begun: Recipe | None = None,
    settings: Recipe | None = None,
) -> tuple[Priced, ...]:
    """All offers from cheap to dear, each alone on a network and chip.

    Args:
        planned: the plan of a recipe; raises ``CannotMap`` where the chip has no place for it.
        begun: techniques that every recipe contains; None: no technique.
        settings: settings of techniques that differ from their defaults.
    """
    found = []
    for number, (kind, offer) in enumerate(offers()):
        watch.step(number, len(offers()), kind.name)
        found.append(_priced(kind, offer, planned, begun or Recipe(), settings or Recipe()))
    return tuple(sorted(found, key=lambda priced: priced.price))


def _priced(
    kind: type[Technique], offer: Offer, planned: Callable[[Recipe], DeploymentPlan], begun: Recipe, settings: Recipe
) -> Priced:
    for changes in offer.changes:
        wanted = replace(settings.get(kind) or kind(), **changes)  # type: ignore[type-var]
        try:
            return Priced(wanted, offer, planned(begun.using(wanted, settings)))
        except CannotMap as error:
            why = error.reason
        except RecipeError as error:
            why = str(error)
    return Priced(wanted, offer, None, why)


def planner(network: str | Path | None, source: NetworkOptions) -> Callable[[Recipe], DeploymentPlan]:
    """Plans of a network on the chip that ``source`` names; each layout is compiled once."""
    from cim.chip.file import load_chip
    from hil.deployment.network_source import BUNDLED_NETWORK, bundled_on, check_room, open_network, program_of
    from hil.deployment.plan import plan_of
    from mapping.layout.lay_out import LayoutOptions
    from mapping.tune.residual import with_reads

    made: dict[LayoutOptions, ConductanceProgram] = {}
    chosen, source = bundled_on(Path(network) if network else None, source, USUAL_RECIPE, Watch())
    path, spec = chosen or BUNDLED_NETWORK, load_chip(source.chip, macros=source.macros)
    file = None if path.suffix == ".h5" else open_network(path, source)

    def planned(recipe: Recipe) -> DeploymentPlan:
        layout = recipe.laid_out(LayoutOptions())
        same = layout.read_once
        if same not in made:
            if file is not None:
                check_room(recipe.before_compiling(file, spec), spec, recipe)
            made[same] = program_of(path, source, Watch(), recipe=recipe)[0]
        program = made[same]
        if program.residual == bool(layout.residual):
            program = with_reads(program, layout)
        return plan_of(program, recipe)

    return planned


def prices_of(network: str | Path | None, source: NetworkOptions, watch: Watch) -> dict[str, DeploymentPlan | str]:
    """Plans by technique as named for ``--with``: "compiled" (none), the default, all offers from cheap to dear, and
    techniques with a measured gain; where the chip has no room, a text with the reason."""
    planned = planner(network, source)
    found: dict[str, DeploymentPlan | str] = {"compiled": planned(Recipe()), str(USUAL_RECIPE): planned(USUAL_RECIPE)}
    found |= {str(one.technique): one.plan or one.why for one in price_list(planned, watch)}
    for kind in techniques().values():
        for wanted in {str(used): used for used in (kind.parse(gave.settings) for gave in kind.gave)}.values():
            if str(wanted) not in found:
                one = _priced(kind, Offer(0, (asdict(wanted),)), planned, Recipe(), Recipe())  # type: ignore[call-overload]
                found[str(wanted)] = one.plan or one.why
    return found


def price_table(prices: Mapping[str, DeploymentPlan | str], on: str) -> Table:
    """A table of techniques: cost as a multiple of the compiled network, and the measured gain; without ``prices`` the
    gains alone."""
    gains, where = dict[tuple[str, bool], list[Gave]](), dict[str, None]()
    for kind in techniques().values():
        for gave in kind.gave:
            gains.setdefault((str(kind.parse(gave.settings)), gave.noise), []).append(gave)
            where[gave.where] = None

    def ends(each: list[Gave]) -> str:
        return f"{min(g.low for g in each):+.2f} … {max(g.high for g in each):+.2f}" if each else ""

    costs = ("EDP", "energy", "cells", "macros", "pulses", "chip time to write") if prices else ()
    rows = tuple(
        (
            used,
            *(_price_row(prices[used], prices["compiled"]) if prices else ()),
            *(ends(gains.get((used, noise), [])) for noise in (True, False)),
        )
        for used in prices or dict.fromkeys(used for used, _ in gains)
    )
    priced = f"of each alone, on {on}" if prices else "hil help techniques demo:fashion_mnist, or another network"
    note = (
        f"Prices: {priced}; {USUAL_RECIPE} is the default. Gains: points of accuracy of networks trained "
        f"with and without noise, ends of all 95 % intervals, by {'; '.join(where)}; "
        "each network: hil help techniques --json."
    )
    header = ("technique", *costs, "gain, noise", "gain, no noise")
    return Table("Price and gain" if prices else "Gain", header, rows, note)


def _price_row(plan: DeploymentPlan | str, compiled: DeploymentPlan | str) -> tuple[str, ...]:
    if isinstance(plan, str) or isinstance(compiled, str):
        return (str(plan), *[""] * 5)

    def times(new: float | None, old: float | None) -> str:
        return f"{new / old:.3g} ×" if old and new is not None else "–"

    return (
        times(plan.edp_mj_ms, compiled.edp_mj_ms),
        times(plan.energy_uj, compiled.energy_uj),
        times(plan.cells, compiled.cells),
        f"{plan.macros}",
        times(plan.pulses + plan.pulses_again, compiled.pulses + compiled.pulses_again),
        duration(round(plan.write_s, 1)),
    )
