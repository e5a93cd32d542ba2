"""What a search refuses, and with which words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hil.searching.folder import begin_folder  # noqa: E402
from hil.searching.settings import SearchSettings  # noqa: E402

from ..cli.test_cli import Cli  # noqa: E402
from ..cli.test_cli import cli as cli  # noqa: E402
from ..finished_search import ANSWERS, Files, change_settings  # noqa: E402
from ..finished_search import files as files  # noqa: E402
from ..finished_search import one_thread as one_thread  # noqa: E402
from ..fitting import every_answer_fits as every_answer_fits  # noqa: E402
from ..search_files import CLASSES, SPACE, images  # noqa: E402


def test_a_folder_that_is_no_search_is_refused(cli: Cli, tmp_path: Path) -> None:
    for command in ("show", "explain"):
        cli("search", command, tmp_path, code=7)
        assert "is not a folder of a search" in cli.err
    (tmp_path / "space.toml").write_text(SPACE, "utf-8")
    (tmp_path / "settings.json").write_text('{"format": "hil.search", "version": "1.0", "data": 3}', "utf-8")
    cli("search", "show", tmp_path, code=7)
    assert "settings of a search are broken" in cli.err


def test_python_that_a_space_names_is_asked_for_again_when_its_search_goes_on(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, root = tmp_path / "marker", tmp_path / "run"
    (tmp_path / "strangers.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    text = SPACE.replace('conv2 = { kind = "conv", kernel = 2 }', 'conv2 = { python = "strangers:Op" }')
    (tmp_path / "own.toml").write_text(text, "utf-8")
    begin_folder(root, SearchSettings("fashion-mnist-bundled", "lab-128"), text)
    settings = json.loads((root / "settings.json").read_text("utf-8"))
    (root / "settings.json").write_text(json.dumps({**settings, "allow_code": True, "trust": True}), "utf-8")
    words = ["search", "--data", "fashion-mnist-bundled", "--space", tmp_path / "own.toml", "--out", root]
    cli(*words, code=7)
    assert "--allow-code" in cli.err
    assert not marker.exists()
    cli(*words, "--allow-code", code=7)
    assert "strangers:Op cannot be imported" in cli.err
    assert marker.is_dir()


def test_a_space_that_fits_no_macro_is_refused(cli: Cli, files: Files, tmp_path: Path) -> None:
    wide = (
        SPACE.replace("channels = 8", "channels = 512")
        .replace(', "skip"', "")
        .replace('skip = { kind = "skip" }\n', "")
    )
    (tmp_path / "space.toml").write_text(wide, "utf-8")
    cli(*files.arguments(tmp_path / "run", space=tmp_path / "space.toml", macros=1), code=6)
    assert "no network of space tiny fits lab-128" in cli.err
    assert not (tmp_path / "run").exists()


def test_images_and_classes_that_do_not_go_with_the_space_are_refused(cli: Cli, files: Files, tmp_path: Path) -> None:
    pixels, labels = images(60)
    np.savez(tmp_path / "two.npz", images=pixels, labels=labels % 2, classes=np.array(["a", "b"]))
    cli(*files.arguments(tmp_path / "a", data=tmp_path / "two.npz"), code=2)
    assert "has 2 classes; space tiny has 3" in cli.err
    np.savez(tmp_path / "wide.npz", images=np.repeat(pixels, 2, 2), labels=labels, classes=np.array(CLASSES))
    cli(*files.arguments(tmp_path / "b", data=tmp_path / "wide.npz"), code=2)
    assert "are 1 x 8 x 16; space tiny takes 1 x 8 x 8" in cli.err
    cli(*files.arguments(tmp_path / "c", subset=20), code=2)
    assert "too few for batches of 20" in cli.err
    cli(*files.arguments(tmp_path / "d", crop=9), code=2)
    assert "are 8 x 8: no squares of 9 in them" in cli.err


def test_a_space_of_hardly_any_networks_is_refused(cli: Cli, files: Files, tmp_path: Path) -> None:
    few = SPACE.replace('operators = ["conv2", "conv3", "skip"]', 'operators = ["conv3"]')
    few = few.replace("[0.5, 1.0]", "[1.0]").replace("weight = [2, 4]", "weight = [4]")
    (tmp_path / "few.toml").write_text(few, "utf-8")
    cli(*files.arguments(tmp_path / "run", space=tmp_path / "few.toml"), code=2)
    assert "has 4 networks on lab-128; a search needs at least 8" in cli.err


def test_a_broken_space_is_refused_by_the_line_of_its_own_file(cli: Cli, files: Files, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(SPACE.replace("kernel = 2", "kernel = -2"), "utf-8")
    cli(*files.arguments(tmp_path / "run", space=tmp_path / "own.toml"), code=7)
    assert f"{tmp_path / 'own.toml'}:" in cli.err
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_does_not_fit_is_refused(cli: Cli, files: Files, tmp_path: Path) -> None:
    from mapping.network.file import save_network

    from ..small_net import small_network

    save_network(small_network(), tmp_path / "teacher.pt")
    cli(*files.arguments(tmp_path / "run", teacher=tmp_path / "teacher.pt"), code=8)
    assert "4 classes" in cli.err
    cli(*files.arguments(tmp_path / "other", teacher=tmp_path / "none.pt"), code=7)


def test_a_network_is_not_trained_without_the_teacher_of_its_search(cli: Cli, files: Files, tmp_path: Path) -> None:
    run = shutil.copytree(files.run, tmp_path / "run")
    (trained,) = (run / "networks").iterdir()
    shutil.rmtree(trained)
    (run / "teacher.pt").unlink()
    cli("search", "train", run, trained.name, code=7)
    assert "does not keep the teacher" in cli.err
    assert "--teacher" in cli.err


def test_other_images_than_those_of_the_beginning_are_refused(cli: Cli, files: Files, tmp_path: Path) -> None:
    shutil.copytree(files.run, tmp_path / "run")
    pixels, labels = images(160, 9)
    np.savez(tmp_path / "others.npz", images=pixels, labels=labels, classes=np.array(CLASSES))
    change_settings(tmp_path / "run", data=str(tmp_path / "others.npz"))
    cli(*files.arguments(tmp_path / "run", data=tmp_path / "others.npz"), code=8)
    assert "was begun with another images " in cli.err


def test_words_that_are_no_choice_are_refused(cli: Cli, files: Files, tmp_path: Path) -> None:
    for change, words in (
        ({"mode": "best"}, "mode 'best'"),
        ({"chip": "mnsim-default"}, "is a scale of costs"),
        ({"device": "abacus"}, "cannot run on 'abacus'"),
        ({"space": "nowhere"}, "no such space"),
        ({"scheduler": "tcp://127.0.0.1:1"}, "no Dask scheduler answers"),
    ):
        code = {"space": 7, "scheduler": 4}.get(next(iter(change)), 2)
        out = tmp_path / next(iter(change))
        if "scheduler" in change:
            shutil.copytree(files.run, out)
            for name in ANSWERS:
                (out / name).unlink()
            cli(*files.arguments(out), "--workers", change["scheduler"], code=code)
        else:
            cli(*files.arguments(out, **change), code=code)
        assert words in cli.err
    cli("search", "run", "--data", files.data, "--out", tmp_path / "x", code=2)
    assert "--space" in cli.err
