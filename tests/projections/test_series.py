"""Which series feed a quantity doesn't depend on when somebody asks for it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.events import GraphNode, SeriesDeclaration
from otel_control_gym.engine.settings import FeatureSource, MetricMap
from otel_control_gym.projections.series import Feed, SeriesIndex

MAP = MetricMap(
    name="test",
    node={"calls": FeatureSource(metric="calls", kind="counter", entity="service", code=("status",))},
    edge={},
)
NODES = tuple(
    GraphNode(id=name, kind="service", namespace="n", deployment=name, container=name, endpoint="", kubernetes_kind="")
    for name in ("cart", "ad")
)
LABELS = st.fixed_dictionaries(
    {
        "__name__": st.sampled_from(("calls", "other")),
        "service": st.sampled_from(("ad", "cart", "unknown")),
        "status": st.sampled_from(("ok", "error")),
        "pod": st.sampled_from("abcd"),
    }
)


def feed(index: SeriesIndex) -> Feed:
    (found,) = index.feeds("node", "calls")
    return found


@given(st.lists(LABELS, max_size=12), st.sets(st.integers(0, 11)))
def test_a_feed_that_was_asked_for_in_between_is_the_one_of_all_series(
    labels: list[dict[str, str]], asked: set[int]
) -> None:
    patient, curious = SeriesIndex(MAP), SeriesIndex(MAP)
    for index in (patient, curious):
        index.place(NODES, ())
    for number, one in enumerate(labels):
        for index in (patient, curious):
            index.declare(SeriesDeclaration(series=number, labels=one))
        if number in asked:
            feed(curious)
    for name in ("series", "entity", "code", "metric"):
        np.testing.assert_array_equal(getattr(feed(patient), name), getattr(feed(curious), name))
    assert feed(patient).codes == feed(curious).codes


def test_a_feed_is_in_the_order_of_labels() -> None:
    index = SeriesIndex(MAP)
    index.place(NODES, ())
    for number, pod in enumerate("cab"):
        index.declare(SeriesDeclaration(series=number, labels={"__name__": "calls", "service": "ad", "pod": pod}))
        feed(index)
    assert feed(index).series.tolist() == [1, 2, 0]
