"""Checks of this machine: versions, ports and permissions, data sets, disk space for results."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from hil.datasets.image_set import load_dataset
from hil.errors import HilError
from hil.pages.scripts import has_plotly
from hil.transports.ports import list_ports

PACKAGES = ("torch", "numpy", "scipy", "h5py", "pyserial", "pyvisa", "pyvisa-py", "numba", "google-crc32c", "cobs")
EXTRAS = {  # by the extra that installs it: package, and what needs it
    "search": ("pymoo", "hil search"),
    "onnx": ("onnx", "ONNX networks"),
    "tflite": ("tflite", "TFLite networks"),
    "data": ("torchvision", "hil doctor --download"),
}
ROOMS = ("hil", "mapping", "search", "cim", "firmware_protocols")  # top-level names of this package
SETS = ("fashion-mnist-bundled", "fashion-mnist", "cifar10", "eurosat")


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check; if ``ok`` is False, ``text`` gives the repair. ``ok`` None: optional, not installed."""

    name: str
    ok: bool | None
    text: str

    @property
    def word(self) -> str:
        return "optional" if self.ok is None else "ok" if self.ok else "MISSING"


def checks() -> list[Check]:
    """Results of all checks, in the order of the screen."""
    found = [Check("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    found += [_package(name) for name in PACKAGES]
    found += [_extra(extra, *about) for extra, about in EXTRAS.items()]
    found += [_names(), _ports(), _crc(), _pages(), *(_data(name) for name in SETS), _room()]
    return found


def _package(name: str) -> Check:
    try:
        return Check(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, False, f"not installed: pip install {name}")


def _extra(extra: str, package: str, needed_by: str) -> Check:
    """Check of a package that only one command or file format needs."""
    try:
        return Check(package, True, metadata.version(package))
    except metadata.PackageNotFoundError:
        return Check(package, None, f"not installed; {needed_by} would need it: pip install 'rram-hil[{extra}]'")


def _names() -> Check:
    """Check that Python finds this project's packages by their names: docs/decisions/0016-top-level-names.md."""
    places = {name: spec.origin for name in ROOMS if (spec := find_spec(name)) is not None}
    home = Path(places["hil"] or "").parents[1]
    other = [f"{name} is {places.get(name)}" for name in ROOMS if Path(places.get(name) or "").parents[1:2] != (home,)]
    hint = "; another package has the name: an environment of its own keeps them apart (python -m venv)"
    return Check("package names", not other, ", ".join(other) + hint if other else f"all from {home}")


def _ports() -> Check:
    found = list_ports()
    if not found:
        return Check("serial ports", None, "none; hil deploy --emulated needs none")
    closed = [p.device for p in found if not os.access(p.device, os.R_OK | os.W_OK)]
    if closed:
        return Check(
            "serial ports", False, f"no permission for {', '.join(closed)}: add yourself to its group (dialout)"
        )
    return Check("serial ports", True, ", ".join(p.device for p in found))


def _crc() -> Check:
    import google_crc32c

    fast = google_crc32c.implementation == "c"
    return Check(
        "CRC-32C in C",
        fast,
        "yes"
        if fast
        else "google-crc32c runs in Python, so links are slow: pip install --force-reinstall google-crc32c",
    )


def _pages() -> Check:
    there = has_plotly()
    said = "there" if there else "without plotly: install the project again (pip install -e .)"
    return Check("page scripts", there, said)


def _data(name: str) -> Check:
    look: Callable[..., object] = load_dataset
    try:
        look(name, "test", limit=1)
    except HilError as error:
        return Check(f"data {name}", False, f"{error.what.splitlines()[0]}; {error.hint.splitlines()[0]}")
    return Check(f"data {name}", True, "found")


def _room() -> Check:
    free = shutil.disk_usage(".").free / 1e9
    return Check(
        "room here",
        free > 1.0,
        f"{free:.1f} GB free"
        if free > 1.0
        else f"{free:.1f} GB free: free some space, or name another folder by --out",
    )
