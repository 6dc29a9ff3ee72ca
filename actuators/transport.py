"""What an answer over HTTP means: a struct, or an error in one of three kinds.

In: a call in progress, to whichever of a stand's interfaces. Out: its answer, or an error that says what a caller may do about it:

- `Refused`: the server understood and said no (4xx): the same call again gets the same answer;
- `Busy`: it asks to come again (429, 5xx, 409): `after_seconds` is its own wish (Retry-After) or null;
- `Unreachable`: no answer, so nobody knows whether the call was carried out: only what is idempotent may be repeated.

The clients (`kubernetes_client`, `workload`) repeat nothing, and their time-outs are generous. On the twin time stands still during a
call, so none may decide what is logged.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import aiohttp
import msgspec

__all__ = ("CALL_SECONDS", "Busy", "CallError", "Refused", "Unreachable", "decoded", "receive")

CALL_SECONDS = 60.0  #: wall time that one call may take, from asking for a connection to the answer's last byte
_RETRYABLE = (409, 429, 500, 502, 503, 504)

T = TypeVar("T")


class CallError(Exception):
    """Base of what can go wrong with a call; its text names the call and the answer."""


class Refused(CallError):
    """Raised when the server says no for good; `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Busy(CallError):
    """Raised when the server wants the call later or anew."""

    def __init__(self, message: str, status: int, after_seconds: float | None) -> None:
        super().__init__(message)
        self.status, self.after_seconds = status, after_seconds


class Unreachable(CallError):
    """Raised when there was no (readable) answer."""


class _Status(msgspec.Struct):
    message: str = ""


async def receive(name: str, call: Awaitable[aiohttp.ClientResponse]) -> bytes:
    """Make a call and return the body of its answer; `name` is what an error calls it.

    Raises: CallError: one of its three kinds.
    """
    try:
        async with await call as response:
            payload = await response.read()
            retry_after = response.headers.get("Retry-After", "")
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unreachable(f"{name}: no answer ({type(error).__name__})") from error
    if response.status >= 400:
        message = f"{name}: HTTP {response.status}: {_reason(payload)}"
        if response.status in _RETRYABLE:
            raise Busy(message, response.status, float(retry_after) if retry_after.isdigit() else None)
        raise Refused(message, response.status)
    return payload


def decoded(name: str, payload: bytes, answer: type[T]) -> T:
    """Return the body of an answer as a struct.

    Raises: Unreachable: it can't be read as one.
    """
    try:
        return msgspec.json.decode(payload, type=answer)
    except msgspec.DecodeError as error:
        raise Unreachable(f"{name}: an answer that can't be read: {error}") from error


def _reason(payload: bytes) -> str:
    """Return the message of a Kubernetes Status, else the beginning of the text."""
    try:
        return msgspec.json.decode(payload, type=_Status).message
    except msgspec.DecodeError:
        return payload[:200].decode(errors="replace")
