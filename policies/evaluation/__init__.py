"""Controllers against each other: the same scenarios from the same seeds, played to their end, judged by public figures alone.

`cases` says what is played, `contenders` who plays, `episodes` plays one case, `running` all, `tuning` tunes on other seeds, `judgement`
says what came of it, `scores` compares, `pages` tells; `evaluating` puts them together.
"""

from __future__ import annotations

from otel_control_gym.policies.evaluation.cases import load_evaluation
from otel_control_gym.policies.evaluation.contenders import NAMES
from otel_control_gym.policies.evaluation.evaluating import DEFAULT_SEEDS, evaluate, evaluation_directory
from otel_control_gym.policies.evaluation.judgement import EpisodeResult
from otel_control_gym.policies.evaluation.pages import shown, write_pages
from otel_control_gym.policies.evaluation.scores import Scores, scores_of
from otel_control_gym.policies.evaluation.settings import EvaluationSettings

__all__ = (
    "DEFAULT_SEEDS",
    "NAMES",
    "EpisodeResult",
    "EvaluationSettings",
    "Scores",
    "evaluate",
    "evaluation_directory",
    "load_evaluation",
    "scores_of",
    "shown",
    "write_pages",
)
