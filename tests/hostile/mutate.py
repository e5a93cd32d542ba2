"""Valid files of every format, changed at random: each is read or refused, in bounded memory and time.

python -m tests.hostile.mutate 10000 [SEED]
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .bounded import Outcome, read_bounded
from .valid_files import VALID

ALLOWED = (0, 6, 7, 8)  # read; cannot be expressed; bad file; another version or chip
WORDS = (b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"9" * 20, b"nan", b"-1", b"1e999", b"[" * 9, b"\x80", b"\n")


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A few places of ``data`` overwritten, inserted, cut out or doubled."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, max(len(changed), 1)))
        size = int(rng.integers(1, 64))
        match int(rng.integers(0, 6)):
            case 0:
                changed[at : at + 1] = bytes([int(rng.integers(0, 256))])
            case 1:
                changed[at : at + size] = rng.bytes(size)
            case 2:
                word = WORDS[int(rng.integers(0, len(WORDS)))]
                changed[at : at + len(word)] = word
            case 3:
                del changed[at : at + size]
            case 4:
                changed[at:at] = changed[at : at + size]
            case 5:
                end = len(changed) if rng.random() < 0.2 else at + 1
                del changed[at:end]
    return bytes(changed)


def check(form: str, path: Path, data: bytes, seed: int) -> Outcome | None:
    """The outcome of one changed file, where it breaks the rule."""
    path.write_bytes(mutated(data, np.random.default_rng([seed, sum(form.encode())])))
    outcome = read_bounded(form, path)
    return None if outcome.code in ALLOWED and outcome.within else outcome


def run(count: int, first_seed: int = 0, tell: Callable[[str], object] | None = None) -> list[tuple[str, int, Outcome]]:
    """Formats, seeds and outcomes that break the rule, of ``count`` files shared by all formats.

    ``tell`` gets a line a format.
    """
    broken: list[tuple[str, int, Outcome]] = []
    for number, (form, (make, _)) in enumerate(VALID.items()):
        with tempfile.TemporaryDirectory() as folder:
            path = make(Path(folder))
            data = path.read_bytes()
            share = count // len(VALID) + (number < count % len(VALID))
            before = len(broken)
            for seed in range(first_seed, first_seed + share):
                outcome = check(form, path, data, seed)
                if outcome is not None:
                    broken.append((form, seed, outcome))
            if tell is not None:
                tell(f"{form}: {share} files changed, {len(broken) - before} break the rule\n")
    return broken


def main() -> int:
    count, first_seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    found = run(count, first_seed, lambda line: (sys.stdout.write(line), sys.stdout.flush()))
    for form, seed, outcome in found:
        sys.stdout.write(
            f"{form}, seed {seed}: code {outcome.code}, {outcome.memory >> 20} MB, {outcome.cpu_s:.1f} s\n"
        )
        sys.stdout.write(f"{outcome.text[-600:]}\n")
    sys.stdout.write(f"{len(found)} break the rule: {dict(Counter(form for form, _, _ in found))}\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
