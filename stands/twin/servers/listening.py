"""What the twin's servers have in common: an address to listen on, start and stop, JSON answers."""

from __future__ import annotations

import errno
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
from aiohttp import web

from otel_control_gym.engine.errors import StandError

__all__ = ("LOOPBACK", "json_response", "listen", "reachable")

LOOPBACK = "127.0.0.1"
_GRACE_SECONDS = 0.5  #: for answers that are under way when a server stops
_ANY = {"0.0.0.0": LOOPBACK, "": LOOPBACK, "::": "::1"}  # addresses that mean all of the machine's


@asynccontextmanager
async def listen(
    application: web.Application,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    handler_cancellation: bool = False,
) -> AsyncIterator[str]:
    """Serve an application on a port (0: a free one); the value is its URL without a trailing slash.

    Args:
        handler_cancellation: whether a handler is cancelled when its client goes; for one that waits for something else.

    Raises: StandError: the address can't be listened on.
    """
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=_GRACE_SECONDS,
        handler_cancellation=handler_cancellation,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        except OSError as error:
            raise StandError(_refusal(host, port, error)) from error
        bound = runner.addresses[0][1]
        scheme, name = "http" if tls is None else "https", reachable(host)
        yield f"{scheme}://[{name}]:{bound}" if ":" in name else f"{scheme}://{name}:{bound}"
    finally:
        with anyio.CancelScope(shield=True):  # bounded by the grace
            await runner.cleanup()


def reachable(host: str) -> str:
    """Return an address under which a listener on `host` can be reached from this machine."""
    return _ANY.get(host, host)


def _refusal(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use\n  another twin may be served there; ask for another port, or for 0: any free one"
    reason = error.strerror or str(error)
    return f"port {port} of {host} can't be listened on: {reason}\n  {LOOPBACK} is reached from this machine only, 0.0.0.0 from others too"


def json_response(document: Any, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")
