"""A ranking that says nothing gets what chance gets; one that is right gets all; paths are compared call by call."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.baselines.ranking_scores import accuracy_at, hop_distance, path_score, spreading_edges

SERVICES = ("proxy", "frontend", "cart", "redis", "ad")
EDGES = (("proxy", "frontend"), ("frontend", "cart"), ("cart", "redis"), ("frontend", "ad"))


@given(st.lists(st.integers(0, 3), min_size=2, max_size=5), st.integers(1, 5), st.sets(st.integers(0, 4), min_size=1))
def test_ties_count_as_if_their_order_were_drawn(scores: list[int], k: int, answers: set[int]) -> None:
    """Against all orders of the services: each ranked by score, ties in that order."""
    right = {answer for answer in answers if answer < len(scores)} or {0}
    hits = [
        any(place in right for place in sorted(order, key=lambda place: -scores[place])[:k])
        for order in permutations(range(len(scores)))
    ]
    assert accuracy_at(k, np.array(scores, float), right) == pytest.approx(np.mean(hits))


def test_chance_is_k_of_all_and_twice_as_much_for_two_right_answers() -> None:
    tied = np.zeros(20)
    assert accuracy_at(1, tied, [3]) == pytest.approx(1 / 20)
    assert accuracy_at(5, tied, [3]) == pytest.approx(5 / 20)
    assert accuracy_at(1, tied, [3, 4]) == pytest.approx(2 / 20)


def test_a_fault_spreads_along_calls_between_services_on_which_it_shows() -> None:
    assert spreading_edges(("cart", "frontend", "proxy"), ("cart",), EDGES) == {EDGES[0], EDGES[1]}
    assert spreading_edges(("cart->redis", "cart"), ("cart", "redis"), EDGES) == {EDGES[2]}


def test_a_path_is_scored_by_its_calls() -> None:
    truth = spreading_edges(("cart", "frontend", "proxy"), ("cart",), EDGES)
    right = path_score(EDGES[:2], truth, "proxy", {"cart"})
    too_far = path_score(EDGES[:3], truth, "proxy", {"cart"})
    aside = path_score((EDGES[0], EDGES[3]), truth, "proxy", {"cart"})
    assert (right.edge_precision, right.edge_recall, right.hit) == (1.0, 1.0, 1.0)
    assert (too_far.edge_precision, too_far.edge_recall, too_far.hit) == (2 / 3, 1.0, 0.0)
    assert (aside.edge_precision, aside.edge_recall, aside.hit) == (1 / 2, 1 / 2, 0.0)


def test_a_path_of_no_call_is_right_if_the_entry_itself_is() -> None:
    assert path_score((), frozenset(), "proxy", {"proxy"}).hit == 1.0
    assert path_score((), frozenset(), "proxy", {"cart"}).hit == 0.0


def test_hops_are_calls_in_any_direction() -> None:
    assert hop_distance("cart", {"cart"}, SERVICES, EDGES) == 0
    assert hop_distance("ad", {"redis", "cart"}, SERVICES, EDGES) == 2
    assert hop_distance("ad", {"cart"}, SERVICES, EDGES[:2]) is None
