"""Jaeger's query API ➜ spans: what the stand keeps of its traces, read where nobody can push them to us.

In: moments. Out: ResourceSpans of spans that weren't there before, and why some may be missing. `GET /jaeger/ui/api/v3/traces` (the demo's
base path) takes the times between which some span of a trace has begun, and gives whole traces, the newest first, `num_traces` at most.

What makes it lossy, and how each loss is noticed:
- **The limit.** Time is asked for in slices, and a slice that comes back full is cut in halves; one that is full at a second is a problem.
- **Lateness.** A span is sent some time after it ended, and a trace is found by when its spans *began*. So each look goes back over
  `_OVERLAP`; what was there before is known by its ids, which are kept for as long as a span may come late.
- **Forgetting.** Jaeger keeps its newest 25,000 traces in memory, and none over a restart. If traces that the last look has found, and
  that lie in this one's time, aren't there any more, others may have come and gone in between.
What a sampler before Jaeger has dropped is told by the spans themselves, as where they are pushed.
"""

from __future__ import annotations

import aiohttp
import msgspec

from otel_control_gym.collectors.jaeger_answers import Answer, ResourceDocument, SpanDocument, message_of
from otel_control_gym.collectors.otlp_intake import signal
from otel_control_gym.collectors.retrieved import Retrieved, Unread, asked, bounded
from otel_control_gym.engine.clock import SECOND, rfc3339

__all__ = ("JaegerTraces",)

_PATH = "jaeger/ui/api/v3/traces"
_TRACES = 1_000  #: of an answer; Jaeger refuses more than it can keep
_ANSWER_BYTES = 64 * 2**20
_SLICE = 10 * SECOND
_SHORTEST = SECOND
_OVERLAP = 20 * SECOND  #: Envoy waits 15 s for an answer, SDKs collect for up to 5 s
_LATEST = 60 * SECOND  #: after its end, beyond which a span is of no use to the tables
_NO_TRACES = "No traces found"
_FULL = "not all of it: more traces began within a second than an answer holds"
_FORGOTTEN = "not all of it: Jaeger has forgotten traces that it had before (its memory is full, or it was restarted)"


class _Given(msgspec.Struct, frozen=True):
    """What an answer holds; `full`: as much as one may, so there can be more."""

    resources: list[ResourceDocument]
    full: bool


class JaegerTraces:
    """Reads the traces of one Jaeger; `url` is its root, `now` the run's first moment."""

    def __init__(self, url: str, *, now: int) -> None:
        self._url = f"{url}/{_PATH}"
        self._read_until = now
        self._ended: dict[tuple[str, str], int] = {}  # trace and span -> its end, of those that have been told
        self._began: dict[str, int] = {}  # trace -> when its newest known span began

    async def read(self, session: aiohttp.ClientSession, until: int) -> Retrieved:
        """Return what is new up to a moment."""
        start, problems = self._read_until - _OVERLAP, dict[str, None]()
        found: list[ResourceDocument] = []
        ahead = [(begin, min(begin + _SLICE, until)) for begin in range(start, until, _SLICE)]
        try:
            while ahead:
                begin, end = ahead.pop(0)
                given = await self._ask(session, begin, end)
                if given.full and end - begin > _SHORTEST:
                    middle = (begin + end) // 2
                    ahead[:0] = [(begin, middle), (middle, end)]
                    continue
                found += given.resources
                problems |= {_FULL: None} if given.full else {}
            messages = self._news(found)
        except Unread as unread:
            return Retrieved([], (f"not collected: Jaeger: {unread}",))
        except (msgspec.DecodeError, ValueError):
            return Retrieved([], ("not collected: Jaeger's answer can't be read",))
        if not problems and self._forgotten(found, start):
            problems[_FORGOTTEN] = None
        self._remember(found, until)
        return Retrieved(messages, tuple(problems))

    async def _ask(self, session: aiohttp.ClientSession, begin: int, end: int) -> _Given:
        """Return the traces of which a span began between two moments.

        Raises: Unread: there is no answer to the question. msgspec.DecodeError: it can't be read.
        """
        query = {
            "query.start_time_min": rfc3339(begin),
            "query.start_time_max": rfc3339(end),
            "query.num_traces": str(_TRACES),
            "query.raw_traces": "true",  # else Jaeger moves spans to where it thinks that clocks are wrong
        }
        async with asked(session, self._url, query) as response:
            body = await bounded(response, _ANSWER_BYTES)
            if not body.whole:
                return _Given([], full=True)
            if response.status == 404 and _NO_TRACES.encode() in body.content:
                return _Given([], full=False)
            if response.status != 200:
                raise Unread(f"HTTP {response.status}", response.status)
        resources = msgspec.json.decode(body.content, type=Answer).result.resource_spans
        traces = {span.trace_id for resource in resources for span in resource.spans}
        return _Given(resources, full=len(traces) >= _TRACES)

    def _news(self, found: list[ResourceDocument]) -> list[object]:
        """Return the spans that haven't been told, and aren't too old to be told apart from those that have."""
        messages = []
        horizon = self._read_until - _LATEST
        for resource in found:
            new: list[SpanDocument] = []
            for span in resource.spans:
                identity = (span.trace_id, span.span_id)
                if span.end > horizon and identity not in self._ended:
                    self._ended[identity] = span.end
                    new.append(span)
            if new:
                message = message_of(resource, new)
                signal("traces").reject(message)
                messages.append(message)
        return messages

    def _forgotten(self, found: list[ResourceDocument], start: int) -> bool:
        """Return whether a trace that has to be among what was found isn't."""
        here = {span.trace_id for resource in found for span in resource.spans}
        return any(trace not in here for trace, began in self._began.items() if start <= began < self._read_until)

    def _remember(self, found: list[ResourceDocument], until: int) -> None:
        self._began = {}
        for resource in found:
            for span in resource.spans:
                if span.start >= until - _OVERLAP:
                    self._began[span.trace_id] = max(self._began.get(span.trace_id, 0), span.start)
        self._read_until = until
        self._ended = {identity: end for identity, end in self._ended.items() if end > until - _LATEST}
