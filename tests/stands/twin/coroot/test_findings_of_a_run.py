"""What the detector finds in an episode lies in the run's directory, each finding once."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

import otel_control_gym as ocg
from otel_control_gym.engine.settings import PlannedAction


async def test_a_run_under_cpu_pressure_has_the_check_and_the_alert_of_the_culprit_and_no_incident(
    tmp_path: Path,
) -> None:
    config = ocg.resolve("small-core", workload="steady", seed=7)
    pressure = {"type": "cpu_pressure", "target": "frontend", "intensity": "severe", "duration_seconds": 480}
    scenario = msgspec.structs.replace(config.scenario, interventions=(PlannedAction(at_seconds=60, action=pressure),))
    config = msgspec.structs.replace(
        config, public=msgspec.structs.replace(config.public, horizon_seconds=900), scenario=scenario
    )
    async with ocg.make(config, data_dir=tmp_path) as env:
        await env.reset()
        done = False
        while not done:
            *_, done, _ = await env.step(ocg.Noop(), dt=60)
    findings = json.loads((env.run_dir / "coroot_findings.json").read_text())
    assert len({finding["key"] for finding in findings}) == len(findings)
    assert {finding["source"] for finding in findings} == {"check", "alert"}
    for source, severity in (("check", "warning"), ("alert", "warning")):
        (found,) = [item for item in findings if item["source"] == source and item["affected_services"] == ["frontend"]]
        assert (found["symptom_class"], found["severity"], found["suggested_cause"]) == ("cpu", severity, "frontend")
        assert found["text"] == "high CPU utilization of 1 container"
        assert found["resolved"] is not None
    assert ocg.validate(env.run_dir) == []
