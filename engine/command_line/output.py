"""Where a command's words go: the answer to standard output, everything else to standard error.

With `--json` the answer is exactly one JSON document with stable keys (docs/reference/command-line.md), also when the command fails.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

__all__ = ("Output",)


class Output:
    """Prints for a person, or one JSON document for a program."""

    def __init__(self, *, json: bool) -> None:
        self.json = json
        self.console = Console(highlight=False, soft_wrap=True)
        self.side = Console(stderr=True, highlight=False)

    def answer(self, document: Any) -> None:
        """Print the JSON document; does nothing without `--json`."""
        if self.json:
            body = msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2)
            sys.stdout.write(body.decode() + "\n")

    def error(self, sentence: str, kind: str) -> None:
        """Print what went wrong, on standard error, and with `--json` as a document too."""
        self.side.print(Text.assemble(("error: ", "bold red"), sentence), soft_wrap=True)
        self.answer({"error": {"type": kind, "message": sentence}})
