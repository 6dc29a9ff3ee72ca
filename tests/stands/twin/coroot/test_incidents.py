"""Incidents open and close when the burn rates of two windows say so: late, never for little, by the arithmetic of their windows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.coroot.history import History
from otel_control_gym.stands.twin.coroot.incidents import IncidentBook
from tests.stands.twin.coroot.conftest import POINT, START

if TYPE_CHECKING:
    from tests.stands.twin.coroot.conftest import MakeHistory

MINUTE = 60 * SECOND


def judged(history: History[str], minutes: int, *, existing: tuple[str, ...] = ("frontend",)) -> IncidentBook:
    """Return the book after a refresh at every minute."""
    book = IncidentBook(7)
    for minute in range(1, minutes + 1):
        now = START + minute * MINUTE
        book.update(now, history.view(now - 6 * 60 * MINUTE, now), POINT, existing)
    return book


@pytest.mark.parametrize(
    ("history_minutes", "bad", "expected"),
    [
        (60, 1.0, 9),  # 8.64, at the next minute
        (60, 0.5, 18),  # 17.28
        (60, 0.2, 44),  # 43.2
        (30, 1.0, 6),  # 5.05: five minutes of thirty-five are still below
        (30, 0.5, 13),  # 12.13
        (360, 0.1, 217),  # 216: only the second rule's threshold is below a tenth
    ],
)
def test_a_fault_opens_an_incident_when_the_long_window_has_filled_with_it(
    requests: MakeHistory, history_minutes: int, bad: float, expected: int
) -> None:
    minutes = history_minutes + 300
    history = requests((history_minutes * 4, 100.0, 0.0, 0.0), (300 * 4, 100.0, 0.0, 100.0 * bad))
    (incident,) = judged(history, minutes).incidents
    assert (incident.opened - START) // MINUTE == history_minutes + expected
    assert incident.resolved is None


def test_a_few_per_cent_never_open_one(requests: MakeHistory) -> None:
    assert judged(requests((8 * 240, 100.0, 6.0, 6.0)), 480).incidents == []


def test_nothing_opens_in_the_first_half_hour_and_then_at_once(requests: MakeHistory) -> None:
    history = requests((240, 100.0, 100.0, 0.0))
    assert judged(history, 29).incidents == []
    assert [(item.opened - START) // MINUTE for item in judged(history, 60).incidents] == [30]


def test_an_incident_closes_when_the_short_window_has_emptied(requests: MakeHistory) -> None:
    history = requests((240, 100.0, 0.0, 0.0), (80, 100.0, 100.0, 0.0), (240, 100.0, 0.0, 0.0))
    (incident,) = judged(history, 140).incidents
    assert incident.resolved is not None
    assert (incident.resolved - START) // MINUTE == 60 + 20 + 5  # 14.4 % of five minutes is less than one
    assert incident.availability_impact == pytest.approx(16 / 21)  # from five minutes before it opened, at 69
    assert incident.latency_impact == 0.0


def test_without_requests_an_open_incident_stays_open(requests: MakeHistory) -> None:
    history = requests((240, 100.0, 0.0, 0.0), (80, 100.0, 100.0, 0.0), (240, 0.0, 0.0, 0.0))
    (incident,) = judged(history, 140).incidents
    assert incident.resolved is None


def test_an_application_that_is_gone_has_no_open_incident(requests: MakeHistory) -> None:
    history = requests((240, 100.0, 0.0, 0.0), (80, 100.0, 100.0, 0.0))
    book = judged(history, 80)
    now = START + 80 * MINUTE
    book.update(now, history.view(0, now), POINT, ())
    assert book.incidents[0].resolved == now
    assert book.open("frontend") is None


def test_a_budget_that_burns_anew_is_another_incident(requests: MakeHistory) -> None:
    fault = (80, 100.0, 100.0, 0.0)
    history = requests((240, 100.0, 0.0, 0.0), fault, (40, 100.0, 0.0, 0.0), fault)
    first, second = judged(history, 110).incidents
    assert first.key != second.key
    assert len(first.key) == 8
    assert second.resolved is None


def test_at_low_traffic_a_handful_of_failures_is_an_incident(requests: MakeHistory) -> None:
    """A request a minute, of which one in five fails: six failures in half an hour wake somebody up, among many they don't."""

    def hour(others: float) -> History[str]:
        minutes = [[(1, others + 1, float(minute % 5 == 0), 0.0), (3, others, 0.0, 0.0)] for minute in range(60)]
        return requests(*(phase for minute in minutes for phase in minute))

    assert len(judged(hour(0.0), 60).incidents) >= 1
    assert judged(hour(100.0), 60).incidents == []


def test_a_window_of_which_less_than_half_is_known_gives_no_rate(requests: MakeHistory) -> None:
    unknown = (1, math.nan, math.nan, math.nan)
    half = requests(*([(1, 100.0, 100.0, 0.0), unknown] * 120))
    assert [(item.opened - START) // MINUTE for item in judged(half, 60).incidents] == [60]
    third = requests(*([(1, 100.0, 100.0, 0.0), unknown, unknown] * 80))
    assert judged(third, 60).incidents == []
