"""Networks of the space that a user names by a file, beside those of the front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from hil.errors import UsageError
from hil.searching.front import read_findings
from hil.searching.networks import network_name, sampled_accuracy
from hil.searching.table import front_of_folder, own_members
from hil.searching.work import SearchRun
from search.choice.front import Member, write_front
from search.errors import SpaceError
from search.space.architecture import Architecture
from search.space.candidate import workload
from search.space.genes import Genome, Space


def add_own(run: SearchRun, own: Mapping[Path, Architecture]) -> list[Member]:
    """Price networks, predict their accuracies and keep them beside the front, in ``own.json``.

    Args:
        own: by the file that each comes from.

    Raises:
        SpaceError: one is not of the space (as it is on the chip).
        UsageError: one needs more macros than there are.
    """
    inputs, folder, architectures = run.inputs, run.folder, list(own.values())
    genomes = np.array([_genome(inputs.space, *one) for one in own.items()])
    accuracy = sampled_accuracy(inputs.space, folder.samples, read_findings(folder).task)
    costs = [inputs.target.cost(workload(inputs.space, a)) for a in architectures]
    for architecture, cost in zip(architectures, costs, strict=True):
        if not cost.feasible:
            raise UsageError(
                f"network {network_name(architecture)} needs {cost.macros} macros; {inputs.target.name} has "
                f"{cost.macros_available}",
                hint="fewer or narrower operators",
            )
    rows = zip(architectures, costs, accuracy.predict(genomes).tolist(), accuracy.lower(genomes).tolist(), strict=True)
    members = [Member(*row) for row in rows]
    known = {m.architecture: m for m in (*own_members(folder), *members)}
    front = front_of_folder(folder)
    write_front(folder.own, replace(front, method="own", simulations=len(known), members=tuple(known.values())))
    return members


def _genome(space: Space, path: Path, architecture: Architecture) -> Genome:
    try:
        return space.encode(architecture)
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from None
