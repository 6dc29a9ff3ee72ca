"""The Kubernetes API of the twin over HTTP.

In: requests of Kubernetes clients. Out: JSON objects, lists, watch streams, Status objects.

The server adds nothing to what `api` and `store` mean: it finds kind, namespace, name and sub-resource in the path, reads parameters
as the real server does (booleans in any spelling), and sends bodies that the store has encoded already. Every refusal is a Status
object with its HTTP code. Handlers run between two runs of the simulation, never during one: both share the event loop, and a
handler that writes doesn't wait in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
from aiohttp import web

from otel_control_gym.stands.twin import api_errors
from otel_control_gym.stands.twin.api import Api
from otel_control_gym.stands.twin.api_errors import ApiError
from otel_control_gym.stands.twin.control_plane import ControlPlane
from otel_control_gym.stands.twin.objects import KINDS, Kind, Object
from otel_control_gym.stands.twin.selectors import Predicate, field_predicate, label_predicate
from otel_control_gym.stands.twin.servers.kubernetes_discovery import document, version
from otel_control_gym.stands.twin.store import Expired
from otel_control_gym.stands.twin.watches import Watch

__all__ = ("KubernetesServer",)

_BODY_LIMIT = 3 * 2**20
_PLAIN = ("/readyz", "/livez", "/healthz")
_JSON = "application/json"
_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class _Target(msgspec.Struct, frozen=True):
    """What a path names; an empty name: the collection, a namespace of None: of all namespaces."""

    kind: Kind
    namespace: str | None
    name: str
    subresource: str


class KubernetesServer:
    """Serves a `ControlPlane`; `control_plane` may be exchanged between two runs of one server (open watches are ended then)."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._kinds = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}

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
        application = web.Application(client_max_size=_BODY_LIMIT)
        application.router.add_route("*", "/{path:.*}", self._handle)
        application.on_shutdown.append(self._end_watches)
        return application

    @asynccontextmanager
    async def open(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve on a port (0: a free one) and yield the URL; all watches are ended at the exit."""
        runner = web.AppRunner(
            self.application(),
            access_log=None,
            shutdown_timeout=1.0,
            handler_cancellation=True,  # a watch whose client has gone is waiting for events, not for its client
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            await site.start()
            bound = runner.addresses[0][1]
            yield f"http://{host}:{bound}"
        finally:
            with anyio.CancelScope(shield=True):
                await runner.cleanup()

    async def _end_watches(self, application: web.Application) -> None:  # noqa: ARG002 - aiohttp's signature
        self._control_plane.store.close_watches()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except ApiError as error:
            return _json(error.status, status=error.code)
        except web.HTTPRequestEntityTooLarge:
            refusal = api_errors.too_large(_BODY_LIMIT)
            return _json(refusal.status, status=refusal.code)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path in _PLAIN:
            return web.Response(text="ok")
        if path == "/version":
            return _json(version())
        target = self._target(path)
        if target is None:
            found = document(path)
            if found is None or request.method != "GET":
                raise api_errors.no_such_path()
            return _json(found)
        self._check_verb(target, request.method)
        if request.method == "GET":
            return await self._read(request, target)
        body = await _body(request)
        return self._write(request, target, body)

    def _target(self, path: str) -> _Target | None:
        """Return what a path of a resource names; None: it names no resource."""
        parts = [part for part in path.split("/") if part]
        if parts[:1] == ["api"] and len(parts) > 2:
            group, version_, rest = "", parts[1], parts[2:]
        elif parts[:1] == ["apis"] and len(parts) > 3:
            group, version_, rest = parts[1], parts[2], parts[3:]
        else:
            return None
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = self._kinds.get((group, version_, rest[0]))
        if kind is None or len(rest) > 3 or (kind.namespaced is False and namespace is not None):
            raise api_errors.no_such_path()
        name, subresource = ([*rest[1:], "", ""])[:2]
        if name and kind.namespaced and namespace is None:
            raise api_errors.no_such_path()
        offered = (*(("scale",) if kind.scale else ()), *(("status",) if kind.status else ()))
        if subresource and subresource not in offered:
            raise api_errors.no_such_path()
        return _Target(kind, namespace, name, subresource)

    def _check_verb(self, target: _Target, method: str) -> None:
        verb = _VERBS.get(method)
        of_collection = ("get", "create")
        of_object = ("get", "update", "patch") if target.subresource else ("get", "update", "patch", "delete")
        fits = verb in (of_object if target.name else of_collection)
        if not fits or verb not in target.kind.verbs or (verb == "create" and target.namespace is None):
            raise api_errors.method_not_allowed()

    async def _read(self, request: web.Request, target: _Target) -> web.StreamResponse:
        api, kind, query = Api(self._control_plane.context), target.kind, request.query
        if target.name:
            api.get(kind, target.namespace or "", target.name)
            if target.subresource == "scale":
                return _json(api.scale(target.namespace or "", target.name))
            return _encoded(self._control_plane.store.body(kind, target.namespace or "", target.name))
        if "sendInitialEvents" in query:
            problem = "Forbidden: sendInitialEvents is not offered; list, then watch"
            raise api_errors.invalid(
                Kind(kind="ListOptions", plural="listoptions", group="meta.k8s.io"),
                "",
                "sendInitialEvents",
                problem,
                reason="FieldValueForbidden",
            )
        selector, asked = _selector(kind, query), self._asked_version(query)
        if _flag(query, "watch"):
            return await self._watch(request, target, selector, asked)
        return self._list(target, selector)

    def _list(self, target: _Target, selector: Predicate | None) -> web.Response:
        store, kind = self._control_plane.store, target.kind
        bodies = store.bodies(kind, target.namespace, selector)
        head = b'{"kind":"%bList","apiVersion":"%b","metadata":{"resourceVersion":"%d"},"items":[' % (
            kind.kind.encode(),
            kind.api_version.encode(),
            store.version,
        )
        return _encoded(head + b",".join(bodies) + b"]}\n")

    async def _watch(
        self, request: web.Request, target: _Target, selector: Predicate | None, asked: int | None
    ) -> web.StreamResponse:
        store, query = self._control_plane.store, request.query
        try:
            watch = store.watch(
                target.kind,
                target.namespace,
                selector,
                after=asked or None,
                bookmarks=_flag(query, "allowWatchBookmarks"),
            )
        except Expired as error:
            raise api_errors.expired(str(error)) from error
        response = web.StreamResponse(headers={"Content-Type": _JSON})
        limit = _natural(query, "timeoutSeconds")
        try:
            with anyio.move_on_after(limit or None):
                await response.prepare(request)
                await _stream(watch, response)
            await response.write_eof()
        except ConnectionError:
            return response  # the client has gone; nothing is left to tell it
        finally:
            store.unwatch(watch)
        return response

    def _asked_version(self, query: Mapping[str, str]) -> int | None:
        asked = _natural(query, "resourceVersion")
        newest = self._control_plane.store.version
        if asked is not None and asked > newest:
            raise api_errors.too_new(asked, newest)
        return asked

    def _write(self, request: web.Request, target: _Target, body: Any) -> web.Response:
        api, kind, namespace, name = (
            Api(self._control_plane.context),
            target.kind,
            target.namespace or "",
            target.name,
        )
        dry_run = request.query.get("dryRun") == "All"
        status = target.subresource == "status"
        if request.method == "PATCH":
            content_type = request.content_type
            if target.subresource == "scale":
                return _json(api.patch_scale(namespace, name, body, content_type, dry_run=dry_run))
            return _json(api.patch(kind, namespace, name, body, content_type, dry_run=dry_run, status=status))
        if request.method == "DELETE":
            options = _delete_options(request.query, body or {})
            before = api.get(kind, namespace, name)
            after = api.delete(kind, namespace, name, options, dry_run=dry_run)
            gone = not dry_run and self._control_plane.store.get(kind, namespace, name) is None
            return _json(_deleted(kind, before) if gone and kind.plural != "pods" else after)
        if request.content_type != _JSON:
            raise api_errors.unsupported_media_type(request.content_type, (_JSON,))
        if not isinstance(body, dict):
            raise api_errors.bad_request("the body is no JSON object")
        if request.method == "POST":
            return _json(api.create(kind, namespace, body, dry_run=dry_run), status=201)
        if target.subresource == "scale":
            return _json(api.write_scale(namespace, name, body, dry_run=dry_run))
        return _json(api.replace(kind, namespace, name, body, dry_run=dry_run, status=status))


async def _stream(watch: Watch, response: web.StreamResponse) -> None:
    """Send a watch's events until it is over."""
    while (lines := await watch.read()) is not None:
        await response.write(lines)


async def _body(request: web.Request) -> Any:
    raw = await request.read()
    if not raw:
        return None
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise api_errors.bad_request(f"the object provided is unrecognized: {error}") from error


def _selector(kind: Kind, query: Mapping[str, str]) -> Predicate | None:
    try:
        labels = label_predicate(query.get("labelSelector", ""))
        fields = field_predicate(kind, query.get("fieldSelector", ""))
    except ValueError as error:
        raise api_errors.bad_request(str(error)) from error
    if labels is None or fields is None:
        return labels or fields
    return _both(labels, fields)


def _both(first: Predicate, second: Predicate) -> Callable[[Object], bool]:
    return lambda item: first(item) and second(item)


def _flag(query: Mapping[str, str], name: str) -> bool:
    """Read a boolean as the real server does: "0" and any spelling of "false" are false, everything else that is given is true."""
    value = query.get(name)
    return value is not None and value.lower() not in ("0", "false")


def _natural(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    if not text.isdigit():
        raise api_errors.bad_request(f'invalid {name} "{text}": must be a natural number')
    return int(text)


def _delete_options(query: Mapping[str, str], body: Any) -> Object:
    """Return DeleteOptions from body and query; the query wins, as on the real server when the body is empty."""
    if not isinstance(body, dict):
        raise api_errors.bad_request("the body is no DeleteOptions")
    options = dict(body)
    grace = _natural(query, "gracePeriodSeconds")
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    if "propagationPolicy" in query:
        options["propagationPolicy"] = query["propagationPolicy"]
    return options


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


def _encoded(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type=_JSON)
