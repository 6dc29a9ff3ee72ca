"""Prometheus' HTTP API over the twin's scraped series, as far as selectors go, and `/metrics` for a real one to scrape.

In: HTTP requests. Out: instant queries (raw samples for a range selector, an instant vector else), range queries, series, label names
and values, metadata, targets, build information, health; errors in Prometheus' own shape. What a selector can't express isn't evaluated
but refused.

"Now" is the twin's time. Upstream: `time_series`; answers are put together in `prometheus_answers`, what is scraped in
`prometheus_exposition`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import anyio.to_thread
from aiohttp import web
from multidict import MultiDict, MultiMapping

from otel_control_gym.engine.clock import SECOND, rfc3339
from otel_control_gym.stands.twin.metric_families import families
from otel_control_gym.stands.twin.series_selectors import Selector, SelectorError, duration_ms, parse_selector
from otel_control_gym.stands.twin.servers.listening import json_response
from otel_control_gym.stands.twin.servers.prometheus_answers import SCRAPED_JOB, Answers
from otel_control_gym.stands.twin.servers.prometheus_exposition import exposition
from otel_control_gym.stands.twin.time_series import RETENTION_SECONDS, TimeSeries

__all__ = ("VERSION", "PrometheusServer")

VERSION = "3.11.3"  #: emulated
_LOOKBACK = 300 * SECOND
_MS = 1_000_000  #: nanoseconds
_MAX_POINTS = 11_000
_STATUS = {"bad_data": 400, "execution": 422, "unavailable": 503}
_BY_FORM = ("/api/v1/query", "/api/v1/query_range", "/api/v1/series", "/api/v1/labels")  #: may be asked by POST, too

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _ApiError(Exception):
    """Raised when a request can't be answered; becomes Prometheus' error envelope."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


class PrometheusServer:
    """One Prometheus; `attach` gives it the series of a run."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._answers: Answers | None = None

    def attach(self, series: TimeSeries) -> None:
        """Answer from these series from now on."""
        self._answers = Answers(series)

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        application = web.Application(client_max_size=16 * 2**20)
        handlers: dict[str, Handler] = {
            "/api/v1/query": self._query,
            "/api/v1/query_range": self._query_range,
            "/api/v1/series": self._series,
            "/api/v1/labels": self._labels,
            "/api/v1/label/{name}/values": self._label_values,
            "/api/v1/metadata": self._metadata,
            "/api/v1/targets": self._targets,
            "/api/v1/status/buildinfo": self._build_information,
            "/metrics": self._metrics,
            "/-/ready": self._ready,
            "/-/healthy": self._healthy,
        }
        for path, handler in handlers.items():
            application.router.add_get(path, _telling(handler))
            if path in _BY_FORM:
                application.router.add_post(path, _telling(handler))
        return application

    async def _query(self, request: web.Request) -> web.Response:
        parameters = await _parameters(request)
        at = self._time(parameters, "time", self._now())
        lookback = _duration(parameters, "lookback_delta", _LOOKBACK)
        text = _needed(parameters, "query")
        if text.strip() == "time()":
            seconds = at / SECOND
            return json_response(
                _success({"resultType": "scalar", "result": [seconds, f"{seconds:.3f}".rstrip("0").rstrip(".")]})
            )
        selector = _selector(text)
        answers = self._ready_answers()
        if selector.range_ms is not None:
            return _result("matrix", answers.matrix(selector, at))
        return _result("vector", answers.vector(selector, at, lookback))

    async def _query_range(self, request: web.Request) -> web.Response:
        parameters = await _parameters(request)
        start, end = self._time(parameters, "start"), self._time(parameters, "end")
        if end < start:
            raise _ApiError("bad_data", 'invalid parameter "end": end timestamp must not be before start time')
        step = _duration(parameters, "step")
        if step <= 0:
            raise _ApiError(
                "bad_data",
                'invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer',
            )
        if (end - start) // step > _MAX_POINTS:
            raise _ApiError(
                "bad_data",
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
            )
        lookback = _duration(parameters, "lookback_delta", _LOOKBACK)
        selector = _selector(_needed(parameters, "query"))
        if selector.range_ms is not None:
            problem = 'invalid expression type "range vector" for range query, must be Scalar or instant Vector'
            raise _ApiError("bad_data", f'invalid parameter "query": {problem}')
        return _result("matrix", self._ready_answers().steps(selector, start, end, step, lookback))

    async def _series(self, request: web.Request) -> web.Response:
        parameters = await _parameters(request)
        if not parameters.getall("match[]", []):
            raise _ApiError("bad_data", "no match[] parameter provided")
        labels = self._matching(parameters)
        return _limited(sorted(labels, key=lambda item: tuple(item.items())), parameters)

    async def _labels(self, request: web.Request) -> web.Response:
        parameters = await _parameters(request)
        names = {name for labels in self._matching(parameters) for name in labels}
        return _limited(sorted(names), parameters)

    async def _label_values(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) is None:
            raise _ApiError("bad_data", f'invalid label name: "{name}"')
        values = {labels[name] for labels in self._matching(request.query) if name in labels}
        return _limited(sorted(values), request.query)

    async def _metadata(self, request: web.Request) -> web.Response:
        limit = _limit(request.query, "limit")
        known = families(labels["__name__"] for labels in self._ready_answers().series.labels.values())
        wanted = request.query.get("metric", "")
        described = {
            family.name: [{"type": family.type, "help": family.help, "unit": ""}]
            for family in known.values()
            if not wanted or family.name == wanted
        }
        return json_response(_success(dict(list(described.items())[: limit or None])))

    async def _targets(self, request: web.Request) -> web.Response:
        """Tell of what is scraped: of the kubelet's cAdvisor; everything else came by OTLP."""
        series = self._ready_answers().series
        numbers, _ = series.newest
        found = [series.labels[number] for number in numbers.tolist()]
        instances = sorted({labels["instance"] for labels in found if labels.get("job") == SCRAPED_JOB})
        active = [_target(instance, series.latest or 0) for instance in instances]
        shown = request.query.get("state", "any") in ("any", "active", "")
        return json_response(_success({"activeTargets": active if shown else [], "droppedTargets": []}))

    async def _metrics(self, request: web.Request) -> web.Response:
        if self._answers is None:
            return web.Response(status=503, text="Service Unavailable")
        series = self._answers.series
        numbers, values = series.newest
        rows = [(series.labels[number], value) for number, value in zip(numbers.tolist(), values.tolist(), strict=True)]
        # Ten microseconds a series: too long for the event loop, where time moves.
        body, kind = await anyio.to_thread.run_sync(exposition, rows, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": kind})

    async def _build_information(self, _: web.Request) -> web.Response:
        return json_response(
            _success(
                {
                    "version": VERSION,
                    "revision": "",
                    "branch": "HEAD",
                    "buildUser": "",
                    "buildDate": "",
                    "goVersion": "",
                }
            )
        )

    async def _ready(self, _: web.Request) -> web.Response:
        if self._answers is None:
            return web.Response(status=503, text="Service Unavailable")
        return web.Response(text="Prometheus Server is Ready.\n")

    async def _healthy(self, _: web.Request) -> web.Response:
        return web.Response(text="Prometheus Server is Healthy.\n")

    def _matching(self, parameters: MultiMapping[str]) -> list[dict[str, str]]:
        """Return the labels of the series that any of the `match[]` selects (all, without one) and that live in [start, end]."""
        answers = self._ready_answers()
        end = self._time(parameters, "end", self._now())
        start = self._time(parameters, "start", end - RETENTION_SECONDS * SECOND)
        selectors = [_selector(text, "match[]").matchers for text in parameters.getall("match[]", [])] or [()]
        numbers = {number for matchers in selectors for number in answers.alive(matchers, start - 1, end)}
        return [answers.series.labels[number] for number in numbers]

    def _ready_answers(self) -> Answers:
        if self._answers is None:
            raise _ApiError("unavailable", "TSDB not ready")
        return self._answers

    def _time(self, parameters: Mapping[str, str], name: str, default: int | None = None) -> int:
        """Return a time parameter in ns, cut to the millisecond as Prometheus keeps it."""
        text = parameters.get(name, "")
        if not text and default is not None:
            return default
        try:
            nanoseconds = round(float(text) * 1000) * _MS
        except ValueError:
            try:
                moment = datetime.fromisoformat(text)
                if moment.tzinfo is None:
                    raise ValueError(text)
                nanoseconds = round(moment.timestamp() * 1000) * _MS
            except ValueError:
                message = f'invalid parameter "{name}": cannot parse "{text}" to a valid timestamp'
                raise _ApiError("bad_data", message) from None
        except OverflowError:
            raise _ApiError(
                "bad_data", f'invalid parameter "{name}": cannot parse "{text}" to a valid timestamp'
            ) from None
        return nanoseconds


def _telling(handler: Handler) -> Handler:
    """Return a handler that tells errors in Prometheus' envelope.

    A middleware would do it, too, but aiohttp remembers for ever which handlers each was put around, and with them the whole stand.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except _ApiError as error:
            document = {"status": "error", "errorType": error.kind, "error": error.message}
            return json_response(document, status=_STATUS[error.kind])

    return answer


async def _parameters(request: web.Request) -> MultiMapping[str]:
    """Return the parameters of the form (POST) and of the URL, together."""
    if request.method == "GET":
        return request.query
    form = await request.post()
    merged = MultiDict(request.query)
    merged.extend((name, value) for name, value in form.items() if isinstance(value, str))
    return merged


def _needed(parameters: Mapping[str, str], name: str) -> str:
    text = parameters.get(name, "")
    if not text.strip():
        raise _ApiError(
            "bad_data", f'invalid parameter "{name}": unknown position: parse error: no expression found in input'
        )
    return text


def _selector(text: str, name: str = "query") -> Selector:
    try:
        return parse_selector(text)
    except SelectorError as error:
        raise _ApiError("bad_data", f'invalid parameter "{name}": {error}') from error


def _duration(parameters: Mapping[str, str], name: str, default: int | None = None) -> int:
    """Return a duration parameter in ns."""
    text = parameters.get(name, "")
    if not text and default is not None:
        return default
    found = duration_ms(text)
    if found is None:
        raise _ApiError("bad_data", f'invalid parameter "{name}": cannot parse "{text}" to a valid duration')
    return found * _MS


def _limit(parameters: Mapping[str, str], name: str) -> int:
    """Return a bound, 0 for none."""
    text = parameters.get(name, "") or "0"
    if not (text.isascii() and text.isdigit()):
        raise _ApiError("bad_data", f'invalid parameter "{name}": limit must be a non-negative number, not "{text}"')
    return int(text)


def _limited(items: list[Any], parameters: Mapping[str, str]) -> web.Response:
    limit = _limit(parameters, "limit")
    if not 0 < limit < len(items):
        return json_response(_success(items))
    return json_response(_success(items[:limit]) | {"warnings": ["results truncated due to limit"]})


def _target(instance: str, scraped: int) -> dict[str, Any]:
    labels = {"instance": instance, "job": SCRAPED_JOB}
    url = f"https://{instance}:10250/metrics/cadvisor"
    return {
        "discoveredLabels": labels | {"__address__": f"{instance}:10250", "__metrics_path__": "/metrics/cadvisor"},
        "labels": labels,
        "scrapePool": SCRAPED_JOB,
        "scrapeUrl": url,
        "globalUrl": url,
        "lastError": "",
        "lastScrape": rfc3339(scraped),
        "lastScrapeDuration": 0.0,
        "health": "up",
        "scrapeInterval": "",
        "scrapeTimeout": "",
    }


def _success(data: Any) -> dict[str, Any]:
    return {"status": "success", "data": data}


def _result(kind: str, result: bytes) -> web.Response:
    body = b'{"status":"success","data":{"resultType":"%s","result":%s}}' % (kind.encode(), result)
    return web.Response(body=body, content_type="application/json")
