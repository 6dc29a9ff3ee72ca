"""Run in RCAEval's environment: rank the root causes of an exported case by some of its methods, and print what they said as JSON.

Arguments: the case's folder, then names of methods. Not a test: `test_rcaeval_package` starts it.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import pandas as pd
import RCAEval.e2e
from RCAEval.io.time_series import preprocess

DATASET = "otel-control-gym"  # any name: with None the methods don't prepare the frame


def main(case: Path, methods: list[str]) -> None:
    """Print for each method its ranking and what it said on standard error, and the columns in the order of the file."""
    frame = pd.read_csv(case / "data.csv")
    inject_time = int((case / "inject_time.txt").read_text())
    found = {}
    for method in methods:
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            answer = getattr(RCAEval.e2e, method)(frame.copy(), inject_time=inject_time, dataset=DATASET)
        found[method] = {"ranks": list(answer["ranks"]), "said": said.getvalue()}
    columns = list(preprocess(data=frame.copy(), dataset=DATASET).columns)
    sys.stdout.write(json.dumps({"columns": columns, "methods": found}))


main(Path(sys.argv[1]), sys.argv[2:])
