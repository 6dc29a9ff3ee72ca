"""Benchmarks don't rot: each one runs at its small size, and says what it measured and of which work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_every_benchmark_runs_small_and_its_result_has_figures_floors_and_digests(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), "--small", "--out", str(out)],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(BENCHMARKS), "PYTHONSAFEPATH": "1"},
    )
    result = json.loads(out.read_text())
    figures = {measurement["name"]: measurement for measurement in result["measurements"]}
    assert all(measurement["value"] > 0 for measurement in figures.values())
    step = figures["env.step of 30 s, no load"]
    assert step["value"] > step["floor"] > 0
    assert {name.split(":")[0] for name in figures} >= {"log", "kernel", "fold", "rebuild"}
    rebuilt = figures["rebuild: archive on disk, decompress, verify, unpack, fold"]
    assert rebuilt["aim"] == ">= 20 million"
    assert rebuilt["detail"]["samples"] == 429 * 121
    on_disk = figures["log: on disk, beside Prometheus"]
    assert (on_disk["floor"] is None) == on_disk["detail"]["prometheus"].startswith("absent")
    played = figures["campaign benchmark: played"]["detail"]
    assert played["runs"] == played["planned"] == 2
    assert played["invalid"] == 0
    assert figures["campaign benchmark: rebuilt, all processors"]["detail"] == {"runs": 2, "processes": 2, "failed": 0}
    assert any("digest" in measurement["detail"] for measurement in figures.values())
