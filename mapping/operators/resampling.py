"""Maps of another size by weights of rows and columns: bilinear upsampling, adaptive pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mapping.operators.node import Array, Node, Shape, Stored, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Resample(Node):
    """Maps (…, H, W) as rows · map · columnsᵀ: bilinear upsampling, adaptive pooling, averages of unequal windows.

    ``rows`` (new H, H), ``columns`` (new W, W).
    """

    kind = "resample"
    arrays: ClassVar = {"rows": "rows", "columns": "columns"}

    rows: Array
    columns: Array

    def output_shape(self, inputs: Sequence[Shape]) -> Shape:
        first = inputs[0]
        require(self, len(first) >= 2 and self.rows.ndim == self.columns.ndim == 2, f"needs maps, not {first}")
        sizes = (self.rows.shape[1], self.columns.shape[1])
        require(self, sizes == first[-2:], f"weights for {sizes} places do not fit {first}")
        return (*first[:-2], len(self.rows), len(self.columns))

    def forward(self, inputs: Sequence[Tensor], stored: Stored) -> Tensor:
        return stored(self.rows) @ inputs[0] @ stored(self.columns).T


NODES = (Resample,)
