"""How well the entry service answers: requests, errors and latency between two moments, of what Prometheus has of it.

In: a connection, a configuration whose metric map says which series these are. Out: a `Reading` at a moment, and of two of them a `Level`.

The entry service is the one to which all users speak, and at which the service level objective is judged. Counted are its own answers
(of small-core: `traces_span_metrics_calls_total` of its server spans, its errors those with `STATUS_CODE_ERROR`, and the buckets of
`traces_span_metrics_duration_milliseconds`); a service that sends no spans by what its callers see. A counter's growth is
that between the last samples at or before both moments; one that fell was reset, and one that wasn't there was 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from otel_control_gym.engine.metric_selectors import HISTOGRAM_PARTS, is_wanted
from otel_control_gym.engine.settings import FeatureSource, RunConfig
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.prometheus_samples import Labels, instant

__all__ = ("EntryMeter", "Level", "Reading", "level_between", "quantile")

_BUCKET = HISTOGRAM_PARTS[0]
_P95 = 0.95
Series = tuple[tuple[str, str], ...]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """The entry service's counters at a moment, by series."""

    requests: dict[Series, float] = {}
    errors: dict[Series, float] = {}
    buckets: dict[Series, float] = {}  #: of its latency, cumulative by `le`
    bound_scale: float = 1.0  #: from the unit of `le` to milliseconds


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """How the entry service answered between two moments."""

    requests: int
    errors: int
    latency_ms_p95: float | None = None  #: null: there is no histogram, or nothing in it

    def __str__(self) -> str:
        latency = "" if self.latency_ms_p95 is None else f", p95 {self.latency_ms_p95:.0f} ms"
        return f"{self.errors} of {self.requests} failed{latency}"


class EntryMeter:
    """Reads the counters of a configuration's entry service."""

    def __init__(self, connection: Connection, config: RunConfig) -> None:
        self._connection, self._metrics = connection, config.public.metrics
        self.service = config.public.services.entry

    async def read(self, at: int) -> Reading:
        """Return what the counters showed at a moment [ns]; empty: there are none.

        Raises: StandError: Prometheus doesn't answer.
        """
        latency, buckets = await self._first("latency", at, ("histogram",))
        return Reading(
            requests=(await self._first("request_count", at, ("counter",)))[1],
            errors=(await self._first("error_count", at, ("counter",)))[1],
            buckets=buckets,
            bound_scale=1.0 if latency is None else latency.scale,
        )

    async def _first(
        self, quantity: str, at: int, kinds: tuple[str, ...]
    ) -> tuple[FeatureSource | None, dict[Series, float]]:
        """Return the first source of a quantity that has series of the entry service, and these."""
        for source in self._metrics.sources("node").get(quantity, ()):
            if source.kind in kinds:
                found = {
                    tuple(sorted(labels.items())): value
                    for labels, value in await instant(self._connection, self._selector(source), at)
                    if is_wanted(source, labels) and self.service == self._node(source, labels)
                }
                if found:
                    return source, found
        return None, {}

    def _selector(self, source: FeatureSource) -> str:
        names = [name + _BUCKET if source.kind == "histogram" else name for name in source.metrics]
        matchers = {"__name__": names, **{label: list(values) for label, values in source.where.items()}}
        if isinstance(source.entity, str) and not source.entity_pattern:
            aliases = [label for label, node in self._metrics.aliases.items() if node == self.service]
            matchers[source.entity] = [self.service, *aliases]
        return "{" + ",".join(f'{label}=~"{_either(values)}"' for label, values in matchers.items()) + "}"

    def _node(self, source: FeatureSource, labels: Labels) -> str:
        """Return the service of which a series tells."""
        for label in (source.entity,) if isinstance(source.entity, str) else source.entity:
            text = labels.get(label, "")
            match = re.match(source.entity_pattern, text) if source.entity_pattern else None
            text = match[1] if match else text
            if text:
                return self._metrics.aliases.get(text, text)
        return ""


def level_between(before: Reading, after: Reading) -> Level:
    """Return how the entry service answered between two readings."""
    cumulative: dict[float, float] = {}
    for series, grown in _growths(before.buckets, after.buckets):
        bound = float(dict(series)["le"]) * after.bound_scale
        cumulative[bound] = cumulative.get(bound, 0.0) + grown
    return Level(
        requests=round(sum(grown for _, grown in _growths(before.requests, after.requests))),
        errors=round(sum(grown for _, grown in _growths(before.errors, after.errors))),
        latency_ms_p95=quantile(cumulative, _P95),
    )


def quantile(cumulative: Mapping[float, float], share: float) -> float | None:
    """Return a quantile of a histogram: linear within its bucket, as `histogram_quantile` has it; None: nothing was observed.

    Args:
        cumulative: upper bound of a bucket -> observations up to there.
        share: of the observations, 0 to 1.
    """
    bounds = sorted(cumulative)
    if not bounds or cumulative[bounds[-1]] <= 0:
        return None
    rank, lower, below = share * cumulative[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if cumulative[bound] >= rank:
            if bound == float("inf"):
                return lower  # nobody knows how far beyond
            return lower + (bound - lower) * (rank - below) / (cumulative[bound] - below)
        lower, below = bound, cumulative[bound]
    return lower


def _growths(before: Mapping[Series, float], after: Mapping[Series, float]) -> Iterator[tuple[Series, float]]:
    for series, value in after.items():
        earlier = before.get(series, 0.0)
        yield series, value - earlier if value >= earlier else value


def _either(values: list[str]) -> str:
    return "|".join(re.escape(value).replace("\\", "\\\\").replace('"', '\\"') for value in values)
