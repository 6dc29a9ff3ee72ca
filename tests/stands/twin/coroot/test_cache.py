"""What the cache makes of scraped series: growth as Prometheus counts it, requests where they were served, the newest sample per point."""

from __future__ import annotations

import numpy as np
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.coroot import cache as quantities
from otel_control_gym.stands.twin.coroot.cache import Cache
from tests.stands.twin.coroot.conftest import START, Series, cluster

OK = {"k8s_deployment_name": "cart", "span_kind": "SPAN_KIND_SERVER", "status_code": "STATUS_CODE_UNSET"}
FAILED = OK | {"status_code": "STATUS_CODE_ERROR"}
CALLS = {"__name__": "traces_span_metrics_calls_total"}
BUCKET = {"__name__": "traces_span_metrics_duration_milliseconds_bucket"}
LINK = {"app_id": "/k8s/shop/frontend", "destination": "cart:8080"}


def seen(telemetry: Series, agent: Series, until: int, *, scrape_seconds: int = 5) -> Cache:
    cache = Cache(telemetry.stored, agent.stored, cluster, start=START, scrape_seconds=scrape_seconds)
    cache.update(START + until * SECOND)
    return cache


def told(cache: Cache, quantity: int, name: str = "cart") -> list[float]:
    view = cache.applications.view(0, 2**62)
    return [float(value) for value in view.values[view.keys.index(name), quantity]]


def test_growth_adds_up_and_a_counter_s_first_sample_is_none() -> None:
    telemetry, agent = Series(), Series()
    for seconds in range(0, 65, 5):
        agent.scrape(seconds)
        samples = [(CALLS | OK, 10.0 * seconds)] + ([(CALLS | FAILED, seconds - 20.0)] if seconds > 20 else [])
        telemetry.scrape(seconds, *samples)
    cache = seen(telemetry, agent, 60)
    assert told(cache, quantities.REQUESTS) == [150.0, 150.0, 165.0, 165.0]
    assert told(cache, quantities.FAILED) == [0.0, 0.0, 15.0, 15.0]


def test_after_a_restart_the_value_itself_is_the_growth_and_a_gap_tells_nothing() -> None:
    telemetry, agent = Series(), Series()
    values = {0: 100.0, 15: 130.0, 30: 7.0, 60: 20.0, 75: 30.0}
    for seconds in range(0, 90, 15):
        agent.scrape(seconds)
        telemetry.scrape(seconds, *([(CALLS | OK, values[seconds])] if seconds in values else []))
    assert told(seen(telemetry, agent, 75), quantities.REQUESTS) == pytest.approx(
        [30.0, 7.0, np.nan, np.nan, 10.0], nan_ok=True
    )


def test_slow_is_what_took_more_than_half_a_second_by_interpolation() -> None:
    telemetry, agent = Series(), Series()
    for seconds, (total, below_400, below_800) in {0: (0, 0, 0), 15: (100, 60, 80)}.items():
        agent.scrape(seconds)
        telemetry.scrape(
            seconds,
            (CALLS | OK, total),
            (BUCKET | OK | {"le": "400"}, below_400),
            (BUCKET | OK | {"le": "800"}, below_800),
        )
    # 20 are above 0.8 s, and three quarters of the 20 between 0.4 and 0.8 s.
    assert told(seen(telemetry, agent, 15), quantities.SLOW) == [pytest.approx(35.0)]


def test_who_has_no_spans_is_judged_by_its_callers_and_who_has_is_not() -> None:
    telemetry, agent = Series(), Series()
    edge = {"__name__": "traces_service_graph_request_total", "client": "frontend", "failed": "true"}
    for seconds in (0, 15):
        agent.scrape(seconds)
        telemetry.scrape(
            seconds,
            (edge | {"server": "store", "connection_type": "virtual_node"}, seconds),
            (edge | {"server": "cart"}, seconds),
            (CALLS | OK, seconds / 15),
        )
    cache = seen(telemetry, agent, 15)
    assert (told(cache, quantities.REQUESTS, "store"), told(cache, quantities.FAILED, "store")) == ([15.0], [15.0])
    assert (told(cache, quantities.REQUESTS), told(cache, quantities.FAILED)) == ([1.0], [0.0])


def test_reading_in_many_updates_tells_what_one_tells() -> None:
    telemetry, agent = Series(), Series()
    one = Cache(telemetry.stored, agent.stored, cluster, start=START, scrape_seconds=7)
    many = Cache(telemetry.stored, agent.stored, cluster, start=START, scrape_seconds=7)
    for seconds in range(0, 700, 7):
        agent.scrape(seconds, ({"__name__": "container_net_tcp_failed_connects_total"} | LINK, seconds))
        telemetry.scrape(seconds, (CALLS | OK, seconds**2))
        many.update(START + seconds * SECOND)
    one.update(START + 693 * SECOND)
    assert told(one, quantities.REQUESTS) == told(many, quantities.REQUESTS)
    links = [item.links.view(0, 2**62) for item in (one, many)]
    assert links[0].keys == links[1].keys == (("frontend", "cart"),)
    assert np.array_equal(links[0].values, links[1].values, equal_nan=True)


def test_points_are_as_far_apart_as_scrapes_if_those_are_rarer() -> None:
    telemetry, agent = Series(), Series()
    for seconds in (0, 60, 120):
        telemetry.scrape(seconds, (CALLS | OK, seconds))
    for seconds in range(0, 135, 15):
        agent.scrape(seconds)
    assert told(seen(telemetry, agent, 120, scrape_seconds=60), quantities.REQUESTS) == [60.0, 60.0]
