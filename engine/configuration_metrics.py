"""Checks of a metric map, and the choice of the source of its edges.

In: the map as a file has it, the application that asks for a source of edges. Out: the map of a run, or a `ConfigurationError`.
"""

from __future__ import annotations

import re

from otel_control_gym.engine.configuration_layers import Layers, dotted
from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.settings import FeatureSource, Granularity, MetricMap, ServiceConfiguration

__all__ = ("check_metrics", "with_chosen_edges")

_NATIVE, _CLASSIC = "native_histogram", "histogram"


def with_chosen_edges(offered: MetricMap, services: ServiceConfiguration, layers: Layers) -> MetricMap:
    """Return the map with the edges that the application asks for.

    Raises: ConfigurationError: the map doesn't offer that source.
    """
    try:
        return offered.with_edges_of(services.edge_source)
    except KeyError:
        label, key = layers.locate(("edge_source",))
        raise ConfigurationError(
            file=label,
            key=dotted(key),
            found=services.edge_source,
            problem=f"the metric map {offered.name!r} has no such source of edges",
            remedy=f"use {' or '.join(sorted(offered.edge_sources))}, or add it to the map's edge_sources",
        ) from None


def check_metrics(metrics: MetricMap, granularity: Granularity, file: str) -> None:
    """Check a run's map.

    Raises: ConfigurationError: it can't feed the tables of that granularity.
    """
    kinds: dict[str, str] = {}
    for table, quantities in (("node", metrics.sources("node")), ("edge", metrics.sources("edge"))):
        for name, sources in quantities.items():
            for position, source in enumerate(sources):
                key = f"{table}.{name}" + (f"[{position}]" if len(sources) > 1 else "")
                _check_source(source, granularity, file, key)
                if table == "edge":
                    _check_ends(source, file, key)
                for metric in source.metrics:
                    before = kinds.setdefault(metric, source.kind)
                    if {before, source.kind} == {_NATIVE, _CLASSIC}:
                        raise ConfigurationError(
                            file=file,
                            key=f"{key}.kind",
                            found=source.kind,
                            problem=f"{metric} is read as {before} elsewhere, and both would be logged under one name",
                            remedy=f"read it as {before} everywhere",
                        )


def _check_source(source: FeatureSource, granularity: Granularity, file: str, key: str) -> None:
    scrape, resolution = granularity.scrape_interval_seconds, source.resolution_seconds
    if resolution < 0:
        problem, remedy = "must be 0 or more", "use 0 or more"
    elif resolution % scrape and resolution > scrape:
        problem = f"no multiple of scrape_interval_seconds = {scrape}"
        remedy = f"use a multiple of {scrape}, or 0 for the scrape interval itself"
    else:
        problem = remedy = ""
    if problem:
        raise ConfigurationError(
            file=file, key=f"{key}.resolution_seconds", found=resolution, problem=problem, remedy=remedy
        )
    for name in ("entity_pattern", "source_pattern", "target_pattern"):
        _check_pattern(getattr(source, name), file, f"{key}.{name}")


def _check_pattern(pattern: str, file: str, key: str) -> None:
    if not pattern:
        return
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ConfigurationError(
            file=file,
            key=key,
            found=pattern,
            problem=f"no regular expression: {error}",
            remedy="mend it, or leave it out",
        ) from None
    if not groups:
        raise ConfigurationError(
            file=file,
            key=key,
            found=pattern,
            problem="no group says which part of the label is the name",
            remedy=f"put the name in parentheses, e.g. ({pattern})",
        )


def _check_ends(source: FeatureSource, file: str, key: str) -> None:
    if source.target and (source.source or source.protocol):
        return
    raise ConfigurationError(
        file=file,
        key=key,
        found=source.metric,
        problem="an edge needs two ends",
        remedy="name the labels in source and target, or the target's label and the edge's protocol",
    )
