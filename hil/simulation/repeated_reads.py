"""Repeated reads of a product on a virtual chip: their rounded mean counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.simulator.layer import NoiseKey
from cim.simulator.simulator import LayerSimulator

READ = 1 << 44  # distance of the noise of two reads of one product, beyond every repeat's own


@dataclass(frozen=True, slots=True)
class RepeatedReads:
    """A layer whose tiles are not all read alike: ``parts`` are simulators of tiles that are, and their reads.

    Sums are those of the parts, each the rounded mean of its reads. It stands where a ``LayerSimulator`` may.
    """

    parts: Sequence[tuple[LayerSimulator, int]]
    layers: int  # distance of the noise of two parts

    def level_sums(self, codes: NDArray[np.int16], key: NoiseKey) -> tuple[NDArray[np.int32], float]:
        """Sums of all reads together, as ``LayerSimulator.level_sums`` gives those of one."""
        found: list[NDArray[np.int32]] = []
        ends = 0.0
        for number, (part, reads) in enumerate(self.parts):
            seen: list[NDArray[np.int32]] = []
            for r in range(reads):
                own = replace(key, layer=key.layer + number * self.layers, first_image=key.first_image + r * READ)
                sums, share = part.level_sums(codes, own)
                seen.append(sums)
                ends += share * part.conversions(len(codes))
            found.append(seen[0] if reads == 1 else np.rint(np.sum(seen, axis=0, dtype=np.int64) / reads))
        return np.asarray(sum(found[1:], found[0]), np.int32), ends / max(1, self.conversions(len(codes)))

    def conversions(self, images: int) -> int:
        return sum(reads * part.conversions(images) for part, reads in self.parts)
