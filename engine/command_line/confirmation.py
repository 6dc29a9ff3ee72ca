"""Asking before something goes that can't be brought back."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from otel_control_gym.engine.command_line.output import Output
from otel_control_gym.engine.errors import UsageError

__all__ = ("Yes", "confirm")

Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


def confirm(output: Output, what: str, *, yes: bool) -> None:
    """Return if it may be done: because that was said, or because whoever sits there says so.

    Raises: UsageError: nobody says so.
    """
    if yes:
        return
    if output.json or not sys.stdin.isatty():
        raise UsageError(f"{what}: nobody is here to be asked\n  --yes says that it may be done")
    if not typer.confirm(f"{what}. Go on?", err=True):
        raise UsageError(f"{what}: not confirmed, so nothing was done")
