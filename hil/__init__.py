"""Hardware in the loop: ports, driver, emulated chip, measurement and verdict."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hil.deployment.deploy import deploy
    from hil.driver.open_chip import open_chip
    from hil.improvement.retune import retune as tune
    from hil.verdict.agreement import AgreementReport

__all__ = ["AgreementReport", "deploy", "open_chip", "tune"]

_HOMES = {
    "AgreementReport": ("hil.verdict.agreement", "AgreementReport"),
    "deploy": ("hil.deployment.deploy", "deploy"),
    "open_chip": ("hil.driver.open_chip", "open_chip"),
    "tune": ("hil.improvement.retune", "retune"),
}


def __getattr__(name: str) -> Any:
    """Import these names on first use: ``import hil`` stays fast and free of torch (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hil' has no attribute {name!r}")
    module, own = _HOMES[name]
    return getattr(importlib.import_module(module), own)
