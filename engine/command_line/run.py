"""`ocg run`: one episode, played by the scenario's own policy, and a summary that a person wants to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_control_gym.engine.command_line.cluster_options import (
    ClusterContext,
    Coroot,
    Flagd,
    FlagdEvaluation,
    InPod,
    Jaeger,
    Kubeconfig,
    LoadGenerator,
    Prometheus,
    Receive,
    ReceiveCertificate,
    ReceiveKey,
    ReceiveToken,
    Reset,
    Unmarked,
    Via,
    access_of,
    exposure,
)
from otel_control_gym.engine.command_line.options import NOT_SO, Options, command

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from otel_control_gym.engine.command_line.progress import EpisodeProgress
    from otel_control_gym.engine.env import Env
    from otel_control_gym.engine.events import Actor
    from otel_control_gym.engine.summary import Summary
    from otel_control_gym.policies import Played, Policy, WaitingPolicy

__all__ = ("play_scenario", "run")


@command
def run(
    options: Options,
    scenario: Annotated[
        str,
        typer.Argument(help="Name of a scenario or service configuration, `synthetic:N[,seed]`, or a scenario file."),
    ] = "quickstart",
    seed: Annotated[int | None, typer.Option(help="Seed of every exogenous draw.")] = None,
    pace: Annotated[float, typer.Option(help="N x real time; 0: as fast as it goes.")] = 0.0,
    workload: Annotated[str | None, typer.Option(help="Replace the workload: a name or a file.")] = None,
    granularity: Annotated[str | None, typer.Option(help="Replace the granularity: a name or a file.")] = None,
    reward: Annotated[str | None, typer.Option(help="Replace the reward: a name or a file.")] = None,
    episode: Annotated[str | None, typer.Option(help="Replace the episode's end rules: a name or a file.")] = None,
    telemetry: Annotated[str | None, typer.Option(help="Replace the telemetry: a name or a file.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Length of control in seconds.")] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Let a controller act instead of the scenario's policy: noop, random, threshold, hpa, restart-on-error, "
            "rollback-on-bad-rollout, package.module:function, or nats:SUBJECT for another process."
        ),
    ] = None,
    kubeconfig: Kubeconfig = None,
    in_pod: InPod = False,
    context: ClusterContext = "",
    unmarked: Unmarked = False,
    reset: Reset = "soft",
    via: Via = None,
    prometheus: Prometheus = "",
    coroot: Coroot = "",
    load_generator: LoadGenerator = "",
    flagd: Flagd = "",
    flagd_evaluation: FlagdEvaluation = "",
    jaeger: Jaeger = "",
    receive: Receive = "",
    receive_certificate: ReceiveCertificate = None,
    receive_key: ReceiveKey = None,
    receive_token: ReceiveToken = None,
) -> int:
    """Run an episode and write its dataset."""
    from otel_control_gym.engine.assembly import checked, make
    from otel_control_gym.engine.clock import wall_timer
    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.engine.command_line.progress import EpisodeProgress
    from otel_control_gym.engine.command_line.telling import suggest, tell
    from otel_control_gym.engine.configuration import resolve
    from otel_control_gym.engine.errors import UsageError
    from otel_control_gym.engine.summary import summarise
    from otel_control_gym.policies import controller, is_foreign, opened_policy
    from otel_control_gym.policies.remote import policy_subject

    if pace < 0:
        raise UsageError(f"--pace {pace:g}: must be 0 (as fast as it goes) or a positive multiple of real time")
    access = access_of(
        kubeconfig,
        in_pod=in_pod,
        context=context,
        unmarked=unmarked,
        reset=reset,
        via=via,
        prometheus=prometheus,
        coroot=coroot,
        load_generator=load_generator,
        flagd=flagd,
        flagd_evaluation=flagd_evaluation,
        jaeger=jaeger,
        receive=receive,
        receive_certificate=receive_certificate,
        receive_key=receive_key,
        receive_token=receive_token,
    )
    if told := exposure(access):
        options.output.side.print(told, style="yellow", markup=False, soft_wrap=True)
    config = checked(
        resolve(
            scenario,
            workload=workload,
            granularity=granularity,
            reward=reward,
            episode=episode,
            telemetry=telemetry,
            seed=seed,
            horizon_seconds=horizon,
        )
    )
    if policy is not None and policy_subject(policy) is None:
        controller(policy)  # before anything is started: it may not exist
    actor: Actor = "scripted" if policy is None else "external" if is_foreign(policy) else "baseline"
    env = make(config, data_dir=options.directory, nats=options.nats, pace=pace, kubeconfig=access)
    decider = opened_policy(policy, config, data_dir=options.directory, nats=options.nats)
    began = wall_timer()
    with EpisodeProgress(options.output.side, config.public, lines=options.verbose) as progress:
        try:
            played = run_interruptibly(play_scenario, env, decider, actor, progress)
        except KeyboardInterrupt:
            _say_what_is_left(options, env)
            raise
    wall = wall_timer() - began
    summary = summarise(env.run_dir)
    options.output.answer(_document(played, summary, env.run_dir, wall))
    if not options.json:
        tell(options.output.console, summary, wall_seconds=wall)
        suggest(options.output.console, options.data_dir)
    return NOT_SO if summary.status != "completed" else 0


async def play_scenario(
    env: Env,
    decider: AbstractAsyncContextManager[Policy | WaitingPolicy],
    actor: Actor,
    progress: EpisodeProgress,
) -> Played:
    """Open the environment and then the policy, which may be asked over its broker; play, and return what the episode came to."""
    from otel_control_gym.policies import play

    progress.phase("starting")
    async with env, decider as policy:
        env.decided_by(actor, policy.version, policy.information)
        progress.phase("warm-up")
        observation = await env.reset()
        progress.phase("control")
        played = await play(env, policy, observation, on_step=progress.beat)
        progress.phase("cool-down, dataset")
    return played


def _document(played: Played, summary: Summary, run_dir: Path, wall_seconds: float) -> dict[str, Any]:
    return {
        "run_id": played.run_id,
        "path": str(run_dir),
        "status": summary.status,
        "done_reason": played.done_reason,
        "steps": played.steps,
        "episode_seconds": played.seconds,
        "wall_seconds": round(wall_seconds, 3),
        "reward": played.reward,
        "content_digest": summary.content_digest,
        "actions": summary.actions,
    }


def _say_what_is_left(options: Options, env: Env) -> None:
    if env.run_id is not None and env.run_dir.exists():
        options.output.side.print(f"the run so far is kept: {env.run_dir}", markup=False, soft_wrap=True)
