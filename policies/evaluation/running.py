"""An evaluation ➜ its episodes, played in processes of their own; what is there already isn't played again.

In: settings, the names of policies, how many seeds. Out: an `EpisodeResult` of every policy in every case, and in `evaluation=NAME/` of
the data directory the file of each. A file is named by a digest of all that the result depends on (configuration, contender, libraries,
commit), so another version's is never taken for ours; policies of somebody else are played anew each time, because their code isn't
known here.

The calibrated autoscaler is calibrated here, on the training seeds, if it takes part and hasn't been: `evaluation=NAME/calibration.json`.
Episodes are played under a scratch directory that is dropped; `ocg run` plays one with a dataset.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import anyio
import anyio.to_process
import anyio.to_thread
import msgspec

from otel_control_gym.engine.assembly import configured_broker
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.provenance import lock_digest
from otel_control_gym.policies.evaluation.cases import Case, cases_of, training_cases
from otel_control_gym.policies.evaluation.contenders import (
    CALIBRATED,
    MODEL_PREDICTIVE,
    AskedThrough,
    AutoscalerChoice,
    Contender,
    check_names,
    is_foreign,
)
from otel_control_gym.policies.evaluation.episodes import CaseTask, kept_result, play_case
from otel_control_gym.policies.evaluation.judgement import EpisodeResult
from otel_control_gym.policies.evaluation.settings import EvaluationSettings

__all__ = ("DEFAULT_SEEDS", "Calibration", "evaluate", "evaluation_directory")

DEFAULT_SEEDS = 5
TRAINING_SEEDS = 2  #: of each scenario, for tuning
_UTILISATIONS = (80, 120)  #: % of the request, that the calibration tries
_MIN_REPLICAS = (1, 2)

_WORLD = (
    "engine/*.py",
    *(f"{room}/**/*.py" for room in ("actuators", "collectors", "projections", "stands")),
    *(
        f"policies/{name}.py"
        for name in ("controllers", "oracle", "playing", "random_draws", "rules", "scripted", "sightings")
    ),
    *(f"policies/evaluation/{name}.py" for name in ("cases", "contenders", "episodes", "judgement", "settings")),
)
"""What an episode of anybody depends on."""
_PLANNING = ("policies/planner.py", "policies/learnt_returns.py", "baselines/**/*.py")
"""What one that is planned with a model depends on besides."""

Told = Callable[[EpisodeResult, int, int], None]


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What the search for settings of the autoscaler found, and from what."""

    choice: AutoscalerChoice
    mean_returns: tuple[tuple[AutoscalerChoice, float], ...]  #: of all that were tried, over the training cases
    training_families: tuple[str, ...]
    digest: str  #: of what it depends on


async def evaluate(
    settings: EvaluationSettings,
    policies: Sequence[str],
    *,
    data_dir: Path,
    seeds: int = DEFAULT_SEEDS,
    workers: int = 1,
    model: Path | None = None,
    nats: str | None = None,
    on_episode: Told = lambda _result, _done, _total: None,
) -> list[EpisodeResult]:
    """Let policies play the same cases; return all results, by scenario, seed and policy.

    Args:
        settings: from `load_evaluation`.
        policies: names (`contenders.NAMES`), entry points `package.module:function`, or `nats:SUBJECT` for other processes.
        data_dir: where results are kept.
        seeds: of each scenario: 1, 2, …
        workers: processes that play.
        model: directory of the model that `mpc` plans with.
        nats: URL of the server on which policies in other processes are asked, instead of the embedded one of `data_dir`.
        on_episode: is told of each result, how many there are of this kind so far, and how many there are to be.

    Raises: UsageError: a name, a number or the model isn't right. Whatever an environment or a policy raises.
    """
    check_names(policies)
    if seeds < 1 or workers < 1:
        raise UsageError(f"seeds = {seeds}, workers = {workers}: each must be at least 1")
    if MODEL_PREDICTIVE in policies and model is None:
        raise UsageError(
            f"{MODEL_PREDICTIVE} needs a model to plan with\n  `ocg baseline train` makes one; name its directory with --model"
        )
    directory = evaluation_directory(data_dir, settings)
    with tempfile.TemporaryDirectory(prefix="ocg-evaluate-") as scratch:
        async with configured_broker(Path(scratch), None):
            choice: AutoscalerChoice | None = None
            if CALIBRATED in policies:
                choice = (await _calibration(settings, directory, Path(scratch), workers, on_episode)).choice
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
            return await _play(settings, cases, contenders, directory, Path(scratch), workers, on_episode)


def evaluation_directory(data_dir: Path, settings: EvaluationSettings) -> Path:
    """Return where an evaluation's results are kept."""
    return data_dir / f"evaluation={settings.name}"


async def _play(
    settings: EvaluationSettings,
    cases: Sequence[Case],
    contenders: Sequence[Contender],
    directory: Path,
    scratch: Path,
    workers: int,
    on_episode: Told,
) -> list[EpisodeResult]:
    """Return the result of every contender in every case; those that are kept aren't played."""
    total, done = len(cases) * len(contenders), 0
    found: dict[tuple[str, str], EpisodeResult] = {}
    limiter = anyio.CapacityLimiter(workers)

    def tell(results: Sequence[EpisodeResult], names: Sequence[str]) -> None:
        nonlocal done
        for name, result in zip(names, results, strict=True):
            done += 1
            found[result.family_id, name] = result
            on_episode(result, done, total)

    async def play(case: Case) -> None:
        keys = [_key(contender) for contender in contenders]
        files = [directory / "episodes" / f"{_digest(case, contender)}.json" for contender in contenders]
        kept = [
            None if is_foreign(contender.name) else await anyio.to_thread.run_sync(kept_result, file)
            for contender, file in zip(contenders, files, strict=True)
        ]
        tell([result for result in kept if result], [key for key, result in zip(keys, kept, strict=True) if result])
        todo = [number for number, result in enumerate(kept) if result is None]
        if todo:
            task = CaseTask(
                evaluation=settings.name,
                case=case,
                contenders=tuple(contenders[number] for number in todo),
                scratch=scratch,
                kept=tuple(files[number] for number in todo),
            )
            played = await anyio.to_process.run_sync(play_case, task, cancellable=True, limiter=limiter)
            tell(played, [keys[number] for number in todo])

    async with anyio.create_task_group() as tasks:
        for case in cases:
            tasks.start_soon(play, case)
    return [found[case.family_id, _key(contender)] for case in cases for contender in contenders]


async def _calibration(
    settings: EvaluationSettings, directory: Path, scratch: Path, workers: int, on_episode: Told
) -> Calibration:
    """Return the autoscaler's best settings on the training cases: those kept, or those of a new search.

    Of settings that earn the same, the first of the grid is taken.
    """
    cases = await anyio.to_thread.run_sync(training_cases, settings, TRAINING_SEEDS)
    grid = [
        AutoscalerChoice(cpu_utilization_percent=percent, min_replicas=least)
        for percent in _UTILISATIONS
        for least in _MIN_REPLICAS
    ]
    contenders = [Contender(name=CALIBRATED, autoscaler=choice) for choice in grid]
    digest = _hash([_digest(case, contender) for case in cases for contender in contenders])
    file = directory / "calibration.json"
    if file.is_file():
        kept = msgspec.json.decode(file.read_bytes(), type=Calibration)
        if kept.digest == digest:
            return kept
    results = await _play(settings, cases, contenders, directory, scratch, workers, on_episode)
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


def _key(contender: Contender) -> str:
    """Return what tells contenders of one evaluation apart: a name alone doesn't while settings are searched."""
    return f"{contender.name} {contender.autoscaler}"


def _digest(case: Case, contender: Contender) -> str:
    """Return a digest of all that the result depends on."""
    named = msgspec.structs.replace(contender, model=None)  # what a model is, not where it lies
    parts: list[object] = [msgspec.to_builtins(case), msgspec.to_builtins(named), lock_digest(), _sources(_WORLD)]
    if contender.model is not None:
        parts += [_sources(_PLANNING)]
        parts += [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(contender.model.iterdir())]
    return _hash(parts)


@cache
def _sources(patterns: tuple[str, ...]) -> str:
    """Return a digest of the package's sources that match the patterns."""
    package = Path(str(resources.files("otel_control_gym")))
    files = sorted({file for pattern in patterns for file in package.glob(pattern)})
    return _hash([(str(file.relative_to(package)), file.read_text(encoding="utf-8")) for file in files])


def _hash(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:24]


def _write(file: Path, content: bytes) -> None:
    temporary = file.with_suffix(".part")
    temporary.write_bytes(content)
    temporary.rename(file)
