"""Baselines on a campaign that was played: how long training and scoring take, and how long a live decision waits for a forecast.

Usage: baseline_times.py CAMPAIGN_DIRECTORY [NAME ...] [--split iid] [--seeds 5] [--out FILE]. Without names all of the catalogue. Models go
into a directory of their own and are gone afterwards. The digest is of the figures that came out: a faster run that learnt something else
is seen.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from result import Measurement, Result, machine, median_ms

from otel_control_gym.baselines.asked import Asked
from otel_control_gym.baselines.catalogue import BASELINES, evaluate_baseline, model_directory, train_baseline
from otel_control_gym.baselines.evaluations import Task
from otel_control_gym.baselines.model_files import load_model
from otel_control_gym.baselines.reward_model import RewardModel, judge
from otel_control_gym.baselines.states import selected
from otel_control_gym.baselines.windows import load_windows

__all__ = ("main", "measure_baselines")

CANDIDATES = 8  #: actions that a planner weighs at once, about a menu
LIVE = 20  #: decisions


def measure_baselines(directory: Path, names: Sequence[str], *, split: str, seeds: int) -> list[Measurement]:
    """Train and score baselines on a campaign; return a figure for each, and for a live decision."""
    task = Task(directory=directory, split=split, seeds=tuple(range(seeds)))
    measurements = []
    with tempfile.TemporaryDirectory() as kept:
        for name in names:
            began, processor = time.perf_counter(), time.process_time()
            train_baseline(name, task, models=Path(kept))
            trained = time.perf_counter()
            evaluation = evaluate_baseline(name, task, models=Path(kept))
            body = msgspec.json.encode(evaluation.figures, order="sorted", enc_hook=str)
            detail = {
                "digest": hashlib.sha256(body).hexdigest(),
                "families scored": evaluation.families,
                "scored for [s]": time.perf_counter() - trained,
                "processor [s]": time.process_time() - processor,
                "seeds": seeds,
            }
            measurements.append(
                Measurement(
                    name=f"baseline {name}: trained", value=trained - began, unit="s", aim="minutes", detail=detail
                )
            )
            if name == "reward":
                model, _ = load_model(model_directory(name, task, Path(kept)))
                measurements.append(live(model, directory))
    return measurements


def live(model: RewardModel, directory: Path) -> Measurement:
    """Return how long a decision waits for the judgement of a menu."""
    run = load_windows(directory).runs[0]
    menu: list[Asked | None] = [None] + [
        Asked(
            action_type="scale",
            target=run.state.system.nodes[run.state.system.entry],
            parameters={"replicas": 1 + number},
            duration_s=None,
            requested=0,
        )
        for number in range(CANDIDATES - 1)
    ]
    seconds = []
    for _ in range(LIVE):
        began = time.perf_counter()
        judge(model.folds[0], selected(run.state, [len(run.decisions) - 1]), menu)
        seconds.append(time.perf_counter() - began)
    return Measurement(
        name=f"baseline reward: {CANDIDATES} candidates of a live decision judged",
        value=median_ms(seconds),
        unit="ms",
        aim="<= 20",
    )


def main(arguments: Sequence[str] | None = None) -> list[Measurement]:
    """Measure what the arguments name, and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*", default=[entry.name for entry in BASELINES])
    parser.add_argument("--split", default="iid")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    measurements = measure_baselines(given.directory, given.names, split=given.split, seeds=given.seeds)
    for measurement in measurements:
        print(f"{measurement.name}: {measurement.value:.1f} {measurement.unit} {measurement.detail}")
    if given.out is not None:
        Result(machine=machine(), measurements=tuple(measurements)).write(given.out)
    return measurements


if __name__ == "__main__":
    main()
