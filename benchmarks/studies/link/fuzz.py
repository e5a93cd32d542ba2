"""Damaged bytes for every parser: none may be taken for good, end a process, or touch memory that is not its own.

Three parts: damaged copies of every golden request through the C parser under sanitizers (addresses, undefined
behaviour); damaged copies of every message through the Python parser, which may refuse them with its two errors only;
and frames with 1 to 8 wrong bits, a burst, or a piece missing through the Python reader, which must take none. Prints a
line a part and a JSON line at the end; exit code 1 when a frame was taken; what a parser raises goes through.

    python benchmarks/studies.py fuzz [--c 10000000] [--python 100000] [--frames 1000000] [--seed 0]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT))

from firmware_protocols.codec import decode  # noqa: E402
from firmware_protocols.errors import MalformedMessage, UnknownOperation  # noqa: E402
from firmware_protocols.frames import Flag, Frame, FrameReader, encode_frame  # noqa: E402
from tests.firmware_protocols.firmware_bench import FirmwareBench  # noqa: E402

GOLDEN = ROOT / "tests" / "firmware_protocols" / "golden"
REQUESTS = (
    "describe", "program_tile", "pulse", "read_cells", "mvm_u8", "mvm_i8", "mvm_i16", "sweep", "load_layer",
    "hold_program", "status", "wait", "outputs_off", "reset",
)  # fmt: skip


def golden_bytes(path: Path) -> bytes:
    """The bytes of a golden vector: pairs of hex digits after the line ``bytes``."""
    return bytes.fromhex(path.read_text("utf-8").split("\nbytes\n")[1])


def fuzz_c(count: int) -> dict[str, int]:
    """Outcomes of the C parser; raises ``AssertionError`` with what a sanitizer said."""
    found = {"read": 0, "malformed": 0, "unknown": 0}
    share = -(-count // len(REQUESTS))
    for name in REQUESTS:
        bench = FirmwareBench()
        words = bench.ask(
            "Z", golden_bytes(GOLDEN / f"{name}.hex"), share * 1e-6
        ).split()  # the bench takes µs as count
        bench.close()
        for outcome, word in zip(found, words, strict=True):
            found[outcome] += int(word)
    return found


def fuzz_python(count: int, rng: random.Random) -> dict[str, int]:
    """Outcomes of the Python parser; anything but its two errors goes through."""
    vectors = [golden_bytes(path) for path in sorted(GOLDEN.glob("*.hex")) if not path.name.startswith("frame")]
    found = {"read": 0, "malformed": 0, "unknown": 0}
    for _ in range(count):
        data = bytearray(rng.choice(vectors))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            decode(bytes(data[: rng.randint(0, len(data))] if rng.random() < 0.3 else data))
            found["read"] += 1
        except MalformedMessage:
            found["malformed"] += 1
        except UnknownOperation:
            found["unknown"] += 1
    return found


def damaged_frames(count: int, rng: random.Random) -> int:
    """How many of ``count`` damaged frames a reader takes."""
    whole = [
        encode_frame(Frame(Flag.LAST, 1, rng.getrandbits(16), n, 0, 0, rng.randbytes(size)))
        for n, size in enumerate((0, 4, 16, 64, 100, 128, 256, 300, 512, 512))
    ]
    reader, batch = FrameReader(), []
    for number in range(count):
        frame = bytearray(rng.choice(whole))
        inside, kind = len(frame) - 2, rng.random()
        if kind < 0.6:
            for bit in rng.sample(range(8 * inside), rng.randint(1, 8)):
                frame[1 + (bit >> 3)] ^= 1 << (bit & 7)
        elif kind < 0.8:
            at, length = 1 + rng.randrange(inside), rng.randint(1, 64)
            for place in range(at, min(at + length, 1 + inside)):
                frame[place] ^= rng.randint(1, 255)
        else:
            at = 1 + rng.randrange(inside)
            del frame[at : min(at + rng.randint(1, 64), 1 + inside)]
        batch.append(frame)
        if len(batch) == 500 or number == count - 1:
            reader.feed(b"".join(batch))
            batch.clear()
    return reader.counters.frames_received


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--c", type=int, default=10_000_000)
    parser.add_argument("--python", type=int, default=100_000)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng, result = random.Random(asked.seed), {"seed": asked.seed}
    with contextlib.suppress(KeyboardInterrupt):
        for name, part in (
            ("python", lambda: fuzz_python(asked.python, rng)),
            ("frames_taken", lambda: damaged_frames(asked.frames, rng)),
            ("c", lambda: fuzz_c(asked.c)),
        ):
            start_s = time.monotonic()
            result[name] = part()
            print(f"{name}: {result[name]} in {time.monotonic() - start_s:.0f} s", flush=True)
    print(json.dumps({**result, "frames": asked.frames}))
    return int(result.get("frames_taken", 0) != 0)


if __name__ == "__main__":
    sys.exit(main())
