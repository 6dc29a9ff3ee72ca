"""Evidence by rule: what Chaos Mesh says about itself isn't enough."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from otel_control_gym.actuators.chaos_objects import Chaos, PodNetworkChaos
from otel_control_gym.actuators.injections import check_injection, missing_rules, replaced
from otel_control_gym.actuators.objects import Pod
from otel_control_gym.actuators.postchecks import Target
from otel_control_gym.actuators.quantities import bytes_quantity, cores_quantity, parse_quantity

TARGETS = (Target("b-1", "u1", 0), Target("b-2", "u2", 0))


def rules(pod: str, *, source: str = "ns/ocg-x", observed: int = 2, failed: str = "") -> PodNetworkChaos:
    return msgspec.convert(
        {
            "metadata": {"name": pod, "generation": 2},
            "spec": {"tcs": [{"source": source}]},
            "status": {"observedGeneration": observed, "failedMessage": failed},
        },
        PodNetworkChaos,
    )


@pytest.mark.parametrize(
    ("second", "missing"),
    [
        ({}, ()),
        ({"source": "ns/another"}, ("b-2",)),
        ({"observed": 1}, ("b-2",)),
        ({"failed": "sch_netem is missing"}, ("b-2",)),
    ],
)
def test_a_rule_counts_if_it_is_ours_observed_and_faultless(second: dict[str, Any], missing: tuple[str, ...]) -> None:
    found = [rules("b-1"), rules("b-2", **second)]
    assert missing_rules(found, source="ns/ocg-x", targets=TARGETS) == missing


def test_all_injected_without_a_rule_anywhere_is_no_effect() -> None:
    records = [{"id": f"ns/{pod}", "phase": "Injected", "injectedCount": 1} for pod in ("a-1", "b-1", "b-2")]
    status = {"conditions": [{"type": "AllInjected", "status": "True"}], "experiment": {"containerRecords": records}}
    chaos = msgspec.convert({"metadata": {"name": "x"}, "status": status}, Chaos)
    ids = [str(record["id"]) for record in records]
    for without, seen in (((), "all"), (("b-1",), "some"), (("b-1", "b-2"), "none")):
        assert check_injection(chaos, record_ids=ids, lost=(), affected=TARGETS, without_effect=without).seen == seen
    assert check_injection(chaos, record_ids=ids, lost=("b-1",), affected=TARGETS, without_effect=()).seen == "some"


@pytest.mark.parametrize(("by_container", "lost"), [(True, ("b-1", "b-2")), (False, ("b-2",))])
def test_a_restarted_container_ends_stress_and_a_new_pod_ends_everything(
    by_container: bool, lost: tuple[str, ...]
) -> None:
    restarted = {
        "metadata": {"name": "b-1", "uid": "u1"},
        "status": {"containerStatuses": [{"name": "b", "restartCount": 1}]},
    }
    anew = {"metadata": {"name": "b-2", "uid": "other"}}
    assert replaced(TARGETS, msgspec.convert([restarted, anew], list[Pod]), by_container=by_container) == lost


@pytest.mark.parametrize("cores", [0.001, 0.25, 1.0, 1.5, 64.0])
def test_cores_keep_their_value_as_quantities(cores: float) -> None:
    assert parse_quantity(cores_quantity(cores)) == cores


@pytest.mark.parametrize(("count", "text"), [(2**27, "128Mi"), (2**30, "1Gi"), (20_000_000, "20000000"), (3072, "3Ki")])
def test_bytes_keep_their_value_as_quantities(count: int, text: str) -> None:
    assert bytes_quantity(count) == text
    assert parse_quantity(text) == count
