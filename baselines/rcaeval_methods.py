"""Cases of a campaign ➜ the rankings of RCAEval's own methods, where an interpreter has that package.

In: cases with the onset given. Out: a `Ranking` per case and method. The cases go through the exporter (`ocg export --to rcaeval`), which
wants 60 samples at the scrape interval before the fault: of short runs it makes fewer cases than there are, and the figures of these
methods are of those alone. A service is ranked where the first of its columns is.

RCAEval (Pham et al., arXiv 2412.17015) wants Python 3.12 and packages of its own. It is looked for in this interpreter, else in the one
that the environment variable `OCG_RCAEVAL_PYTHON` names (`make rcaeval` makes `.venv-rcaeval/bin/python`); without either there are no such
figures.

Blocking; runs a process. Upstream: `engine.export`. Downstream: `root_causes`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np

from otel_control_gym.baselines import rcaeval_runner
from otel_control_gym.baselines.root_cause_cases import RootCauseCase
from otel_control_gym.baselines.root_cause_methods import Ranking
from otel_control_gym.engine.errors import DatasetError, NotExportable, UsageError
from otel_control_gym.engine.export import export
from otel_control_gym.engine.runs import Run

__all__ = ("RCAEVAL_METHODS", "rcaeval_interpreter", "rcaeval_rankings", "service_ranking")

RCAEVAL_METHODS: tuple[str, ...] = ("baro", "nsigma", "circa", "pc_randomwalk")
"""Those that rank without a neural network."""

_INTERPRETER = "OCG_RCAEVAL_PYTHON"


class _CaseTruth(msgspec.Struct, frozen=True):
    action_id: str


def rcaeval_interpreter() -> Path | None:
    """Return an interpreter that has RCAEval; None: none is known.

    Raises: UsageError: the environment variable names no file.
    """
    if find_spec("RCAEval") is not None:
        return Path(sys.executable)
    named = os.environ.get(_INTERPRETER)
    if not named:
        return None
    if not Path(named).is_file():
        raise UsageError(f"{_INTERPRETER} = {named}: there is no such file\n  name an interpreter that has RCAEval")
    return Path(named)


def rcaeval_rankings(
    interpreter: Path, runs: Sequence[Run], cases: Sequence[RootCauseCase]
) -> dict[str, dict[str, Ranking]]:
    """Return rankings by method and the fault's `action_id`; a fault that makes no case of RCAEval's isn't there.

    Raises: DatasetError: the interpreter couldn't do it; says what it said.
    """
    wanted = {case.fault.action_id: case for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        try:
            export([run for run in runs if run.truth], "rcaeval", out=Path(folder) / "cases")
        except NotExportable:
            return {method: {} for method in RCAEVAL_METHODS}
        folders = sorted(path.parent for path in Path(folder).glob("cases/**/data.csv"))
        faults = {
            str(path): msgspec.json.decode((path / "ground_truth.json").read_bytes(), type=_CaseTruth).action_id
            for path in folders
        }
        answers = _answers(interpreter, [path for path in folders if faults[str(path)] in wanted])
    found: dict[str, dict[str, Ranking]] = {method: {} for method in RCAEVAL_METHODS}
    for path, by_method in sorted(answers.items()):
        case = wanted[faults[path]]
        for method, columns in by_method.items():
            found[method][case.fault.action_id] = service_ranking(columns, case.services)
    return found


def service_ranking(columns: Sequence[str], services: Sequence[str]) -> Ranking:
    """Return services by the place of their first column, `<service>_<metric>`; those without any come last, tied."""
    first = {service: len(columns) for service in services}
    for place, column in reversed(list(enumerate(columns))):
        first[column.partition("_")[0]] = place
    return Ranking(services=-np.array([first[service] for service in services], np.float64))


def _answers(interpreter: Path, folders: Sequence[Path]) -> Mapping[str, Mapping[str, list[str]]]:
    if not folders:
        return {}
    script = Path(rcaeval_runner.__file__)
    command = [str(interpreter), str(script), ",".join(RCAEVAL_METHODS), *map(str, folders)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        last = ran.stderr.strip().splitlines()[-1:] or ["without a word"]
        raise DatasetError(f"{interpreter} couldn't rank by RCAEval: {last[0]}\n  `make rcaeval` makes one that can")
    answers: dict[str, dict[str, list[str]]] = msgspec.json.decode(
        ran.stdout.encode(), type=dict[str, dict[str, list[str]]]
    )
    return answers
