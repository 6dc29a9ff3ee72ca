"""`services/NAME:PORT/proxy`: the twin's own services through its Kubernetes API, as whoever is outside a cluster reaches them.

In: requests that the API server has let through, and where the twin's services listen. Out: what those answer: status, body, content type.
Names and ports are those that the demo's chart and Coroot's give their Services. As with the real one, what showed the caller to the API
server isn't shown to the service.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import aiohttp
from aiohttp import web
from yarl import URL

from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.twin import api_errors
from otel_control_gym.stands.twin.objects import SERVICE

__all__ = ("ServiceProxy",)

_PATH = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/services/(?P<service>[^/]+)/proxy(?:/(?P<path>.*))?")
_PASSED_ON = ("Accept", "Content-Type", "If-None-Match")
_ANSWER_SECONDS = 60.0
_COROOT_NAMESPACE = "coroot"


class ServiceProxy:
    """Hands requests on; `endpoints` tells where to, at the time of a request."""

    def __init__(self, endpoints: Callable[[], Endpoints]) -> None:
        self._endpoints = endpoints

    def url(self, path: str) -> URL | None:
        """Return where a request for a path of the API (as it was sent, still quoted) goes; None: the path is none of the proxy's.

        Raises: ApiError: there is no such Service, or it has no such port.
        """
        match = _PATH.fullmatch(path)
        if match is None:
            return None
        endpoints = self._endpoints()
        services = {
            (endpoints.namespace, "prometheus:9090"): endpoints.prometheus,
            (endpoints.namespace, "load-generator:8089"): endpoints.load_generator,
            (endpoints.namespace, "flagd:4000"): endpoints.flagd,
            (endpoints.namespace, "flagd:8016"): endpoints.flagd,
            (endpoints.namespace, "jaeger:16686"): endpoints.jaeger,
            (endpoints.namespace, "otel-collector:4318"): endpoints.jaeger,
            (_COROOT_NAMESPACE, "coroot-coroot:8080"): endpoints.coroot,
        }
        base = services.get((match["namespace"], match["service"]))
        if not base:
            raise api_errors.not_found(SERVICE, match["service"].partition(":")[0])
        return URL(f"{base}/{match['path'] or ''}", encoded=True)

    async def answer(self, request: web.Request, url: URL) -> web.Response:
        """Return what a service answers to a request that is handed on."""
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        headers["Accept-Encoding"] = "identity"
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(
                request.method, url, params=request.query, headers=headers, data=await request.read() or None
            ) as response,
        ):
            body = await response.read()
            kept = {name: response.headers[name] for name in ("Content-Type", "ETag") if name in response.headers}
            return web.Response(status=response.status, body=body, headers=kept)
