"""A summary says of each kind and strength how often users felt it, and in how many of the applications."""

from __future__ import annotations

import pytest

from otel_control_gym.engine.campaigns.certificate_summaries import CertifiedEffect, summarise
from otel_control_gym.engine.campaigns.certificates import Certificate, Class


def effect(
    found: Class, *, kind: str = "packet_loss", intensity: str = "visible", configuration: str = "shop", key: str = "a"
) -> CertifiedEffect:
    return CertifiedEffect(
        key=key,
        run_id="01A",
        action_class="intervention",
        kind=kind,
        target="cart",
        intensity=intensity,
        configuration=configuration,
        workload="steady",
        certificate=Certificate(
            method="branches",
            n_branches=8,
            effect_class=found,
            delay_s=None if found == "none" else 10.0 if found == "visible" else 30.0,
            spread_hops=None if found == "none" else 2,
        ),
    )


def test_kinds_and_strengths_are_counted_apart_from_the_weakest_strength_on() -> None:
    effects = [
        effect("visible", intensity="severe"),
        effect("masked", intensity="mild"),
        effect("none", intensity="mild", key="b"),
        effect("visible", kind="pod_kill"),
    ]
    found = [(kind.kind, kind.intensity, kind.counts) for kind in summarise(effects, {})]
    assert found == [
        ("packet_loss", "mild", {"visible": 0, "masked": 1, "none": 1}),
        ("packet_loss", "severe", {"visible": 1, "masked": 0, "none": 0}),
        ("pod_kill", "visible", {"visible": 1, "masked": 0, "none": 0}),
    ]


def test_delay_and_spread_are_of_those_that_changed_something() -> None:
    effects = [effect("visible"), effect("masked", key="b"), effect("none", key="c")]
    (kind,) = summarise(effects, {})
    assert (kind.delay_s, kind.spread_hops) == (20.0, 2)
    (nothing,) = summarise([effect("none")], {})
    assert (nothing.delay_s, nothing.spread_hops) == (None, None)


@pytest.mark.parametrize(
    ("there", "counts_as"),
    [
        (("visible", "masked"), "visible"),
        (("visible", "masked", "none"), "masked"),
        (("masked", "none"), "masked"),
        (("none", "none"), "none"),
    ],
)
def test_a_configuration_shows_a_kind_where_half_of_its_certificates_do(
    there: tuple[Class, ...], counts_as: Class
) -> None:
    (kind,) = summarise([effect(found, key=str(number)) for number, found in enumerate(there)], {})
    assert kind.configurations == {"shop": counts_as}


@pytest.mark.parametrize(("visible", "is_weak"), [(1, True), (2, True), (3, False), (4, False)])
def test_a_kind_is_weak_unless_more_than_half_of_the_configurations_show_it(visible: int, is_weak: bool) -> None:
    effects = [
        effect("visible" if number < visible else "masked", configuration=f"shop-{number}") for number in range(4)
    ]
    (kind,) = summarise(effects, {})
    assert (kind.configurations_of("visible"), kind.is_weak) == (visible, is_weak)


def test_only_the_word_visible_promises_anything_and_a_reason_takes_the_promise_back() -> None:
    (mild,) = summarise([effect("masked", intensity="mild")], {})
    (excused,) = summarise([effect("masked")], {"packet_loss": "nobody counts packets"})
    assert (mild.is_weak, excused.is_weak) == (False, False)
    assert excused.meant_masked == "nobody counts packets"
