"""Chips whose macros come in groups: no layer lies where no mode of the chip has a part for it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cim.chip.file import ChipFileError, load_chip, parse_chip, render_chip
from cim.chip.spec import MacroGroups
from mapping.compile import LayoutOptions, compile_network
from mapping.layout.groups import Demand, arrange
from mapping.layout.place import Placement, joined_order
from mapping.layout.tile import MatrixShape, cut

from ..small_networks import every_node, network

A111 = load_chip("a111")
MODES = ((8,), (4, 4), (4, 2, 2), (2, 2, 2, 2))


def obeys(owners: dict[int, object], size: int, modes: Sequence[Sequence[int]]) -> bool:
    """Whether every group is in a listed mode: a part holds one layer at most, a layer one part of a group.

    Written without the code that places: it looks at owners of macros only.
    """
    for group in {macro // size for macro in owners}:
        inside = {m - group * size: who for m, who in owners.items() if m // size == group}
        good = False
        for mode in modes:
            ends = list(itertools.accumulate(mode))
            holders = [
                {inside[m] for m in range(end - n, end) if m in inside} for n, end in zip(mode, ends, strict=True)
            ]
            once = [who for part in holders for who in part]
            good |= all(len(part) <= 1 for part in holders) and len(once) == len(set(once))
        if not good:
            return False
    return True


def test_the_check_itself_tells_listed_modes_from_others() -> None:
    assert obeys(dict.fromkeys(range(8), "a"), 8, MODES)
    assert obeys({0: "a", 1: "a", 2: "a", 4: "b", 6: "c"}, 8, MODES)
    assert not obeys({0: "a", 1: "b"}, 8, MODES)  # two layers on one pair
    assert not obeys({0: "a", 2: "b", 3: "b", 4: "b"}, 8, MODES)  # 2 + 6
    assert not obeys({0: "a", 2: "b", 4: "a"}, 8, MODES)  # a layer with two parts


@settings(max_examples=100, deadline=None)
@given(
    wanted=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), min_size=1, max_size=25),
    macros=st.sampled_from([1, 3, 8, 48, 100]),
    limit=st.integers(1, 40),
)
def test_no_group_of_8_holds_layers_in_a_mode_that_is_not_listed(
    wanted: list[tuple[int, int]], macros: int, limit: int
) -> None:
    demands = [Demand(*w) for w in wanted]
    found = arrange(demands, MacroGroups(8, MODES, 2), macros, limit)
    owners: dict[int, object] = {}
    for layer, (demand, own) in enumerate(zip(demands, found, strict=True)):
        assert len(set(own)) == demand.macros == len(own)
        for macro in own:
            assert macro not in owners
            owners[macro] = layer
    assert obeys(owners, 8, MODES)
    for group in {m // 8 for m in owners}:
        inside = {layer for m, layer in owners.items() if m // 8 == group}
        assert sum(demands[layer].reads for layer in inside) <= limit or len(inside) == 1


def test_four_small_layers_share_a_group_and_five_do_not() -> None:
    groups = MacroGroups(8, MODES, 2)
    assert arrange([Demand(2)] * 4, groups, 48) == ((0, 1), (2, 3), (4, 5), (6, 7))
    assert arrange([Demand(1)] * 5, groups, 48)[4] == (8,)
    assert arrange([Demand(5)], groups, 48) == ((0, 1, 2, 3, 8),)


@pytest.mark.parametrize("placement", [None, Placement.SPREAD, Placement.PACKED])
@pytest.mark.parametrize("copies", [None, 48])
def test_compiled_layers_obey_the_modes_of_the_chip(placement: Placement | None, copies: int | None) -> None:
    rng = np.random.default_rng(5)
    options = LayoutOptions(placement, copies)
    program = compile_network(network(every_node(rng), rng, images=4), A111, options=options)
    owners: dict[int, object] = {}
    for step in program.matrices:
        for tile in step.group.tiles:
            assert owners.setdefault(tile.macro, (step.name, tile.copy)) == (step.name, tile.copy)
    assert obeys(owners, 8, MODES)
    assert (copies is None) == all(step.group.copies == 1 for step in program.matrices)


def test_row_parts_of_the_same_outputs_lie_on_macros_that_can_be_joined() -> None:
    pieces = cut(MatrixShape("fc", 3 * 312, 2 * 128), A111.macro, 1)  # three row parts of two output parts
    order = joined_order(pieces, 2)
    at = {i: order.index(i) for i in range(len(pieces))}
    for first in (0, 3):
        assert at[first] // 2 == at[first + 1] // 2
    assert sorted(order) == list(range(6))


# --- the chip file -------------------------------------------------------------------------


def test_the_chip_file_says_how_its_macros_are_grouped() -> None:
    assert A111.groups == MacroGroups(8, MODES, 2)
    assert "published" in A111.provenance["groups.modes"]
    assert parse_chip(render_chip(A111), "again").groups == A111.groups
    assert load_chip("lab-128").groups is None


def test_the_digest_of_a_chip_does_not_depend_on_where_its_layers_may_lie() -> None:
    text = A111.text
    start, end = text.index("[groups]"), text.index("# What the simulator believes")
    assert parse_chip(text[:start] + text[end:], "x").digest == A111.digest


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[[8], [4, 4]", "[[8], [4, 3]", "mode that is not 8 macros"),
        ("[[8], [4, 4]", "[[8], [5, 3]", "cuts 2 joined macros"),
        ("joined = { value = 2", "joined = { value = 3", "does not divide a group of 8"),
        ("[[8], [4, 4], [4, 2, 2], [2, 2, 2, 2]]", "[]", "names no mode"),
    ],
)
def test_groups_that_make_no_sense_are_refused_with_their_line(old: str, new: str, words: str) -> None:
    with pytest.raises(ChipFileError, match=words) as caught:
        parse_chip(A111.text.replace(old, new), "mine.toml")
    assert caught.value.line > 1


def test_a_chip_cut_short_by_its_number_of_macros_is_still_used() -> None:
    rng = np.random.default_rng(5)
    spec = dataclasses.replace(A111, macros=30)
    program = compile_network(network(every_node(rng), rng, images=4), spec)
    assert max(program.macros) < 30
