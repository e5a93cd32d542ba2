"""Price lists: the prices of a technology in a file of their own, for any chip."""

from __future__ import annotations

from pathlib import Path

import pytest

from cim.chip.file import ChipFileError, chip_text, load_chip
from cim.chip.price_list import is_price_list, priced_by
from search.space.target import ChipTarget, load_target

from ..cli.test_cli import Cli
from ..cli.test_cli import cli as cli

HEAD = 'format = "hil.prices"\nversion = "1.0"\n'


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """Those of lab-128, conversions twice as dear."""
    text, _ = chip_text("lab-128")
    section = text[text.index("[cost]") :]
    end = section.find("\n[")
    section = section if end < 0 else section[: end + 1]
    dearer = section.replace("adc_fj_per_step = { value = 31.0", "adc_fj_per_step = { value = 62.0")
    assert dearer != section
    path = tmp_path / "dear.toml"
    path.write_text(HEAD + dearer, "utf-8")
    return path


def test_a_price_list_prices_any_chip_also_one_without_prices(cli: Cli, prices: Path) -> None:
    own = cli.json("estimate", "lenet5", "--chip", "lab-128")
    dear = cli.json("estimate", "lenet5", "--chip", "lab-128", "--prices", prices)
    for module, energy in own["energy_by_module_pj"].items():
        assert dear["energy_by_module_pj"][module] == pytest.approx((2 if module == "adc" else 1) * energy), module
    assert dear["latency_ns"] == own["latency_ns"]
    cli("estimate", "lenet5", "--chip", "mnsim-256", code=7)
    assert cli.json("estimate", "lenet5", "--chip", "mnsim-256", "--prices", prices)["edp_mj_ms"] > 0
    cli("estimate", "lenet5", "--chip", "mnsim-default", "--prices", prices, code=2)


def test_a_price_list_is_a_target_of_a_search_and_its_errors_name_the_line(prices: Path) -> None:
    chip = load_chip("mnsim-256")
    target = load_target(str(prices), chip=chip)
    assert isinstance(target, ChipTarget)
    assert target.chip.cost == priced_by(chip, str(prices)).cost
    assert target.chip.provenance["macro.rows"] == chip.provenance["macro.rows"]
    assert target.digest != load_target("lab-128").digest
    assert is_price_list(str(prices))
    assert not is_price_list("lab-128")
    text = prices.read_text("utf-8")
    for broken, said in (
        (text.replace("read_pj =", "red_pj ="), r":7: cost\.red_pj: unknown field"),
        (text.replace("hil.prices", "hil.chip"), "a price list says"),
        (text.replace('"1.0"', '"2.0"', 1), r"this program reads 1\.x"),
        (text + "[macro]\nrows = 1\n", "a price list has"),
    ):
        prices.write_text(broken, "utf-8")
        with pytest.raises(ChipFileError, match=said):
            priced_by(chip, str(prices))
    prices.write_text(text, "utf-8")
    with pytest.raises(ChipFileError, match="no chip is named that it prices"):
        load_target(str(prices))
