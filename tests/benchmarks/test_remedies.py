"""The remedy matrix: its verdicts by rule, and that the script still measures what it says."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "remedies.py"
REMEDIES = runpy.run_path(str(SCRIPT))
SEEN = REMEDIES["Seen"]
HEALTHY, FAULTY = SEEN(1.0, 0.0), SEEN(0.5, 10.0)


@pytest.mark.parametrize(
    ("good", "symptom", "status", "verdict"),
    [
        (0.96, 0.1, "applied", "cures"),
        (0.96, 9.0, "applied", "masks"),
        (0.7, 9.0, "applied", "mitigates"),
        (0.55, 9.0, "applied", "none"),
        (0.3, 9.0, "applied", "worsens"),
        (0.5, 10.0, "rejected", "rejected"),
    ],
)
def test_a_verdict_follows_from_what_came_back_and_what_is_left(
    good: float, symptom: float, status: str, verdict: str
) -> None:
    assert REMEDIES["judge"](HEALTHY, FAULTY, SEEN(good, symptom, status)) == verdict


def test_more_replicas_cure_what_presses_on_one_pod(tmp_path: Path) -> None:
    out = tmp_path / "matrix.md"
    subprocess.run(
        [sys.executable, str(SCRIPT), "--small", "--out", str(out)],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
    )
    (row,) = [line for line in out.read_text().splitlines() if line.startswith("| cpu_pressure")]
    assert row.split(" | ")[2].startswith("cures")
