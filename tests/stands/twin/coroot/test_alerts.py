"""An alert fires when its check has fired for long enough without a pause, and resolves a while after its last firing."""

from __future__ import annotations

from typing import Literal

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.coroot.alerts import ALERT_RULES, AlertBook
from otel_control_gym.stands.twin.coroot.checks import CHECKS
from otel_control_gym.stands.twin.coroot.inspections import Check, Inspection, Report
from tests.stands.twin.coroot.conftest import START

MINUTE = 60 * SECOND


def book(check: str, fires: str, *, gone_at: int | None = None) -> AlertBook:
    """Return the book after a refresh per letter: `!` the check fires, `.` it doesn't."""
    found = AlertBook(7)
    for minute, letter in enumerate(fires):
        status: Literal["warning", "ok"] = "warning" if letter == "!" else "ok"
        inspection = Inspection(
            reports=(Report(name="any", checks=(Check(id=check, status=status, message=f"minute {minute}"),)),)
        )
        found.update(START + minute * MINUTE, {} if minute == gone_at else {"cart": inspection})
    return found


def times(found: AlertBook) -> list[tuple[int, int | None]]:
    return [
        ((alert.opened - START) // MINUTE, None if alert.resolved is None else (alert.resolved - START) // MINUTE)
        for alert in found.alerts
    ]


def test_cpu_must_be_high_for_five_minutes_and_low_for_five() -> None:
    assert times(book("CPUContainer", "!!!!!")) == []
    assert times(book("CPUContainer", "!!!!!!")) == [(5, None)]
    assert times(book("CPUContainer", "!!!!!!....")) == [(5, None)]
    assert times(book("CPUContainer", "!!!!!!.....")) == [(5, 10)]


def test_a_pause_starts_the_wait_anew_and_a_flapping_check_never_alerts() -> None:
    assert times(book("CPUContainer", "!!!!.!!!!.!!!!.")) == []


def test_a_firing_alert_outlasts_pauses_and_tells_the_newest_message() -> None:
    found = book("CPUContainer", "!!!!!!....!....")
    assert times(found) == [(5, None)]
    assert found.alerts[0].summary == "minute 10"


def test_kills_for_memory_alert_at_once_and_a_second_time_is_another_alert() -> None:
    found = book("MemoryOOM", ".!!..!")
    assert times(found) == [(1, 3), (5, None)]
    assert len({alert.id for alert in found.alerts}) == 2


def test_alerts_of_an_application_that_is_gone_resolve_at_once() -> None:
    assert times(book("CPUContainer", "!!!!!!!", gone_at=6)) == [(5, 6)]


def test_every_rule_is_about_a_check_and_no_rule_is_about_an_slo() -> None:
    assert {rule.check for rule in ALERT_RULES} <= CHECKS.keys()
    assert not [rule for rule in ALERT_RULES if rule.check.startswith("SLO")]
