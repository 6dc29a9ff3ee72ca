"""Distortion of metrics: series and samples as Prometheus gave them ➜ as a run with poorer telemetry would have got them.

In: `SeriesDeclared` and `SamplesCollected` of the collector. Out: the same kinds of events, and `CollectorGap`s for what was lost. In this
order: hidden series go; values get noise; scrapes are lost, of everything or of one service; time stamps are off; the rest waits until it
has arrived.

A lost scrape is a gap from the scrape before it. Where only some services' parts are lost the gap names them: the tables can't tell a pod
that is gone from one that wasn't read. Series are numbered anew, when their first sample arrives, so that a number tells nothing of what
is hidden. Upstream: `distortion` (the wrapper). Beside it: `distortion_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.collectors.distortion_draws import BurstLosses, Stretches, text_key, uniforms
from otel_control_gym.collectors.distortion_noise import CounterNoise, noisy_gauges
from otel_control_gym.collectors.distortion_series import SeriesTraits, Traits
from otel_control_gym.collectors.distortion_transit import Transit
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import CollectorGap, Event, SamplesCollected, SeriesDeclaration, SeriesDeclared
from otel_control_gym.engine.settings import Distortion, MetricMap

__all__ = ("SampleDistortion",)

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_MILLISECOND: Final = 1_000_000
_NEVER: Final = np.iinfo(np.int64).min
_SCRAPE: Final = text_key("scrape")


class _Columns(msgspec.Struct, frozen=True, eq=False):
    """Traits of all series, by the collector's numbers."""

    hidden: Bool
    service: Int  #: position in the list of services
    key: Int
    counter: Bool
    whole: Bool
    factor: Float
    offset: Float
    group: Int
    rank: Float


class SampleDistortion:
    """The way of a run's samples from the collector to the log; `key` keys all draws, `origin` is the run's first moment."""

    def __init__(
        self,
        distortion: Distortion,
        metric_map: MetricMap,
        *,
        interval: int,
        key: int,
        origin: int,
        silence: Stretches | None,
        transit: Transit,
    ) -> None:
        self._distortion, self._traits_of = distortion, Traits(metric_map, distortion)
        self._interval, self._key, self._origin = interval, key, origin
        self._silence, self._transit = silence, transit
        self._noise = CounterNoise(key)
        self._scrapes = BurstLosses(distortion.scrapes, key, _SCRAPE)
        self._targets: list[BurstLosses] = []  # by service
        self._services: list[str] = []
        self._labels: list[dict[str, str]] = []  # by the collector's number
        self._traits: list[SeriesTraits] = []
        self._known: _Columns | None = None  # of `_traits`, made when it is needed
        self._public: Int = np.zeros(0, np.int64)  # number in the log by the collector's, -1 while there is none
        self._bare: list[int] = []  # declared without a sample
        self._declared = 0
        self._shown: Int = np.zeros(0, np.int64)  # newest time stamp by the collector's number
        self._waiting: list[tuple[Int, Int, Float, Int]] = []  # series, time stamp, value, arrival
        self._gaps: list[tuple[int, int, str, tuple[str, ...]]] = []

    def take(self, events: Sequence[Event]) -> None:
        """Take in what a flush of the collector holds: declarations and samples."""
        declared = [row for event in events if isinstance(event, SeriesDeclared) for row in event.rows]
        sampled = [event for event in events if isinstance(event, SamplesCollected)]
        for row in declared:
            self._declare(row)
        self._public = np.append(self._public, np.full(len(declared), -1))
        self._shown = np.append(self._shown, np.full(len(declared), _NEVER))
        with_samples = {number for event in sampled for number in np.unique(event.series).tolist()}
        self._bare += [row.series for row in declared if row.series not in with_samples]
        for event in sampled:
            self._take(event)

    def release(self, now: int) -> list[Event]:
        """Return what has arrived by `now`: new series, samples, gaps."""
        series, stamps, values, arrivals = self._all_waiting()
        here = arrivals <= now
        self._waiting = [] if here.all() else [(series[~here], stamps[~here], values[~here], arrivals[~here])]
        series, stamps, values = series[here], stamps[here], values[here]
        events: list[Event] = []
        new = [number for number in sorted({*np.unique(series).tolist(), *self._bare}) if self._public[number] < 0]
        new = [number for number in new if not self._traits[number].hidden]
        self._bare = []
        if new:
            events.append(SeriesDeclared(time=now, rows=tuple(self._number(series) for series in new)))
        if series.size:
            numbers = self._public[series].astype(np.int32)
            order = np.lexsort((stamps, numbers))
            samples = SamplesCollected(time=now, series=numbers[order], times=stamps[order], values=values[order])
            events.append(samples)
        gaps, self._gaps = self._gaps, []
        for start, end, reason, services in gaps:
            gap = CollectorGap(time=now, source="metrics", start=start, end=end, reason=reason, services=services)
            events.append(gap)
        return events

    def _number(self, series: int) -> SeriesDeclaration:
        self._public[series] = self._declared
        self._declared += 1
        return SeriesDeclaration(series=int(self._public[series]), labels=self._labels[series])

    def _declare(self, row: SeriesDeclaration) -> None:
        traits = self._traits_of.of(row.labels)
        if traits.service not in self._services:
            self._services.append(traits.service)
            self._targets.append(BurstLosses(self._distortion.targets, self._key, text_key(f"target {traits.service}")))
        self._labels.append(row.labels)
        self._traits.append(traits)
        self._known = None

    @property
    def _columns(self) -> _Columns:
        if self._known is None:
            position = {name: number for number, name in enumerate(self._services)}
            traits = self._traits
            self._known = _Columns(
                hidden=np.array([one.hidden for one in traits], bool),
                service=np.array([position[one.service] for one in traits], np.int64),
                key=np.array([one.key for one in traits], np.int64),
                counter=np.array([one.counter for one in traits], bool),
                whole=np.array([one.whole for one in traits], bool),
                factor=np.array([one.factor for one in traits]),
                offset=np.array([one.offset for one in traits]),
                group=np.array([one.group for one in traits], np.int64),
                rank=np.array([one.rank for one in traits]),
            )
        return self._known

    def _take(self, event: SamplesCollected) -> None:
        series, times = event.series.astype(np.int64), event.times
        seen = ~self._columns.hidden[series]
        series, times, values = series[seen], times[seen], event.values[seen]
        if series.size == 0:
            return
        values = self._with_noise(series, times, values)
        kept = self._kept(series, times)
        series, times, values = series[kept], times[kept], values[kept]
        if series.size == 0:
            return
        moments, place = np.unique(times, return_inverse=True)
        arrivals = self._transit.arrivals(moments)[place]
        if self._distortion.jitter_seconds or self._distortion.clock_skew_seconds:
            times = self._stamps(series, times)
            arrivals = np.maximum(arrivals, times)  # Prometheus isn't asked for the future
        self._waiting.append((series, times, values, arrivals))

    def _all_waiting(self) -> tuple[Int, Int, Float, Int]:
        if not self._waiting:
            nothing = np.zeros(0, np.int64)
            return nothing, nothing, np.zeros(0), nothing
        series, stamps, values, arrivals = zip(*self._waiting, strict=True)
        return np.concatenate(series), np.concatenate(stamps), np.concatenate(values), np.concatenate(arrivals)

    # --- noise ---------------------------------------------------------------------------------------------------------

    def _with_noise(self, series: Int, times: Int, values: Float) -> Float:
        columns = self._columns
        factor, offset, keys = columns.factor[series], columns.offset[series], columns.key[series]
        noisy = ((factor > 0) | (offset > 0)) & ~np.isnan(values)
        if not noisy.any():
            return values
        values = values.copy()
        of = noisy & ~columns.counter[series]
        values[of] = noisy_gauges(values[of], times[of], keys[of], factor[of], offset[of], self._key)
        of = noisy & columns.counter[series]
        counters = series[of]
        values[of] = self._noise.apply(
            counters,
            values[of],
            times[of],
            keys=keys[of],
            factor=factor[of],
            whole=columns.whole[counters],
            group=columns.group[counters],
            rank=columns.rank[counters],
        )
        return values

    # --- losses --------------------------------------------------------------------------------------------------------

    def _kept(self, series: Int, times: Int) -> Bool:
        """Return which samples aren't lost, and note the gaps of those that are."""
        kept = np.ones(series.size, bool)
        moments = np.unique(times)
        numbers = (moments - self._origin + self._interval // 2) // self._interval
        if self._silence is not None:
            kept &= ~np.isin(times, [moment for moment in moments.tolist() if self._silence.at(moment) is not None])
        lost = moments[self._scrapes.lost(numbers)]
        whole = kept & np.isin(times, lost)
        kept &= ~whole
        self._note("scrape lost", {(): np.unique(times[whole])})
        services = self._columns.service[series]
        by_service: dict[tuple[str, ...], Int] = {}
        for number, losses in enumerate(self._targets):
            if not self._services[number]:
                continue
            of_service = kept & (services == number) & np.isin(times, moments[losses.lost(numbers)])
            kept &= ~of_service
            if of_service.any():
                by_service[self._services[number],] = np.unique(times[of_service])
        self._note("target not scraped", by_service)
        return kept

    def _note(self, reason: str, lost: dict[tuple[str, ...], Int]) -> None:
        """Note scrapes that were lost; those on end are one gap, and services with the same gap share it."""
        sharing: dict[tuple[int, int], list[str]] = {}
        for services, times in lost.items():
            for stretch in np.split(times, np.flatnonzero(np.diff(times) > self._interval * 3 // 2) + 1):
                if stretch.size:
                    sharing.setdefault((int(stretch[0]) - self._interval, int(stretch[-1])), []).extend(services)
        self._gaps += [(start, end, reason, tuple(sorted(names))) for (start, end), names in sorted(sharing.items())]

    # --- time stamps ---------------------------------------------------------------------------------------------------

    def _stamps(self, series: Int, times: Int) -> Int:
        """Return the times that the samples claim: ascending within a series, whole milliseconds like Prometheus' own."""
        jitter, skew = self._distortion.jitter_seconds, self._distortion.clock_skew_seconds
        services = np.array([text_key(name) for name in self._services], np.int64)[self._columns.service[series]]
        off = skew * (2.0 * uniforms(self._key, services, 5) - 1.0)
        off = off + jitter * (2.0 * uniforms(self._key, services, times, 6) - 1.0)
        stamps = times + np.rint(off * SECOND / _MILLISECOND).astype(np.int64) * _MILLISECOND
        for number in np.unique(series[1:][(series[1:] == series[:-1]) & (stamps[1:] <= stamps[:-1])]).tolist():
            own = series == number  # only where scrapes come closer to each other than the jitter reaches
            steps = np.arange(int(own.sum())) * _MILLISECOND
            stamps[own] = np.maximum.accumulate(stamps[own] - steps) + steps
        first = np.append(True, series[1:] != series[:-1])
        for place in np.flatnonzero(first & (stamps <= self._shown[series])).tolist():
            own = series == series[place]
            steps = np.arange(1, int(own.sum()) + 1) * _MILLISECOND
            stamps[own] = np.maximum(stamps[own], self._shown[series[place]] + steps)
        last = np.append(first[1:], True)
        self._shown[series[last]] = stamps[last]
        return stamps
