"""ChronoGraph's files say what the tables say: every reading once, nothing invented, incidents beside the series and not in them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from otel_control_gym.projections.adapters import Recording
from otel_control_gym.projections.adapters.chronograph import chronograph_files

Make = Callable[..., Recording]
LABELS = {"incidents.csv", "labels.json"}


def files(recording: Recording) -> dict[str, Any]:
    """Return the documents by name, CSV as rows."""
    found = {}
    for path, content in chronograph_files(recording).items():
        folder, _, name = path.partition("/")
        assert folder == "run_R1"
        found[name] = (
            list(csv.DictReader(io.StringIO(content.decode()))) if name.endswith(".csv") else json.loads(content)
        )
    return found


def test_every_reading_is_there_at_its_step_and_a_gap_is_absent(recording: Make) -> None:
    cpu = np.arange(36.0).reshape(12, 3)
    cpu[4, 1] = np.nan
    document = files(recording({"cpu_usage_cores": cpu}))["node_features.json"]
    assert sorted(document) == ["cart", "checkout", "frontend"]
    found = document["checkout"]["cpu_usage_cores"]
    assert found["steps"] == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert found["values"] == [cpu[step, 1] for step in found["steps"]]


def test_edges_are_keyed_as_the_topology_has_them(recording: Make) -> None:
    found = files(
        recording({"cpu_usage_cores": np.ones((12, 3))}, edges={"request_count": np.arange(36.0).reshape(12, 3)})
    )
    pairs = [f"{row['source']}->{row['target']}" for row in found["edges.csv"]]
    assert (
        pairs == sorted(found["edge_features_part0.json"]) == ["checkout->cart", "frontend->cart", "frontend->checkout"]
    )
    assert found["edge_features_part0.json"]["frontend->cart"]["request_count"]["values"] == [
        3.0 * step + 1 for step in range(12)
    ]


def test_two_protocols_between_two_services_are_one_edge(recording: Make) -> None:
    """Counts add up, the mean is that of all requests; of two quantiles nobody can make one."""
    topology = (("checkout", "cart", "grpc"), ("checkout", "cart", "http"))
    edges = {
        "request_count": np.tile([3.0, 1.0], (12, 1)),
        "latency_mean_ms": np.tile([10.0, 50.0], (12, 1)),
        "latency_p95_ms": np.tile([20.0, 90.0], (12, 1)),
    }
    found = files(recording({"cpu_usage_cores": np.ones((12, 3))}, edges=edges, topology=topology))
    assert len(found["edges.csv"]) == 1
    joined = found["edge_features_part0.json"]["checkout->cart"]
    assert joined["request_count"]["values"] == [4.0] * 12
    assert joined["latency_mean_ms"]["values"] == [20.0] * 12
    assert "latency_p95_ms" not in joined


def test_an_incident_marks_the_steps_that_it_touches_and_no_others(recording: Make) -> None:
    run = recording({"cpu_usage_cores": np.ones((12, 3))}, faults=[{"at": 12, "until": 31, "target": "cart"}])
    found = files(run)
    (window,) = found["incidents.csv"]
    assert (window["first_step"], window["last_step"], window["service"]) == ("2", "6", "cart")
    assert found["labels.json"]["cart"]["values"] == [0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert not any(found["labels.json"]["frontend"]["values"])


def test_an_incident_that_ends_with_a_step_does_not_touch_the_next(recording: Make) -> None:
    run = recording({"cpu_usage_cores": np.ones((12, 3))}, faults=[{"at": 10, "until": 30, "target": "cart"}])
    assert files(run)["labels.json"]["cart"]["values"] == [0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_a_fault_whose_end_was_not_seen_lasts_to_the_end_of_the_run(recording: Make) -> None:
    run = recording({"cpu_usage_cores": np.ones((12, 3))}, faults=[{"at": 40, "until": None, "target": "cart"}])
    assert files(run)["labels.json"]["cart"]["values"] == [0] * 8 + [1] * 4


def test_the_fault_of_an_edge_is_an_incident_of_both_ends(recording: Make) -> None:
    faults = [{"at": 10, "until": 20, "target": "frontend->cart", "kind": "edge", "type": "network_delay"}]
    found = files(recording({"cpu_usage_cores": np.ones((12, 3))}, faults=faults))
    assert [row["service"] for row in found["incidents.csv"]] == ["frontend", "cart"]


def test_faults_change_the_labels_alone(recording: Make) -> None:
    nodes = {"cpu_usage_cores": np.arange(36.0).reshape(12, 3)}
    calm = chronograph_files(recording(nodes))
    faulty = chronograph_files(recording(nodes, faults=[{"at": 10, "until": 20, "target": "cart"}]))
    changed = {path.partition("/")[2] for path in calm if calm[path] != faulty[path]}
    assert changed == LABELS
