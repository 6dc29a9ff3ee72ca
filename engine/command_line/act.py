"""`ocg act`: a human acts in a live episode, with the same log, checks and evidence as any policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from otel_control_gym.engine.command_line.options import NOT_SO, Options, command
from otel_control_gym.engine.errors import UsageError

__all__ = ("act", "ask", "parse_words")


@command
def act(
    options: Options,
    run: Annotated[str, typer.Argument(help="Id of a run in progress, the beginning of it, or latest.")],
    action: Annotated[
        list[str],
        typer.Argument(help="The action: its JSON form, or its type and KEY=VALUE (scale target=cart replicas=3)."),
    ],
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for the episode.")] = 60.0,
) -> int:
    """Act in a live episode; `ocg actions` lists what there is (exit code 1: it was rejected or failed)."""
    from otel_control_gym.actuators import parse_action, to_json
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    asked = to_json(parse_action(parse_words(action)))
    record = run_interruptibly(ask, run, asked, options.directory, options.nats, timeout)["record"]
    options.output.answer(record)
    if not options.json:
        reason = f": {record['reason']}" if record["reason"] else ""
        options.output.console.print(f"{record['action_id']}  {record['status']}{reason}", markup=False)
    return NOT_SO if record["status"] in ("rejected", "failed") else 0


def parse_words(words: list[str]) -> dict[str, Any]:
    """Return the JSON form that words on a command line mean.

    Raises: UsageError: they are neither JSON nor a type with KEY=VALUE.
    """
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        try:
            found: dict[str, Any] = json.loads(words[0])
        except ValueError as error:
            raise UsageError(f"{words[0]!r} isn't JSON: {error}") from error
        return found
    mapping: dict[str, Any] = {"type": words[0]}
    for word in words[1:]:
        key, separator, text = word.partition("=")
        if not separator:
            raise UsageError(f"{word!r}: write KEY=VALUE, as in `scale target=cart replicas=3`")
        mapping[key] = _value(text)
    return mapping


def _value(text: str) -> Any:
    """Return JSON where it is some (3, 0.5, true, {"A": "b"}), else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


async def ask(run: str, action: dict[str, Any], data_dir: Path, nats: str | None, seconds: float) -> dict[str, Any]:
    """Ask the process that runs a run to carry out an action; return `record` and `time`.

    Raises: LogError: nobody runs it, or nobody answered; UsageError: the action can't be, or the episode isn't under control.
    """
    import msgspec

    from otel_control_gym.engine.assembly import configured_broker
    from otel_control_gym.engine.command_line.tail import in_progress
    from otel_control_gym.engine.log import LogConnection

    run_id = in_progress(run, data_dir) or run
    async with configured_broker(data_dir, nats) as broker, LogConnection(broker) as connection:
        reader = await connection.open_run(run_id)
        answer: dict[str, Any] = msgspec.json.decode(
            await reader.ask("act", msgspec.json.encode({"action": action}), seconds)
        )
    if "error" in answer:
        raise UsageError(answer["error"]["message"])
    return answer
