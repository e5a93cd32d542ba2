"""What examples in docstrings take for granted: names by package, and the files of the folder that they run in."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cim
import firmware_protocols
import hil
import mapping
from cim import mnsim

from .hil import search_files
from .hil.python.conftest import trained_stripes

EVERYWHERE = {
    "np": np, "torch": torch, "Path": Path, "cim": cim, "firmware_protocols": firmware_protocols, "hil": hil,
    "mapping": mapping, "mnsim": mnsim,
}  # fmt: skip


def names_of(door: str) -> dict[str, Any]:
    """Modules, and what the package itself names."""
    module = importlib.import_module(door)
    return {**EVERYWHERE, **{name: getattr(module, name) for name in module.__all__}}


def small_network() -> mapping.NetworkFile:
    """A convolution and a linear layer for 8x8 images of three classes, W4A8, with ten images."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(256, 3)
    )
    graph = mapping.capture(
        module,
        torch.zeros(1, 1, 8, 8),
        preprocess=mapping.Preprocess((0.5,), (0.25,)),
        classes=list(search_files.CLASSES),
    )
    return mapping.NetworkFile(graph, 4, 8, search_files.images(10)[0])


def for_networks(folder: Path) -> dict[str, Any]:
    """Of ``mapping``: a module, its network file, and the program of it for two macros, as names and as files."""
    network = small_network()
    program = mapping.compile_network(network, cim.load_chip("lab-128", macros=2))
    mapping.save_network(network, folder / "net.pt")
    mapping.save_program(program, folder / "program.h5")
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    images = search_files.images(20, 1)[0]
    return {"network": network, "graph": network.graph, "program": program, "module": module, "images": images}


def for_arrays(folder: Path) -> dict[str, Any]:
    """Of ``cim``: a chip file, a record of it (also ``record.h5``), and the levels of a tile."""
    spec = cim.load_chip("lab-128", macros=2)
    chip = hil.open_chip("emulated:lab-128?seed=7", macros=1)
    record = chip.calibrate(budget="quick")
    cim.save_record(record, folder / "record.h5")
    levels = np.array([[3, -7], [0, 1]], np.int8)
    program = mapping.compile_network(small_network(), spec)
    workload = mapping.program_workload(program)
    return {"spec": spec, "record": record, "levels": levels, "workload": workload, "program": program}


def for_work(folder: Path) -> dict[str, Any]:
    """Of ``hil``: a module and its data, a chip, its record, a program that stands on it, and its run ``runs/0001``."""
    stripes = trained_stripes()
    chip = hil.open_chip("emulated:lab-128?seed=7", macros=2)
    record = chip.calibrate(budget="quick")
    program = hil.compile(stripes.module, chip, images=stripes.train, bits="W4A8")
    few = hil.DeployOptions(samples=60, repeats=2, virtual_chips=4, causes=False)
    report = hil.deploy(program, chip, stripes.test, record=record, options=few, out=folder / "runs" / "0001")
    mapping.save_network(small_network(), folder / "net.pt")
    pixels, labels = search_files.images(400)
    np.savez(folder / "stripes.npz", images=pixels, labels=labels, classes=np.array(search_files.CLASSES))
    np.savez(folder / "two.npz", images=pixels[labels < 2], labels=labels[labels < 2], classes=np.array(["up", "down"]))
    (folder / "cells.csv").write_text(cells(), "utf-8")
    return {
        "module": stripes.module, "train": stripes.train, "test": stripes.test, "chip": chip, "record": record,
        "program": program, "few": few, "report": report,
    }  # fmt: skip


def cells() -> str:
    """A table of readings: 480 cells of two levels, each read twice at one age, and once more after a quarter hour."""
    rng, rows = np.random.default_rng(0), ["cell,time_s,conductance_us,target_us"]
    for cell in range(480):
        target = (2.0, 40.0)[cell % 2]
        rows += [f"{cell},{time_s},{max(target + rng.normal(0, 0.8), 0.01):.3f},{target}" for time_s in (1, 1, 900)]
    return "\n".join(rows) + "\n"


MORE = {"hil": for_work, "mapping": for_networks, "cim": for_arrays, "cim.mnsim": for_arrays}


DOORS = ("hil", "mapping", "cim", "cim.mnsim", "firmware_protocols")


def names(door: str, folder: Path) -> dict[str, Any]:
    """Names that the examples of a package take for granted; what they read lies in ``folder``."""
    return names_of(door) | (MORE[door](folder) if door in MORE else {})
