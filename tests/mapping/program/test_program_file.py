"""``program.h5``: what is read is what was written, and nothing else passes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from cim.chip.file import idealised, load_chip
from mapping.compile import compile_network
from mapping.errors import NewerVersion, ProgramFileError
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, program_digest, save_program

from ..small_networks import every_node, network


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    rng = np.random.default_rng(3)
    return compile_network(network(every_node(rng), rng, weight_bits=5, images=8), load_chip("lab-128", macros=30))


@pytest.fixture
def path(program: ConductanceProgram, tmp_path: Path) -> Path:
    save_program(program, tmp_path / "program.h5")
    return tmp_path / "program.h5"


def test_a_program_comes_back_as_it_was(program: ConductanceProgram, path: Path) -> None:
    loaded = load_program(path)
    assert loaded.digest == program.digest == program_digest(loaded)
    assert (loaded.spec.digest, loaded.spec.macros, loaded.spec.text) == (program.spec.digest, 30, program.spec.text)
    assert loaded.scales == program.scales
    assert loaded.classes == program.classes
    images = program.calibration_images
    assert np.array_equal(loaded.calibration_images, images)
    assert np.array_equal(run(loaded, images, IdealMultiply(loaded)), run(program, images, IdealMultiply(program)))
    for new, old in zip(loaded.matrices, program.matrices, strict=True):
        assert dataclasses.replace(new.group, tiles=()) == dataclasses.replace(old.group, tiles=())
        assert all(np.array_equal(a.levels, b.levels) for a, b in zip(new.group.tiles, old.group.tiles, strict=True))


def test_a_program_for_an_idealised_chip_comes_back_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ideal = compile_network(network(every_node(rng), rng, images=4), idealised(load_chip("a111")))
    save_program(ideal, tmp_path / "ideal.h5")
    assert load_program(tmp_path / "ideal.h5").spec.digest == ideal.spec.digest


def test_a_later_minor_version_is_read_and_a_later_major_is_not(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = "1.9"
    load_program(path)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = "2.0"
    with pytest.raises(NewerVersion, match=r"file version 2\.0"):
        load_program(path)


def edit_record(change: Callable[[dict], None]) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        record = json.loads(bytes(file["description"][()]))
        change(record)
        del file["description"]
        file["description"] = np.frombuffer(json.dumps(record).encode(), np.uint8)

    return edit


def replace_array(name: str, values: np.ndarray) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return edit


def flip_level(file: h5py.File) -> None:
    levels = file["arrays/steps/0/group/tiles/0/levels"]
    values = levels[()]
    values[0, 0] = -values[0, 0] or 1
    levels[...] = values


BROKEN: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "another format": (lambda f: f.attrs.__setitem__("format", "other"), "is not a compiled program"),
    "no version": (lambda f: f.attrs.__delitem__("version"), "not 'major.minor'"),
    "version text": (lambda f: f.attrs.__setitem__("version", "one"), "not 'major.minor'"),
    "a level changed": (flip_level, "not that of its digest"),
    "digest changed": (lambda f: f.attrs.__setitem__("digest", "0" * 64), "not that of its digest"),
    "pixels changed": (lambda f: f["calibration_images"].write_direct(np.zeros((8, 8, 8, 3), np.uint8)), "calibration"),
    "no description": (lambda f: f.__delitem__("description"), "cannot be read"),
    "description is not JSON": (replace_array("description", np.frombuffer(b"{]", np.uint8)), "not a valid program"),
    "description is a list": (replace_array("description", np.frombuffer(b"[]", np.uint8)), "not a valid program"),
    "description is floats": (replace_array("description", np.zeros(4)), "is not a text"),
    "no chip": (lambda f: f.__delitem__("chip"), "cannot be read"),
    "chip is broken": (replace_array("chip", np.frombuffer(b"name = 1", np.uint8)), "its chip file"),
    "another macro count": (edit_record(lambda r: r.update(macros=31)), "its chip file has digest"),
    "macros missing": (edit_record(lambda r: r.pop("macros")), "cannot be read"),
    "steps are text": (edit_record(lambda r: r.update(steps="all")), "steps are not a list"),
    "no steps": (edit_record(lambda r: r.update(steps=[])), "has no steps"),
    "unknown step": (edit_record(lambda r: r["steps"][0].update(kind="exec")), "unknown kind 'exec'"),
    "reads a later step": (edit_record(lambda r: r["steps"][0].update(inputs=["fc"])), "reads a later step"),
    "array missing": (lambda f: f.__delitem__("arrays/steps/0/bias"), "is missing or of another type"),
    "array of floats": (replace_array("arrays/steps/0/bias", np.zeros(8)), "not a plain array of integers"),
    "array of another size": (replace_array("arrays/steps/0/bias", np.zeros(7, np.int32)), "7,) biases for 8 outputs"),
    "bad shift": (replace_array("arrays/steps/0/requantise/shift", np.full(8, 63, np.int32)), "shifts by less than 0"),
    "level too large": (
        replace_array("arrays/steps/0/group/tiles/0/levels", np.full((27, 8), 8, np.int8)),
        "level beyond the cells",
    ),
    "tile off the chip": (
        edit_record(lambda r: r["steps"][0]["group"]["tiles"][0].update(macro=30)),
        "tile outside macro 30",
    ),
    "tile off the matrix": (
        edit_record(lambda r: r["steps"][0]["group"]["tiles"][0].update(inputs=[1, 28])),
        "tile outside its matrix",
    ),
    "sums beyond 32 bits": (
        edit_record(lambda r: [t.update(multiplier=65535) for t in r["steps"][-1]["group"]["tiles"]]),
        "sums beyond 32 bits",
    ),
    "no such ADC range": (
        edit_record(lambda r: r["steps"][0]["group"].update(range_code=8)),
        "no ADC range 8",
    ),
    "window of another map": (
        edit_record(lambda r: r["steps"][0]["group"]["window"].update(height=9)),
        "window does not fit",
    ),
    "stride zero": (
        edit_record(lambda r: r["steps"][0]["group"]["window"].update(stride=[0, 1])),
        "not a valid program",
    ),
    "number is text": (edit_record(lambda r: r.update(weight_bits="4")), "weight_bits is '4', not int"),
    "number is endless": (edit_record(lambda r: r["scales"].update(input=float("inf"))), "scales is inf"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_a_reason(path: Path, name: str) -> None:
    change, text = BROKEN[name]
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ProgramFileError, match=text.replace("(", r"\(").replace(")", r"\)")):
        load_program(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramFileError, match="does not exist"):
        load_program(tmp_path / "none.h5")
    with pytest.raises(ProgramFileError, match="cannot be read: is a folder, not a regular file"):
        load_program(tmp_path)


def test_the_digest_sees_every_array(program: ConductanceProgram) -> None:
    first = program.steps[0]
    assert isinstance(first, MatrixStep)
    changed = dataclasses.replace(first, bias=first.bias + 1)
    other = dataclasses.replace(program, steps=(changed, *program.steps[1:]))
    assert program_digest(other) != program.digest


def test_a_program_of_version_1_0_is_still_read() -> None:
    loaded = load_program(Path(__file__).parent.parent / "samples" / "program-1.0.h5")
    assert loaded.digest == "fe9a4fc5dadcea6bc8efe8bbae0430b77992b45c7637b6a00b9dc02ad302fe3b"
    assert (loaded.spec.name, loaded.spec.macros, loaded.macros) == ("lab-128", 4, (0, 1))
    assert run(loaded, loaded.calibration_images[:2], IdealMultiply(loaded)).shape == (2, len(loaded.classes))


def test_the_sample_of_1_1_has_bits_of_layers_and_values_of_uneven_levels() -> None:
    loaded = load_program(Path(__file__).parent.parent / "samples" / "program-1.1.h5")
    assert loaded.digest == "b1a4634ca4d806531792f0feca37ca820833ae65deba9accda8e1e39d0b86b21"
    assert loaded.spec.macro.values.values == (0, 1, 3, 7, 15)
    assert loaded.layer_weight_bits == {"conv1": 5}
    assert run(loaded, loaded.calibration_images[:2], IdealMultiply(loaded)).shape == (2, len(loaded.classes))
