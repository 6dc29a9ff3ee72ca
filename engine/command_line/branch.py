"""`ocg branch`: a run's past once more, and another future: what would have happened if."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_control_gym.engine.command_line.options import Options, command
from otel_control_gym.engine.errors import UsageError

if TYPE_CHECKING:
    from otel_control_gym.engine.branches import Randomness
    from otel_control_gym.engine.branching import Branch

__all__ = ("branch", "take_branch")


@command
def branch(
    options: Options,
    run: Annotated[str, typer.Argument(help="Directory of a run, its id or the beginning of it, or latest.")],
    at: Annotated[int, typer.Option(metavar="STEP", help="Decision step, from 0, at which the future forks.")],
    action: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ACTION",
            help="What is done instead, one a step, `noop` afterwards: JSON, or a type and KEY=VALUE in one word "
            "('scale target=cart replicas=3').",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="How many control steps to go on for. [default: to the end]")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Draw what is exogenous anew from there on, instead of the same again.")
    ] = False,
    number: Annotated[int, typer.Option(help="Which of the fresh futures.")] = 0,
    without_faults: Annotated[
        bool, typer.Option("--without-faults", help="Leave out the interventions that the script has from there on.")
    ] = False,
    pair: Annotated[str | None, typer.Option(metavar="ID", help="Names branches that are compared; recorded.")] = None,
) -> None:
    """Live a run again up to a step, then do something else, and compare what it came to."""
    import shlex

    from otel_control_gym.actuators import parse_action, to_json
    from otel_control_gym.engine import runs
    from otel_control_gym.engine.command_line.act import parse_words
    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.engine.summary import summarise

    if steps is not None and steps < 1:
        raise UsageError(f"--steps {steps}: must be at least 1")
    actions = [to_json(parse_action(parse_words(_words(text, shlex.split)))) for text in action or ()]
    parent = runs.open_run(run, options.directory)
    result = run_interruptibly(
        take_branch,
        parent.path,
        at,
        actions,
        steps,
        "fresh" if fresh else "same",
        number,
        pair,
        without_faults,
        options.directory,
        options.nats,
    )
    start = summarise(result.run_dir).decided_seconds[at]
    beside = summarise(parent.path).reward_between(start, start + result.seconds)
    options.output.answer(
        {
            "run_id": result.run_id,
            "path": str(result.run_dir),
            "parent_run_id": result.parent_run_id,
            "decision_step": result.decision_step,
            "randomness": "fresh" if fresh else "same",
            "rewards": result.rewards,
            "reward": result.reward,
            "parent_reward": beside,
            "done_reason": result.done_reason,
        }
    )
    if not options.json:
        console = options.output.console
        console.print(
            f"from step {at} on, {len(result.rewards)} steps: reward {result.reward:.3f} here, {beside:.3f} in the parent "
            f"({result.reward - beside:+.3f})",
            highlight=False,
        )
        console.print(f"branch: {result.run_dir}", markup=False, soft_wrap=True)


def _words(text: str, split: Any) -> list[str]:
    return [text] if text.lstrip().startswith("{") else split(text)


async def take_branch(
    parent: Path,
    at: int,
    actions: list[dict[str, Any]],
    steps: int | None,
    randomness: Randomness,
    number: int,
    pair_id: str | None,
    without_faults: bool,
    data_dir: Path,
    nats: str | None,
) -> Branch:
    """Branch a finished run and play the branch out; the arguments are those of `ocg.open_branch` and `Env.branch`."""
    from otel_control_gym.engine.assembly import open_branch
    from otel_control_gym.engine.branching import play_out
    from otel_control_gym.engine.runs import open_run

    async with open_branch(
        parent,
        at=at,
        randomness=randomness,
        number=number,
        pair_id=pair_id,
        interventions=() if without_faults else None,
        data_dir=data_dir,
        nats=nats,
    ) as env:
        return await play_out(env, actions, parent=open_run(parent).run_id, step=at, steps=steps)
