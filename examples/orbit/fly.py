"""A mission in one command: deploy, campaign, mitigations, budgets, and mission.html for a reviewer.

    python examples/orbit/fly.py -o runs/orbit                      # EuroSAT on 16 macros: hours; resumable
    python examples/orbit/fly.py -o runs/small --injections 650 --chips 4 --images 200 --year-images 200
                                                                    # a short one, to see the page

The folder keeps the campaign, so the same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hil.atomic import write_text
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import deploy
from hil.deployment.network_source import program_of
from hil.deployment.options import DeployOptions, NetworkOptions
from hil.payload.budget import busy_share, check_budget
from hil.payload.built_memory import built_memory
from hil.payload.harden import accuracy_at_end, harden_campaign
from hil.payload.orbit import load_orbit, orbit_path
from hil.payload.page import mission_page
from hil.payload.radiation.campaign import run_study
from hil.payload.requirements import load_mission
from hil.payload.settings import SCENARIOS, OrbitSettings
from hil.payload.subject import open_subject
from hil.report.terminal.screen import Screen
from mapping.program.file import save_program

HERE = Path(__file__).parent
NETWORK = HERE.parent / "searches" / "eurosat" / "networks" / "bedf875d" / "net.pt"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the mission")
    parser.add_argument("--network", type=Path, default=NETWORK)
    parser.add_argument("--data", default="eurosat")
    parser.add_argument("--macros", type=int, default=16)
    parser.add_argument("--chip", default="lab-128")
    parser.add_argument("--orbit", default="leo-sso.toml")
    parser.add_argument("--mission", type=Path, default=HERE / "mission.toml")
    parser.add_argument("--injections", type=int, default=9607, help="739 of each kind; 9,604 give a margin of 1 %%")
    parser.add_argument("--chips", type=int, default=20, help="virtual chips of the accuracy over the years")
    parser.add_argument("--images", type=int, default=2000, help="images of the run")
    parser.add_argument("--year-images", type=int, default=500, help="images of the accuracy over the years")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    with Screen() as watch:
        fly(asked, watch)


def fly(asked: argparse.Namespace, watch: Screen) -> None:
    out: Path = asked.out
    out.mkdir(parents=True, exist_ok=True)
    plan, orbit = load_mission(asked.mission), load_orbit(asked.orbit)
    program, _ = program_of(asked.network, NetworkOptions(asked.chip, asked.macros), watch)
    save_program(program, out / "program.h5")
    if not (out / "run").exists():
        deploy(
            asked.network,
            f"emulated:{asked.chip}?seed={asked.seed}&macros={asked.macros}",
            chip=asked.chip,
            macros=asked.macros,
            data=asked.data,
            out=out / "run",
            options=DeployOptions(samples=asked.images, all_images=True, causes=False, seed=asked.seed),
            watch=watch,
        )
    asked_for = NetworkOptions(asked.chip, asked.macros)
    subject = open_subject(out / "run", asked_for, watch, network=out / "program.h5")
    options = OrbitSettings(
        injections=asked.injections,
        years=(0.0, 1.0, plan.mission.years),
        chips=asked.chips,
        year_images=asked.year_images,
        scenarios=tuple(SCENARIOS),
        seed=asked.seed,
        workers=asked.workers,
        recipe=subject.recipe,
    )
    data = load_dataset(asked.data, "test")
    report = run_study(
        program, data, None, orbit, out / "campaign", options, watch, busy_share=busy_share(program, plan)
    )
    hardening = harden_campaign(out / "campaign", program, plan, options)
    at_end = accuracy_at_end(out / "campaign", program, plan)
    memory = built_memory(program, out / "run")
    budget = check_budget(
        program, plan, network=subject.name, accuracy=subject.accuracy, accuracy_at_end=at_end, memory=memory
    )
    write_text(out / "budget.json", json.dumps(budget.to_json(), indent=1) + "\n")
    made = ("program.h5", "budget.json", "run/report.json", "run/record.h5")
    files = [
        asked.network,
        asked.mission,
        orbit_path(asked.orbit),
        *(out / name for name in made),
        *(out / "campaign" / name for name in ("settings.json", "injections.json", "campaign.json", "hardening.json")),
    ]
    notes = [f"the run was on an emulated chip, {report['belief']}", *report["notes"]]
    write_text(
        out / "mission.html",
        mission_page(plan, budget, report, hardening, files, notes),
    )
    print(f"page: {out / 'mission.html'}")


if __name__ == "__main__":
    main()
