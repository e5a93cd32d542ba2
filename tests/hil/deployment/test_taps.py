"""Sums of single layers from the sequencer: the same as with the host between the layers, at places of the map."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from cim.record.published import nominal_record
from firmware_protocols.messages import Capability
from hil.deployment.inference import LAYER_REPEATS, measure_layers
from hil.deployment.layer_sums import exact_layers
from hil.deployment.plans.taps import Taps
from hil.deployment.targets.wired import WiredTarget, program_chip
from hil.driver.open_chip import connect
from hil.emulator.chip import ALL_CAPABILITIES
from hil.server.firmware_launch import running_firmware
from hil.server.firmware_targets import TOOLCHAINS, FirmwareTarget
from hil.transports import open_transport
from hil.watch import Watch
from mapping.program.corrections import nominal_corrections
from mapping.recipe.standing import Written
from mapping.tune.channel_affine import ChannelTune, tune_targets

from .test_network_plan import noisy, on_noisy_chip
from .test_placement_wire import CHIPS, LAYOUTS, open_ideal, spec_of
from .test_placement_wire import compiled as of_layout

WITHOUT_PLAN = ALL_CAPABILITIES & ~Capability.PLAN


def test_a_tune_by_taps_gives_the_gains_and_biases_of_a_tune_with_the_host_between_the_layers() -> None:
    program = noisy()
    images, tuned, sent = program.calibration_images[:6], [], []
    for capabilities in (ALL_CAPABILITIES, WITHOUT_PLAN):
        with on_noisy_chip(program, capabilities) as driver:
            target = WiredTarget(driver, nominal_record(program.spec, program.macros), Watch())
            written = Written(program, {}, nominal_corrections(program), 0.0)
            tuned.append(target.tune(ChannelTune(program, tune_targets(program, images)), written))
            sent.append(driver.fallbacks)
    assert tuned[0].program.digest == tuned[1].program.digest
    assert all(np.array_equal(a.gain, b.gain) for a, b in zip(tuned[0].fits, tuned[1].fits, strict=True))


def test_layer_statistics_by_taps_are_those_of_tiles_that_the_host_adds() -> None:
    program = noisy()
    exact, corrections = exact_layers(program, program.calibration_images[:3]), nominal_corrections(program)
    found = []
    for capabilities in (ALL_CAPABILITIES, WITHOUT_PLAN):
        with on_noisy_chip(program, capabilities) as driver:
            found.append(measure_layers(driver, program, corrections, exact, Watch()))
            assert not [text for text in driver.fallbacks if text.startswith("layer ")]
    for name, own in found[0].items():
        assert len(own.sums) == LAYER_REPEATS
        assert np.array_equal(own.sums, found[1][name].sums), name
        assert own.count == found[1][name].count, name


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_taps_of_the_firmware_are_the_sums_that_it_gives_tile_by_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    program = noisy()
    images, corrections = program.calibration_images[:3], nominal_corrections(program)
    exact, found, tuned = exact_layers(program, images), [], []
    for words in (1 << 21, 0):  # 0: built without a sequencer, the same die
        monkeypatch.setitem(TOOLCHAINS[FirmwareTarget.NATIVE].limits, "PLAN_WORDS", words)
        with (
            running_firmware(FirmwareTarget.NATIVE, program.spec, seed=3) as address,
            connect(open_transport(address), chip=program.spec) as driver,
        ):
            assert (Capability.PLAN in driver.capabilities) == bool(words)
            program_chip(driver, program, sample=1, watch=Watch())
            found.append(measure_layers(driver, program, corrections, exact, Watch()))
            target = WiredTarget(driver, nominal_record(program.spec, program.macros), Watch())
            written = Written(program, {}, corrections, 0.0)
            tuned.append(target.tune(ChannelTune(program, tune_targets(program, images)), written))
    assert all(np.array_equal(own.sums, found[1][name].sums) for name, own in found[0].items())
    assert tuned[0].program.digest == tuned[1].program.digest


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chip", CHIPS)
def test_taps_of_every_layout_are_the_ideal_sums_on_an_ideal_chip(chip: str, layout: str) -> None:
    program = of_layout(spec_of(chip), LAYOUTS[layout])
    images = program.calibration_images[:2]
    exact = exact_layers(program, images)
    with open_ideal(program) as driver:
        program_chip(driver, program, sample=0, watch=Watch())
        taps = Taps(driver, program, nominal_corrections(program))
        for step in program.matrices:
            codes, wanted = exact[step.name]
            assert np.array_equal(taps.after(program, step.name, images, 0), wanted)
            assert np.array_equal(taps.alone(step, codes, 0, 1).sums[0], wanted)
