"""Coroot's API (1.24) as a viewer reads it.

In: HTTP requests. Out: what `coroot_views` makes of the detector, most of it in an envelope of context and data.

As with the real one, an unknown project has no data rather than no answer, a bad `from` or `to` is the last hour, and answers stand still
between two refreshes. The community edition without a cloud account analyses no root causes. Anonymous access is on (role Viewer); a
login is answered, but nothing needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

import msgspec
from aiohttp import web

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.randomness import derive_seed, draw_identifier
from otel_control_gym.stands.twin.coroot.cache import POINT_SECONDS
from otel_control_gym.stands.twin.coroot.detector import WINDOW_SECONDS, Detector
from otel_control_gym.stands.twin.servers.coroot_incidents import incident_window
from otel_control_gym.stands.twin.servers.coroot_views import Views
from otel_control_gym.stands.twin.servers.listening import json_response

__all__ = ("VERSION", "CorootServer")

VERSION = "1.24.5"  #: emulated
_PROJECT_NAME = "default"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_OVERVIEWS = ("applications", "map", "nodes", "deployments", "traces", "logs", "costs", "risks", "fluxcd", "argocd")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RELATIVE = re.compile(r"now(?:-(\d+)([smhd]))?")
_NOT_YET = {
    "status": {"status": "warning", "error": "the cache is not filled yet"},
    "search": {"applications": [], "nodes": []},
    "incidents": {},
    "alerts": {},
    "multicluster": False,
}


class CorootServer:
    """One Coroot with one project; `attach` gives it a run's application to watch."""

    def __init__(self) -> None:
        self._detector: Detector | None = None
        self._views: Views | None = None
        self._project = draw_identifier(0, alphabet=_LETTERS, length=8)

    def attach(self, detector: Detector, *, seed: int) -> None:
        """Tell of this application from now on."""
        self._project = draw_identifier(derive_seed(seed, "coroot"), alphabet=_LETTERS, length=8)
        self._detector, self._views = detector, Views(detector, self._project)

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        application = web.Application()
        router = application.router
        router.add_get("/health", self._health)
        router.add_post("/api/login", self._login)
        router.add_get("/api/user", self._user)
        router.add_get("/api/project/{project}", self._settings)
        router.add_get("/api/project/{project}/app/{id}/rca", self._cause)
        routes: dict[str, Callable[[Views, web.Request], Any]] = {
            "status": lambda views, _: views.status(),
            "overview/{view}": _overview,
            "incidents": lambda views, request: views.incidents(_number(request, "limit", 100)),
            "incident/{key}": lambda views, request: views.incident(request.match_info["key"]),
            "alerts": _alerts,
            "alerts/{id}": lambda views, request: views.alert(request.match_info["id"]),
            "app/{id}": self._application,
            "inspections": lambda views, _: {"checks": views.inspections()},
        }
        for path, data in routes.items():
            router.add_get(f"/api/project/{{project}}/{path}", self._enveloped(data))
        return application

    def _enveloped(self, data: Callable[[Views, web.Request], Any]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            known = request.match_info["project"] == self._project
            if self._views is None:
                return json_response({"context": _NOT_YET, "data": None})
            return json_response(
                {"context": self._views.context(), "data": data(self._views, request) if known else None}
            )

        return handle

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="")

    async def _login(self, request: web.Request) -> web.Response:
        try:
            form = msgspec.json.decode(await request.read(), type=dict[str, str])
        except msgspec.DecodeError:
            form = {}
        if not form.get("email") or not form.get("password"):
            return web.Response(status=400, text="Email and password are required")
        response = web.Response()
        response.set_cookie("coroot_session", self._project, max_age=7 * 86_400, httponly=True, path="/")
        return response

    async def _user(self, _: web.Request) -> web.Response:
        projects = [{"id": self._project, "name": _PROJECT_NAME}]
        return json_response(
            {"name": "Anonymous", "email": "", "role": "Viewer", "anonymous": True, "projects": projects}
        )

    async def _settings(self, request: web.Request) -> web.Response:
        if request.match_info["project"] != self._project:
            return web.Response(status=404, text="Project not found")
        interval = POINT_SECONDS * 1000
        return json_response({"name": _PROJECT_NAME, "refresh_interval": interval, "api_keys": "permission denied"})

    async def _cause(self, request: web.Request) -> web.Response:
        """Answer with an analysis that says that there is none; asked for an incident, it would be stored and the body empty."""
        if "incident" in request.query or self._views is None:
            return web.Response()
        return json_response(self._views.cause())

    def _application(self, views: Views, request: web.Request) -> Any:
        # The id is decoded once as a path and once more as a query string.
        name = views.application_named(unquote_plus(request.match_info["id"]))
        return None if name is None else views.application(name, *self._window(request))

    def _window(self, request: web.Request) -> tuple[int, int]:
        """Return the window that a request asks for [ns]: an incident's surroundings, from and to, or the last hour."""
        assert self._detector is not None, "a view was made of it"
        now = self._detector.refreshed
        for incident in self._detector.incidents.incidents:
            if incident.key == request.query.get("incident"):
                return incident_window(incident, now)
        end = _moment(request.query.get("to", ""), now)
        end = now if end is None else end
        start = _moment(request.query.get("from", ""), now)
        return (end - WINDOW_SECONDS * SECOND if start is None or start >= end else start), end


def _overview(views: Views, request: web.Request) -> Any:
    """Return the one overview that was asked for, beside nulls for all others."""
    found: dict[str, Any] = dict.fromkeys(_OVERVIEWS)
    view = request.match_info["view"]
    made = {
        "applications": views.applications,
        "map": views.map,
        "nodes": views.nodes,
        "deployments": views.deployments,
    }
    if view in made:
        found[view] = made[view]()
    return found


def _alerts(views: Views, request: web.Request) -> Any:
    return views.alerts(
        resolved=request.query.get("include_resolved") == "true",
        search=request.query.get("search", ""),
        limit=_number(request, "limit", 50),
        offset=_number(request, "offset", 0),
    )


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    return int(text) if text.isdecimal() else default


def _moment(text: str, now: int) -> int | None:
    """Return a moment [ns] that is given in milliseconds, as `now` or as `now-15m`; None: it isn't one."""
    if text.isdecimal():
        return int(text) * 1_000_000
    match = _RELATIVE.fullmatch(text)
    if match is None:
        return None
    amount, unit = match.groups()
    return now - (int(amount) * _UNITS[unit] * SECOND if amount else 0)
