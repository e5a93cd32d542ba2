"""Network search after NAS4CIM (doi 10.11999/JEIT250978), from its public abstract only.

Spaces and architectures, task significance (phase A), costs of whole networks, hardware significance
(phase B), Pareto fronts and retraining (phase C);
``docs/search.md`` says what is the paper's and what is our own. Knows no ports and no opcodes.
The names below are the public ones of this package; everything else is internal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cim.public_names import imported, public_names

if TYPE_CHECKING:  # the public names, said once
    from search.choice.accuracy import (
        Accuracy as Accuracy,
        AdditiveAccuracy as AdditiveAccuracy,
        fit_accuracy as fit_accuracy,
    )
    from search.choice.candidate_costs import Simulator as Simulator
    from search.choice.front import (
        Front as Front,
        Member as Member,
        read_front as read_front,
        write_front as write_front,
    )
    from search.choice.hardware_significance import hardware_significance as hardware_significance
    from search.choice.pareto import Caps as Caps, pareto_search as pareto_search
    from search.errors import (
        CodeRefused as CodeRefused,
        NewerFile as NewerFile,
        NothingFits as NothingFits,
        SearchError as SearchError,
        SearchFileError as SearchFileError,
        SpaceError as SpaceError,
    )
    from search.evaluator import Evaluation as Evaluation, Evaluator as Evaluator
    from search.space.architecture import (
        Architecture as Architecture,
        read_architecture as read_architecture,
        write_architecture as write_architecture,
    )
    from search.space.candidate import CandidateCost as CandidateCost, workload as workload
    from search.space.file import load_space as load_space, parse_space as parse_space, space_names as space_names
    from search.space.genes import Bits as Bits, Space as Space
    from search.space.operators import Operator as Operator
    from search.space.prune import fitted as fitted
    from search.space.significance import Significance as Significance, combined as combined
    from search.space.target import (
        ChipTarget as ChipTarget,
        MnsimTarget as MnsimTarget,
        Target as Target,
        load_target as load_target,
    )
    from search.stage.rating import StageJob as StageJob, train_stage as train_stage
    from search.stage.scores import (
        StageScores as StageScores,
        read_scores as read_scores,
        task_significance as task_significance,
    )
    from search.stage.task import StageSettings as StageSettings
    from search.train.retrain import (
        Retrained as Retrained,
        RetrainJob as RetrainJob,
        RetrainSettings as RetrainSettings,
        retrain as retrain,
    )
    from search.train.teacher_training import refine_teacher as refine_teacher, train_teacher as train_teacher
    from search.train.training import TrainingSchedule as TrainingSchedule
    from search.train.workers import workers as workers

_HOMES = public_names(__file__)
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    return imported(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return __all__
