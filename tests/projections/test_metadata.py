"""The metadata of a run says what it was, where it belongs, what of it is truth, and whether it counts."""

from __future__ import annotations

from typing import Any

import msgspec

from otel_control_gym.engine.events import EnvironmentRecorded, Recorded, RunIdentified, TruthDeclared
from otel_control_gym.engine.settings import RunIdentity
from otel_control_gym.projections import fold
from otel_control_gym.projections.metadata import Identity, metadata_document


def document(entries: list[Recorded]) -> dict[str, Any]:
    return metadata_document(fold(entries), Identity(run_id="01TEST"))


def test_a_run_that_nobody_placed_heads_a_family_of_its_own(scribe: Any) -> None:
    log = scribe()
    log.flush(10)
    found = document(log.entries)
    assert (found["scenario_id"], found["stratum"], found["retry_of"], found["split_ids"]) == ("test", None, None, {})
    assert len(found["family_id"]) == 16


def test_a_run_has_the_place_that_its_planner_gave_it(eventful: list[Recorded], at: Any) -> None:
    identity = RunIdentity(
        scenario_id="s",
        stratum="single-fault",
        family_id="f",
        pair_id="p",
        retry_of="01OLD",
        split_ids={"heldout_target": "test"},
        data_licence="CC-BY-4.0",
    )
    placed = [*eventful, Recorded(seq=99, event=RunIdentified(time=at(0), identity=identity), truth=True)]
    found = document(placed)
    for name, value in msgspec.to_builtins(identity).items():
        assert value is None or found[name] == value, name


def test_the_script_of_the_load_is_told_and_is_truth(scribe: Any) -> None:
    log = scribe()
    number = next(i for i, entry in enumerate(log.entries) if isinstance(entry.event, TruthDeclared))
    workload = {"name": "ramp", "arrivals": "closed", "users": 10, "curve": [{"at_seconds": 60, "users": 20}]}
    declared = msgspec.structs.replace(log.entries[number].event, workload=workload)
    log.entries[number] = msgspec.structs.replace(log.entries[number], event=declared)
    log.flush(10)
    found = document(log.entries)
    assert found["workload_schedule"] == {
        "arrivals": "closed",
        "users": 10,
        "points": [{"at_seconds": 60, "users": 20}],
    }
    assert "workload_schedule" in found["ground_truth"]["metadata"]


def test_every_key_that_is_called_truth_is_there(eventful: list[Recorded]) -> None:
    found = document(eventful)
    for name in found["ground_truth"]["metadata"]:
        value: Any = found
        for part in name.split("."):
            assert part in value, name
            value = value[part]
    assert "control_inputs.parquet" in found["ground_truth"]["rows_by_visibility"]
    assert "finding_severity" in found["ground_truth"]["weak"]["node_features"]


def test_images_and_streams_are_told(eventful: list[Recorded]) -> None:
    number = next(i for i, entry in enumerate(eventful) if isinstance(entry.event, EnvironmentRecorded))
    told = msgspec.structs.replace(eventful[number].event, stand={"image cart": "demo@sha256:ab", "coroot": "1.24"})
    found = document([*eventful[:number], Recorded(seq=2, event=told), *eventful[number + 1 :]])
    assert found["image_digests"] == {"cart": "demo@sha256:ab"}
    assert found["versions"]["stand:coroot"] == "1.24"
    assert found["streams"]["metrics"]["coverage"] == 1 - 15 / 120
    assert found["streams"]["findings"] == {"present": True, "rows": 1, "coverage": 1.0, "late": 0}
