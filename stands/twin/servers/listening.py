"""What the twin's servers have in common: a free port on the loopback, start and stop, JSON answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

__all__ = ("json_response", "listen")

_HOST = "127.0.0.1"


@asynccontextmanager
async def listen(application: web.Application) -> AsyncIterator[str]:
    """Serve an application on a free port of the loopback; the value is its URL without a trailing slash."""
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, _HOST, 0)
        await site.start()
        port = runner.addresses[0][1]
        yield f"http://{_HOST}:{port}"
    finally:
        await runner.cleanup()


def json_response(document: Any, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")
