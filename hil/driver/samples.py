"""Sample numbers of requests: which noise of the chip a request asks for.

Every compute, read and program request carries a ``sample`` number that the host chooses. An emulated
chip draws its noise from it, so that retries, batch sizes and resuming give the same bits; a real board
ignores it.
"""

from __future__ import annotations

# The purpose, in the top byte: no two purposes share noise.
PROGRAM, READ_BEFORE, READ_AFTER, INFER, LAYERS, CALIBRATE, READ_EARLY, TUNE, UNTUNED = (n << 56 for n in range(1, 10))

# Below it, of one deployment.
REPEAT = 1 << 40  # one pass over the images
ROUND = 1 << 32  # one round of a network that is larger than the chip
