"""Networks that come with ``hil``: ``demo:NAME`` on a command line and in Python."""

from __future__ import annotations

from pathlib import Path

from hil.errors import UsageError

BUNDLED = Path(__file__).parent / "bundled"
YIN_YANG = "yin-yang-bundled"
DATA = {"fashion_mnist": "", "residual": "", "digits": "digits-bundled", "yin_yang": YIN_YANG, "yin_yang_8": YIN_YANG}
"""Test samples of each by its name; "": those of every command that names no data."""
PREFIX = "demo:"


def network_file(network: Path | str) -> Path:
    """The file of a network, also of a bundled one by its name.

    Raises:
        UsageError: no bundled network has that name.

    Example:
        >>> network_file("demo:residual").name
        'residual.pt'
    """
    text = str(network)
    if not text.startswith(PREFIX):
        return Path(network)
    name = text.removeprefix(PREFIX)
    if name not in DATA:
        raise UsageError(f"no bundled network is called {name!r:.60}", hint=", ".join(PREFIX + known for known in DATA))
    return BUNDLED / f"{name}.pt"


def data_of(network: Path) -> str:
    """Name of the test samples of a bundled network; "" for any other."""
    return DATA.get(network.stem, "") if network.parent == BUNDLED else ""


def name_of(network: str) -> str:
    """``demo:NAME`` of a bundled network's file, and any other text as it is."""
    path = Path(network)
    return PREFIX + path.stem if path.parent == BUNDLED and path.stem in DATA else network
