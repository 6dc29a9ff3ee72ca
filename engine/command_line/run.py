"""`ocg run`: one episode, played by the scenario's own policy, and a summary that a person wants to read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_control_gym.engine.command_line.options import NOT_SO, Options, command

if TYPE_CHECKING:
    from otel_control_gym.engine.command_line.progress import EpisodeProgress
    from otel_control_gym.engine.settings import RunConfig
    from otel_control_gym.policies import Played

__all__ = ("play_scenario", "run")


@command
def run(
    options: Options,
    scenario: Annotated[
        str, typer.Argument(help="Name of a scenario or service configuration, or a scenario file.")
    ] = "quickstart",
    seed: Annotated[int | None, typer.Option(help="Seed of every exogenous draw.")] = None,
    pace: Annotated[float, typer.Option(help="N x real time; 0: as fast as it goes.")] = 0.0,
    workload: Annotated[str | None, typer.Option(help="Replace the workload: a name or a file.")] = None,
    granularity: Annotated[str | None, typer.Option(help="Replace the granularity: a name or a file.")] = None,
    reward: Annotated[str | None, typer.Option(help="Replace the reward: a name or a file.")] = None,
    episode: Annotated[str | None, typer.Option(help="Replace the episode's end rules: a name or a file.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Length of control in seconds.")] = None,
) -> int:
    """Run an episode and write its dataset."""
    import anyio

    from otel_control_gym.engine.clock import wall_timer
    from otel_control_gym.engine.command_line.checking import checked
    from otel_control_gym.engine.command_line.progress import EpisodeProgress
    from otel_control_gym.engine.command_line.telling import suggest, tell
    from otel_control_gym.engine.configuration import resolve
    from otel_control_gym.engine.errors import UsageError
    from otel_control_gym.engine.summary import summarise

    if pace < 0:
        raise UsageError(f"--pace {pace:g}: must be 0 (as fast as it goes) or a positive multiple of real time")
    config = checked(
        resolve(
            scenario,
            workload=workload,
            granularity=granularity,
            reward=reward,
            episode=episode,
            seed=seed,
            horizon_seconds=horizon,
        )
    )
    began = wall_timer()
    steps = config.public.horizon_seconds // config.public.granularity.control_step_seconds
    with EpisodeProgress(
        options.output.side, horizon_seconds=config.public.horizon_seconds, steps=steps, lines=options.verbose
    ) as progress:
        directory, played = anyio.run(
            play_scenario, config, options.directory, options.nats, pace, progress, backend_options={"use_uvloop": True}
        )
    wall = wall_timer() - began
    summary = summarise(directory)
    options.output.answer(
        {
            "run_id": played.run_id,
            "path": str(directory),
            "status": summary.status,
            "done_reason": played.done_reason,
            "steps": played.steps,
            "episode_seconds": played.seconds,
            "wall_seconds": round(wall, 3),
            "reward": played.reward,
            "content_digest": summary.content_digest,
            "actions": summary.actions,
        }
    )
    if not options.json:
        tell(options.output.console, summary, wall_seconds=wall)
        suggest(options.output.console, options.data_dir)
    return NOT_SO if summary.status != "completed" else 0


async def play_scenario(
    config: RunConfig, data_dir: Path, nats: str | None, pace: float, progress: EpisodeProgress
) -> tuple[Path, Played]:
    """Play a configuration with its scenario's policy; return the run's directory and what the episode came to."""
    from otel_control_gym.engine.assembly import make
    from otel_control_gym.policies import play, policy_of

    policy = config.scenario.policy
    env = make(config, data_dir=data_dir, nats=nats, pace=pace, actor="scripted", policy_version=policy.name)
    progress.phase("starting")
    async with env:
        progress.phase("warm-up")
        observation = await env.reset()
        progress.phase("control")
        played = await play(env, policy_of(policy), observation, on_step=progress.beat)
        progress.phase("cool-down, dataset")
    return env.run_dir, played
