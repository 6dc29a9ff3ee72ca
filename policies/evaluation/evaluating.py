"""An evaluation: its tuned contenders tuned, all contenders played in all cases.

In: settings, the names of policies, how many seeds. Out: an `EpisodeResult` of every policy in every case, and in `evaluation=NAME/` of
the data directory what is kept of it. Who is tuned is tuned on training seeds, if it takes part and hasn't been (`tuning`). Episodes are
played under a scratch directory that is dropped; `ocg run --policy` plays one with a dataset.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from otel_control_gym.engine.assembly import configured_broker
from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.policies.evaluation.cases import cases_of, check_on_cluster, on_cluster
from otel_control_gym.policies.evaluation.contenders import (
    CALIBRATED,
    MODEL_PREDICTIVE,
    AskedThrough,
    Contender,
    check_names,
)
from otel_control_gym.policies.evaluation.judgement import EpisodeResult
from otel_control_gym.policies.evaluation.running import Place, Told, play_cases
from otel_control_gym.policies.evaluation.settings import EvaluationSettings
from otel_control_gym.policies.evaluation.tuning import Explored, calibrated, trained
from otel_control_gym.policies.naming import is_foreign

__all__ = ("DEFAULT_SEEDS", "evaluate", "evaluation_directory")

DEFAULT_SEEDS = 5


async def evaluate(
    settings: EvaluationSettings,
    policies: Sequence[str],
    *,
    data_dir: Path,
    seeds: int = DEFAULT_SEEDS,
    workers: int = 1,
    model: Path | None = None,
    nats: str | None = None,
    access: ClusterAccess | None = None,
    on_episode: Told = lambda _result, _done, _total: None,
    on_explored: Explored = lambda _family, _done, _total: None,
) -> list[EpisodeResult]:
    """Let policies play the same cases; return all results, by scenario, seed and policy.

    Args:
        settings: from `load_evaluation`.
        policies: names (`contenders.NAMES`), entry points `package.module:function`, or `nats:SUBJECT` for other processes.
        data_dir: where results are kept.
        seeds: of each scenario: 1, 2, …
        workers: processes that play.
        model: directory of the model that `mpc` plans with; None: one that is trained on the training cases.
        nats: URL of the server on which policies in other processes are asked, instead of the embedded one of `data_dir`.
        access: to a cluster, on which then all cases are played, one episode after the other; who is tuned is tuned on twins.
        on_episode: is told of each result, how many there are of this kind so far, and how many there are to be.
        on_explored: is told of each training family whose futures `mpc` learns from, likewise.

    Raises: UsageError: a name, a number or the model isn't right. Whatever an environment or a policy raises.
    """
    check_names(policies)
    if access is not None:
        check_on_cluster(settings, policies)
    if seeds < 1 or workers < 1:
        raise UsageError(f"seeds = {seeds}, workers = {workers}: each must be at least 1")
    directory = evaluation_directory(data_dir, settings)
    with tempfile.TemporaryDirectory(prefix="ocg-evaluate-") as scratch:
        async with configured_broker(Path(scratch), None):
            place = Place(evaluation=settings.name, directory=directory, scratch=Path(scratch), workers=workers)
            choice = (await calibrated(settings, place, on_episode)).choice if CALIBRATED in policies else None
            if MODEL_PREDICTIVE in policies and model is None:
                model = await trained(settings, place, on_explored)
            contenders = [
                Contender(
                    name=name,
                    autoscaler=choice if name == CALIBRATED else None,
                    model=model if name == MODEL_PREDICTIVE else None,
                    search=settings.search,
                    asked_through=AskedThrough(data_dir=data_dir, nats=nats) if is_foreign(name) else None,
                )
                for name in policies
            ]
            cases = await anyio.to_thread.run_sync(cases_of, settings, seeds)
            if access is not None:
                cases = [on_cluster(case) for case in cases]
                place = msgspec.structs.replace(place, access=access)
            return await play_cases(place, cases, contenders, on_episode)


def evaluation_directory(data_dir: Path, settings: EvaluationSettings) -> Path:
    """Return where an evaluation's results are kept."""
    return data_dir / f"evaluation={settings.name}"
