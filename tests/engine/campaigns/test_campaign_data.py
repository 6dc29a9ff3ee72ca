"""`ocg campaign report` and `ocg campaign rebuild` say by their exit code whether everything is there, and answer in JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def ocg_campaign(*arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-c", "from otel_control_gym.engine.command_line import main; main()", "campaign"]
    ran = subprocess.run([*command, *arguments, "--json"], capture_output=True, text=True, check=False)
    return ran.returncode, json.loads(ran.stdout)


def test_a_report_fails_where_a_run_is_missing(copied: Path, runs_of: Callable[[Path], list[Path]]) -> None:
    data = ("--data-dir", str(copied.parent))
    code, answer = ocg_campaign("report", "short", *data)
    assert (code, answer["runs"], answer["missing"], answer["invalid"]) == (0, 3, 0, 0)
    assert Path(answer["html"]).is_file()
    shutil.rmtree(runs_of(copied)[0])
    code, answer = ocg_campaign("report", "short", *data)
    assert (code, answer["runs"], answer["missing"]) == (1, 2, 1)
    code, answer = ocg_campaign("report", "shirt", *data)
    assert (code, answer["error"]["type"]) == (2, "UsageError")


def test_a_campaign_is_rebuilt_into_the_data_directory(copied: Path, runs_of: Callable[[Path], list[Path]]) -> None:
    data = ("--data-dir", str(copied.parent))
    code, answer = ocg_campaign("rebuild", "short", "--bucket", "1m", *data)
    assert (code, answer["rebuilt"], answer["paths"]) == (0, 3, [str(copied.parent / "granularity=60s")])
    (runs_of(copied)[0] / "event_log.zst").unlink()
    code, answer = ocg_campaign("rebuild", "short", "--bucket", "30s", "--workers", "1", *data)
    assert (code, answer["rebuilt"]) == (1, 2)
    assert list(answer["failed"]) == [str(runs_of(copied)[0])]
