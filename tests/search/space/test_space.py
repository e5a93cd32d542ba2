from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cim.cost.workload import INPUT, WorkKind
from search.errors import CodeRefused, NewerFile, SearchFileError, SpaceError
from search.space.architecture import Architecture, from_json, read_architecture, to_json, write_architecture
from search.space.file import load_space, parse_space, space_names
from search.space.genes import Space
from search.space.operators import SLOT, Layer, MbConv, Residual, Skip, Slot, convolution

from ..small_spaces import SMALL

SPACE = parse_space(SMALL, "small.toml")
genomes = st.tuples(*(st.integers(0, n - 1) for n in SPACE.choices))


@given(genomes)
def test_decoding_and_encoding_give_the_genome_back(genome: tuple[int, ...]) -> None:
    assert SPACE.encode(SPACE.decode(genome)) == genome


@given(genomes)
def test_an_architecture_survives_its_json_form(genome: tuple[int, ...]) -> None:
    architecture = SPACE.decode(genome)
    again = from_json(to_json(architecture), "here")
    assert again == architecture
    assert again.digest == architecture.digest
    assert hash(again) == hash(architecture)


@given(genomes)
def test_every_network_ends_in_logits_of_the_right_size(genome: tuple[int, ...]) -> None:
    layers = SPACE.layers(SPACE.decode(genome))
    assert layers[-1].kind is WorkKind.LINEAR
    assert layers[-1].outputs == 4
    names = [INPUT]
    for layer in layers:
        assert set(layer.inputs) <= set(names), layer
        names.append(layer.name)
    assert len(set(names)) == len(names)


def test_all_genomes_of_a_space_are_as_many_as_its_size() -> None:
    every = SPACE.every()
    assert len(np.unique(every, axis=0)) == len(every) == SPACE.size()


def test_samples_are_uniform_over_choices_and_repeat_from_their_seed() -> None:
    drawn = np.array([SPACE.sample(np.random.default_rng([7, i])) for i in range(3000)])
    counts = np.bincount(drawn[:, 0], minlength=SPACE.choices[0])
    assert abs(counts / 3000 - 1 / SPACE.choices[0]).max() < 0.03
    assert SPACE.sample(np.random.default_rng(3)) == SPACE.sample(np.random.default_rng(3))


def test_choices_of_one_kind_are_the_same_thing_in_several_places() -> None:
    space = load_space("cifar10")
    labels: list[tuple[str, object]] = [(gene.name, choice) for gene in space.genes for choice in gene.choices]
    kinds = space.kinds
    assert kinds.shape[0] == len(labels)
    assert (kinds.sum(1) == 1).all()

    def alike(one: tuple[str, object], other: tuple[str, object]) -> bool:
        return bool(kinds[labels.index(one)] @ kinds[labels.index(other)])

    assert alike(("operator 1.1", "conv3"), ("operator 3.2", "conv3"))
    assert not alike(("operator 1.1", "conv3"), ("operator 1.1", "conv5"))
    assert alike(("weight bits 1", 4), ("weight bits 3", 4))
    assert not alike(("weight bits 1", 4), ("activation bits 1", 4))
    assert alike(("width 1", 1.0), ("width 3", 0.75))  # the narrower of two
    assert not alike(("width 1", 1.0), ("width 2", 1.0))


def test_a_skip_stands_only_where_shapes_match_at_every_width() -> None:
    assert "skip" not in SPACE.positions[0].operators  # stem 8 channels, stage 4 or 8
    assert "skip" in SPACE.positions[1].operators
    assert "skip" not in SPACE.positions[2].operators  # stride 2


def test_even_kernels_keep_the_size_and_their_padding_alternates() -> None:
    genome = (*(place.operators.index("conv2") for place in SPACE.positions), 1, 0, 0, 0, 0)
    layers = {layer.name: layer for layer in SPACE.layers(SPACE.decode(genome))}
    assert [(layers[f"{p}.conv"].before, layers[f"{p}.conv"].after) for p in ("1.1", "1.2", "2.1")] == [
        (0, 1), (1, 0), (0, 1),
    ]  # fmt: skip
    assert layers["1.1.conv"].size(8) == 8
    assert layers["2.1.conv"].size(8) == 4


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("side", [0, 1])
def test_convolutions_halve_even_sizes_at_stride_two(kernel: int, side: int) -> None:
    assert convolution("c", SLOT, 8, kernel, stride=2, side=side).size(32) == 16
    assert convolution("c", SLOT, 8, kernel, side=side).size(7) == 7


def test_a_residual_pair_has_a_strided_shortcut_only_where_the_shape_changes() -> None:
    assert [layer.name for layer in Residual().layers(Slot(8, 8, 1))] == ["conv1", "conv2", "add"]
    assert [layer.name for layer in Residual().layers(Slot(8, 16, 2))] == ["conv1", "conv2", "shortcut", "add"]


def test_mbconv_expands_filters_each_channel_and_projects_without_relu() -> None:
    expand, depthwise, project = MbConv(3).layers(Slot(8, 16, 2))
    assert (expand.outputs, depthwise.groups, depthwise.stride, project.outputs) == (24, 24, 2, 16)
    assert not project.relu


def test_a_projecting_skip_fits_everywhere() -> None:
    assert Skip(project=True).fits(Slot(8, 16, 2))
    assert Skip(project=True).layers(Slot(8, 8, 1)) == ()


@pytest.mark.parametrize("name", space_names())
def test_shipped_spaces_load_and_give_networks(name: str) -> None:
    space = load_space(name)
    assert space.name == name
    assert space.layers(space.decode(space.sample(np.random.default_rng(0))))


def test_sizes_of_shipped_spaces_are_those_in_the_documents() -> None:
    sizes = {name: f"{load_space(name).size():.1e}" for name in space_names()}
    assert sizes == {
        "cifar10": "5.9e+11", "eurosat": "7.6e+11", "fashion-mnist": "2.1e+07",
        "imagenet": "2.1e+15", "resnet20": "6.0e+01",
    }  # fmt: skip


def test_a_space_with_fewer_choices_shares_its_architectures() -> None:
    fewer = parse_space(SMALL.replace('"conv1", "conv2", "residual", "skip"', '"conv1", "residual"'), "fewer.toml")
    assert fewer.skeleton == SPACE.skeleton
    architecture = fewer.decode(fewer.sample(np.random.default_rng(0)))
    SPACE.encode(architecture)


def test_an_architecture_of_another_skeleton_is_refused() -> None:
    other = parse_space(SMALL.replace("classes = 4", "classes = 5"), "other.toml")
    with pytest.raises(SpaceError, match="skeleton"):
        SPACE.encode(other.decode(other.sample(np.random.default_rng(0))))


def test_a_genome_out_of_range_is_refused() -> None:
    with pytest.raises(SpaceError, match="not a genome"):
        SPACE.decode((99,) * len(SPACE.choices))
    with pytest.raises(SpaceError, match="not a genome"):
        SPACE.decode((0,))


def test_a_choice_that_the_space_lacks_is_named() -> None:
    architecture = SPACE.decode((0,) * len(SPACE.choices))
    wrong = Architecture(*[getattr(architecture, f) for f in architecture.__slots__[:4]], (3,), (4,), 6)
    with pytest.raises(SpaceError, match="weight bits is 3; space small has 2, 4"):
        SPACE.encode(wrong)


WRONG = [
    ('classes = 4', 'classes = "four"', 5, "classes"),
    ("channels = 8\nkernel", "chanels = 8\nkernel", 8, "stem.chanels"),
    ("weight = [2, 4]", "weight = [4, 2]", 13, "bits.weight"),
    ("weight = [2, 4]", "weight = [2, 4]\nedge_weight = 8", 14, "bits.edge_weight"),
    ("weight = [2, 4]", 'weight = [2, 4]\nper = "layer"', 14, "bits.per"),
    ("weight = [2, 4]", 'weight = [2, 4]\nper = "stage"', 14, "bits.per"),  # of stem and classifier nothing is said
    ("kernel = 1 }", "kernal = 1 }", 18, "operators.conv1"),
    ('kind = "skip"', 'kind = "jump"', 23, "operators.skip"),
    ("widths = [1.0]", "widths = [0]", 36, "stage.2.widths"),
    ('"mbconv", "skip"]', '"mbconv", "skipp"]', 37, "stage.2.operators"),
    ("layers = 2\nstride = 2", "layers = 0\nstride = 2", 33, "stage.2.layers"),
    ('operators = ["conv1", "conv2", "residual", "skip"]', 'operators = ["skip"]', 25, "stage.1"),
    ("groups = 2", "groups = 7", 20, "operators.conv3g2"),
    ("classes = 4", "classes = ", 5, "toml"),
    ('name = "small"', "", 1, "name"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "field"), WRONG)
def test_a_wrong_space_file_is_refused_with_its_line(old: str, new: str, line: int, field: str) -> None:
    with pytest.raises(SearchFileError) as error:
        parse_space(SMALL.replace(old, new, 1), "mine.toml")
    assert (error.value.line, error.value.field) == (line, field), error.value
    assert str(error.value).startswith(f"mine.toml:{line}: {field}: ")


def test_a_newer_space_file_is_told_apart() -> None:
    with pytest.raises(NewerFile):
        parse_space(SMALL.replace('version = "1.0"', 'version = "2.0"'), "mine.toml")
    parse_space(SMALL.replace('version = "1.0"', 'version = "1.9"'), "mine.toml")


def test_an_unknown_space_lists_those_that_there_are() -> None:
    with pytest.raises(SearchFileError, match="cifar10, eurosat, fashion-mnist"):
        load_space("cifar-10")


@dataclass(frozen=True)
class Twice:
    """A user's operator: the same convolution twice."""

    kernel: int

    def fits(self, slot: Slot) -> bool:
        return True

    def layers(self, slot: Slot) -> tuple[Layer, ...]:
        first = convolution("first", SLOT, slot.outputs, self.kernel, stride=slot.stride)
        return first, convolution("second", "first", slot.outputs, self.kernel)


@pytest.fixture
def with_code(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "users_operators", sys.modules[__name__])
    return SMALL.replace('{ kind = "residual" }', '{ python = "users_operators:Twice", kernel = 3 }')


def test_a_users_own_operator_is_used_when_allowed(with_code: str) -> None:
    space: Space = parse_space(with_code, "mine.toml", allow_code=True)
    assert space.operators["residual"] == Twice(3)


def test_python_in_a_space_file_is_refused_unless_allowed(with_code: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(with_code)
    with pytest.raises(CodeRefused, match=r"mine.toml:21: operators.residual: names Python code"):
        load_space(path)


def test_an_operator_that_gives_the_wrong_channels_is_refused(with_code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Twice, "layers", lambda self, slot: (convolution("c", SLOT, 3),))
    with pytest.raises(SearchFileError, match=r"gives 3 channels at 1\.1"):
        parse_space(with_code, "mine.toml", allow_code=True)


def test_an_architecture_file_reads_back(tmp_path: Path) -> None:
    architecture = SPACE.decode(SPACE.sample(np.random.default_rng(2)))
    path = tmp_path / "network.json"
    write_architecture(path, architecture)
    assert read_architecture(path) == architecture


@pytest.mark.parametrize(("per", "groups"), [("stage", 2), ("position", 4)])
def test_stages_or_positions_may_have_bits_of_their_own(tmp_path: Path, per: str, groups: int) -> None:
    own = f'weight = [2, 4]\nper = "{per}"\nedge_weight = 4\nedge_activation = 8'
    space = parse_space(SMALL.replace("weight = [2, 4]", own), "mine.toml")
    assert space.skeleton != SPACE.skeleton
    assert space.size() == SPACE.size() // 2**2 * 2 ** (2 * groups)
    genome = space.sample(np.random.default_rng(3))
    architecture = space.decode(genome)
    assert (len(architecture.weight_bits), len(architecture.activation_bits)) == (groups, groups)
    assert space.encode(architecture) == genome
    path = tmp_path / "network.json"
    write_architecture(path, architecture)
    assert read_architecture(path) == architecture
    with pytest.raises(SpaceError, match="skeleton"):
        SPACE.encode(architecture)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"hil.architecture"', '"hil.front"', "format"),
        ('"version": "1.1"', '"version": "2.0"', "reads 1.x"),
        ('"weight_bits": 2', '"weight_bits": "2"', "weight_bits"),
        ('"weight_bits": 2', '"weight_bits": []', "weight_bits"),
        ('"weight_bits": 2', '"weight_bits": [2, true]', "weight_bits"),
        ("{", "", "json"),
    ],
)
def test_a_wrong_architecture_file_is_refused(tmp_path: Path, old: str, new: str, text: str) -> None:
    path = tmp_path / "network.json"
    write_architecture(path, SPACE.decode((0,) * len(SPACE.choices)))
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(SearchFileError, match=text):
        read_architecture(path)


def test_a_missing_architecture_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SearchFileError, match="cannot be read"):
        read_architecture(tmp_path / "none.json")


def test_the_first_position_of_a_stage_may_have_operators_of_its_own() -> None:
    text = SMALL.replace("layers = 2\nstride = 2", 'first = ["conv2"]\nlayers = 2\nstride = 2')
    space = parse_space(text, "first.toml")
    assert space.positions[2].operators == ("conv2",)
    assert "mbconv" in space.positions[3].operators
