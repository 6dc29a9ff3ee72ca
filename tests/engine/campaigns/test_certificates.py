"""A certificate says whether users felt it, what moved first and where, how late, how far, how much."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from otel_control_gym.engine.campaigns.certificates import Certificate, Place, certificate_of
from otel_control_gym.engine.campaigns.effects import (
    Column,
    EffectSettings,
    FeatureThreshold,
    Readings,
    compare_branches,
    compare_pair,
)

_MS = FeatureThreshold(absolute=10.0, unit="ms", reason="a test's")
_SHARE = FeatureThreshold(absolute=0.01, unit="1", reason="a test's")
SETTINGS = EffectSettings(
    name="test",
    alpha=0.05,
    confidence=0.95,
    user_facing=("slo_satisfaction", "error_ratio", "latency_mean_ms"),
    features={
        "latency_mean_ms": _MS,
        "error_ratio": _SHARE,
        "slo_satisfaction": _SHARE,
        "cpu_usage_cores": FeatureThreshold(absolute=0.05, unit="cores", reason="a test's"),
    },
)
# users -> shop -> cart -> store, and mail beside them
EDGES = (("users", "shop"), ("shop", "cart"), ("cart", "store"))
BRANCHES, BUCKETS = 8, 12


def place(*targets: str) -> Place:
    return Place(targets=targets, edges=EDGES, entry="shop", callers=("users",))


def certificate(
    effects: dict[tuple[str, str], tuple[int, float]], *targets: str, applied_s: float = 0.0, spread: float = 0.0
) -> Certificate:
    """Certify differences that begin in a bucket (plus k mod 2 times `spread` buckets in branch k); nothing else differs."""
    quiet = [("shop", "error_ratio"), ("mail", "cpu_usage_cores")]
    columns = tuple(sorted(Column(*key) for key in {*effects, *quiet}))
    control, treated = [], []
    for branch in range(BRANCHES):
        without, with_it = np.zeros((BUCKETS, len(columns))), np.zeros((BUCKETS, len(columns)))
        for number, column in enumerate(columns):
            start, size = effects.get((column.entity, column.feature), (BUCKETS, 0.0))
            with_it[start + int(spread) * (branch % 2) :, number] = size * (1 + 0.01 * branch)
        control.append(Readings(columns, without, 10))
        treated.append(Readings(columns, with_it, 10))
    compared = compare_branches(treated, control, SETTINGS, window_seconds=30)
    return certificate_of(compared, place(*targets), SETTINGS, applied_s=applied_s, method="branches")


def test_where_no_cell_changed_the_certificate_says_none_and_nothing_else() -> None:
    found = certificate({}, "cart")
    assert (found.effect_class, found.n_branches) == ("none", BRANCHES)
    said = msgspec.to_builtins(found)
    assert {value for name, value in said.items() if name not in ("method", "n_branches", "class")} == {None}


def test_what_users_dont_feel_is_masked() -> None:
    assert certificate({("cart", "latency_mean_ms"): (0, 50.0)}, "cart").effect_class == "masked"


@pytest.mark.parametrize(
    "felt", [("shop", "error_ratio"), ("shop", "latency_mean_ms"), ("users->shop", "latency_mean_ms")]
)
def test_what_the_entry_or_its_users_see_is_visible(felt: tuple[str, str]) -> None:
    assert certificate({felt: (6, 50.0)}, "cart").effect_class == "visible"


def test_a_feature_that_users_cant_feel_doesnt_make_the_entry_visible() -> None:
    assert certificate({("shop", "cpu_usage_cores"): (0, 0.5)}, "shop").effect_class == "masked"


def test_what_moves_earlier_is_first_and_delay_counts_from_when_it_was_applied() -> None:
    effects = {("cart", "latency_mean_ms"): (4, 50.0), ("shop", "latency_mean_ms"): (7, 500.0)}
    found = certificate(effects, "cart", applied_s=20.0)
    assert (found.first_entity, found.first_feature, found.off_target) == ("cart", "latency_mean_ms", False)
    assert found.delay_s == 30.0  # the fifth bucket ends at 50 s


def test_of_what_moves_at_once_the_target_is_first_and_the_rest_is_no_reason_for_off_target() -> None:
    effects = {("shop", "latency_mean_ms"): (3, 500.0), ("store", "latency_mean_ms"): (3, 30.0)}
    assert certificate(effects, "store").first_entity == "store"
    assert certificate(effects, "cart").off_target is True
    assert certificate(effects, "cart").first_entity == "shop"


def test_an_edge_shows_its_ends_and_an_end_shows_its_edge() -> None:
    assert certificate({("cart->store", "latency_mean_ms"): (0, 50.0)}, "store").off_target is False
    assert certificate({("store", "latency_mean_ms"): (0, 50.0)}, "cart->store").off_target is False
    assert certificate({("shop", "latency_mean_ms"): (0, 50.0)}, "cart->store").off_target is True


def test_spread_is_the_farthest_entity_that_changed_by_edges_in_either_direction() -> None:
    alone = {("store", "latency_mean_ms"): (0, 50.0)}
    assert certificate(alone, "store").spread_hops == 0
    assert certificate(alone | {("shop", "latency_mean_ms"): (0, 50.0)}, "store").spread_hops == 2
    assert certificate(alone | {("users->shop", "latency_mean_ms"): (0, 50.0)}, "store").spread_hops == 2
    assert certificate(alone | {("mail", "cpu_usage_cores"): (0, 1.0)}, "store").spread_hops == 0  # no path


def test_intervals_hold_the_middle_and_grow_with_how_branches_differ() -> None:
    found = certificate({("cart", "latency_mean_ms"): (3, 50.0)}, "cart", spread=2)
    assert found.delay_low_s is not None
    assert found.delay_s is not None
    assert found.delay_high_s is not None
    assert (found.delay_low_s, found.delay_high_s) == (40.0, 60.0)
    assert found.delay_low_s < found.delay_s < found.delay_high_s
    assert found.effect_low is not None
    assert found.effect is not None
    assert found.effect_high is not None
    assert found.effect_low < found.effect < found.effect_high
    assert found.unit == "ms"


def test_a_pair_of_runs_is_labelled_as_one_and_claims_no_interval() -> None:
    columns = (Column("shop", "latency_mean_ms"),)
    control = Readings(columns, np.zeros((6, 1)), 10)
    treated = Readings(columns, np.full((6, 1), 50.0), 10)
    compared = compare_pair(treated, control, SETTINGS, window_seconds=30)
    found = certificate_of(compared, place("cart"), SETTINGS, applied_s=0.0, method="pair")
    assert (found.method, found.n_branches, found.effect_class, found.effect) == ("pair", 0, "visible", 50.0)
    assert (found.delay_low_s, found.delay_high_s, found.effect_low, found.effect_high) == (None, None, None, None)
