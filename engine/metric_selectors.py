"""Which series a run needs of Prometheus: the metric map as selectors.

In: a metric map. Out: the selectors that match the series of its quantities, and as few others as a selector can leave out. The
Prometheus collector asks for them; `projections.series` maps what comes back onto nodes and edges by the same map.
"""

from __future__ import annotations

import re

from otel_control_gym.engine.settings import FeatureSource, MetricMap

__all__ = ("HISTOGRAM_PARTS", "metric_names", "selectors")

HISTOGRAM_PARTS = ("_bucket", "_count", "_sum")  #: series of a classic histogram, by suffix


def metric_names(source: FeatureSource) -> tuple[str, ...]:
    """Return the names of the series that feed a quantity: one, or three of a histogram."""
    if source.kind == "histogram":
        return tuple(source.metric + part for part in HISTOGRAM_PARTS)
    return (source.metric,)


def selectors(metric_map: MetricMap) -> tuple[str, ...]:
    """Return one PromQL selector for each group of metrics that are restricted by the same labels, in a stable order.

    Fewer selectors are fewer queries, so within a group the values of a label are united. A metric that feeds several quantities is
    restricted only by the labels that all of them restrict.
    """
    restrictions: dict[str, dict[str, set[str]]] = {}
    for source in (*metric_map.node.values(), *metric_map.edge.values()):
        for name in metric_names(source):
            where = {label: set(values) for label, values in source.where.items()}
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
