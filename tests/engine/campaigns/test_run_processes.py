"""Work on many runs is done once each, in other processes, and none of them outlives whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.campaigns.run_processes import in_processes

PID = "__import__('os').getpid()"  # for `eval`: a function of this file couldn't be imported in another process
WAITS = """
import os, sys, time
from otel_control_gym.engine.campaigns.run_processes import in_processes

def wait(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    list(in_processes(wait, sys.argv[1:], processes=2))
"""


def test_every_item_is_worked_on_once_in_another_process() -> None:
    found = list(in_processes(abs, [-1, 2, -3, 4, -5], processes=2))
    assert sorted(found) == [1, 2, 3, 4, 5]
    assert os.getpid() not in set(in_processes(eval, [PID] * 4, processes=2))
    assert set(in_processes(eval, [PID] * 4, processes=1)) == {os.getpid()}


def test_a_killed_process_is_told_as_such() -> None:
    with pytest.raises(ocg.DatasetError, match="ended from outside"):
        list(in_processes(os._exit, [1, 1], processes=2))


@pytest.mark.slow
def test_processes_end_with_whoever_started_them(tmp_path: Path) -> None:
    script = tmp_path / "waits.py"
    script.write_text(WAITS)
    files = [tmp_path / "one", tmp_path / "other"]
    parent = subprocess.Popen([sys.executable, str(script), *map(str, files)])
    deadline = time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(_lives(int(file.read_text())) for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
