"""What distortion does to a series: its labels, the metric map and the settings ➜ a record of traits.

In: a series' labels. Out: whose it is, whether it is hidden, how noisy, and with which other series its noise must agree: the buckets of a
histogram stay cumulative, and what counts a part of something (errors of requests) never exceeds it. Next: `distortion_samples`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from otel_control_gym.collectors.distortion_draws import text_key
from otel_control_gym.engine.metric_selectors import is_wanted, logged_names
from otel_control_gym.engine.settings import Distortion, FeatureSource, MetricMap, Names

__all__ = ("SeriesTraits", "Traits")

_PARTS: Final = {
    "error_count": "request_count",
    "cfs_throttled_periods": "cfs_periods",
}  #: quantity -> what it is a part of
_FRACTIONAL: Final = frozenset({"cpu_seconds"})  #: of the counters; all others count whole things


class SeriesTraits(msgspec.Struct, frozen=True, kw_only=True):
    """One series, as distortion sees it."""

    key: int  #: of its own draws
    service: str  #: whose scrape brings it: of an edge the caller's; empty: nobody's of the application
    hidden: bool = False
    counter: bool = False
    whole: bool = False  #: counts whole things
    factor: float = 0.0
    offset: float = 0.0  #: in the series' own unit
    group: int = 0  #: counters of one group and moment share out their growth in the order of their ranks
    rank: float = 0.0


class Traits:
    """Tells series by a metric map."""

    def __init__(self, metric_map: MetricMap, distortion: Distortion) -> None:
        self._noise, hidden = distortion.noise, distortion.hidden
        self._services, self._edges = frozenset(hidden.services), frozenset(hidden.edges)
        self._features = frozenset(hidden.features)
        self._sources: dict[str, list[tuple[str, FeatureSource]]] = {}
        self._aliases = metric_map.aliases
        tables: tuple[Literal["node", "edge"], ...] = ("node", "edge")
        for table in tables:
            for quantity, sources in metric_map.sources(table).items():
                for source in sources:
                    for name in logged_names(source):
                        self._sources.setdefault(name, []).append((f"{table}.{quantity}", source))

    def of(self, labels: Mapping[str, str]) -> SeriesTraits:
        """Return the traits of a series."""
        name = labels.get("__name__", "")
        sources = self._sources.get(name, [])
        fed = [(quantity, source) for quantity, source in sources if is_wanted(source, labels)]
        owners = [self._owner(quantity, source, labels) for quantity, source in sources]
        quantity, source = fed[0] if fed else (f"none.{name}", None)
        table, _, bare = quantity.partition(".")
        histogram = source is not None and source.kind == "histogram"
        total = histogram and name.endswith("_sum")
        counter = source is not None and source.kind != "gauge"
        others = "\n".join(f"{label}={labels[label]}" for label in sorted(labels) if label not in ("__name__", "le"))
        family = f"{table}.{_PARTS.get(bare, bare)}" + (" sum" if total else "")
        return SeriesTraits(
            key=text_key("\n".join(f"{label}={value}" for label, value in sorted(labels.items()))),
            service=next((owner.partition("->")[0] for owner in owners if owner), ""),
            hidden=any(self._is_hidden(owner) for owner in owners) or any(one in self._features for one, _ in fed),
            counter=counter,
            whole=counter and not total and bare not in _FRACTIONAL,
            factor=next((self._noise.factors[one] for one, _ in fed if one in self._noise.factors), 0.0),
            offset=next(
                (self._noise.offsets[one] / each.scale for one, each in fed if one in self._noise.offsets), 0.0
            ),
            group=text_key(f"{family}\n{others}"),
            rank=float(labels.get("le", "inf")) if histogram else float(bare not in _PARTS),
        )

    def _owner(self, quantity: str, source: FeatureSource, labels: Mapping[str, str]) -> str:
        """Return the service, or `source->target`, that a series tells of if it feeds a quantity of this source."""
        if quantity.startswith("edge."):
            caller = self._name(labels, source.source, source.source_pattern)
            called = self._name(labels, source.target, source.target_pattern)
            return f"{caller}->{called}" if caller or called else ""
        return self._name(labels, source.entity, source.entity_pattern)

    def _name(self, labels: Mapping[str, str], names: Names, pattern: str) -> str:
        """Return what the first of some labels holds that isn't empty, by the map's names for services."""
        for label in (names,) if isinstance(names, str) else names:
            text = labels.get(label, "")
            if text and pattern:
                match = re.match(pattern, text)
                text = match.group(1) if match else ""
            if text:
                return self._aliases.get(text, text)
        return ""

    def _is_hidden(self, owner: str) -> bool:
        return owner in self._edges or any(end in self._services for end in owner.split("->"))
