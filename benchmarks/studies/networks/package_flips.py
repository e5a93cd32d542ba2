"""Single flips of a package of C (``hil mission pack``) while an image runs, with what protects it switched on.

``package_flips.c`` is linked with the package. A bit is flipped at a random call of the macro during one of 100 images;
of the store, the machine then restarts and scrubs. Golden vectors follow a wrong class. Parts:

    image     any bit of the slot that runs, check bits too
    headers   its head, and size, kind and number of each stored message
    tune      gains, offsets, biases, multipliers and shifts, as they are stored
    ram       static memory and stack of the network; a crash and an endless loop are noticed (by a watchdog)
    rules     of RAM, before the image, bits that a campaign calls correction and requantise
    nothing   no flip, and golden vectors after each image: what is noticed is a false alarm

``rules`` stands beside what such faults do to the same images on a virtual chip of the run's record, as in a campaign.

    hil emulate --firmware native --macros 8 --tcp 127.0.0.1:5025
    hil deploy examples/networks/fashion_small.pt --port tcp://127.0.0.1:5025 --macros 8 --data fashion-mnist-bundled \
--samples 200 --no-causes -o RUN
    python benchmarks/studies.py package-flips RUN [--parts ram rules] [--flips 10000]      # goes on where it stopped
    python benchmarks/studies.py package-flips --summary
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from cached_rows import Row, cache_row, cached_rows, made_by
from numpy.typing import NDArray

from cim.intervals import mean_interval, wilson
from cim.record.file import load_record
from firmware_protocols import codec
from firmware_protocols.messages import LoadLayer
from hil.payload.pack import FLIGHT, GROUP, HEAD, pack_run, packed_run, store_words
from hil.payload.radiation.block import fault_context
from hil.payload.radiation.faults import OFFSET_BITS, SHIFT_BITS, SUM_BITS, Fault, fault_space, flipped, inject
from hil.payload.settings import FaultKind
from hil.verdict.baseline import read_baseline
from hil.watch import Watch
from mapping.program.file import load_program
from mapping.recipe.recipe import Recipe

HERE = Path(__file__).parent
ROWS = HERE.parents[1] / "results" / "package_flips.jsonl"
IMAGES, CHUNK, PREDICTED = 100, 1000, 2000
PARTS = ("image", "headers", "tune", "ram", "rules", "nothing")
OUTCOMES = {
    "right": "r",
    "only logits": "o",
    "class changed": "c",
    "left in the store": "s",
    "refused": "n",
    "crash or endless loop": "x",
    "class changed, golden vectors": "g",
    "false alarm": "a",
}
RULES = (FaultKind.CORRECTION, FaultKind.REQUANTISE)
HEAD_BYTES = 20  # of a stored message: its size, and the head of its kind
RAM = "flight_ram"  # section of package_flips.c


@dataclass(frozen=True)
class FlipPlaces:
    """What may be flipped in the package of a run."""

    run: Path

    @cached_property
    def packed(self) -> Any:
        return packed_run(self.run)

    @cached_property
    def program(self) -> Any:
        return load_program(self.run / "program.h5")

    @cached_property
    def space(self) -> Any:
        return fault_space(self.program)

    def stored(self, part: str) -> NDArray[np.int64]:
        """Bytes of the slot that belong to a part; of nine words in a group, the last has check bytes."""
        words = np.arange(len(store_words(self.packed))).reshape(-1, GROUP)
        if part == "image":
            return np.arange(4 * words.size)
        data = (4 * words[:, :HEAD].reshape(-1)[:, None] + np.arange(4)).reshape(-1)  # without check bytes
        heads, tune, at = [np.arange(4 * GROUP)], [], 4 * HEAD
        for number, message in enumerate((*self.packed.layers.values(), *self.packed.plan)):
            heads.append(data[at : at + HEAD_BYTES])
            if number < len(self.packed.layers):
                tune.append(data[at + HEAD_BYTES : at + 4 + len(message)])
            at += 4 + 4 * -(-len(message) // 4)
        return np.concatenate(heads if part == "headers" else tune)

    def rules(self, rng: np.random.Generator) -> Iterator[tuple[Fault, int, int]]:
        """Faults of a correction or rule that are one bit of a loaded layer and that a loader would not refuse; byte
        (from the first layer on) and bit."""
        numbers = {step.name: number for number, step in enumerate(self.program.matrices)}
        if len(numbers) != len(self.packed.layers):
            raise SystemExit(f"{self.run} has layers in copies: deploy --without copies")
        sites = [self.space.sites(kind) for kind in RULES]
        starts = [0, *itertools.accumulate(4 + len(data) for data in self.packed.layers.values())]
        while True:
            fault = self.space.draw(RULES[int(rng.random() * sum(sites) >= sites[0])], rng, 0.5)
            if (number := numbers.get(fault.step)) is None:
                continue
            layer = codec.decode(self.packed.layers[number]).message
            assert isinstance(layer, LoadLayer)
            changed = struck(layer, fault)
            one, other = (np.frombuffer(codec.encode(m), np.uint8) for m in (layer, changed))
            if len(one) != len(other) or changed.multiplier.min() < 0 or changed.shift.max() > 62:
                continue
            apart = np.flatnonzero(np.unpackbits(one ^ other, bitorder="little"))
            if len(apart) == 1:
                yield fault, starts[number] + 4 + int(apart[0]) // 8, int(apart[0]) % 8

    def lines(self, part: str, chunk: int, count: int, layers_at: int) -> Iterator[str]:
        """Flips as ``package_flips.c`` reads them."""
        rng = np.random.default_rng([zlib.crc32(part.encode()), chunk])
        stored = self.stored(part) if part in PARTS[:3] else np.zeros(0)
        for _, (_, at, bit) in zip(range(count), self.rules(rng), strict=False) if part == "rules" else ():
            yield f"a {layers_at + at} {bit} {int(rng.integers(IMAGES))} 0"
        for _ in range(count if part != "rules" else 0):
            bit, image, moment = (int(rng.integers(n)) for n in (8, IMAGES, 1 << 16))
            letter = {"ram": "r", "nothing": "n"}.get(part, "s")
            place = rng.choice(stored) if letter == "s" else rng.integers(1 << 32)
            yield f"{letter} {int(place)} {bit} {image} {moment}"

    def predicted(self, injections: int = PREDICTED) -> Row:
        """Share of answers whose class such faults change on virtual chip 0, with its interval over faults."""
        report, record = read_baseline(self.run), load_record(self.run / "record.h5")
        recipe = replace(Recipe() if report.plan is None else Recipe.of_words(report.plan.recipe), age_s=3600.0)
        context = fault_context(recipe.prepared(self.program, record, Watch()), record, recipe, seed=0)
        images = np.concatenate(self.packed.images)[:IMAGES]
        before, shares = context.healthy(images, 0), []
        for fault, _, _ in itertools.islice(self.rules(np.random.default_rng(0)), injections):
            injection = inject(context.chip, fault)
            if not injection.refused:
                shares.append((context.faulted(injection, before, images, 0).classes != before.classes).mean())
        low, high = mean_interval(np.array(shares))
        return {"part": "predicted", "faults": len(shares), "share": float(np.mean(shares)), "low": low, "high": high}


def struck(layer: LoadLayer, fault: Fault) -> LoadLayer:
    """The message of a layer after a fault, whose places and bits are those of ``hil.payload.radiation.faults``."""

    def turned(holder: Any, name: str, at: int, bit: int, bits: int) -> Any:
        values = getattr(holder, name).copy()
        values[at] = flipped(int(values[at]), bit, bits, signed=True)
        return replace(holder, **{name: values})

    place = fault.place
    for name, bits in (("bias", SUM_BITS), ("multiplier", SUM_BITS), ("shift", SHIFT_BITS)):
        if fault.kind is FaultKind.REQUANTISE and place < bits * layer.outputs:
            changed: LoadLayer = turned(layer, name, *divmod(place, bits), SUM_BITS)
            return changed
        place -= bits * layer.outputs
    gain = fault.bit < SUM_BITS
    name, bit, bits = ("gain", fault.bit, SUM_BITS) if gain else ("offset", fault.bit - SUM_BITS, OFFSET_BITS)
    tile = turned(layer.tiles[fault.tile], name, fault.place, bit, bits)
    return replace(layer, tiles=(*layer.tiles[: fault.tile], tile, *layer.tiles[fault.tile + 1 :]))


def built(package: Path) -> int:
    """Compile a package with ``package_flips.c``; place of the loaded layers in the section of its RAM."""

    def said(*words: str) -> str:
        done = subprocess.run(words, cwd=package, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{words[0]}: {done.stderr}")
        return done.stdout

    said("make")
    objects = {str(path.relative_to(package / "build").with_suffix("")): path for path in package.glob("build/**/*.o")}
    flight = {name for name in objects if name == "network" or name.startswith(("onboard/", "plan/"))}
    flight |= {f"core/{name}" for name in FLIGHT}
    moved = [f"--rename-section={old}={RAM},alloc,load,data,contents" for old in (".bss", ".data", ".data.rel.local")]
    said("ld", "-r", "-o", "flight.o", *(str(objects[name]) for name in sorted(flight)))
    said("objcopy", *moved, "flight.o")
    host = [str(path) for name, path in objects.items() if name not in flight | {"main", "beam"}]
    sizes = (package / "sizes.mk").read_text("utf-8").partition("=")[2].split()
    said("gcc", "-std=gnu99", "-O2", *sizes, "-I.", "-Icore", "-Idie", "-o", "flips", str(HERE / "package_flips.c"),
         "flight.o", *host)  # fmt: skip
    symbols = {words[-1]: words[0] for words in map(str.split, said("nm", "flips").splitlines())}
    return int(symbols["layers"], 16) - int(symbols[f"__start_{RAM}"], 16)


def counted(package: Path, lines: list[str]) -> Row:
    """Flips by outcome."""
    asked = "\n".join(lines)
    done = subprocess.run(["./flips", "flips"], cwd=package, input=asked, capture_output=True, text=True, check=True)
    letters = Counter(done.stdout.strip())
    assert letters.total() == len(lines), done
    return {"flips": len(lines), **{name: letters.pop(letter, 0) for name, letter in OUTCOMES.items()}}


def summary() -> Iterator[str]:
    """A line a part: flips by outcome, shares that change a class unnoticed."""
    found: dict[str, Counter[str]] = {}
    for row in cached_rows(ROWS):
        if row["part"] == "predicted":
            share = f"{row['share']:.2%} ({row['low']:.2%} … {row['high']:.2%})"
            yield f"predicted: {row['faults']} faults of rules change the class of {share} of answers"
        else:
            counts = {name: row[name] for name in ("flips", *OUTCOMES)}
            found.setdefault(row["part"], Counter()).update(counts)
    for part, counts in found.items():
        changed = counts["class changed"] + counts["class changed, golden vectors"]
        low, high = wilson(changed, counts["flips"])
        told = ", ".join(f"{name} {counts[name]:,}" for name in ("flips", *OUTCOMES) if counts[name])
        yield f"{part}: {told}; class changed in all {changed / counts['flips']:.2%} ({low:.2%} … {high:.2%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--flips", type=int, default=10000)
    parser.add_argument("--summary", action="store_true", help="print what is there")
    asked = parser.parse_args()
    if asked.run is not None and not asked.summary:
        places = FlipPlaces(asked.run)
        done = {(row["part"], row.get("chunk")) for row in cached_rows(ROWS)}
        with tempfile.TemporaryDirectory() as made:
            pack_run(asked.run, Path(made) / "package")
            layers_at = built(Path(made) / "package")
            wanted = {part: CHUNK if part == "nothing" else asked.flips for part in asked.parts}
            for part, chunk in ((p, c) for p, flips in wanted.items() for c in range(flips // CHUNK)):
                if (part, chunk) not in done:
                    lines = list(places.lines(part, chunk, CHUNK, layers_at))
                    row = {"part": part, "chunk": chunk, **counted(Path(made) / "package", lines)}
                    cache_row(ROWS, {**row, **made_by()})
        if "rules" in asked.parts and ("predicted", None) not in done:
            cache_row(ROWS, {**places.predicted(), **made_by()})
    print("\n".join(summary()))


if __name__ == "__main__":
    main()
