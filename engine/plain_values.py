"""What a caller hands over ➜ plain Python values: policies compute with numpy, the log holds numbers and texts.

In: arguments of `make`, `reset`, `step` and `observe`. Out: `int`, `float`, and what JSON knows, or a `UsageError` that names the argument.
Checked before anything is written: a value that the log can't hold would end the episode in the middle of a step.
"""

from __future__ import annotations

import operator
from typing import Any, SupportsIndex

import msgspec

from otel_control_gym.engine.errors import UsageError

__all__ = ("checked_seed", "plain", "whole_number")

SEED_LIMIT = 2**63


def plain(value: object) -> Any:
    """Return a value in terms of JSON; structs become mappings, numpy's scalars Python's numbers.

    Raises: TypeError: something in it is neither.
    """
    return msgspec.to_builtins(value, enc_hook=_number)


def whole_number(found: object, name: str) -> int:
    """Return an argument as an `int`; 30.0 is 30.

    Raises: UsageError: it isn't a whole number.
    """
    if isinstance(found, SupportsIndex) and not isinstance(found, bool):
        return operator.index(found)
    if isinstance(found, float) and found.is_integer():
        return int(found)
    raise UsageError(f"{name} = {found!r}: must be a whole number")


def checked_seed(found: object) -> int:
    """Return a seed.

    Raises: UsageError: it isn't a whole number from 0 to 2**63 - 1.
    """
    seed = whole_number(found, "seed")
    if not 0 <= seed < SEED_LIMIT:
        raise UsageError(f"seed = {seed}: must be 0 or more" + (" and below 2**63" if seed > 0 else ""))
    return seed


def _number(value: object) -> int | float:
    if isinstance(value, SupportsIndex):
        return operator.index(value)
    if hasattr(value, "__float__"):
        return float(value)
    raise TypeError(f"{value!r} is no value of JSON")
