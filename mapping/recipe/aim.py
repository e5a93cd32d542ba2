"""Aims: cells are written beside their levels, so that they stand right at the planned age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mapping.recipe.technique import Technique


@dataclass(frozen=True, slots=True)
class AgedTargets(Technique):
    """Targets beside the levels by the mean drift of the record's law until the planned age."""

    name: ClassVar[str] = "aims"
    words: ClassVar[str] = "cells are written beside their levels, right at the planned age"
    rank: ClassVar[int] = 50
