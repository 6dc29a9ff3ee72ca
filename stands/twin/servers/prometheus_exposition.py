"""`/metrics`: what a Prometheus scrapes from the twin.

In: the newest row of the twin's series, and the format that the scraper accepts. Out: an exposition, in Prometheus' text format or in
OpenMetrics.

The values are those of the twin's own last scrape: what the demo's collector exports stands still between two of its flushes too.
There are no time stamps, so a scraper stamps them with its own clock, and a series that ended is just not there any more, which is how
a Prometheus learns that it is stale. The text is prometheus_client's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from otel_control_gym.stands.twin.metric_families import families

__all__ = ("exposition",)

_TOTAL = "_total"


class _Scrape(Collector):
    """One row of samples as prometheus_client's metrics."""

    def __init__(self, rows: Iterable[tuple[Mapping[str, str], float]]) -> None:
        self._rows = list(rows)

    def collect(self) -> Iterator[Metric]:
        """Yield the families by name, their samples in the order given."""
        family_of = families(labels["__name__"] for labels, _ in self._rows)
        metrics: dict[str, Metric] = {}
        for labels, value in self._rows:
            family = family_of[labels["__name__"]]
            metric = metrics.get(family.name)
            if metric is None:
                name = (
                    family.name.removesuffix(_TOTAL) if family.type == "counter" else family.name
                )  # the library adds it
                metric = metrics[family.name] = Metric(name, family.help, family.type)
            given = {name: text for name, text in labels.items() if name != "__name__"}
            metric.add_sample(labels["__name__"], given, value)
        for name in sorted(metrics):
            yield metrics[name]


def exposition(rows: Iterable[tuple[Mapping[str, str], float]], accept: str) -> tuple[bytes, str]:
    """Return the encoded samples and their content type.

    Args:
        rows: labels (`__name__` among them) and value of each series; a histogram's together, its buckets ascending.
        accept: the request's header.
    """
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(rows))
    return encode(registry), content_type
