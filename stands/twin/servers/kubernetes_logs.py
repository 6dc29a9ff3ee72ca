"""`pods/NAME/log`: what a container of a twin has written, asked for as kubectl does.

In: a request for the log of a pod, and the lines that are kept of it. Out: text, one line for each, with its time where that is asked for.
A pod's lines are cut at the second in which its container was started: what comes before is the instance before, if there was one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice

from aiohttp import web

from otel_control_gym.engine.clock import SECOND, date_time
from otel_control_gym.stands.twin import api_errors
from otel_control_gym.stands.twin.objects import Object
from otel_control_gym.stands.twin.servers.kubernetes_requests import flag, natural

__all__ = ("log_answer", "logged_pod")

_PATH = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/log")


def logged_pod(path: str) -> tuple[str, str] | None:
    """Return namespace and name of the pod whose log a path asks for; None: it asks for something else."""
    match = _PATH.fullmatch(path)
    return None if match is None else (match[1], match[2])


def log_answer(pod: Object, lines: Iterable[tuple[int, bytes]], query: Mapping[str, str], now: int) -> web.Response:
    """Return the log of a pod's container; `now` is the twin's time [ns].

    Raises: ApiError: there is no such container, it hasn't begun, or there was none before it; or a parameter is malformed.
    """
    name = pod["metadata"]["name"]
    names = [container["name"] for container in pod["spec"]["containers"]]
    asked = query.get("container") or names[0]
    if asked not in names:
        raise api_errors.bad_request(f"container {asked} is not valid for pod {name}")
    statuses = {item["name"]: item for item in pod["status"].get("containerStatuses") or ()}
    status = statuses.get(asked) or {}
    before = bool(status.get("restartCount"))
    state = status.get("state") or {}
    begun_as = state.get("running") or state.get("terminated")
    if not (begun_as or before):
        raise api_errors.bad_request(f'container "{asked}" in pod "{name}" is waiting to start: ContainerCreating')
    if flag(query, "previous") and not before:
        raise api_errors.bad_request(f'previous terminated container "{asked}" in pod "{name}" not found')
    begun = _moment(begun_as["startedAt"]) if begun_as and before else 0
    if asked != names[0]:
        lines = ()  # a sidecar of the twin says nothing
    written = [line for line in lines if (line[0] < begun) == (flag(query, "previous") and begun > 0)]
    return web.Response(body=_body(written, query, now), content_type="text/plain")


def _body(lines: list[tuple[int, bytes]], query: Mapping[str, str], now: int) -> bytes:
    since = _since(query, now)
    shown = [line for line in lines if line[0] >= since]
    tail = natural(query, "tailLines")
    if tail is not None:
        shown = list(islice(shown, max(0, len(shown) - tail), None))
    stamped = flag(query, "timestamps")
    body = b"".join((_stamp(time) if stamped else b"") + text + b"\n" for time, text in shown)
    limit = natural(query, "limitBytes")
    return body if limit is None else body[:limit]


def _since(query: Mapping[str, str], now: int) -> int:
    seconds, time = natural(query, "sinceSeconds"), query.get("sinceTime")
    if seconds is not None:
        return now - seconds * SECOND
    if not time:
        return 0
    try:
        return _moment(time)
    except ValueError as error:
        raise api_errors.bad_request(f"sinceTime {time!r}: must be a time as in RFC 3339") from error


def _moment(text: str) -> int:
    """Return a time [ns], to the second, as kubelets are asked."""
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


def _stamp(time: int) -> bytes:
    whole, rest = divmod(time, SECOND)
    return f"{date_time(whole)}.{rest:09d}Z ".encode()
