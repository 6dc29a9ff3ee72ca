"""Every error that this package raises on purpose: one base, one small subclass per situation.

A class builds its sentence from facts: what was wrong, where, and what would be right. The command line prints that sentence
and exits with `exit_code`; a stack trace appears only with `--debug`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

__all__ = (
    "BranchError",
    "BrokerError",
    "ConfigurationError",
    "DatasetError",
    "InvalidAction",
    "LogCorrupted",
    "LogError",
    "NotExportable",
    "OtelControlGymError",
    "PolicyError",
    "StandError",
    "StandLeftOut",
    "StandTaken",
    "UsageError",
    "WriteConflict",
    "cause_of",
    "nearest",
)


class OtelControlGymError(Exception):
    """Base of every error of this package; its text is one message for a person."""

    exit_code = 2


class ConfigurationError(OtelControlGymError):
    """Raised when a configuration can't be run: where it is wrong, what it says, what would be right."""

    def __init__(self, *, file: Path | str, key: str, found: object, problem: str, remedy: str) -> None:
        super().__init__(f"{file}: {key} = {found!r}: {problem}\n  {remedy}")
        self.file, self.key, self.found = file, key, found
        self.problem, self.remedy = problem, remedy


class UsageError(OtelControlGymError):
    """Raised when a call or command line asks for something that doesn't exist or can't be."""


class NotExportable(UsageError):
    """Raised when a run doesn't hold what a format needs, or several don't fit into one file of it."""


class InvalidAction(OtelControlGymError):
    """Raised when a caller asks for an unknown action or a parameter out of bounds; nothing was applied."""

    def __init__(self, *, action: str, key: str, found: object, problem: str, remedy: str) -> None:
        super().__init__(f"action {action!r}: {key} = {found!r}: {problem}\n  {remedy}")
        self.action, self.key, self.found = action, key, found


class StandError(OtelControlGymError):
    """Raised when the stand can't be reached, or can't be brought to a known state."""


class StandTaken(StandError):
    """Raised when another environment drives the stand: it is theirs until they leave it, or fall silent."""


class StandLeftOut(StandError):
    """Raised when a worker gives its stand up: several times on end it couldn't be brought to its known state, or was lost in a run."""


class BranchError(OtelControlGymError):
    """Raised when a run can't be branched at a step: it isn't there, can't be rerun, or came out differently."""


class PolicyError(OtelControlGymError):
    """Raised when somebody else's policy gives no decision: it failed, isn't there, is late, or answers what is none."""


class BrokerError(OtelControlGymError):
    """Raised when the NATS server can't be started or reached."""


class LogError(OtelControlGymError):
    """Raised when the event log can't be written or read; base of the two below."""


class WriteConflict(LogError):
    """Raised when another writer has appended to a stream that this process believed to own."""


class LogCorrupted(LogError):
    """Raised when a message or an archive isn't what was written: chain broken, checksum wrong, truncated."""


class DatasetError(OtelControlGymError):
    """Raised when a run directory can't be read, or breaks the data contract."""


def cause_of(error: Exception) -> Exception:
    """Return the error inside groups that hold one alone."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def nearest(found: str, accepted: Iterable[str]) -> str:
    """Return a remedy that lists what is accepted and, where one is close, names the likely intention first."""
    names = sorted(accepted)
    close = difflib.get_close_matches(found, names, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{guess}accepted: {', '.join(names)}"
