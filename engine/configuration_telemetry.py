"""Checks of a run's telemetry settings: shares are shares, names exist, and what is hidden leaves a reward to be reckoned.

In: the public settings. Out: nothing, or the error that says where, what, and what would be right. Upstream: `configuration_checks`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Final

from otel_control_gym.engine.errors import ConfigurationError, nearest
from otel_control_gym.engine.settings import Distortion, FeatureSource, Hidden, RunSettings, TelemetrySettings

__all__ = ("check_telemetry",)

_MOST: Final = 0.9  #: share that may be lost: a chain that loses all never comes back


def check_telemetry(public: RunSettings, file: str) -> None:
    """See to it that what the telemetry settings ask for can be, in this application and at this granularity.

    Raises:
        ConfigurationError: it can't.
    """
    telemetry = public.telemetry
    if not 0 < telemetry.span_sampling_ratio <= 1:
        problem = "no share of traces that leaves any"
        _refuse(file, "span_sampling_ratio", telemetry.span_sampling_ratio, problem, "use more than 0, at most 1")
    if telemetry.traces == "aggregated" and public.metrics.edge_spans is not None:
        problem = f"edges of {public.services.name!r} are counted from clients' spans (edge_source = {public.services.edge_source})"
        remedy = "use both or raw, which keep these spans as rows, or another edge_source"
        _refuse(file, "traces", telemetry.traces, problem, remedy)
    _not_negative(telemetry.lag_seconds, file, "lag_seconds")
    distortion = telemetry.distortion
    _check_noise(distortion, public, file)
    _check_losses(distortion, file)
    _check_hidden(distortion.hidden, public, file)
    _check_delays(telemetry, file)


def _check_noise(distortion: Distortion, public: RunSettings, file: str) -> None:
    noise, quantities = distortion.noise, _quantities(public)
    for field, deviations in (("factors", noise.factors), ("offsets", noise.offsets)):
        key = f"distortion.noise.{field}"
        for name, deviation in deviations.items():
            _known(name, quantities, file, key, "the metric map has no such quantity")
            _not_negative(deviation, file, f"{key}.{name}")
            grows = next((one.kind for one in quantities[name] if one.kind != "gauge"), None)
            if field == "offsets" and grows is not None:
                problem = f"a {grows}: noise on what only grows is a factor of its growth"
                _refuse(file, f"{key}.{name}", deviation, problem, "name it in distortion.noise.factors")
            for other, sources in quantities.items():
                shared = next((one for one in sources if _share_series(quantities[name], one)), None)
                if shared is not None and deviations.get(other, deviation) != deviation:
                    problem = f"its series ({', '.join(shared.metrics)}) feed {other} too, which has another deviation"
                    _refuse(file, f"{key}.{name}", deviation, problem, f"use {deviations[other]:g} for both")
    _not_negative(distortion.jitter_seconds, file, "distortion.jitter_seconds")
    _not_negative(distortion.clock_skew_seconds, file, "distortion.clock_skew_seconds")
    scrape = public.granularity.scrape_interval_seconds
    if 2 * distortion.jitter_seconds >= scrape:
        problem = f"not below half of scrape_interval_seconds = {scrape}, so two scrapes could change places"
        _refuse(file, "distortion.jitter_seconds", distortion.jitter_seconds, problem, f"use less than {scrape / 2:g}")


def _check_losses(distortion: Distortion, file: str) -> None:
    for name, losses in (("scrapes", distortion.scrapes), ("targets", distortion.targets)):
        key = f"distortion.{name}"
        _share(losses.share, file, f"{key}.share")
        least = max(1.0, losses.share / (1 - losses.share))
        if not least <= losses.burst < math.inf:
            problem = f"losses on end are at least {least:g} on average where a share of {losses.share:g} is lost"
            _refuse(file, f"{key}.burst", losses.burst, problem, f"use {least:g} or more, or lower share")
    for source, silence in distortion.silences.items():
        key = f"distortion.silences.{source}"
        _share(silence.share, file, f"{key}.share")
        if not 0 < silence.seconds < math.inf:
            _refuse(file, f"{key}.seconds", silence.seconds, "a silence lasts", "use more than 0")
    for rows, share in distortion.row_losses.items():
        _share(share, file, f"distortion.row_losses.{rows}")


def _check_hidden(hidden: Hidden, public: RunSettings, file: str) -> None:
    application, key = public.services, "distortion.hidden"
    for name in hidden.services:
        _known(name, application.services, file, f"{key}.services", f"{application.name!r} has no such service")
    edges = [f"{edge.source}->{edge.target}" for edge in application.edges]
    for name in hidden.edges:
        _known(name, edges, file, f"{key}.edges", f"{application.name!r} has no such edge")
    quantities = _quantities(public)
    for name in hidden.features:
        _known(name, quantities, file, f"{key}.features", "the metric map has no such quantity")
    judged = public.reward.objective.service
    if judged in hidden.services:
        problem = "the reward's objective is judged at this service, by what the public stream shows of it"
        _refuse(file, f"{key}.services", judged, problem, "hide other services, or let objective.service be another")
    for name in ("node.request_count", "node.error_count", "node.latency"):
        if name in hidden.features:
            problem = "the reward's objective is judged by this, as the public stream shows it"
            _refuse(file, f"{key}.features", name, problem, "hide other features")
    for name in hidden.features:
        for other, sources in quantities.items():
            shared = next((one for one in sources if _share_series(quantities[name], one)), None)
            if other not in hidden.features and shared is not None:
                problem = f"its series ({', '.join(shared.metrics)}) feed {other} too, which isn't hidden"
                _refuse(file, f"{key}.features", name, problem, f"hide {other} as well, or neither")


def _check_delays(telemetry: TelemetrySettings, file: str) -> None:
    for source, delay in telemetry.distortion.delays.items():
        key = f"distortion.delays.{source}"
        _not_negative(delay.seconds, file, f"{key}.seconds")
        _not_negative(delay.random_seconds, file, f"{key}.random_seconds")
        latest = delay.seconds + delay.random_seconds
        if latest > telemetry.lag_seconds:
            problem = (
                f"with random_seconds up to {latest:g} s, which is later than lag_seconds = {telemetry.lag_seconds}"
            )
            _refuse(
                file, f"{key}.seconds", delay.seconds, problem, f"set lag_seconds to {latest:g} or more (rounded up)"
            )


def _quantities(public: RunSettings) -> dict[str, tuple[FeatureSource, ...]]:
    node = {f"node.{name}": sources for name, sources in public.metrics.sources("node").items()}
    return node | {f"edge.{name}": sources for name, sources in public.metrics.sources("edge").items()}


def _share_series(several: Iterable[FeatureSource], other: FeatureSource) -> bool:
    """Return whether a series can feed one of several sources and another: a metric in common, no label that excludes it."""
    return any(
        set(one.metrics) & set(other.metrics)
        and all(set(values) & set(other.where.get(label, values)) for label, values in one.where.items())
        for one in several
    )


def _known(found: str, accepted: Collection[str], file: str, key: str, problem: str) -> None:
    if found not in accepted:
        _refuse(file, key, found, problem, nearest(found, accepted))


def _share(found: float, file: str, key: str) -> None:
    if not 0 <= found <= _MOST:
        _refuse(file, key, found, "no share that leaves something", f"use 0 to {_MOST:g}")


def _not_negative(found: float, file: str, key: str) -> None:
    if not 0 <= found < math.inf:
        _refuse(file, key, found, "must be 0 or more", "use 0 or more")


def _refuse(file: str, key: str, found: object, problem: str, remedy: str) -> None:
    raise ConfigurationError(file=file, key=key, found=found, problem=problem, remedy=remedy)
