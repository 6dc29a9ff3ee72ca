"""What every command shares: its common options, and how errors become one message and an exit code.

`@command` adds the options to a function's signature and gives them to it as one `Options` record, its first argument; `@with_options` adds
those of a group that several commands share, and gives what they amount to.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from otel_control_gym.engine.command_line.output import Output
from otel_control_gym.engine.errors import OtelControlGymError, cause_of

__all__ = ("INTERRUPTED", "NOT_SO", "WRONG_INPUT", "Options", "command", "default_of_group", "with_options")

NOT_SO = 1
WRONG_INPUT = 2
INTERRUPTED = 130

_SHARED: dict[str, tuple[Any, Any]] = {
    "json": (
        Annotated[
            bool,
            typer.Option(
                "--json", help="Print one JSON document on standard output.", rich_help_panel="Common options"
            ),
        ],
        False,
    ),
    "data_dir": (
        Annotated[
            Path | None,
            typer.Option(
                "--data-dir",
                metavar="DIR",
                help="Where runs are kept. [default: $OCG_DATA_DIR, else the platform's data folder]",
                rich_help_panel="Common options",
            ),
        ],
        None,
    ),
    "nats": (
        Annotated[
            str | None,
            typer.Option(
                "--nats",
                metavar="URL",
                help="Use this NATS server, not the embedded one.",
                rich_help_panel="Common options",
            ),
        ],
        None,
    ),
    "verbose": (
        Annotated[
            bool, typer.Option("--verbose", "-v", help="Say more on standard error.", rich_help_panel="Common options")
        ],
        False,
    ),
    "debug": (
        Annotated[
            bool, typer.Option("--debug", help="Show stack traces and log records.", rich_help_panel="Common options")
        ],
        False,
    ),
}


@dataclass(frozen=True)
class Options:
    """The options that every command has."""

    json: bool
    data_dir: Path | None
    nats: str | None
    verbose: bool
    debug: bool

    @property
    def output(self) -> Output:
        """Where the command's answer goes."""
        return Output(json=self.json)

    @property
    def directory(self) -> Path:
        """The data directory: what was given, else the default."""
        from otel_control_gym.engine.assembly import data_directory

        return data_directory(self.data_dir)


def command(function: Callable[..., int | None]) -> Callable[..., None]:
    """Return a command for typer: `function` with the shared options, which returns its exit code (None: 0)."""

    @functools.wraps(function)
    def shell(**arguments: Any) -> None:
        options = Options(**{field.name: arguments.pop(field.name) for field in fields(Options)})
        raise typer.Exit(_guarded(functools.partial(function, options, **arguments), options))

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _SHARED.items()
    ]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + shared
    del shell.__wrapped__  # typer would read the signature of the function inside
    shell.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    shell.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return shell


def with_options(
    group: Callable[..., Any], name: str, *, without: Collection[str] = (), instead: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Return a decorator that adds the parameters of `group` to a function's, and gives it what `group` returns as its argument `name`.

    To be written below `@command`. `without` are parameters that a command has no option for: they keep their defaults. `instead` are
    annotations of options that a command words in its own way.
    """
    worded = instead or {}
    added = {
        key: found.replace(annotation=worded.get(key, found.annotation))
        for key, found in inspect.signature(group, eval_str=True).parameters.items()
        if key not in without
    }

    def decorate(function: Callable[..., int | None]) -> Callable[..., int | None]:
        @functools.wraps(function)
        def shell(*positional: Any, **arguments: Any) -> int | None:
            given = {key: arguments.pop(key) for key in added}
            return function(*positional, **arguments, **{name: group(**given)})

        own = [found for key, found in inspect.signature(function, eval_str=True).parameters.items() if key != name]
        parameters = [*own, *(found.replace(kind=inspect.Parameter.KEYWORD_ONLY) for found in added.values())]
        del shell.__wrapped__
        shell.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return shell

    return decorate


def default_of_group(function: Callable[..., int | None]) -> Callable[..., None]:
    """Return a group's callback: `function` as a command where the group is called without a sub-command, else nothing."""
    shell = command(function)

    def callback(context: typer.Context, **arguments: Any) -> None:
        if context.invoked_subcommand is None:
            shell(**arguments)

    own = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [own, *inspect.signature(shell).parameters.values()]
    callback.__doc__ = function.__doc__
    callback.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    callback.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return callback


def _guarded(function: Callable[[], int | None], options: Options) -> int:
    """Call a command; turn what it raises into one message on standard error and an exit code."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if options.debug else logging.INFO if options.verbose else logging.ERROR,
        format="%(levelname)s %(name)s: %(message)s",
    )
    try:
        return function() or 0
    except KeyboardInterrupt:
        options.output.error("interrupted", "Interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the last frame that can turn it into a sentence
        if options.debug:
            raise
        cause = cause_of(error)
        options.output.error(_sentence(cause), type(cause).__name__)
        return cause.exit_code if isinstance(cause, OtelControlGymError) else WRONG_INPUT


def _sentence(error: Exception) -> str:
    if isinstance(error, OtelControlGymError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        return f"{place}{error.strerror[:1].lower()}{error.strerror[1:]}"
    return f"unexpected {type(error).__name__}: {error}\n  this is a mistake of ours; `--debug` shows where it happened"
