"""Which series a run needs of Prometheus: the metric map as selectors.

In: a metric map. Out: the selectors that match the series of its quantities, and as few others as a selector can leave out. The
Prometheus collector asks for them; `projections.series` maps what comes back onto nodes and edges by the same map.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from otel_control_gym.engine.settings import FeatureSource, MetricMap

__all__ = (
    "HISTOGRAM_PARTS",
    "NATIVE_LOWER",
    "NATIVE_RULE",
    "NATIVE_UPPER",
    "is_wanted",
    "logged_names",
    "metric_names",
    "selectors",
)

HISTOGRAM_PARTS = ("_bucket", "_count", "_sum")  #: series of a classic histogram, by suffix
NATIVE_RULE = "boundary_rule"
"""Label of a native histogram's bucket in the log: which of its bounds belong to it (0: the upper one, 1: the lower one, 2: none, 3: both).
Its count is of this bucket alone, where a classic `le` counts all up to it."""
NATIVE_LOWER, NATIVE_UPPER = "lower_bound", "upper_bound"  #: labels of its bounds, as text of Prometheus' answer


def metric_names(source: FeatureSource) -> tuple[str, ...]:
    """Return the names of the series that feed a quantity in Prometheus: one, or three of a classic histogram."""
    if source.kind == "histogram":
        return _parts(source)
    return source.metrics


def logged_names(source: FeatureSource) -> tuple[str, ...]:
    """Return the names of the series that feed a quantity in the log, where a native histogram is split as a classic one is."""
    if source.kind == "native_histogram":
        return _parts(source)
    return metric_names(source)


def is_wanted(source: FeatureSource, labels: Mapping[str, str]) -> bool:
    """Return whether a series of a source's metric is one of those that it reads."""
    if any(labels.get(label, "") not in values for label, values in source.where.items()):
        return False
    if any(labels.get(label, "") in values for label, values in source.where_not.items()):
        return False
    return not source.present or any(labels.get(label) for label in source.present)


def _parts(source: FeatureSource) -> tuple[str, ...]:
    return tuple(name + part for name in source.metrics for part in HISTOGRAM_PARTS)


def selectors(metric_map: MetricMap) -> tuple[str, ...]:
    """Return one PromQL selector for each group of metrics that are restricted by the same labels, in a stable order.

    Fewer selectors are fewer queries, so within a group the values of a label are united. A metric that feeds several quantities is
    restricted only by the labels that all of them restrict.
    """
    restrictions: dict[str, dict[str, set[str]]] = {}
    quantities = (*metric_map.sources("node").values(), *metric_map.sources("edge").values())
    wanted = [(name, source.where) for sources in quantities for source in sources for name in metric_names(source)]
    wanted += [(book.metric, {}) for book in metric_map.addresses]
    for name, restricted in wanted:
        where = {label: set(values) for label, values in restricted.items()}
        known = restrictions.setdefault(name, where)
        if known is not where:
            restrictions[name] = {label: known[label] | where[label] for label in known if label in where}
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(restrictions):
        groups.setdefault(tuple(sorted(restrictions[name])), []).append(name)
    return tuple(_selector(groups[labels], labels, restrictions) for labels in sorted(groups))


def _selector(names: list[str], labels: tuple[str, ...], restrictions: dict[str, dict[str, set[str]]]) -> str:
    united = {label: sorted({value for name in names for value in restrictions[name][label]}) for label in labels}
    return "{" + ",".join(_matcher(label, values) for label, values in {"__name__": names, **united}.items()) + "}"


def _matcher(label: str, values: list[str]) -> str:
    alternatives = "|".join(re.escape(value).replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return f'{label}=~"{alternatives}"'
