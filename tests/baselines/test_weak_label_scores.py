"""A suspicion is right if it begins while a fault shows on that service; every other one is counted against the tool."""

from __future__ import annotations

from otel_control_gym.baselines.fault_windows import Fault, RunTruth
from otel_control_gym.baselines.weak_label_scores import (
    SuspectedRun,
    Suspicion,
    weak_label_report,
    weak_label_tables,
)


def suspected(
    *suspicions: tuple[str, float],
    fault: bool = True,
    actions: tuple[tuple[float, str, str], ...] = (),
    certificate: str | None = None,
    number: int = 0,
) -> SuspectedRun:
    pressed = Fault(
        action_id="a",
        fault_type="cpu_pressure",
        kind="service",
        target="cart",
        ends=("cart",),
        named_service="cart",
        intensity="visible",
        onset=200.0,
        end=300.0,
        affected=("cart", "frontend"),
    )
    return SuspectedRun(
        truth=RunTruth(
            run_id=f"R{number}",
            family_id=f"f{number}",
            stratum="single_fault",
            faults=(pressed,) if fault else (),
            actions=actions,
        ),
        seconds=660.0,
        suspicions=tuple(Suspicion(service=service, start=start, end=start + 60) for service, start in suspicions),
        certificates={} if certificate is None else {"a": certificate},
    )


def test_a_fault_is_found_on_a_caller_and_named_at_its_place() -> None:
    caller, place, late, beside, early = (
        weak_label_report("mvp", [suspected(one)]).faults[0]
        for one in (("frontend", 220.0), ("cart", 240.0), ("cart", 500.0), ("ad", 220.0), ("cart", 190.0))
    )
    assert [(row.found.value, row.named.value) for row in (caller, place)] == [(1.0, 0.0), (1.0, 1.0)]
    assert [row.found.value for row in (late, beside, early)] == [0.0, 0.0, 0.0]
    assert (caller.median_delay_s, place.median_delay_s, late.median_delay_s) == (20.0, 40.0, None)


def test_precision_counts_what_was_suspected_beside_the_fault() -> None:
    row = weak_label_report("mvp", [suspected(("cart", 220.0), ("ad", 230.0), ("frontend", 250.0), ("ad", 600.0))])
    assert row.faults[0].precision.value == 0.5


def test_what_follows_an_action_is_told_from_what_follows_nothing() -> None:
    acted = suspected(
        ("cart", 220.0),
        ("cart", 500.0),
        fault=False,
        actions=((200.0, "scale", "cart"), (350.0, "restart", "cart")),
    )
    report = weak_label_report("mvp", [acted])
    assert {row.action_type: (row.actions, row.suspected.value) for row in report.actions} == {
        "restart": (1, 0.0),
        "scale": (1, 1.0),
    }
    assert report.suspicions_in_calm == 1  # that of 500 s
    assert report.calm_suspicions_per_hour.value == 1 / ((660 - 240) / 3600)


def test_an_action_amid_a_fault_says_nothing_of_actions() -> None:
    assert weak_label_report("mvp", [suspected(("cart", 260.0), actions=((250.0, "scale", "cart"),))]).actions == ()


def test_faults_without_symptoms_are_told_by_their_certificates() -> None:
    runs = [
        suspected(("cart", 220.0), certificate="visible", number=1),
        suspected(certificate="none", number=2),
        suspected(number=3),
    ]
    row = weak_label_report("mvp", runs).faults[0]
    assert row.certificates == {"none": 1, "uncertified": 1, "visible": 1}
    assert row.found_by_certificate == {"visible": 1}
    assert row.found.too_few
    assert "1 of 1 visible" in str(weak_label_tables(weak_label_report("mvp", runs))[0].rows[0])
