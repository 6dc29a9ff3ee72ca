"""Coroot's API (1.24) as a viewer reads it.

In: HTTP requests. Out: project, status, applications, map, incidents, alerts, one application, in the shapes that Coroot's web interface
reads: most of them in an envelope of context and data, times in milliseconds.

The map tells what `service_map` has read. Incidents and alerts are empty: Coroot's shortest rule wants half an hour of history and a bad
fraction above 14 %, so a run of minutes has none. Anonymous access is on (role Viewer); a login is answered, but nothing needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from otel_control_gym.engine.randomness import derive_seed, draw_identifier
from otel_control_gym.stands.twin.control_plane import ControlPlane, DeploymentView
from otel_control_gym.stands.twin.servers.listening import json_response
from otel_control_gym.stands.twin.service_map import Link, ServiceMap

__all__ = ("VERSION", "CorootServer")

VERSION = "1.24.5"  #: emulated
_PROJECT_NAME = "default"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_PARAMETERS = ("upstreams", "restarts", "cpu", "memory", "disk_io_load", "disk_usage", "network", "dns", "logs")
_ICONS = {"nodejs": "nodejs", "postgres": "postgres", "valkey": "redis"}


class CorootServer:
    """One Coroot with one project; `attach` gives it a run's application to watch."""

    def __init__(self) -> None:
        self._map: ServiceMap | None = None
        self._control_plane: ControlPlane | None = None
        self._project = draw_identifier(0, alphabet=_LETTERS, length=8)

    def attach(self, service_map: ServiceMap, control_plane: ControlPlane, *, seed: int) -> None:
        """Tell of this application from now on."""
        self._map, self._control_plane = service_map, control_plane
        self._project = draw_identifier(derive_seed(seed, "coroot"), alphabet=_LETTERS, length=8)

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        application = web.Application()
        router = application.router
        router.add_get("/health", self._health)
        router.add_post("/api/login", self._login)
        router.add_get("/api/user", self._user)
        router.add_get("/api/project/{project}", self._settings)
        routes: dict[str, Callable[[web.Request], Any]] = {
            "status": self._status,
            "overview/applications": lambda _: {"applications": self._applications()},
            "overview/map": lambda _: {"map": self._nodes()},
            "incidents": lambda _: [],
            "alerts": lambda _: {"alerts": [], "total": 0, "firing": 0, "resolved": 0},
            "app/{id}": self._application,
        }
        for path, data in routes.items():
            router.add_get(f"/api/project/{{project}}/{path}", self._enveloped(data))
        return application

    def _enveloped(self, data: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            known = request.match_info["project"] == self._project
            return json_response({"context": self._context(), "data": data(request) if known else None})

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
        return json_response({"name": _PROJECT_NAME, "refresh_interval": 15_000, "api_keys": "permission denied"})

    def _context(self) -> dict[str, Any]:
        return {
            "status": {"status": "ok" if self._map is not None else "warning", "error": ""},
            "search": {
                "applications": [{"id": self._id(item.name)} for item in self._deployments()],
                "nodes": [{"name": name} for name in self._node_names()],
            },
            "incidents": {"application": 0},
            "alerts": {},
            "multicluster": False,
        }

    def _status(self, _: web.Request) -> dict[str, Any]:
        state = "ok" if self._map is not None else "warning"
        return {
            "status": state,
            "error": "",
            "prometheus": {"status": state, "message": "", "error": "", "action": ""},
            "node_agent": {"status": state, "nodes": len(self._node_names())},
            "kube_state_metrics": {"status": state, "applications": len(self._deployments())},
        }

    def _applications(self) -> list[dict[str, Any]]:
        found = []
        for item in self._deployments():
            inbound = [link for link in self._links() if link.target == item.name]
            requests = sum(link.requests_per_second for link in inbound)
            failed = sum(link.failed_per_second for link in inbound)
            latency = sum(link.latency_ms * link.requests_per_second for link in inbound)
            parameters = {name: _parameter() for name in _PARAMETERS} | {
                "errors": _parameter(f"{failed / requests:.1%}" if failed else "", known=requests > 0),
                "latency": _parameter(f"{latency / requests:.0f}ms" if requests else "", known=requests > 0),
                "instances": _parameter(f"{item.available}/{item.desired}", known=True),
            }
            # Three quarters of the instances are Coroot's default for InstanceAvailability.
            if item.available < 0.75 * item.desired:
                parameters["instances"]["status"] = "warning"
            status = "warning" if parameters["instances"]["status"] == "warning" else "ok"
            found.append(
                {
                    "id": self._id(item.name),
                    "cluster": _PROJECT_NAME,
                    "category": "application",
                    "status": status,
                    "type": {"name": "", "icon": self._icon(item.name), "report": "", "status": "unknown"},
                }
                | parameters
            )
        return found

    def _nodes(self) -> list[dict[str, Any]]:
        """Return the map's applications: those that talk, or are declared to."""
        return [
            self._node(name)
            | {
                "upstreams": [_upstream(self._id(link.target), link) for link in self._links() if link.source == name],
                "downstreams": [
                    {"id": self._id(link.source), "status": "unknown", "stats": None, "weight": 0}
                    for link in self._links()
                    if link.target == name
                ],
            }
            for name in dict.fromkeys(end for link in self._links() for end in (link.source, link.target))
        ]

    def _application(self, request: web.Request) -> dict[str, Any] | None:
        wanted = request.match_info["id"].rpartition(":")[2]
        if wanted not in [item.name for item in self._deployments()] or self._control_plane is None:
            return None
        peers = {
            "clients": [link.source for link in self._links() if link.target == wanted],
            "dependencies": [link.target for link in self._links() if link.source == wanted],
        }
        return {
            "app_map": {
                "application": self._node(wanted),
                "instances": [
                    {"id": pod.name, "labels": {}} for pod in self._control_plane.pods() if pod.service == wanted
                ],
            }
            | {side: [self._node(name) | self._link(wanted, name) for name in names] for side, names in peers.items()},
            "reports": [],
        }

    def _link(self, one: str, other: str) -> dict[str, Any]:
        link = next(item for item in self._links() if {item.source, item.target} == {one, other})
        outbound = link.source == one
        return {
            "link_status": link.status if outbound else "unknown",
            "link_status_reason": _reason(link) if outbound else "",
            "link_direction": "to",
            "link_stats": _statistics(link) if outbound else None,
            "link_weight": link.requests_per_second if outbound else 0,
        }

    def _node(self, name: str) -> dict[str, Any]:
        return {
            "id": self._id(name),
            "cluster": _PROJECT_NAME,
            "custom": False,
            "category": "application",
            "labels": {"ns": self._control_plane.namespace if self._control_plane is not None else ""},
            "status": "ok",
            "icon": self._icon(name),
            "indicators": [],
        }

    def _id(self, name: str) -> str:
        namespace = self._control_plane.namespace if self._control_plane is not None else "_"
        return f"{self._project}:{namespace}:Deployment:{name}"

    def _icon(self, name: str) -> str:
        services = self._control_plane.services.services if self._control_plane is not None else {}
        return _ICONS.get(services[name].runtime, services[name].runtime) if name in services else ""

    def _links(self) -> tuple[Link, ...]:
        return self._map.links if self._map is not None else ()

    def _deployments(self) -> list[DeploymentView]:
        return list(self._control_plane.deployments()) if self._control_plane is not None else []

    def _node_names(self) -> list[str]:
        if self._control_plane is None:
            return []
        return sorted({pod.node for pod in self._control_plane.pods() if pod.node})


def _parameter(value: str = "", *, known: bool = False) -> dict[str, Any]:
    return {"status": "ok" if known else "unknown", "value": value, "chart": None}


def _upstream(identifier: str, link: Link) -> dict[str, Any]:
    return {
        "id": identifier,
        "status": link.status,
        "stats": _statistics(link),
        "weight": link.requests_per_second,
    }


def _statistics(link: Link) -> list[str]:
    if link.status == "critical":
        return [_reason(link)]
    if link.status == "unknown":
        return []
    return [f"📈 {link.requests_per_second:.3g} rps", f"⏱️ {link.latency_ms:.0f}ms"]


def _reason(link: Link) -> str:
    return "failed connections" if link.status == "critical" else ""
