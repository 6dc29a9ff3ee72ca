"""Who may ask the Kubernetes API: whoever shows the token.

In: requests. Out: the same requests, or 401 as a real server says it. Its health may be asked for by anybody, as there.
"""

from __future__ import annotations

import secrets

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

__all__ = ("HEALTH_PATHS", "bearer_token")

HEALTH_PATHS = ("/readyz", "/livez", "/healthz")

_UNAUTHORIZED = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": "Unauthorized",
    "reason": "Unauthorized",
    "code": 401,
}


def bearer_token(token: str) -> Middleware:
    """Return a middleware that lets only requests through that show `token`."""
    expected = token.encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        # Compared in constant time: how long a refusal takes tells nothing of how much was right.
        known = scheme.lower() == "bearer" and secrets.compare_digest(shown.strip().encode(), expected)
        if known or request.path in HEALTH_PATHS:
            return await handler(request)
        return web.json_response(_UNAUTHORIZED, status=401, dumps=lambda item: msgspec.json.encode(item).decode())

    return check
