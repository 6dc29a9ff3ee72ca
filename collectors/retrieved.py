"""What is read of a source that keeps things itself: as much as it gave, and why that isn't all.

In: HTTP answers. Out: bodies that fit, and reasons for gaps. Reasons are public, so they never repeat what a source has said: a log line
may tell of a feature flag.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from otel_control_gym.engine.errors import OtelControlGymError

__all__ = ("Body", "Retrieved", "Unread", "asked", "bounded")

_CHUNK_BYTES = 1 << 16


class Retrieved(msgspec.Struct, frozen=True):
    """What was read up to a moment; with problems: not all of it."""

    found: list[Any]
    problems: tuple[str, ...] = ()


class Body(msgspec.Struct, frozen=True):
    """Of an answer."""

    content: bytes
    whole: bool


class Unread(OtelControlGymError):
    """Raised when a question has brought nothing that can be used; its text is the reason of a gap."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


@asynccontextmanager
async def asked(
    session: aiohttp.ClientSession, url: str, query: Mapping[str, str] | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Ask, and yield the answer, whatever its status.

    Raises: Unread: there is none, or it breaks off.
    """
    try:
        async with session.get(url, params=query, allow_redirects=False) as response:
            yield response
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unread(f"no answer ({type(error).__name__})") from error


async def bounded(response: aiohttp.ClientResponse, limit: int) -> Body:
    """Return an answer's body, or its first `limit` bytes: the rest isn't waited for."""
    found = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        found += chunk
        if len(found) > limit:
            response.close()
            return Body(bytes(found[:limit]), whole=False)
    return Body(bytes(found), whole=True)
