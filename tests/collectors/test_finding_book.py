"""A finding is told when it is new or has changed; figures that move with every poll aren't news."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.collectors.finding_book import FindingBook
from otel_control_gym.engine.events import Finding

INCIDENT = Finding(
    time=100,
    key="incident:a",
    source="incident",
    services=("checkout",),
    symptom="latency",
    severity="critical",
    confidence=0.25,
    text="burn rate 1.0 x threshold",
)


def changed(finding: Finding, confidence: float, **changes: object) -> Finding:
    return msgspec.structs.replace(finding, confidence=confidence, text=f"{confidence}", **changes)


def test_an_incident_whose_figures_move_is_told_anew_only_when_it_has_got_much_worse() -> None:
    book = FindingBook()
    told = [
        [row.confidence for row in book.news([changed(INCIDENT, confidence)], now)]
        for now, confidence in enumerate((0.25, 0.3, 0.49, 0.5, 0.4, 0.7, 0.8))
    ]
    assert told == [[0.25], [], [], [0.5], [], [], [0.8]]


def test_the_last_word_on_an_incident_has_its_worst_figures_and_what_is_known_of_its_cause() -> None:
    book = FindingBook()
    book.news([changed(INCIDENT, 0.9, suggested_cause="cart")], 1)
    assert book.news([changed(INCIDENT, 0.1)], 2) == ()
    (last,) = book.news([changed(INCIDENT, 0.0, resolved=300)], 3)
    assert (last.confidence, last.text, last.suggested_cause, last.resolved) == (0.9, "0.9", "cart", 300)
    assert book.news([changed(INCIDENT, 0.0, resolved=300)], 4) == ()


@given(st.lists(st.frozensets(st.sampled_from("abc")), max_size=12))
def test_each_stretch_of_polls_that_see_a_check_is_one_finding_with_its_beginning_and_end(
    polls: list[frozenset[str]],
) -> None:
    book = FindingBook()
    told: dict[str, Finding] = {}
    for now, seen in enumerate([*polls, frozenset[str]()]):
        present = [
            msgspec.structs.replace(INCIDENT, source="check", key=name, time=now, services=(name,))
            for name in sorted(seen)
        ]
        news = book.news(present, now)
        assert len({row.key for row in news}) == len(news)
        told |= {row.key: row for row in news}
    stretches = []
    for name in "abc":
        begin = None
        for now, seen in enumerate([*polls, frozenset[str]()]):
            if name in seen and begin is None:
                begin = now
            if name not in seen and begin is not None:
                stretches.append((name, begin, now))
                begin = None
    assert sorted((row.services[0], row.time, row.resolved) for row in told.values()) == sorted(stretches)
