"""`ocg`: one module per sub-command, each a thin shell over functions that a notebook can call too.

Standard output carries the answer (with `--json`: exactly one JSON document), standard error everything else. Exit codes: 0 done, 1 the
thing asked about is not so (an invalid dataset, say), 2 wrong input or environment, 130 interrupted. No stack trace without `--debug`.
"""

from __future__ import annotations

__all__ = ("main",)


def main() -> None:
    """Run the command line; the console script `ocg`."""
    from otel_control_gym.engine.command_line.app import app

    app()
