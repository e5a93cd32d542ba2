"""Chips and verdicts in tests of one's own: the fixture ``hil_chip`` and ``assert_agrees``; a pytest plug-in.

    from hil.report.pytest_plugin import assert_agrees

    def test_my_network_on_my_chip(hil_chip, tmp_path):
        report = hil.deploy("net.pt", hil_chip, data="images.npz", out=tmp_path / "run")
        assert_agrees(report, tolerance=1.5)

``pytest --hil-chip /dev/ttyUSB0`` (or HIL_CHIP) names the chip; without it an emulated one answers (NOT SILICON).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hil.verdict.agreement import AgreementReport

EMULATED = "emulated:lab-128?seed=0"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("hil").addoption(
        "--hil-chip",
        default=os.environ.get("HIL_CHIP", EMULATED),
        help="address of the chip that hil_chip gives to tests; default: HIL_CHIP, or an emulated chip",
    )


@pytest.fixture(scope="session")
def hil_chip(pytestconfig: pytest.Config) -> str:
    """Address of the chip under test, as ``hil.deploy`` and ``hil.open_chip`` take it."""
    address: str = pytestconfig.getoption("--hil-chip")
    return address


def assert_agrees(report: AgreementReport, tolerance: float | None = None) -> None:
    """Fail unless simulator and chip agree; what the run found stands in the failure.

    Args:
        tolerance: in the metric's unit, points of a share: the whole 90 % interval of the difference must lie within;
            None: the verdict of the run, which was judged with its own tolerance.
    """
    __tracebackhide__ = True
    from hil.report.account import summary_of
    from hil.verdict.verdict import Verdict

    j = report.decisive
    if tolerance is None:
        good, asked = j.verdict is Verdict.AGREE, "the verdict is not agree"
    else:
        limit = tolerance / j.metric.factor
        good = -limit < j.interval90[0] and j.interval90[1] < limit
        asked = f"{j.metric.span(j.interval90)} {j.metric.unit} does not lie within ±{tolerance:g}"
    if not good:
        pytest.fail("\n".join([asked, *summary_of(report).lines()]), pytrace=False)
