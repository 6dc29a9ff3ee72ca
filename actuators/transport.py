"""HTTP to a stand's interfaces: one session, JSON in and out, and errors in three kinds.

In: a method, a URL, a body. Out: the raw answer, or an error that says what a caller may do about it:

- `Refused`: the server understood and said no (4xx): the same call again gets the same answer;
- `Busy`: it asks to come again (429, 5xx, 409): `after_seconds` is its own wish (Retry-After) or null;
- `Unreachable`: no answer, so nobody knows whether the call was carried out: only what is idempotent may be repeated.

The client's time-outs are generous. On the twin time stands still during a call, so none may decide what is logged.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
import msgspec

from otel_control_gym.engine.protocols import Endpoints

__all__ = ("Busy", "CallError", "Refused", "Transport", "Unreachable", "open_transport")

_TOTAL_SECONDS = 60.0
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


class Transport:
    """Calls to the Kubernetes API and to the load generator."""

    def __init__(self, session: aiohttp.ClientSession, endpoints: Endpoints) -> None:
        self._session = session
        self._kubernetes = endpoints.kubernetes
        self._load_generator = endpoints.load_generator
        self._headers = {"Authorization": f"Bearer {endpoints.kubernetes_token}"} if endpoints.kubernetes_token else {}

    async def kubernetes(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        body: object = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> T:
        """Call the Kubernetes API and return its answer as a struct.

        Raises: CallError: one of its three kinds.
        """
        data = None if body is None else msgspec.json.encode(body)
        headers = self._headers | ({} if data is None else {"Content-Type": content_type})
        return await self._call(method, f"{self._kubernetes}/{path}", answer, headers=headers, data=data, query=query)

    async def load_generator(
        self, method: str, path: str, answer: type[T], *, form: Mapping[str, str] | None = None
    ) -> T:
        """Call the load generator's REST API and return its answer as a struct.

        Raises: CallError: one of its three kinds.
        """
        return await self._call(method, f"{self._load_generator}/{path}", answer, headers={}, data=form, query=None)

    async def _call(
        self,
        method: str,
        url: str,
        answer: type[T],
        *,
        headers: Mapping[str, str],
        data: bytes | Mapping[str, str] | None,
        query: Mapping[str, str] | None,
    ) -> T:
        name = f"{method} {url.split('/', 3)[-1]}"
        try:
            async with self._session.request(method, url, headers=headers, data=data, params=query) as response:
                payload = await response.read()
                retry_after = response.headers.get("Retry-After", "")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"{name}: no answer ({type(error).__name__})") from error
        if response.status >= 400:
            message = f"{name}: HTTP {response.status}: {_reason(payload)}"
            if response.status in _RETRYABLE:
                raise Busy(message, response.status, float(retry_after) if retry_after.isdigit() else None)
            raise Refused(message, response.status)
        try:
            return msgspec.json.decode(payload, type=answer)
        except msgspec.DecodeError as error:
            raise Unreachable(f"{name}: HTTP {response.status} with an answer that can't be read: {error}") from error


def _reason(payload: bytes) -> str:
    """Return the message of a Kubernetes Status, else the beginning of the text."""
    try:
        return msgspec.json.decode(payload, type=_Status).message
    except msgspec.DecodeError:
        return payload[:200].decode(errors="replace")


@asynccontextmanager
async def open_transport(endpoints: Endpoints) -> AsyncIterator[Transport]:
    """Open the session that all actuators share; closed on exit."""
    verify: ssl.SSLContext | bool = True
    if endpoints.kubernetes_ca_file:
        verify = ssl.create_default_context(cafile=endpoints.kubernetes_ca_file)
    connector = aiohttp.TCPConnector(ssl=verify)
    timeout = aiohttp.ClientTimeout(total=_TOTAL_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Transport(session, endpoints)
