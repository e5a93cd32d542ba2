"""A run's network as a folder of C99 that runs it without the link: ``hil mission pack``.

The folder holds sequencer, layers and integer operations of the reference firmware unchanged, the stored plan and
layers as words (``network.c``), and a host program that links the model of a die, repeats the writes of the run, and
runs images. Everything comes from the run's wire log: the layers and the plan loaded into the chip, the writes,
each with the chip time before it, the images with their sample numbers, and the answers to compare with.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from firmware_protocols import codec
from firmware_protocols.messages import (
    Description,
    ErrorReply,
    LoadLayer,
    MvmResult,
    ProgramTile,
    Progress,
    Pulse,
    Request,
    Wait,
)
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from firmware_protocols.plans.plan import plan_of
from hil.atomic import output_error
from hil.deployment.deployment import PROGRAM_FILE
from hil.deployment.plans.layer_loads import layer_messages
from hil.deployment.plans.network_plan import network_plan
from hil.errors import FileError, UsageError
from hil.pages.summary import Fact, NextStep, Summary
from hil.payload.radiation.faults import REGISTERS, STORED
from hil.payload.radiation.stored_words import CODE_SHARE, coded
from hil.server.firmware_build import SOURCES, config_header
from hil.server.firmware_launch import die_serial
from hil.transports.replay import Exchange, exchanges_of
from hil.transports.wire_log import read_wire_log
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import nominal_corrections
from mapping.program.file import load_program

FLIGHT = ("chip_cells", "chip_compute", "digital", "layers", "messages")  # of core/, beside plan/ and onboard/
HOST = ("chip_write",)
NATIVE, MOST_SEEDS = "(native)", 1 << 16  # firmware whose serial number tells the seed of its die
TELEMETRY = "telemetry.xml"
HOST_FILES = (
    "Makefile",
    "main.c",
    "beam.c",
    "beam.h",
    "die_macro.c",
    "die_macro.h",
    "network.h",
    TELEMETRY,
)  # of onboard/
STORE_BEGINS, HEAD, SUM = 0x4B50494C, 8, 4  # of a slot: its first word, words at its head, the place of its check sum
GROUP = 9  # words that are written together: eight, and the check bytes of their four pairs (``onboard/stored.h``)
ROOM = 1.125  # of a slot over the network, for updates
GOLDEN, FALSE_ALARMS = 8, 1e-4  # golden vectors; share of their runs, and of days, with an alarm by chance
DAILY = """<DefaultAlarm><ChangeAlarmRanges spanOfInterestInSeconds="86400"><WarningRange maxInclusive="{:.9e}"/>\
</ChangeAlarmRanges></DefaultAlarm>"""  # changes are a second's
LEAST_MESSAGE = 4096


@dataclass
class PackedRun:
    """Contents of a package. ``plan``: messages that load it; ``writes``: chip time before each write, message."""

    layers: dict[int, bytes] = field(default_factory=dict)
    plan: list[bytes] = field(default_factory=list)
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    sample: int = 0
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    answers: list[NDArray[np.int32]] = field(default_factory=list)  # (passes, images, logits)
    chip: Description | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """A package that was written: its folder and files."""

    folder: Path
    images: int
    words: int  # of 32 bits, the stored network
    digest: str  # SHA-256 over names and bytes of its files
    seed: int | None  # of the die that the host links; None: the run was on another chip

    def to_json(self) -> dict[str, Any]:
        names = ("images", "words", "digest", "seed")
        return {"format": "hil.package/1.0", "folder": str(self.folder), **{n: getattr(self, n) for n in names}}

    def summary(self) -> Summary:
        same = "the answers of the run again, on the same die: answers.txt, bit for bit"
        other = "the model of a die, which is not the chip of the run, so that its answers are others"
        parts = (
            Fact("Network", f"{4 * self.words:,} bytes of plan and layers"),
            Fact("Images", f"{self.images:,}, with the answers of the run's first repeat"),
            Fact("Digest", self.digest),
        )
        step = NextStep(f"make -C {self.folder} check", other if self.seed is None else same)
        return Summary(f"package in {self.folder}", parts=parts, steps=(step,))


def packed_run(run: Path) -> PackedRun:
    """Read the contents of a package from a run's wire log; images: the batch with most passes, the last of equals.

    Raises:
        FileError: no wire log, or a log that keeps only digests of needed messages.
        UsageError: the chip did not run the network as a plan, or the run did not write it.
    """
    path = run / "wire.log"
    now, best, most, time_ns = PackedRun(), None, 0, 0
    for exchange in exchanges_of(path, read_wire_log(path))[1]:
        answer = exchange.answers[-1] if exchange.answers else None
        if answer is not None and isinstance(answer.message, Description):
            now.chip = answer.message
        data, message = _message(path, exchange)
        match message:
            case LoadLayer():
                now.layers[message.layer] = data
            case LoadPlan():
                now.plan = [*now.plan, data] if message.offset else [data]
                now.images, now.answers = [], []
            case ProgramTile() | Pulse() | Wait() if answer and not isinstance(answer.message, ErrorReply):
                now.writes.append((time_ns, data))
            case RunPlan() if answer is not None and isinstance(answer.message, PlanResult):
                done = sum(map(len, now.images))
                if not done or message.sample != now.sample + done:  # other images
                    now.images, now.answers, now.sample, done = [], [], message.sample, 0
                now.images.append(message.pixels)
                now.answers.append(answer.message.values)
                done += len(message.pixels)
                if done * message.passes >= most:
                    most = done * message.passes
                    best = replace(now, layers=dict(now.layers), writes=list(now.writes))
        time_ns = time_ns if answer is None else max(time_ns, answer.chip_time_ns)
    if best is None:
        raise UsageError(
            f"the chip of {run} did not run the network as a plan",
            likely="it has no sequencer, or no room for the plan, so that the host worked between layers",
            hint="hil board info shows what a chip can do; hil emulate --firmware native can run plans",
        )
    if not any(isinstance(codec.decode(data).message, ProgramTile) for _, data in best.writes):
        raise UsageError(f"{run} did not write the network into the chip", hint="pack the run that wrote it")
    return best


def packed_program(program: ConductanceProgram) -> PackedRun:
    """Contents of a package before any run: corrections of a nominal chip, no writes, and golden vectors of zeros.

    Raises:
        hil.deployment.plans.network_plan.NoPlan: no chip runs the whole network.
    """
    messages = layer_messages(program, nominal_corrections(program))
    words = network_plan(program, {key: message.layer for key, message in messages.items()}).words()
    channels, height, width = program.input.shape
    return PackedRun(
        {message.layer: codec.encode(message) for message in messages.values()},
        [codec.encode(LoadPlan(len(words), 0, words))],
        images=[np.zeros((GOLDEN, height, width, channels), np.uint8)],
        answers=[np.zeros((2, GOLDEN, len(program.classes)), np.int32)],
    )


def _message(path: Path, exchange: Exchange) -> tuple[bytes, Request[Any] | None]:
    """Bytes and message of a request in the log; (b"", None) for a request that a package does not need."""
    data = exchange.request.data
    if data is not None:
        found = codec.decode(data).message
        return data, found if isinstance(found, Request) else None
    if not all(isinstance(answer.message, MvmResult | Progress | ErrorReply) for answer in exchange.answers):
        raise FileError(f"{path} keeps a digest of request {exchange.number}, not its bytes", hint="deploy again")
    return b"", None


def daily_limits(campaign: Mapping[str, Any]) -> dict[str, int]:
    """Most counts of the telemetry in a day that the upsets of a campaign (``campaign.json``) explain."""
    upsets = {kind: about["upsets_per_day"] for kind, about in campaign["kinds"].items()}
    stored, registers = (sum(upsets.get(kind, 0.0) for kind in kinds) for kinds in (STORED, REGISTERS))
    rates = {"mended": (1.0 + CODE_SHARE) * stored, "registers": registers}
    return {name: int(stats.poisson.isf(FALSE_ALARMS, rate)) for name, rate in rates.items()}


def pack_run(run: Path, folder: Path, campaign: Mapping[str, Any] | None = None) -> Package:
    """Write the package of a run; the same run gives the same bytes.

    Args:
        campaign: report whose upsets limit counts of the telemetry (``daily_limits``); None: no limit a day.

    Raises:
        as ``packed_run``, and ``mapping.program.file.load_program``.
        UsageError: the folder is there already, or the firmware cannot be the chip of the run.
        OutputError: it cannot be written.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already", hint="name a new folder: -o")
    packed, spec = packed_run(run), load_program(run / PROGRAM_FILE).spec
    assert packed.chip is not None, "a session begins with the description of its chip"
    serial, native = packed.chip.serial, packed.chip.firmware.endswith(NATIVE)
    seed = next((seed for seed in range(MOST_SEEDS) if native and die_serial(spec, seed) == serial), None)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
            write_package(Path(made) / "package", packed, config_header(spec, seed or 0, {}, serial))
            described = Path(made) / "package" / TELEMETRY
            for name, most in daily_limits(campaign).items() if campaign else ():
                text = described.read_text("utf-8").replace(f"<!-- {name} in a day -->", DAILY.format(most / 86400))
                described.write_text(text, "utf-8")
            digest = _digest(Path(made) / "package")
            (Path(made) / "package").rename(folder)
    except OSError as error:
        raise output_error(folder, error) from error
    return Package(folder, sum(map(len, packed.images)), len(store_words(packed)), digest, seed)


def write_package(root: Path, packed: PackedRun, config: str) -> dict[str, int]:
    """Write the files of a package into a new folder; the sizes of its memory (``sizes_of``), and words of a slot.

    Args:
        config: ``chip_config.h`` (``hil.server.firmware_build.config_header``).
    """
    words = store_words(packed)
    answers = np.concatenate(packed.answers, axis=1)[0]
    sizes = {**sizes_of(packed), "SLOT_WORDS": GROUP * math.ceil(ROOM * len(words) / GROUP)}
    texts = {
        "chip_config.h": config,
        "sizes.mk": "SIZES = " + " ".join(f"-D{name}={size}" for name, size in sizes.items()) + "\n",
        "network.c": _source(words, packed.sample),
        "answers.txt": "".join(" ".join(map(str, row)) + "\n" for row in answers),
    }
    binaries = {
        "images.bin": b"".join(batch.tobytes() for batch in packed.images),
        "writes.bin": b"".join(struct.pack("<QI", time_ns, len(data)) + data for time_ns, data in packed.writes),
    }
    for name in _firmware():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCES / name, root / name)
    for name in HOST_FILES:
        (root / "onboard" / name).rename(root / name)
    for name, data in {**binaries, **{n: text.encode() for n, text in texts.items()}}.items():
        (root / name).write_bytes(data)
    return sizes


def _firmware() -> Iterator[str]:
    """Firmware files of a package: the sequencer, the model of a die, and code written for both."""
    yield "generated/protocol.h"
    yield from (f"core/{name}.c" for name in (*FLIGHT, *HOST))
    for pattern in ("core/*.h", "plan/*", "die/*", "onboard/*"):
        yield from (str(path.relative_to(SOURCES)) for path in sorted(SOURCES.glob(pattern)))


def sizes_of(packed: PackedRun) -> dict[str, int]:
    """Memory sizes of a package (``core/limits.h``), as small as its network allows."""
    plans = [codec.decode(data).message for data in packed.plan]
    layers = [codec.decode(data).message for data in packed.layers.values()]
    words = np.concatenate([part.words for part in plans if isinstance(part, LoadPlan)])
    outputs = [len(layer.bias) for layer in layers if isinstance(layer, LoadLayer)]
    stored = max(map(len, (*packed.layers.values(), *packed.plan)))
    plan, pixels = plan_of(words), packed.images[0][0].size
    image = plan.values[0]
    beside_image = 0 if image.place >= pixels else image.end + pixels  # ``plan_spare`` (plan/plan.h)
    return {
        "MAX_MESSAGE": max(LEAST_MESSAGE, stored, *(len(data) for _, data in packed.writes)),
        "STORED_MESSAGE": stored,
        "LAYER_BYTES": sum(4 + len(data) for data in packed.layers.values()),
        "LAYER_OUTPUTS": max(outputs),
        "PLAN_WORDS": len(words),
        "PLAN_MEMORY": max(stored, plan.arena, beside_image),
        "PLAN_VALUES": len(plan.values),
        "PLAN_STEPS": len(plan.steps),
        "PLAN_LOGITS": packed.answers[0].shape[2],
        "IMAGE_BYTES": pixels,
    }


def store_words(packed: PackedRun, number: int = 1) -> list[int]:
    """A slot of the store (``onboard/stored.h``): head, messages that load the network, golden vectors, as 32-bit words
    with ECC.

    Args:
        number: of the update; the newest whole slot runs.
    """
    words: list[int] = []
    for data in (*(packed.layers[n] for n in sorted(packed.layers)), *packed.plan):
        words += [len(data), *_words(data)]
    messages = HEAD + len(words)
    answers = np.concatenate(packed.answers, axis=1)[:, :GOLDEN].astype(np.int64)
    means, limit = golden_limit(answers)
    for pixels, mean in zip(np.concatenate(packed.images)[: len(means)], means, strict=True):
        words += [*_words(pixels.tobytes()), *_words(mean.astype("<i4").tobytes())]
    end = HEAD + len(words)
    head = [STORE_BEGINS, number, messages, end, 0, len(means), limit & 0xFFFFFFFF, limit >> 32]
    head[SUM] = zlib.crc32(np.array([*head, *words], "<u4").tobytes())
    whole = np.array([*head, *words, *[0] * (-end % HEAD)], "<u4")
    groups = [whole.reshape(-1, HEAD), coded(whole.tobytes()).check.view("<u4")[:, None]]
    return [int(word) for word in np.concatenate(groups, axis=1).reshape(-1)]


def golden_limit(answers: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Mean logits (images, logits) of several passes, and the largest sum of squared deviations of a further pass: an F
    quantile with one degree of freedom for each image and pass. With a single pass: no images, as noise is unknown."""
    passes, images = answers.shape[:2]
    if passes < 2:
        return answers[0, :0], 0
    means = np.rint(answers.mean(axis=0)).astype(np.int64)
    spread = float(((answers - means) ** 2).sum()) / (passes - 1)
    quantile = float(stats.f.isf(FALSE_ALARMS, images, images * (passes - 1)))
    return means, math.ceil((1 + 1 / passes) * spread * quantile)


def _words(data: bytes) -> list[int]:
    return [int(word) for word in np.frombuffer(data + bytes(-len(data) % 4), "<u4")]


def _source(words: list[int], sample: int) -> str:
    rows = [", ".join(f"0x{word:08x}" for word in words[at : at + 8]) for at in range(0, len(words), 8)]
    return "\n".join(
        (
            "/* The golden image (onboard/stored.h). */",
            '#include "network.h"',
            "",
            f"const uint64_t network_sample = {sample}ull;",
            f"const uint32_t network_size = {len(words)};",
            f"const uint32_t network_words[{len(words)}] = {{",
            *(f"    {row}," for row in rows),
            "};\n",
        )
    )


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()
