"""RCAEval's own methods, in a clean environment of Python 3.12, rank what was exported, and find the fault that was injected.

A method that fails there returns the columns in the order of the file and says so on standard error only: so a ranking counts only if it
is none of the column order's.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import otel_control_gym as ocg

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-rcaeval" / "bin" / "python"
SCRIPT = Path(__file__).with_name("ranking.py")
METHODS = ("baro", "nsigma", "circa", "pc_randomwalk")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-rcaeval: `make rcaeval` makes it where Python 3.12 is"),
]


def rank(case: Path, *methods: str) -> Any:
    """Return what the methods said of a case."""
    command = [str(PYTHON), str(SCRIPT), str(case), *methods]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One case: product-catalog's CPU is taken away after six calm minutes."""
    folder = tmp_path_factory.mktemp("rcaeval")
    with ocg.synchronous(ocg.make("root-cause", data_dir=folder / "data")) as env:
        env.reset(seed=3)
        done = False
        while not done:
            _, _, done, _ = env.step(ocg.Noop())
    ocg.export(env.run_dir, "rcaeval", out=folder / "export")
    (found,) = (folder / "export").glob("**/data.csv")
    return found.parent


@pytest.fixture(scope="module")
def verdict(case: Path) -> Any:
    return rank(case, *METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_ranks_and_does_not_fall_back_to_the_order_of_the_columns(method: str, verdict: Any) -> None:
    answer, columns = verdict["methods"][method], verdict["columns"]
    assert answer["said"] == ""
    assert len(answer["ranks"]) > 30
    assert set(answer["ranks"]) <= set(columns)
    assert answer["ranks"] != [name for name in columns if name in answer["ranks"]]


@pytest.mark.parametrize("method", ["baro", "nsigma", "circa"])
def test_the_service_that_was_pressed_is_ranked_first(method: str, case: Path, verdict: Any) -> None:
    truth = json.loads((case / "ground_truth.json").read_text())
    assert truth["service"] == "product-catalog"
    first = verdict["methods"][method]["ranks"][0]
    assert first.partition("_")[0] == truth["service"]


def test_a_gap_in_the_frame_would_have_been_such_a_failure(case: Path, tmp_path: Path) -> None:
    """Why the export leaves no gap; and that the test above would notice one."""
    header, first, *others = (case / "data.csv").read_text().splitlines()
    gap = header.split(",").index("cart_latency")
    cells = first.split(",")
    frame = [header, ",".join([*cells[:gap], "", *cells[gap + 1 :]]), *others]
    (tmp_path / "data.csv").write_text("\n".join(frame))
    (tmp_path / "inject_time.txt").write_text((case / "inject_time.txt").read_text())
    said = rank(tmp_path, "circa")
    assert "failed" in said["methods"]["circa"]["said"]
    assert said["methods"]["circa"]["ranks"] == said["columns"]
