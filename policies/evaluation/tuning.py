"""Training cases ➜ what those contenders need that are tuned: settings of the autoscaler, a model to plan with.

In: an evaluation's scenarios from seeds that no test has. Out: the choice of a grid search (`calibration.json`), and a model of what the
actions of the menu are worth, learnt from futures that were lived from the same moments (`returns/`). Both are kept with a digest of what
they depend on, and made anew when that has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_process
import anyio.to_thread
import msgspec

from otel_control_gym.baselines.evaluations import Task
from otel_control_gym.baselines.model_files import load_model, model_metadata, save_model
from otel_control_gym.baselines.returns import STEPS, PairedDecisions, features, train_on_pairs
from otel_control_gym.engine.errors import DatasetError
from otel_control_gym.policies.evaluation.cases import training_cases
from otel_control_gym.policies.evaluation.contenders import CALIBRATED, AutoscalerChoice, Contender
from otel_control_gym.policies.evaluation.exploring import MOMENTS, Exploration, explore_case
from otel_control_gym.policies.evaluation.running import (
    Place,
    Told,
    digest_of,
    episode_digest,
    play_cases,
    world_digest,
)
from otel_control_gym.policies.evaluation.settings import EvaluationSettings

__all__ = ("Calibration", "Explored", "calibrated", "trained")

Explored = Callable[[str, int, int], None]
"""Is told of a training family whose futures were lived, how many there are so far, and how many there are to be."""

_CALIBRATION_SEEDS, _EXPLORATION_SEEDS = 2, 4  #: of each scenario
_UTILISATIONS = (80, 120)  #: % of the request, that the calibration tries
_MIN_REPLICAS = (1, 2)


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What the search for settings of the autoscaler found, and from what."""

    choice: AutoscalerChoice
    mean_returns: tuple[tuple[AutoscalerChoice, float], ...]  #: of all that were tried, over the training cases
    training_families: tuple[str, ...]
    digest: str  #: of what it depends on


async def calibrated(settings: EvaluationSettings, place: Place, on_episode: Told) -> Calibration:
    """Return the autoscaler's best settings on the training cases: those kept, or those of a new search.

    Of settings that earn the same, the first of the grid is taken.
    """
    cases = await anyio.to_thread.run_sync(training_cases, settings, _CALIBRATION_SEEDS)
    grid = [
        AutoscalerChoice(cpu_utilization_percent=percent, min_replicas=least)
        for percent in _UTILISATIONS
        for least in _MIN_REPLICAS
    ]
    contenders = [Contender(name=CALIBRATED, autoscaler=choice) for choice in grid]
    digest = digest_of([episode_digest(case, contender) for case in cases for contender in contenders])
    file = place.directory / "calibration.json"
    if await anyio.Path(file).is_file():
        kept = msgspec.json.decode(await anyio.Path(file).read_bytes(), type=Calibration)
        if kept.digest == digest:
            return kept
    results = await play_cases(place, cases, contenders, on_episode)
    means = [
        sum(result.judgement.total_return for result in results[number :: len(grid)]) / len(cases)
        for number in range(len(grid))
    ]
    calibration = Calibration(
        choice=grid[means.index(max(means))],
        mean_returns=tuple(zip(grid, means, strict=True)),
        training_families=tuple(case.family_id for case in cases),
        digest=digest,
    )
    await anyio.to_thread.run_sync(_write, file, msgspec.json.format(msgspec.json.encode(calibration)))
    return calibration


async def trained(settings: EvaluationSettings, place: Place, on_explored: Explored) -> Path:
    """Return the directory of a model of what the menu's actions are worth: the one that is kept, or one of new futures."""
    cases = await anyio.to_thread.run_sync(training_cases, settings, _EXPLORATION_SEEDS)
    directory = place.directory / "returns"
    parts: list[object] = [msgspec.to_builtins(cases), world_digest(), MOMENTS, STEPS]
    digest = digest_of(parts)
    if await anyio.to_thread.run_sync(_is_kept, directory, digest):
        return directory
    limiter = anyio.CapacityLimiter(place.workers)
    found: dict[str, PairedDecisions] = {}

    async def explore(number: int) -> None:
        task = Exploration(case=cases[number], scratch=place.scratch)
        found[cases[number].family_id] = await anyio.to_process.run_sync(
            explore_case, task, cancellable=True, limiter=limiter
        )
        on_explored(cases[number].family_id, len(found), len(cases))

    async with anyio.create_task_group() as tasks:
        for number in range(len(cases)):
            tasks.start_soon(explore, number)
    await anyio.to_thread.run_sync(_fit, settings, directory, [found[case.family_id] for case in cases], digest)
    return directory


def _fit(settings: EvaluationSettings, directory: Path, pairs: list[PairedDecisions], digest: str) -> None:
    seeds = Task(directory=directory).seeds
    step_seconds = training_cases(settings, 1)[0].config.public.granularity.control_step_seconds
    model = train_on_pairs(pairs, step_seconds=step_seconds, seeds=seeds)
    metadata = model_metadata(
        "returns",
        campaign=f"evaluation-{settings.name}",
        campaign_digest=digest,
        split="training",
        split_digest="",
        seeds=seeds,
        features=features(model),
    )
    save_model(directory, model, metadata)


def _is_kept(directory: Path, digest: str) -> bool:
    if not directory.is_dir():
        return False
    try:
        _, metadata = load_model(directory)
    except DatasetError:
        return False
    return metadata.campaign_digest == digest


def _write(file: Path, content: bytes) -> None:
    temporary = file.with_suffix(".part")
    temporary.write_bytes(content)
    temporary.rename(file)
