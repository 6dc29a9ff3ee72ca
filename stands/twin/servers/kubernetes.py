"""The Kubernetes API of the twin over HTTP.

In: requests of Kubernetes clients. Out: JSON objects, lists, tables, watch streams, discovery, Status objects.

The server adds nothing to what `api` and `store` mean: `kubernetes_requests` reads what is asked for, `kubernetes_negotiation` in which
form, and objects go out in bodies that the store has encoded already. Every refusal is a Status object with its HTTP code. Handlers run
between two runs of the simulation, never during one: both share the event loop, and a handler that writes doesn't wait in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import msgspec
from aiohttp import web

from otel_control_gym.stands.twin import api_errors
from otel_control_gym.stands.twin.api import APPLY_PATCH, Api
from otel_control_gym.stands.twin.api_errors import ApiError
from otel_control_gym.stands.twin.control_plane import ControlPlane
from otel_control_gym.stands.twin.credentials import Credentials
from otel_control_gym.stands.twin.kept_telemetry import KeptTelemetry
from otel_control_gym.stands.twin.objects import POD, Kind, Object
from otel_control_gym.stands.twin.selectors import Predicate
from otel_control_gym.stands.twin.servers.kubernetes_authentication import HEALTH_PATHS, bearer_token
from otel_control_gym.stands.twin.servers.kubernetes_bodies import BODY_LIMIT, body
from otel_control_gym.stands.twin.servers.kubernetes_discovery import aggregated, document, openapi, version
from otel_control_gym.stands.twin.servers.kubernetes_lists import Page, asked_version, page
from otel_control_gym.stands.twin.servers.kubernetes_logs import log_answer, logged_pod
from otel_control_gym.stands.twin.servers.kubernetes_negotiation import DISCOVERY, JSON, form
from otel_control_gym.stands.twin.servers.kubernetes_proxy import ServiceProxy
from otel_control_gym.stands.twin.servers.kubernetes_requests import (
    Target,
    check_verb,
    delete_options,
    dry_run,
    field_manager,
    field_validation,
    flag,
    natural,
    selector,
    target,
)
from otel_control_gym.stands.twin.servers.kubernetes_reviews import REVIEWS, reviewed
from otel_control_gym.stands.twin.servers.kubernetes_tables import TableLines, table
from otel_control_gym.stands.twin.servers.listening import LOOPBACK, listen
from otel_control_gym.stands.twin.store import Expired
from otel_control_gym.stands.twin.versions import VersionLines, as_served, stored_kind
from otel_control_gym.stands.twin.watches import Watch

__all__ = ("KubernetesServer",)


class KubernetesServer:
    """Serves a `ControlPlane`; `control_plane` may be exchanged between two runs of one server (open watches are ended then)."""

    def __init__(
        self,
        control_plane: ControlPlane,
        credentials: Credentials | None = None,
        proxy: ServiceProxy | None = None,
        kept: KeptTelemetry | None = None,
    ) -> None:
        """Serve `control_plane`, to anybody over plain HTTP, or with credentials over TLS to whoever shows their token.

        `proxy` leads to the twin's other services, `kept` has what its containers have written; None: there is none behind this server.
        """
        self._control_plane = control_plane
        self._proxy = proxy
        self._kept = kept
        self._credentials = credentials

    @property
    def control_plane(self) -> ControlPlane:
        """Return the control plane that is served."""
        return self._control_plane

    @control_plane.setter
    def control_plane(self, control_plane: ControlPlane) -> None:
        self._control_plane.store.close_watches()
        self._control_plane = control_plane

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        guards = () if self._credentials is None else (bearer_token(self._credentials.token),)
        application = web.Application(client_max_size=BODY_LIMIT, middlewares=guards)
        application.router.add_route("*", "/{path:.*}", self._handle)
        application.on_shutdown.append(self._end_watches)
        return application

    def open(self, host: str = LOOPBACK, port: int = 0) -> AbstractAsyncContextManager[str]:
        """Serve on a port (0: a free one) and give the URL; all watches are ended at the exit."""
        tls = None if self._credentials is None else self._credentials.tls
        # A watch whose client has gone is waiting for events, not for its client: its handler has to be cancelled.
        return listen(self.application(), host=host, port=port, tls=tls, handler_cancellation=True)

    async def _end_watches(self, application: web.Application) -> None:  # noqa: ARG002 - aiohttp's signature
        self._control_plane.store.close_watches()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except ApiError as error:
            return _json(error.status, status=error.code)
        except web.HTTPRequestEntityTooLarge:
            refusal = api_errors.too_large(f"limit is {BODY_LIMIT}")
            return _json(refusal.status, status=refusal.code)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path in HEALTH_PATHS:
            return web.Response(text="ok")
        if path == REVIEWS and request.method == "POST":
            return _json(reviewed(await body(request)), status=201)
        if self._proxy is not None and (url := self._proxy.url(request.rel_url.raw_path)) is not None:
            return await self._proxy.answer(request, url)
        if self._kept is not None and request.method == "GET" and (place := logged_pod(path)) is not None:
            pod = Api(self._control_plane.context).get(POD, *place)
            return log_answer(pod, self._kept.lines(place[1]), request.query, self._control_plane.now)
        found = target(path)
        if found is None:
            return _described(request, path.rstrip("/") or "/")
        check_verb(found, request.method)
        if request.method == "GET":
            return await self._read(request, found)
        return self._write(request, found, await body(request))

    async def _read(self, request: web.Request, found: Target) -> web.StreamResponse:
        api, kind, query = Api(self._control_plane.context), found.kind, request.query
        as_table = form(request.headers.get("Accept", ""), ("object", "table")) == "table"
        if found.name:
            item = api.get(kind, found.namespace or "", found.name)
            if found.subresource == "scale":
                return _json(api.scale(found.namespace or "", found.name))
            if as_table:
                return _json(self._table(kind, [item], query, item["metadata"]["resourceVersion"]))
            if kind is not stored_kind(kind):
                return _json(as_served(kind, item))
            return _encoded(self._control_plane.store.body(kind, found.namespace or "", found.name))
        wanted = selector(kind, query)
        if flag(query, "watch"):
            asked = asked_version(self._control_plane.store, query)
            return await self._watch(request, found, wanted, asked, as_table=as_table)
        if "sendInitialEvents" in query:
            problem = "Forbidden: sendInitialEvents is forbidden for list"
            raise api_errors.invalid_options("sendInitialEvents", problem, reason="FieldValueForbidden")
        listed = page(self._control_plane.store, stored_kind(kind), found.namespace, wanted, query)
        if as_table:
            shown = self._table(kind, listed.objects, query, str(listed.version))
            shown["metadata"] = listed.metadata()
            return _json(shown)
        return _list(kind, listed)

    def _table(self, kind: Kind, items: list[Object], query: Mapping[str, str], version_: str) -> Object:
        now, include = self._control_plane.now, query.get("includeObject", "")
        return table(kind, items, now, version=version_, include=include)

    async def _watch(
        self, request: web.Request, found: Target, wanted: Predicate | None, asked: int | None, *, as_table: bool
    ) -> web.StreamResponse:
        plane, query = self._control_plane, request.query
        store, initial = plane.store, _initial_events(query)
        render: Callable[[bytes], bytes] | None = None
        if as_table:
            render = TableLines(found.kind, query.get("includeObject", ""), lambda: plane.now)
        elif found.kind is not stored_kind(found.kind):
            render = VersionLines(found.kind)
        try:
            watch = store.watch(
                stored_kind(found.kind),
                found.namespace,
                wanted,
                after=None if initial else asked or None,
                bookmarks=flag(query, "allowWatchBookmarks"),
            )
        except Expired as error:
            raise api_errors.expired(str(error)) from error
        if initial:
            watch.end_initial_events()
        response = web.StreamResponse(headers={"Content-Type": JSON})
        limit = natural(query, "timeoutSeconds")
        try:
            with anyio.move_on_after(limit or None):
                await response.prepare(request)
                await _stream(watch, response, render)
            await response.write_eof()
        except ConnectionError:
            return response  # the client has gone; nothing is left to tell it
        finally:
            store.unwatch(watch)
        return response

    def _write(self, request: web.Request, found: Target, given: Any) -> web.Response:
        query = request.query
        applies = request.method == "PATCH" and request.content_type == APPLY_PATCH
        manager = field_manager(query, request.headers.get("User-Agent", ""), applies=applies)
        if "force" in query and not applies and request.method == "PATCH":
            problem = "Forbidden: may not be specified for non-apply patch"
            raise api_errors.invalid_options("force", problem, reason="FieldValueForbidden", options="PatchOptions")
        api = Api(self._control_plane.context, validation=field_validation(query), manager=manager)
        answer = self._written(request, api, found, given)
        for warning in api.warnings:
            escaped = warning.replace("\\", "\\\\").replace('"', '\\"')
            answer.headers.add("Warning", f'299 - "{escaped}"')
        return answer

    def _written(self, request: web.Request, api: Api, found: Target, given: Any) -> web.Response:
        kind, namespace, name = found.kind, found.namespace or "", found.name
        dry = dry_run(request.query)
        status = found.subresource == "status"
        if request.method == "PATCH":
            content_type = request.content_type
            if content_type == APPLY_PATCH and found.subresource != "scale":
                force = flag(request.query, "force")
                item, new = api.apply(kind, namespace, name, given, force=force, dry_run=dry, status=status)
                return _json(as_served(kind, item), status=201 if new else 200)
            if found.subresource == "scale":
                return _json(api.patch_scale(namespace, name, given, content_type, dry_run=dry))
            patched = api.patch(kind, namespace, name, given, content_type, dry_run=dry, status=status)
            return _json(as_served(kind, patched))
        if request.method == "DELETE":
            options = delete_options(request.query, given or {})
            before = api.get(kind, namespace, name)
            after = api.delete(kind, namespace, name, options, dry_run=dry)
            gone = not dry and self._control_plane.store.get(stored_kind(kind), namespace, name) is None
            return _json(_deleted(kind, before) if gone and kind.plural != "pods" else as_served(kind, after))
        if not isinstance(given, dict):
            raise api_errors.bad_request("the body is no JSON object")
        if request.method == "POST":
            return _json(as_served(kind, api.create(kind, namespace, given, dry_run=dry)), status=201)
        if found.subresource == "scale":
            return _json(api.write_scale(namespace, name, given, dry_run=dry))
        return _json(as_served(kind, api.replace(kind, namespace, name, given, dry_run=dry, status=status)))


def _list(kind: Kind, listed: Page) -> web.Response:
    """Answer with the objects of a page, in the bodies that the store has encoded."""
    bodies = listed.bodies
    if kind is not stored_kind(kind):
        bodies = [msgspec.json.encode(as_served(kind, item)) for item in listed.objects]
    head = b'{"kind":"%bList","apiVersion":"%b","metadata":%b,"items":[' % (
        kind.kind.encode(),
        kind.api_version.encode(),
        msgspec.json.encode(listed.metadata()),
    )
    return _encoded(head + b",".join(bodies) + b"]}\n")


async def _stream(watch: Watch, response: web.StreamResponse, render: Callable[[bytes], bytes] | None) -> None:
    """Send a watch's events until it is over."""
    while (lines := await watch.read()) is not None:
        await response.write(lines if render is None else render(lines))


def _described(request: web.Request, path: str) -> web.Response:
    """Answer a question about the server itself."""
    if request.method != "GET":
        raise api_errors.no_such_path()
    everything = aggregated(path)
    if everything is not None and form(request.headers.get("Accept", ""), ("object", "discovery")) == "discovery":
        return web.Response(body=msgspec.json.encode(everything), headers={"Content-Type": DISCOVERY})
    found = version() if path == "/version" else document(path) or openapi(path)
    if found is None:
        raise api_errors.no_such_path()
    return _json(found)


def _initial_events(query: Mapping[str, str]) -> bool:
    """Return whether a watch shall begin with what is there and say where that ends; its conditions are the real server's.

    Raises: ApiError: a parameter that goes with it is missing.
    """
    if "sendInitialEvents" not in query:
        if query.get("resourceVersionMatch"):
            problem = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            raise api_errors.invalid_options("resourceVersionMatch", problem, reason="FieldValueForbidden")
        return False
    if query.get("resourceVersionMatch") != "NotOlderThan":
        problem = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise api_errors.invalid_options("resourceVersionMatch", problem, reason="FieldValueForbidden")
    return flag(query, "sendInitialEvents")


def _deleted(kind: Kind, before: Object) -> Object:
    metadata = before["metadata"]
    details = {"name": metadata["name"], "kind": kind.plural, "uid": metadata["uid"]}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details | ({"group": kind.group} if kind.group else {}),
    }


def _json(item: Object, status: int = 200) -> web.Response:
    return _encoded(msgspec.json.encode(item), status=status)


def _encoded(encoded: bytes, status: int = 200) -> web.Response:
    return web.Response(body=encoded, status=status, content_type=JSON)
