"""Cases and contenders ➜ the results of all episodes; what is there already isn't played again.

On embedded twins each case is played in a process of its own; on a cluster one episode comes after the other, in this process.

In: cases, contenders, a directory for results, a data directory with a broker in which episodes are played and dropped. Out: an
`EpisodeResult` of every contender in every case. A result's file is named by a digest of all that it depends on (configuration, contender,
libraries, sources), so another version's is never taken for ours; somebody else's policy is played anew each time: its code isn't known.

Upstream: `cases`, `contenders`. Downstream: `evaluating`, `tuning`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import anyio
import anyio.to_process
import anyio.to_thread
import msgspec

from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.cluster_assembly import stand_name
from otel_control_gym.engine.provenance import lock_digest
from otel_control_gym.policies.evaluation.cases import Case
from otel_control_gym.policies.evaluation.contenders import Contender
from otel_control_gym.policies.evaluation.episodes import CaseTask, kept_result, play_case, play_case_here
from otel_control_gym.policies.evaluation.judgement import EpisodeResult
from otel_control_gym.policies.naming import is_foreign

__all__ = ("Place", "Told", "digest_of", "episode_digest", "play_cases", "world_digest")

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
"""Is told of each result, how many there are of this kind so far, and how many there are to be."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where episodes are played and results are kept."""

    evaluation: str
    directory: Path  #: of the evaluation's results
    scratch: Path  #: data directory with a broker, dropped afterwards
    workers: int  #: processes
    access: ClusterAccess | None = None  #: to the cluster on which episodes are played; None: on embedded twins


async def play_cases(
    place: Place, cases: Sequence[Case], contenders: Sequence[Contender], on_episode: Told
) -> list[EpisodeResult]:
    """Return the result of every contender in every case, by case and contender; those that are kept aren't played.

    Raises: whatever an environment or a policy raises.
    """
    total, done = len(cases) * len(contenders), 0
    found: dict[tuple[str, int], EpisodeResult] = {}
    limiter = anyio.CapacityLimiter(place.workers)

    def tell(results: Sequence[EpisodeResult], numbers: Sequence[int]) -> None:
        nonlocal done
        for number, result in zip(numbers, results, strict=True):
            done += 1
            found[result.family_id, number] = result
            on_episode(result, done, total)

    stand = None if place.access is None else stand_name(place.access)

    async def play(case: Case) -> None:
        digests = [episode_digest(case, contender, stand) for contender in contenders]
        files = [place.directory / "episodes" / f"{digest}.json" for digest in digests]
        kept = [
            None if is_foreign(contender.name) else await anyio.to_thread.run_sync(kept_result, file)
            for contender, file in zip(contenders, files, strict=True)
        ]
        tell([result for result in kept if result], [number for number, result in enumerate(kept) if result])
        todo = [number for number, result in enumerate(kept) if result is None]
        for numbers in [todo] if place.access is None else [[number] for number in todo]:
            if not numbers:
                continue
            task = CaseTask(
                evaluation=place.evaluation,
                case=case,
                contenders=tuple(contenders[number] for number in numbers),
                scratch=place.scratch,
                kept=tuple(files[number] for number in numbers),
                access=place.access,
            )
            if place.access is not None:  # an episode takes minutes: each is told
                tell(await play_case_here(task), numbers)
            else:
                tell(await anyio.to_process.run_sync(play_case, task, cancellable=True, limiter=limiter), numbers)

    if place.access is not None:
        for case in cases:
            await play(case)
        return [found[case.family_id, number] for case in cases for number in range(len(contenders))]
    async with anyio.create_task_group() as tasks:
        for case in cases:
            tasks.start_soon(play, case)
    return [found[case.family_id, number] for case in cases for number in range(len(contenders))]


def episode_digest(case: Case, contender: Contender, stand: str | None = None) -> str:
    """Return a digest of all that a result depends on; `stand` is the name of a cluster."""
    named = msgspec.structs.replace(contender, model=None)  # what a model is, not where it lies
    parts: list[object] = [msgspec.to_builtins(case), msgspec.to_builtins(named), world_digest()]
    if stand is not None:
        parts.append(stand)
    if contender.model is not None:
        parts += [_sources(_PLANNING)]
        parts += [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(contender.model.iterdir())]
    return digest_of(parts)


def world_digest() -> str:
    """Return a digest of what every episode depends on: libraries and sources."""
    return digest_of([lock_digest(), _sources(_WORLD)])


def digest_of(value: object) -> str:
    """Return a digest of anything that has a JSON form."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:24]


@cache
def _sources(patterns: tuple[str, ...]) -> str:
    """Return a digest of the package's sources that match the patterns."""
    package = Path(str(resources.files("otel_control_gym")))
    files = sorted({file for pattern in patterns for file in package.glob(pattern)})
    return digest_of([(str(file.relative_to(package)), file.read_text(encoding="utf-8")) for file in files])
