"""Hardware in the loop: ports, driver, emulated chip, measurement and verdict."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hil.deployment.deploy import deploy
    from hil.driver.open_chip import open_chip
    from hil.finetuning.run import finetune
    from hil.verdict.agreement import AgreementReport

__all__ = ["AgreementReport", "deploy", "finetune", "open_chip"]

_HOMES = {
    "AgreementReport": "hil.verdict.agreement",
    "deploy": "hil.deployment.deploy",
    "finetune": "hil.finetuning.run",
    "open_chip": "hil.driver.open_chip",
}


def __getattr__(name: str) -> Any:
    """Import the names on first use: ``import hil`` stays fast and free of torch (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hil' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
