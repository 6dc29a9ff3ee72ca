"""A band holds what a stand does at rest, and nothing else: whatever scattered in it is inside, and what is far from it is outside."""

from __future__ import annotations

import math

import msgspec
import pytest
from scipy import stats

import otel_control_gym as ocg
from otel_control_gym.engine.randomness import draw_uniform
from otel_control_gym.stands.cluster.band import BROKEN_RATIO, Band, calibrated, load_of
from otel_control_gym.stands.cluster.service_levels import Level, Reading, level_between, quantile

WHEN = "2026-01-01T00:00:00Z"


def levels(requests: int, errors: int, *percentiles: float) -> list[Level]:
    return [Level(requests=requests, errors=errors, latency_ms_p95=each) for each in percentiles]


def test_windows_of_the_same_stand_lie_in_its_band_nearly_always() -> None:
    def window(stand: int, number: int) -> Level:
        errors = stats.binom.ppf(draw_uniform(7, stand, number, 0), 200, 0.02)
        latency = 100 * math.exp(0.3 * stats.norm.ppf(draw_uniform(7, stand, number, 1)))
        return Level(requests=200, errors=int(errors), latency_ms_p95=latency)

    outside = 0
    for stand in range(200):
        *measured, later = (window(stand, number) for number in range(10))
        outside += bool(calibrated(measured, WHEN).refusal(later))
    assert outside <= 3  # 99.9 % each for errors and latency, so 0.4 of 200 are expected


def test_what_is_outside_is_told_with_what_would_be_inside() -> None:
    band = calibrated(levels(100, 0, *[100.0] * 9), WHEN)
    assert band.refusal(Level(requests=100, errors=1, latency_ms_p95=140.0)) == ""
    assert band.refusal(Level(requests=0, errors=0)) == "no request was answered"
    assert (
        band.refusal(Level(requests=100, errors=30, latency_ms_p95=100.0))
        == "30 of 100 requests failed, and at most 2 in the band"
    )
    slow = band.refusal(Level(requests=100, errors=0, latency_ms_p95=160.0))
    assert slow == "the 95th percentile is 160 ms, and 67 to 150 ms in the band"
    assert "is 60 ms" in band.refusal(Level(requests=100, errors=0, latency_ms_p95=60.0))
    assert "nobody measured" in band.refusal(Level(requests=100, errors=0))


def test_a_percentile_of_few_requests_is_none() -> None:
    band = calibrated(levels(100, 0, *[100.0] * 9), WHEN)
    assert band.refusal(Level(requests=19, errors=0, latency_ms_p95=900.0)) == ""
    light = calibrated(levels(19, 0, *[100.0] * 9), WHEN)
    assert (light.latency_ms_p95_least, light.latency_ms_p95_most) == (None, None)
    assert light.refusal(Level(requests=19, errors=0, latency_ms_p95=900.0)) == ""


def test_the_more_a_stand_scatters_the_wider_is_its_band() -> None:
    def width(scatter: float) -> float:
        seen = [100 * math.exp(scatter * sign) for sign in (-1, 0, 1) * 3]
        band = calibrated(levels(100, 0, *seen), WHEN)
        assert band.latency_ms_p95_least is not None
        assert band.latency_ms_p95_most is not None
        return band.latency_ms_p95_most / band.latency_ms_p95_least

    assert width(0.0) == pytest.approx(1.5**2, rel=1e-3)
    assert width(0.01) == pytest.approx(1.5**2, rel=1e-3)
    assert width(0.0) < width(0.2) < width(0.4)


def test_a_broken_stand_has_no_band() -> None:
    with pytest.raises(ValueError, match="in 180 s no request was answered"):
        calibrated(levels(0, 0, *[1.0] * 9), WHEN)
    assert calibrated(levels(100, round(100 * BROKEN_RATIO), *[1.0] * 9), WHEN)
    with pytest.raises(ValueError, match="54 of 900 requests failed, more than 5%"):
        calibrated(levels(100, 6, *[1.0] * 9), WHEN)


def test_a_band_survives_the_place_where_it_is_kept() -> None:
    band = calibrated(levels(100, 1, 90.0, 110.0), WHEN)
    assert msgspec.json.decode(msgspec.json.encode(band), type=Band) == band


def test_a_load_has_a_band_of_its_own() -> None:
    steady = ocg.resolve("small-core", workload="steady")

    def with_workload(**changes: object) -> ocg.RunConfig:
        return msgspec.structs.replace(steady, workload=msgspec.structs.replace(steady.workload, **changes))

    others = [
        with_workload(users=3),
        with_workload(think_seconds=(0.5, 1.0)),
        with_workload(arrivals="open", rate_per_s=3.0),
        with_workload(mix={"index": 9.0}),
        ocg.resolve("medium-store", workload="steady"),
    ]
    assert len({load_of(config) for config in (steady, *others)}) == 6
    assert load_of(with_workload(name="another", description="the same load")) == load_of(steady)


def series(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def test_growth_is_counted_from_nothing_where_a_series_is_new_or_was_reset() -> None:
    before = Reading(requests={series(pod="a"): 100.0, series(pod="b"): 50.0, series(pod="gone"): 9.0})
    after = Reading(
        requests={series(pod="a"): 130.0, series(pod="b"): 7.0, series(pod="new"): 5.0},
        errors={series(pod="a"): 2.0},
    )
    assert level_between(before, after) == Level(requests=42, errors=2, latency_ms_p95=None)


def test_the_percentile_is_of_all_pods_together_in_milliseconds() -> None:
    bounds = ("0.1", "0.2", "+Inf")
    before = Reading(buckets={series(le=bound, pod="a"): 10.0 for bound in bounds})
    after = Reading(
        buckets={
            series(le="0.1", pod="a"): 60.0,
            series(le="0.2", pod="a"): 60.0,
            series(le="+Inf", pod="a"): 60.0,
            series(le="0.1", pod="b"): 0.0,
            series(le="0.2", pod="b"): 50.0,
            series(le="+Inf", pod="b"): 50.0,
        },
        bound_scale=1000.0,
    )
    assert level_between(before, after).latency_ms_p95 == pytest.approx(
        190.0
    )  # of 100, the 95th: 45 of 50 into (100, 200]


def test_nothing_is_known_of_what_is_above_the_last_bound() -> None:
    assert quantile({1.0: 5.0, 2.0: 10.0, math.inf: 100.0}, 0.95) == 2.0
    assert quantile({1.0: 0.0, math.inf: 0.0}, 0.95) is None
    assert quantile({}, 0.95) is None
