"""A fault is followed along call edges over what changed, from earlier to later, and delays add up."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from otel_control_gym.projections.adapters import Recording
from otel_control_gym.projections.adapters.causal_graph import causal_graph_files

Make = Callable[..., Recording]


def document(recording: Recording) -> Any:
    (content,) = causal_graph_files(recording).values()
    return json.loads(content)


def latencies(**onsets: int) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Latencies of cart, checkout and frontend that step up at a bucket; those that aren't named stay."""
    values = np.full((60, 3), 10.0) + np.resize([0.0, 0.5, 1.0], (60, 1))
    for position, service in enumerate(("cart", "checkout", "frontend")):
        if service in onsets:
            values[onsets[service] :, position] += 100.0
    return {"latency_mean_ms": values}


def test_a_path_leads_from_the_origin_to_all_that_it_reached_and_its_delays_add_up(recording: Make) -> None:
    run = recording(latencies(cart=20, checkout=24, frontend=27), faults=[{"at": 100, "until": 200, "target": "cart"}])
    (fault,) = document(run)["faults"]
    assert fault["origin"] == {"kind": "service", "id": "cart", "nodes": ["cart"]}
    assert {entry["id"]: entry["delay_s"] for entry in fault["affected"]["nodes"]} == {
        "cart": 0,
        "checkout": 20,
        "frontend": 35,
    }
    ends = {path["to"]: path for path in fault["paths"]}
    assert ends["checkout"]["nodes"] == ["cart", "checkout"]
    assert ends["frontend"]["nodes"] == ["cart", "frontend"]  # it calls the cart, too: the shortest way
    assert {to: sum(path["delays_s"]) for to, path in ends.items()} == {"checkout": 20, "frontend": 35}


CHAIN = (("checkout", "cart", "grpc"), ("frontend", "checkout", "grpc"))


def test_the_delay_of_a_hop_counts_from_the_hop_before(recording: Make) -> None:
    faults = [{"at": 100, "until": 200, "target": "cart"}]
    run = recording(latencies(cart=21, checkout=24, frontend=27), faults=faults, topology=CHAIN)
    (fault,) = document(run)["faults"]
    assert [(path["nodes"], path["delays_s"]) for path in fault["paths"]] == [
        (["cart", "checkout"], [20]),
        (["cart", "checkout", "frontend"], [20, 15]),
    ]


def test_what_changed_before_all_that_lead_to_it_is_out_of_reach(recording: Make) -> None:
    faults = [{"at": 100, "until": 200, "target": "cart"}]
    run = recording(latencies(cart=20, checkout=30, frontend=22), faults=faults, topology=CHAIN)
    (fault,) = document(run)["faults"]
    assert [hop["to"] for hop in fault["hops"]] == ["checkout"]
    assert fault["unreached"] == ["frontend"]


def test_a_path_never_leads_from_a_later_change_to_an_earlier_one(recording: Make) -> None:
    """The frontend is reached by way of the checkout only, since the fault is there; the cart changed before the frontend did."""
    run = recording(
        latencies(cart=22, checkout=20, frontend=27), faults=[{"at": 100, "until": 200, "target": "checkout"}]
    )
    (fault,) = document(run)["faults"]
    times = {"checkout": 0.0} | {entry["id"]: entry["delay_s"] for entry in fault["affected"]["nodes"]}
    assert all(times[hop["from"]] <= times[hop["to"]] for hop in fault["hops"])
    assert [hop["direction"] for hop in fault["hops"]] == ["to the callee", "to the caller"]


def test_what_changed_out_of_reach_is_listed_apart(recording: Make) -> None:
    values = latencies(cart=20)["latency_mean_ms"]
    island = np.column_stack([values, np.r_[np.full(25, 5.0), np.full(35, 500.0)]])
    run = recording(
        {"latency_mean_ms": island},
        services=("cart", "checkout", "frontend", "island"),
        faults=[{"at": 100, "until": 200, "target": "cart"}],
    )
    assert document(run)["faults"][0]["unreached"] == ["island"]


def test_a_run_without_a_fault_is_a_graph(recording: Make) -> None:
    found = document(recording(latencies()))
    assert found["faults"] == []
    assert [node["id"] for node in found["nodes"]] == ["cart", "checkout", "frontend"]
    assert len(found["edges"]) == 3


def test_a_fault_without_a_mark_is_there_with_nothing_affected(recording: Make) -> None:
    run = recording(latencies(), faults=[{"at": 100, "until": 200, "target": "cart"}])
    (fault,) = document(run)["faults"]
    assert fault["affected"] == {"nodes": [], "edges": []}
    assert fault["hops"] == fault["paths"] == []


@pytest.mark.parametrize("different", [{"intensity": "zero"}, {"applied": False}])
def test_a_fault_that_did_nothing_is_none(recording: Make, different: dict[str, Any]) -> None:
    run = recording(latencies(cart=20), faults=[{"at": 100, "until": 200, "target": "cart", **different}])
    assert document(run)["faults"] == []


def test_a_change_after_an_action_names_the_action(recording: Make) -> None:
    run = recording(
        latencies(cart=20, frontend=30),
        faults=[{"at": 100, "until": 200, "target": "cart"}],
        reactions=[{"at": 130, "type": "scale", "target": "frontend"}],
    )
    (fault,) = document(run)["faults"]
    found = {entry["id"]: entry["features"][0]["confounded_by"] for entry in fault["affected"]["nodes"]}
    assert found == {"cart": None, "frontend": "action-1"}


def test_the_stretch_of_another_fault_is_not_what_was_normal(recording: Make) -> None:
    """While the first fault lasts the cart is slow; the second is judged by the calm between, else it would change nothing."""
    values = latencies()["latency_mean_ms"]
    values[5:30, 0] += 100.0
    values[45:, 0] += 100.0
    faults = [{"at": 25, "until": 150, "target": "cart"}, {"at": 225, "until": 300, "target": "cart"}]
    second = document(recording({"latency_mean_ms": values}, faults=faults))["faults"][1]
    assert [entry["id"] for entry in second["affected"]["nodes"]] == ["cart"]
    assert second["affected"]["nodes"][0]["features"][0]["before"] < 20


def test_the_fault_of_an_edge_starts_at_its_caller(recording: Make) -> None:
    run = recording(
        latencies(checkout=20, frontend=22),
        faults=[{"at": 100, "until": 200, "target": "checkout->cart", "kind": "edge"}],
    )
    (fault,) = document(run)["faults"]
    assert fault["origin"]["nodes"] == ["checkout", "cart"]
    assert fault["paths"][0]["to"] == "frontend"
