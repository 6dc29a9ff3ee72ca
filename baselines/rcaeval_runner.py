"""Run by an interpreter that has RCAEval: rank the root causes of exported cases by some of its methods, and print what they said as JSON.

Arguments: names of methods, joined by commas, then folders of cases. It imports nothing of this package, since that interpreter needn't
have it. A method that fails says so on standard error and returns the columns in the order of the file: that is no ranking, and is left
out.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ("rank_cases",)

_DATASET = "otel-control-gym"  # any name: with None the methods don't prepare the frame


def rank_cases(methods: Sequence[str], folders: Sequence[Path]) -> dict[str, dict[str, list[str]]]:
    """Return the columns as each method ranks them, by folder and method; methods that failed aren't there."""
    import pandas as pd
    import RCAEval.e2e

    found: dict[str, dict[str, list[str]]] = {}
    for folder in folders:
        frame = pd.read_csv(folder / "data.csv")
        inject_time = int((folder / "inject_time.txt").read_text())
        answers = found.setdefault(str(folder), {})
        for method in methods:
            said = io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                answer = getattr(RCAEval.e2e, method)(frame.copy(), inject_time=inject_time, dataset=_DATASET)
            if "failed" not in said.getvalue():
                answers[method] = list(answer["ranks"])
    return found


if __name__ == "__main__":
    ranked = rank_cases(sys.argv[1].split(","), [Path(folder) for folder in sys.argv[2:]])
    sys.stdout.write(json.dumps(ranked))
