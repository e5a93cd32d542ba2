"""The example mission runs from deployment to the page, and again from what its folder holds."""

from __future__ import annotations

import json
from pathlib import Path

from hil.payload.radiation.campaign import file_digest

from ...scripts import loaded
from ..fitting import every_answer_fits as every_answer_fits
from ..small_net import write_files

SCRIPT = Path(__file__).parents[3] / "examples" / "orbit" / "fly.py"


def test_the_example_ends_in_a_page_with_assumptions_first_and_a_digest_of_every_file(tmp_path: Path) -> None:
    script = loaded(SCRIPT)
    network, images = write_files(tmp_path)
    out = tmp_path / "mission"
    asked = ["-o", str(out), "--network", str(network), "--data", str(images), "--macros", "2", "--images", "100"]
    asked += ["--injections", "52", "--chips", "2", "--year-images", "100"]
    script.main(asked)
    page = (out / "mission.html").read_text("utf-8")
    assert page.index("Findings") < page.index("Mitigations") < page.index("What is taken for granted")
    for name in ("program.h5", "budget.json", "campaign/campaign.json", "run/record.h5"):
        assert file_digest(out / name) in page
    budget = json.loads((out / "budget.json").read_text("utf-8"))
    assert {share["basis"] for share in budget["image"]["shares"]} == {"assumed"}
    known = {line["name"]: line["held"] for line in budget["lines"]}
    assert known["accuracy after 3 years"] != "open"
    before = (out / "campaign" / "campaign.json").read_bytes()
    script.main(asked)  # goes on in the same folder
    assert (out / "campaign" / "campaign.json").read_bytes() == before
