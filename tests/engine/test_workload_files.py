"""A workload's file and the traces it replays: read once, refused with the place of the mistake, the same at a trace's own points."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_control_gym.engine.configuration import resolve, targets
from otel_control_gym.engine.configuration_files import packaged_names
from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.randomization import randomized
from otel_control_gym.engine.settings import Points, Randomization, RunConfig
from otel_control_gym.engine.workload_files import MOST_POINTS
from otel_control_gym.engine.workload_shapes import factor_at, knots


def workload(folder: Path, shape: Any, **others: Any) -> str:
    file = folder / "mine.yaml"
    document = {"name": "mine", "users": 100, "shape": shape} | others
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(file)


def trace(folder: Path, text: str, **replay: Any) -> str:
    (folder / "trace.csv").write_text(text, encoding="utf-8")
    return workload(folder, {"kind": "replay", "file": "trace.csv"} | replay)


def points(file: str) -> Points:
    shape = resolve("small-core", workload=file).workload.shape
    assert isinstance(shape, Points)
    return shape


def refused(file: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        resolve("small-core", workload=file)
    assert file in str(caught.value)
    return str(caught.value)


# --- packaged workloads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", packaged_names("workloads"))
@pytest.mark.parametrize("target", [*targets(), "synthetic:10", "synthetic:100"])
def test_every_packaged_workload_goes_with_every_target(target: str, name: str) -> None:
    config = randomized(resolve(target, workload=name, seed=3))
    assert config.workload.shape is None
    assert resolve(config) == config
    assert msgspec.json.decode(msgspec.json.encode(config), type=RunConfig) == config


@pytest.mark.parametrize("target", ["small-core", "medium-store", "async-store", "review-store"])
def test_the_mixes_do_what_their_names_say(target: str) -> None:
    def share(name: str, *wanted: str) -> float:
        config = resolve(target, workload=name)
        flows = config.public.services.flows
        weights = {flow: config.workload.mix.get(flow, item.weight) for flow, item in flows.items()}
        return sum(weights[flow] for flow in wanted) / sum(weights.values())

    buying = ("checkout", "checkout_multi")
    assert share("checkout-heavy", *buying) > 4 * share("steady", *buying)
    assert share("read-heavy", *buying) == 0
    assert share("read-heavy", "add_to_cart") < share("steady", "add_to_cart") / 2


def test_flows_that_the_application_lacks_are_refused_unless_the_workload_ignores_them(tmp_path: Path) -> None:
    mix = {"checkout": 3.0, "get_ads": 2.0}  # small-core shows no ads
    assert "absent_flows: ignore" in refused(workload(tmp_path, None, mix=mix))
    found = resolve("small-core", workload=workload(tmp_path, None, mix=mix, absent_flows="ignore"))
    assert found.workload.mix == {"checkout": 3.0}


# --- the seed ---------------------------------------------------------------------------------------------------------------


def test_a_run_with_another_load_has_the_same_curve_at_another_height() -> None:
    config = resolve("small-core", workload="burst", seed=5)
    double = msgspec.structs.replace(config.scenario, randomize=Randomization(load=(2.0, 2.0)))
    once, twice = randomized(config), randomized(msgspec.structs.replace(config, scenario=double))
    assert [point.users for point in twice.workload.curve] == [2 * (point.users or 0) for point in once.workload.curve]
    explicit = msgspec.structs.replace(once, scenario=double)
    assert randomized(explicit).workload.curve == twice.workload.curve


# --- traces -----------------------------------------------------------------------------------------------------------------


def test_a_trace_is_read_once_and_travels_with_the_configuration(tmp_path: Path) -> None:
    config = resolve("small-core", workload=trace(tmp_path, "time,rate\n0,1\n60,3\n120,2\n", scale="peak"))
    (tmp_path / "trace.csv").unlink()
    elsewhere = msgspec.json.decode(msgspec.json.encode(config), type=RunConfig)
    curve = randomized(elsewhere).workload.curve
    assert [(point.at_seconds, point.users) for point in curve] == [(0, 33), (300, 100), (600, 67)]


@settings(deadline=None, max_examples=20)  # each example reads two files
@given(st.lists(st.integers(0, 500), min_size=2, max_size=30).filter(any))
def test_an_absolute_replay_is_its_file_at_its_files_own_points(users: list[int]) -> None:
    with TemporaryDirectory() as folder:
        rows = "".join(f"{10 * number},{level}\n" for number, level in enumerate(users))
        file = trace(Path(folder), f"time,rate\n{rows}", scale="absolute", stretch_to_horizon=False)
        config = randomized(resolve("small-core", workload=file, horizon_seconds=600))
    # Points in the middle of a level stretch are left out, so the curve is read as it is driven: along lines.
    levels = {point.at_seconds: point.users or 0 for point in config.workload.curve}
    for number, level in enumerate(users):
        before = max(at for at in levels if at <= 10 * number)
        assert levels.get(10 * number, levels[before]) == level


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("mean", [0.5, 1.5, 0.5]), ("peak", [1 / 3, 1.0, 1 / 3]), ("absolute", [0.2, 0.6, 0.2])],
)
def test_a_scale_says_what_factor_1_is(tmp_path: Path, scale: str, expected: list[float]) -> None:
    found = points(trace(tmp_path, "time,rate\n0,20\n10,60\n20,20\n", scale=scale))
    assert [factor for _, factor in found.points] == pytest.approx(expected, abs=1e-6)


def test_csv_and_parquet_numbers_and_time_stamps_are_one_trace(tmp_path: Path) -> None:
    stamps = trace(
        tmp_path, "at,qps\n2026-01-05T00:00:00Z,4\n2026-01-05T00:01:00Z,8\n", time_column="at", rate_column="qps"
    )
    from_csv = points(stamps)
    for times, unit in (
        ([7.0, 8.0], "min"),
        ([0, 60_000], "ms"),
        (pa.array([0, 60_000_000_000], pa.timestamp("ns")), "s"),
    ):
        pq.write_table(pa.table({"time": times, "rate": [4, 8]}), tmp_path / "trace.parquet")
        shape = {"kind": "replay", "file": "trace.parquet", "time_unit": unit}
        assert points(workload(tmp_path, shape)) == from_csv


def test_of_many_rows_neighbours_are_averaged_and_none_is_left_out(tmp_path: Path) -> None:
    rows = "".join(f"{number},{number % 7}\n" for number in range(7 * MOST_POINTS))
    found = points(trace(tmp_path, f"time,rate\n{rows}", scale="absolute")).points
    assert len(found) == MOST_POINTS
    assert {factor for _, factor in found} == {0.03}  # (0 + … + 6) / 7 of 100 users


def test_a_part_of_a_trace_is_cut_out(tmp_path: Path) -> None:
    text = "time,rate\n100,1\n110,2\n120,3\n130,4\n"
    found = points(trace(tmp_path, text, from_seconds=10, to_seconds=20, scale="absolute"))
    assert [at for at, _ in found.points] == [0.0, 10.0]
    assert [factor for _, factor in found.points] == [0.02, 0.03]


@pytest.mark.parametrize(
    ("text", "replay", "says"),
    [
        (
            "time,rate\n0,1\n1,2\n",
            {"rate_column": "rat"},
            "shape.rate_column = 'rat': the file has no such column\n  did you mean 'rate'",
        ),
        ("time,rate\n0,1\n1,2\n", {"time_unit": "d"}, "shape.time_unit = 'd'"),
        (
            "time,rate\n0,1\n2,2\n1,3\n",
            {},
            "shape.time_column = 'time': trace.csv isn't in ascending order of time: row 3",
        ),
        ("time,rate\n0,1\n0,2\n", {}, "row 2 isn't after the row before"),
        ("time,rate\n0,1\n1,\n", {}, "shape.rate_column = 'rate': the value of row 2 is missing"),
        ("time,rate\n0,1\n1,nan\n", {}, "row 2"),
        ("time,rate\n0,1\n1,-2\n", {}, "below 0 in row 2"),
        ("time,rate\n0,a\n1,b\n", {}, "the column holds string"),
        ("time,rate\n", {}, "the file has no rows"),
        ("time,rate\n0,1\n", {}, "shape.from_seconds = 0.0: leaves 1 rows of 1"),
        ("time,rate\n0,0\n9,0\n", {}, "shape.scale = 'mean': all rates of the file are 0"),
        ("", {}, "shape.file = 'trace.csv': can't be read"),
        (
            "time,rate\n0,1\n1,2\n",
            {"file": "other.csv"},
            "shape.file = 'other.csv': can't be read: there is no such file",
        ),
        ("time,rate\n0,1\n1,2\n", {"file": "trace.json"}, "neither CSV nor Parquet"),
    ],
)
def test_a_trace_that_can_not_be_replayed_is_refused(tmp_path: Path, text: str, replay: Any, says: str) -> None:
    assert says in refused(trace(tmp_path, text, **replay))


# --- shapes that are none ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ({"kind": "sum", "parts": [{"kind": "sine"}, {"kind": "brust"}]}, "shape.parts[1].kind = 'brust'"),
        ({"kind": "brust"}, "did you mean 'burst'? accepted: burst, constant, noise, points, product, replay, sine, sum"),
        ({"amplitude": 1}, "shape.kind = None: missing\n  accepted: burst"),
        ({"kind": "sine", "amplitud": 1}, "shape.amplitud = 1: unknown key\n  did you mean 'amplitude'"),
        ({"kind": "product", "parts": [{"kind": "sine", "amplitude": "x"}]}, "shape.parts[0].amplitude = 'x'"),
        ({"kind": "sine", "amplitude": 1.5}, "shape.amplitude = 1.5: must lie between 0 and 1"),
        ({"kind": "sine", "period_seconds": 30}, "shape.period_seconds = 30: must be 60 or more"),
        ({"kind": "burst", "every_seconds": 60}, "shape.every_seconds = 60: shorter than a burst, which takes 120"),
        ({"kind": "burst", "at_seconds": [10, 100]}, "shape.at_seconds[1] = 100: before the end of the burst before, at 130"),
        ({"kind": "noise", "every_seconds": 1}, "shape.every_seconds = 1: must be 5 or more"),
        ({"kind": "noise", "spread": -1}, "shape.spread = -1"),
        ({"kind": "points", "points": [[0, 1], [0, 2]]}, "shape.points[1][0] = 0.0: not after the point before"),
        ({"kind": "points", "points": [[0, -1]]}, "shape.points[0][1] = -1.0"),
        ({"kind": "sum", "parts": []}, "shape.parts = []: without a part"),
        ({"kind": "product", "parts": [{"kind": "constant", "level": float("inf")}]}, "shape.parts[0].level = inf"),
        (["sine"], "use a mapping or null"),
    ],
)  # fmt: skip
def test_a_shape_that_is_none_is_refused_where_it_is_wrong(tmp_path: Path, shape: Any, says: str) -> None:
    assert says in refused(workload(tmp_path, shape))


def test_a_workload_has_a_curve_or_a_shape(tmp_path: Path) -> None:
    both = workload(tmp_path, {"kind": "sine"}, curve=[{"at_seconds": 0, "users": 3}])
    assert "both a curve and a shape" in refused(both)


def test_a_trace_in_a_composition_is_one_of_its_parts(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("time,rate\n0,1\n600,3\n", encoding="utf-8")
    replay = {"kind": "replay", "file": "trace.csv", "scale": "mean"}
    shape = {"kind": "product", "parts": [{"kind": "constant", "level": 0.5}, replay]}
    found = resolve("small-core", workload=workload(tmp_path, shape)).workload.shape
    assert found is not None
    assert factor_at(knots(found, 600, 0), 300) == pytest.approx(0.5)
