from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.cost.network_cost import NoCostModel
from cim.mnsim import load_mnsim
from mapping.errors import CannotMap
from mapping.network.architectures import build
from mapping.workload import placed, unplaced_workload
from search.choice.candidate_costs import costs
from search.choice.hardware_significance import draw_candidates
from search.choice.macs import macs_column
from search.errors import NothingFits, SpaceError
from search.space.architecture import Architecture
from search.space.candidate import workload
from search.space.file import load_space, parse_space
from search.space.genes import Space
from search.space.prune import Dropped, fitted, last_array_share
from search.space.significance import one_hot
from search.space.target import ArraySize, ChipTarget, MnsimTarget, Target, load_target

from ..small_spaces import SMALL

CHIP = ChipTarget(load_chip("lab-128"))
MNSIM = MnsimTarget(load_mnsim())


def resnet20() -> tuple[Space, Architecture]:
    """ResNet-20 as a space of one network, W4A8 with converters of 8 bits."""
    space = load_space("resnet20")
    first = space.decode((0,) * len(space.choices))
    return space, replace(first, weight_bits=(4,), activation_bits=(8,), adc_bits=8)


@pytest.mark.parametrize("target", [CHIP, MNSIM], ids=lambda t: t.name)
def test_resnet20_costs_what_the_graph_of_resnet20_costs(target: Target) -> None:
    space, architecture = resnet20()
    graph = build("cifar_resnet20_b", classes=[str(i) for i in range(10)], rng=np.random.default_rng(0))
    work = unplaced_workload(graph, weight_bits=4, activation_bits=8)
    ours = workload(space, architecture)
    first = replace(ours.layers[0], input_signed=True)  # pixels of that graph are centred
    ours = replace(ours, layers=(first, *ours.layers[1:]))
    assert ours.macs == work.macs
    assert target.cost(ours) == target.cost(work)


def test_stem_and_classifier_have_the_edges_bits_and_the_rest_the_networks() -> None:
    space = load_space("fashion-mnist")
    architecture = replace(space.decode((0,) * len(space.choices)), weight_bits=(2,), activation_bits=(4,))
    layers = workload(space, architecture).layers
    cells = [layer for layer in layers if layer.kind.on_cells]
    assert [layer.weight_bits for layer in cells] == [4, *[2] * (len(cells) - 2), 4]
    assert [layer.input_bits for layer in cells] == [8, *[4] * (len(cells) - 2), 8]


def test_each_stage_has_its_own_bits() -> None:
    space = load_space("cifar10")
    first = space.decode((0,) * len(space.choices))
    mixed = replace(first, operators=("residual",) * 9, weight_bits=(4, 3, 2), activation_bits=(8, 6, 4))
    layers = workload(space, mixed).layers
    cells = {w.name: (w.weight_bits, w.input_bits) for w in layers if w.kind.on_cells}
    assert {b for n, b in cells.items() if n.startswith("1.")} == {(4, 8)}
    assert {b for n, b in cells.items() if n.startswith("2.")} == {(3, 6)}
    assert {b for n, b in cells.items() if n.startswith("3.")} == {(2, 4)}
    assert {cells["stem"], cells["classifier"]} == {(4, 8)}
    outputs = {w.name: w.output_bits for w in layers}
    into = {name: w.input_bits for w in layers if w.kind.on_cells for name in w.inputs}
    assert all(outputs[name] == bits for name, bits in into.items() if name in outputs)


def test_fewer_input_bits_in_one_stage_take_less_energy() -> None:
    space = load_space("cifar10")
    wide = replace(space.decode((0,) * len(space.choices)), operators=("conv3",) * 9, activation_bits=(8, 8, 8))
    energies = []
    for bits in ((8, 8, 8), (4, 8, 8), (4, 4, 8), (4, 4, 4)):
        energies.append(CHIP.cost(workload(space, replace(wide, activation_bits=bits))).energy_pj)
    assert energies == sorted(energies, reverse=True)


def test_a_layer_of_fewer_weight_bits_takes_fewer_slices_than_its_neighbours() -> None:
    space, architecture = resnet20()
    work = workload(space, architecture)
    wide = replace(work, layers=tuple(replace(w, weight_bits=8) if w.weight_bits else w for w in work.layers))
    edge = replace(work, layers=(replace(work.layers[0], weight_bits=8), *work.layers[1:]))
    counts = [CHIP.cost(w).macros for w in (work, edge, wide)]
    big = replace(CHIP.chip, macros=1000)
    tiles = [sum(len(t.macro) for t in placed(w, big).tiles) for w in (work, edge, wide)]
    assert tiles == [61, 63, 183]
    assert counts[0] <= counts[1] <= counts[2]


def test_a_network_that_is_too_large_has_a_cost_and_says_how_many_macros_it_misses() -> None:
    space, architecture = resnet20()
    small = ChipTarget(replace(CHIP.chip, macros=8))
    cost = small.cost(workload(space, architecture))
    assert not cost.feasible
    assert cost.excess_macros == cost.macros - 8 > 0
    assert cost.edp_mj_ms > 0
    with pytest.raises(CannotMap):
        placed(workload(space, architecture), small.chip)


def test_a_network_larger_than_the_grid_of_mnsim_is_infeasible_too() -> None:
    chip = replace(MNSIM.config.chip, tile_rows=2, tile_columns=2)
    small = MnsimTarget(replace(MNSIM.config, chip=chip))
    space, architecture = resnet20()
    cost = small.cost(workload(space, architecture))
    assert not cost.feasible
    assert cost.macros == MNSIM.cost(workload(space, architecture)).macros


def test_a_chip_without_prices_is_no_target() -> None:
    with pytest.raises(NoCostModel):
        ChipTarget(replace(CHIP.chip, cost=None))


def test_targets_by_name_are_chips_or_the_scale_of_the_field() -> None:
    assert isinstance(load_target("lab-128", macros=9), ChipTarget)
    assert isinstance(load_target("mnsim-default"), MnsimTarget)
    assert load_target("lab-128").digest != load_target("lab-128", macros=9).digest


def test_a_target_digest_changes_with_a_price() -> None:
    assert CHIP.chip.cost is not None
    dearer = replace(CHIP.chip, cost=replace(CHIP.chip.cost, row_pj=2 * CHIP.chip.cost.row_pj))
    assert ChipTarget(dearer).digest != CHIP.digest


@pytest.mark.parametrize(
    ("rows", "outputs", "groups", "share"),
    [
        (144, 16, 1, 16 / 128),  # two arrays of rows
        (128, 64, 1, 1.0),
        (27, 16, 1, 1.0),  # one array: shared with others
        (576, 64, 1, 0.5),
        (64, 80, 1, 16 / 64),  # two arrays of outputs
        (9, 1, 32, 4 / 14),  # 14 blocks of a depthwise layer to an array
    ],
)
def test_the_last_array_is_used_by_what_the_others_leave(rows: int, outputs: int, groups: int, share: float) -> None:
    assert last_array_share(rows, outputs, groups, ArraySize(128, 64)) == pytest.approx(share)


def one_width() -> Space:
    text = SMALL.replace("widths = [0.5, 1.0]", "widths = [2.0]").replace('"skip"]', '"skip"]', 1)
    return parse_space(text, "one.toml")


def test_operators_that_waste_arrays_are_dropped_and_named_unless_asked_for() -> None:
    space = one_width()  # 16 channels: 144 rows of a 3x3
    left, dropped = fitted(space, CHIP)
    assert "residual at 1.2: the last array is 12% used" in [str(d) for d in dropped]
    assert "residual" not in left.positions[1].operators
    assert left.skeleton == space.skeleton
    kept, none = fitted(space, CHIP, least_share=0)
    assert not [d for d in none if isinstance(d, Dropped)]
    assert "residual" in kept.positions[1].operators


def test_converter_bits_are_the_chips() -> None:
    assert fitted(one_width(), CHIP)[0].adc_bits == (8,)


def test_weight_bits_that_cost_as_much_as_more_of_them_are_dropped_and_named() -> None:
    space = replace(one_width(), weight_bits=(2, 3, 4, 6))
    left, dropped = fitted(space, CHIP)
    assert left.weight_bits == (4, 6)  # cells of eight levels hold 4 bits, 6 take a second slice
    assert "2-bit weights: 4 bits take the same cells, time and energy" in [str(d) for d in dropped]
    assert fitted(replace(space, weight_bits=(2, 3)), CHIP)[0].weight_bits == (3,)


def test_a_position_that_no_operator_fills_well_is_a_clear_error() -> None:
    only = SMALL.replace('operators = ["conv1", "conv2", "residual", "skip"]', 'operators = ["residual"]')
    space = parse_space(only.replace("widths = [0.5, 1.0]", "widths = [2.0]"), "only.toml")
    with pytest.raises(NothingFits, match=r"no operator is left at position 1\.1") as error:
        fitted(space, CHIP)
    assert "--least-share 0" in str(error.value)


def test_a_space_that_fits_no_macros_is_a_clear_error() -> None:
    tiny = ChipTarget(replace(CHIP.chip, macros=1))
    with pytest.raises(SpaceError, match="no network of space resnet20 fits lab-128: the smallest needs"):
        fitted(load_space("resnet20"), tiny, least_share=0)


def test_bits_that_a_chip_cannot_take_go_and_none_left_is_an_error() -> None:
    inputs = replace(CHIP.chip.macro.inputs, bits=4)
    narrow = ChipTarget(replace(CHIP.chip, macro=replace(CHIP.chip.macro, inputs=inputs)))
    assert fitted(one_width(), narrow)[0].activation_bits == (4,)
    wide = parse_space(SMALL.replace("activation = [4, 8]", "activation = [8]"), "wide.toml")
    with pytest.raises(SpaceError, match="activation bits"):
        fitted(wide, narrow)


def test_more_than_fifty_networks_of_cifar_size_are_costed_in_a_second_of_one_core() -> None:
    space, _ = fitted(load_space("cifar10"), CHIP)
    rng = np.random.default_rng(4)
    networks = [space.decode(space.sample(rng)) for _ in range(40)]
    costs(space, CHIP, networks[:1])
    begun = time.process_time()
    costs(space, CHIP, networks)
    assert 40 / (time.process_time() - begun) > 50


def test_searching_and_weighing_need_no_torch() -> None:
    modules = "search.choice.pareto, search.space.prune, hil.improvement.filled"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_multiplications_of_a_network_are_about_a_sum_over_its_choices() -> None:
    space = load_space("cifar10")
    genomes = draw_candidates(space, None, 200, np.random.default_rng(9))
    truth = np.log([float(workload(space, space.decode(genome)).macs) for genome in genomes])
    assert np.corrcoef((one_hot(space.choices, genomes) @ macs_column(space))[:, 0], truth)[0, 1] > 0.92
