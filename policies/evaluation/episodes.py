"""One case, played by each contender in turn: the same scenario from the same seed, and what each made of it.

In: a case, contenders, a data directory with room for logs that nobody keeps. Out: an `EpisodeResult` each, which is also put into `kept`
as soon as it is there, so that an interruption loses one episode at most. Every controller acts through `env.step` alone.

`play_case` is called in a worker process (`running`), and opens its environments there: reading compiled code takes longer than an episode.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import msgspec

from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.env import Env
from otel_control_gym.policies.evaluation.cases import Case
from otel_control_gym.policies.evaluation.contenders import ORACLE, Contender, opened_policy
from otel_control_gym.policies.evaluation.judgement import EpisodeResult, LivedStep, judge
from otel_control_gym.policies.naming import is_foreign
from otel_control_gym.policies.playing import Beat, play

__all__ = ("CaseTask", "kept_result", "play_case", "play_case_here")


class CaseTask(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process is given: complete, nothing is looked up."""

    evaluation: str
    case: Case
    contenders: tuple[Contender, ...]
    scratch: Path  #: data directory in which episodes are played, with a broker
    kept: tuple[Path, ...]  #: file of each contender's result
    access: ClusterAccess | None = None  #: to the cluster on which it is played; None: on an embedded twin


def play_case(task: CaseTask) -> list[EpisodeResult]:
    """Play a case with each contender and return the results, in their order.

    Raises: whatever an environment or a policy raises.
    """
    return anyio.run(play_case_here, task)


def kept_result(file: Path) -> EpisodeResult | None:
    """Return the result in a file, or None where there is none."""
    return msgspec.json.decode(file.read_bytes(), type=EpisodeResult) if file.is_file() else None


async def play_case_here(task: CaseTask) -> list[EpisodeResult]:
    """Do what `play_case` does in this process: where it is cancelled, what is in force on the stand is taken back.

    Raises: what `play_case` raises.
    """
    from otel_control_gym.engine.assembly import make

    found: list[EpisodeResult] = []
    async with AsyncExitStack() as stack:
        env = await stack.enter_async_context(make(task.case.config, data_dir=task.scratch, kubeconfig=task.access))
        futures: Env | None = None
        for contender, file in zip(task.contenders, task.kept, strict=True):
            if contender.name == ORACLE and futures is None:
                futures = await stack.enter_async_context(make(task.case.config, data_dir=task.scratch))
            result = await _played(task, contender, env, futures)
            await anyio.to_thread.run_sync(_keep, file, result)
            found.append(result)
    return found


async def _played(task: CaseTask, contender: Contender, env: Env, futures: Env | None) -> EpisodeResult:
    case, steps = task.case, list[LivedStep]()

    def note(beat: Beat) -> None:
        record = beat.info["action"]
        assert record is not None, "every step has a decision"
        lived = LivedStep(
            reward=beat.reward,
            components=beat.info["reward_components"],
            action=record.action,
            status=record.status,
        )
        steps.append(lived)

    async with opened_policy(contender, case, env, futures) as policy:
        env.decided_by("external" if is_foreign(contender.name) else "baseline", policy.version, policy.information)
        observation = await env.reset(config=case.config)
        played = await play(env, policy, observation, on_step=note)
    await env.discard_episode()
    return EpisodeResult(
        evaluation=task.evaluation,
        policy=contender.name,
        policy_version=policy.version,
        policy_information=policy.information,
        scenario=case.scenario,
        family_id=case.family_id,
        service_config=case.config.public.services.name,
        seed=case.config.seed,
        steps=played.steps,
        done_reason=played.done_reason,
        judgement=judge(steps, case.config.public),
        deeds=tuple(
            (number, step.action, step.status) for number, step in enumerate(steps) if step.action["type"] != "noop"
        ),
    )


def _keep(file: Path, result: EpisodeResult) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".part")
    temporary.write_bytes(msgspec.json.encode(result))
    temporary.rename(file)
