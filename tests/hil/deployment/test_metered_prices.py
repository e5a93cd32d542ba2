"""Prices of events, measured: loops of few kinds of event under a meter of the chip's supply."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.chip.price_list import price_list_text, priced_by
from cim.cost.network_cost import NoCostModel
from hil.cost.estimate import estimate_network
from hil.deployment.metered_prices.fit import MeteredLoop, fitted
from hil.deployment.metered_prices.loops import FIELDS, event_energies_pj, image_energy_pj, price_loops
from hil.deployment.metered_prices.meters import PowerInstrument
from hil.deployment.metered_prices.stand_in import EmulatedMeter
from hil.errors import DeviceError, UsageError
from mapping.compile import compile_network
from mapping.workload import program_workload

from ..cli.test_cli import Cli
from ..cli.test_cli import cli as cli

MACROS = 8
RESNET = "cifar_resnet20_a"


def test_prices_fitted_to_an_emulated_supply_tell_the_energy_of_a_network_within_a_tenth(
    cli: Cli, tmp_path: Path
) -> None:
    chip, hidden, out = load_chip("lab-128"), tmp_path / "hidden.toml", tmp_path / "fitted.toml"
    secret = EmulatedMeter("emulated:?seed=1", chip, time.monotonic_ns).hidden
    hidden.write_text(price_list_text(secret), "utf-8")
    power = f"emulated:{hidden}?seed=1"
    found = cli.json("calibrate", "--emulated", "--macros", str(MACROS), "--power", power, "-o", out)
    (metered, _), (told, error) = found["held_out"]
    assert told == pytest.approx(metered, rel=0.05)
    assert error < 0.05 * metered
    true = estimate_network(RESNET, secret).energy_pj
    before, after = (estimate_network(RESNET, one).energy_pj for one in (chip, priced_by(chip, str(out))))
    assert after == pytest.approx(true, rel=0.1)
    assert abs(before - true) > 0.3 * true, "the chip file's own prices are another's"
    assert "emulated" in out.read_text("utf-8"), "a stand-in's prices are never called measured"
    assert not found["silicon"]


def test_energy_of_a_loop_is_its_events_times_prices() -> None:
    chip = load_chip("lab-128", macros=MACROS)
    assert chip.cost is not None
    loop = next(price_loops(0))
    work = program_workload(compile_network(loop.network, chip))
    prices = np.array([getattr(chip.cost, name) for name in FIELDS])
    alone = replace(chip, cost=replace(chip.cost, sample_hold_pj=0.0, shift_add_pj=0.0))
    assert event_energies_pj(work, chip) @ prices == pytest.approx(image_energy_pj(work, alone))


def metered(prices: np.ndarray, events: np.ndarray, noise: float) -> list[MeteredLoop]:
    rng = np.random.default_rng(0)
    energy = events @ prices
    seen = energy * (1 + noise * rng.standard_normal(len(energy)))
    return [MeteredLoop("", float(e), noise * float(t), row) for e, t, row in zip(seen, energy, events, strict=True)]


def test_prices_are_within_their_errors_and_none_is_below_zero() -> None:
    rng = np.random.default_rng(1)
    truth = np.where(np.arange(len(FIELDS)) % 4 == 0, 0.0, rng.uniform(1, 5, len(FIELDS)))
    prices, covariance, misfit = fitted(metered(truth, rng.uniform(0, 1, (40, len(FIELDS))) ** 4, 0.01))
    errors = np.sqrt(np.diag(covariance))
    assert (prices >= 0).all()
    assert (np.abs(prices - truth) < 4 * errors).all()
    assert misfit < 0.02


def test_a_supply_that_knows_nothing_of_the_loops_is_refused() -> None:
    events = np.random.default_rng(2).uniform(0, 1, (20, len(FIELDS)))
    idle = [MeteredLoop("", 0.1, 1.0, row) for row in events]
    with pytest.raises(DeviceError, match="no loop takes more power than the idle chip"):
        fitted(idle)


def test_a_chip_without_a_cost_model_and_a_stand_in_meter_that_cannot_be_are_refused(cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(NoCostModel):
        EmulatedMeter("emulated:", load_chip("mnsim-256", macros=1), time.monotonic_ns)
    for address in ("emulated:?noise=much", "emulated:?colour=1", "emulated:?noise=-1"):
        with pytest.raises(UsageError):
            EmulatedMeter(address, load_chip("lab-128", macros=1), time.monotonic_ns)
    cli("calibrate", "--emulated", "--macros", "1", "--power", "emulated:", "-o", tmp_path / "record.h5", code=2)


class LoopClock:
    """Time that passes while a loop runs, and only then."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def run(self) -> None:
        self.now_s += 0.0625


class Answers(socketserver.StreamRequestHandler):
    """An instrument that answers each line with 1.5 W, or to another query with an error."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(b"1.5E+0\n" if line == b"MEAS:POW?\n" else b"-113,undefined header\n")


@pytest.fixture
def instrument() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_an_instrument_is_read_while_the_loop_runs_as_often_as_it_takes(
    instrument: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = LoopClock()
    monkeypatch.setattr("hil.deployment.metered_prices.meters.time", clock)
    monkeypatch.setattr("hil.deployment.metered_prices.meters.LEAST_S", 0.2)
    meter = PowerInstrument(instrument)
    seen = meter.metered(clock.run, None, 0)
    meter.close()
    assert seen.power_w == 1.5
    assert seen.error_w == 0.0
    assert 2 < seen.times <= 20
    assert seen.seconds >= 0.2


def test_an_instrument_that_takes_another_query_says_what_it_answered(
    instrument: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = LoopClock()
    monkeypatch.setattr("hil.deployment.metered_prices.meters.time", clock)
    meter = PowerInstrument(f"{instrument}?ask=POWER?")
    with pytest.raises(DeviceError, match="undefined header"):
        meter.metered(clock.run, None, 0)
    meter.close()


def test_a_loop_that_fails_ends_the_reading_of_its_power_and_is_told(instrument: str) -> None:
    meter = PowerInstrument(instrument)

    def fails() -> None:
        raise DeviceError("the chip is gone")

    with pytest.raises(DeviceError, match="the chip is gone"):
        meter.metered(fails, None, 0)
    assert not [thread for thread in threading.enumerate() if thread.name == "power meter"]
    meter.close()
