"""The selectors match what the metric map needs, and nothing that they could leave out."""

from __future__ import annotations

import re

from otel_control_gym.engine.metric_selectors import selectors
from otel_control_gym.engine.settings import FeatureSource, MetricMap


def source(metric: str, **where: tuple[str, ...]) -> FeatureSource:
    return FeatureSource(metric=metric, kind="counter", where=where)


def metric_map(*sources: FeatureSource) -> MetricMap:
    return MetricMap(name="test", node={str(number): one for number, one in enumerate(sources)}, edge={})


def test_metrics_without_restrictions_share_a_selector() -> None:
    assert selectors(metric_map(source("b"), source("a"))) == ('{__name__=~"a|b"}',)


def test_a_histogram_is_asked_for_by_its_three_parts() -> None:
    one = FeatureSource(metric="h", kind="histogram")
    assert selectors(metric_map(one)) == ('{__name__=~"h_bucket|h_count|h_sum"}',)


def test_a_metric_is_restricted_only_by_labels_that_all_its_quantities_restrict() -> None:
    both = metric_map(source("a", kind=("x",)), source("a", kind=("y",), status=("error",)))
    assert selectors(both) == ('{__name__=~"a",kind=~"x|y"}',)
    assert selectors(metric_map(source("a", kind=("x",)), source("a"))) == ('{__name__=~"a"}',)


def test_values_are_taken_literally() -> None:
    (found,) = selectors(metric_map(source("a", path=("/x.y+",))))
    written = found.split('path=~"')[1].removesuffix('"}').replace("\\\\", "\\")
    assert re.fullmatch(written, "/x.y+")
    assert not re.fullmatch(written, "/xzyy")
