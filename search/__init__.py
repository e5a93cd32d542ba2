"""Network search after NAS4CIM (doi 10.11999/JEIT250978), from its public abstract only.

Spaces and architectures, task significance (phase A), costs of whole networks, hardware significance
(phase B), Pareto fronts and retraining (phase C);
``docs/explanation/search.md`` says what is the paper's and what is our own. Knows no ports and no opcodes.
The names below are the public ones of this package; everything else is internal.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.choice.accuracy import Accuracy, AdditiveAccuracy, fit_accuracy
    from search.choice.candidate_costs import Simulator
    from search.choice.front import Front, Member, read_front, write_front
    from search.choice.hardware_significance import hardware_significance
    from search.choice.pareto import Caps, pareto_search
    from search.errors import CodeRefused, NewerFile, NothingFits, SearchError, SearchFileError, SpaceError
    from search.evaluator import Evaluation, Evaluator
    from search.space.architecture import Architecture, read_architecture, write_architecture
    from search.space.candidate import CandidateCost, workload
    from search.space.file import load_space, parse_space, space_names
    from search.space.genes import Bits, Space
    from search.space.operators import Operator
    from search.space.prune import fitted
    from search.space.significance import Significance, combined
    from search.space.target import ChipTarget, MnsimTarget, Target, load_target
    from search.stage.rating import StageJob, train_stage
    from search.stage.scores import StageScores, read_scores, task_significance
    from search.stage.task import StageSettings
    from search.train.retrain import Retrained, RetrainJob, RetrainSettings, retrain
    from search.train.teacher_training import refine_teacher, train_teacher
    from search.train.training import TrainingSchedule
    from search.train.workers import workers

__all__ = [
    "Accuracy",
    "AdditiveAccuracy",
    "Architecture",
    "Bits",
    "CandidateCost",
    "Caps",
    "ChipTarget",
    "CodeRefused",
    "Evaluation",
    "Evaluator",
    "Front",
    "Member",
    "MnsimTarget",
    "NewerFile",
    "NothingFits",
    "Operator",
    "RetrainJob",
    "RetrainSettings",
    "Retrained",
    "SearchError",
    "SearchFileError",
    "Significance",
    "Simulator",
    "Space",
    "SpaceError",
    "StageJob",
    "StageScores",
    "StageSettings",
    "Target",
    "TrainingSchedule",
    "combined",
    "fit_accuracy",
    "fitted",
    "hardware_significance",
    "load_space",
    "load_target",
    "pareto_search",
    "parse_space",
    "read_architecture",
    "read_front",
    "read_scores",
    "refine_teacher",
    "retrain",
    "space_names",
    "task_significance",
    "train_stage",
    "train_teacher",
    "workers",
    "workload",
    "write_architecture",
    "write_front",
]

_HOMES = {
    "search.choice.accuracy": ("Accuracy", "AdditiveAccuracy", "fit_accuracy"),
    "search.choice.candidate_costs": ("Simulator",),
    "search.choice.front": ("Front", "Member", "read_front", "write_front"),
    "search.choice.hardware_significance": ("hardware_significance",),
    "search.choice.pareto": ("Caps", "pareto_search"),
    "search.errors": ("CodeRefused", "NewerFile", "NothingFits", "SearchError", "SearchFileError", "SpaceError"),
    "search.evaluator": ("Evaluation", "Evaluator"),
    "search.space.architecture": ("Architecture", "read_architecture", "write_architecture"),
    "search.space.candidate": ("CandidateCost", "workload"),
    "search.space.file": ("load_space", "parse_space", "space_names"),
    "search.space.genes": ("Bits", "Space"),
    "search.space.operators": ("Operator",),
    "search.space.prune": ("fitted",),
    "search.space.significance": ("Significance", "combined"),
    "search.space.target": ("ChipTarget", "MnsimTarget", "Target", "load_target"),
    "search.stage.rating": ("StageJob", "train_stage"),
    "search.stage.scores": ("StageScores", "read_scores", "task_significance"),
    "search.stage.task": ("StageSettings",),
    "search.train.retrain": ("RetrainJob", "RetrainSettings", "Retrained", "retrain"),
    "search.train.teacher_training": ("refine_teacher", "train_teacher"),
    "search.train.training": ("TrainingSchedule",),
    "search.train.workers": ("workers",),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
