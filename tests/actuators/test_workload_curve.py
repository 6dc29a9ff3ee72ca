"""A workload's curve becomes calls of the load generator: each change once, at its moment, as a line or in steps."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_control_gym as ocg
from otel_control_gym.actuators.workload import open_load_generator
from otel_control_gym.actuators.workload_curve import changes, mixes
from otel_control_gym.engine.archive import ARCHIVE_NAME, read_archive
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import ActionReverted, PhaseEntered, TruthDeclared, WorkloadObserved
from otel_control_gym.engine.settings import Burst, MixPoint, Workload, WorkloadPoint
from otel_control_gym.engine.workload_files import without_absent_flows


def curve(*points: tuple[int, int], **settings: Any) -> Workload:
    return Workload(
        name="curve",
        users=10,
        curve=tuple(WorkloadPoint(at_seconds=at, users=users) for at, users in points),
        **settings,
    )


class Told(msgspec.Struct):
    users_target: int


def targets_of(run_dir: Path) -> dict[int, int]:
    """Return how many users there should have been, by second of control time at which the load generator was asked."""
    events = [entry.event for entry in read_archive(run_dir / ARCHIVE_NAME)]
    control = next(event.time for event in events if isinstance(event, PhaseEntered) and event.phase == "control")
    readings = [row for event in events if isinstance(event, WorkloadObserved) for row in event.rows]
    return {(reading.time - control) // SECOND: reading.users_target for reading in readings}


def test_steps_change_at_their_points_only() -> None:
    assert changes(curve((0, 10), (60, 30), (120, 30), (180, 5), interpolation="step")) == ((60, 30.0), (180, 5.0))


def test_a_line_goes_up_in_steps_and_meets_its_points() -> None:
    assert changes(curve((10, 10), (30, 18))) == ((15, 12.0), (20, 14.0), (25, 16.0), (30, 18.0))


def test_rates_are_numbers_with_fractions() -> None:
    points = (WorkloadPoint(at_seconds=0, rate_per_s=1.0), WorkloadPoint(at_seconds=10, rate_per_s=2.0))
    assert changes(Workload(name="open", arrivals="open", rate_per_s=1.0, curve=points)) == ((5, 1.5), (10, 2.0))


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 50)), min_size=1, max_size=6))
def test_every_change_changes_something_and_the_last_point_has_the_last_word(gaps: list[tuple[int, int]]) -> None:
    at, points = 0, []
    for gap, users in gaps:
        at += gap
        points.append((at, users))
    found = changes(curve(*points))
    levels = [10.0] + [level for _, level in found]
    assert all(level != before for before, level in pairwise(levels))
    assert [moment for moment, _ in found] == sorted({moment for moment, _ in found})
    assert levels[-1] == points[-1][1]


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (({"at_seconds": -1, "users": 3},), "before time 0"),
        (({"at_seconds": 5, "users": 3}, {"at_seconds": 5, "users": 4}), "not after the point before"),
        (({"at_seconds": 5},), "give the point users alone"),
        (({"at_seconds": 5, "users": 3, "rate_per_s": 1.0},), "give the point users alone"),
    ],
)
def test_a_curve_that_can_t_be_followed_is_refused(points: tuple[dict[str, Any], ...], says: str) -> None:
    config = ocg.resolve("small-core")
    broken = msgspec.structs.replace(config.workload, curve=msgspec.convert(points, tuple[WorkloadPoint, ...]))
    with pytest.raises(ocg.ConfigurationError, match=says):
        ocg.resolve(msgspec.structs.replace(config, workload=broken))


async def test_the_load_of_an_episode_follows_the_curve_from_the_start_of_control(tmp_path: Path) -> None:
    config = ocg.resolve("small-core", seed=1, horizon_seconds=120)
    workload = curve((0, 10), (30, 10), (60, 40), spawn_rate_per_s=50.0)
    async with ocg.make(msgspec.structs.replace(config, workload=workload), data_dir=tmp_path) as env:
        await env.reset()
        for _ in range(4):
            await env.step(ocg.Noop(), dt=30)
    target = targets_of(env.run_dir)
    assert target[-30] == target[0] == target[30] == 10
    # What is asked for at a moment shows in the scrape after it.
    assert (target[45], target[50]) == (20, 25)
    assert target[65] == target[115] == 40


async def test_an_action_takes_the_load_from_the_curve_until_it_is_reverted(tmp_path: Path) -> None:
    config = ocg.resolve("small-core", seed=1, horizon_seconds=180)
    workload = curve((0, 10), (180, 46), spawn_rate_per_s=50.0)
    async with ocg.make(msgspec.structs.replace(config, workload=workload), data_dir=tmp_path) as env:
        await env.reset()
        await env.step(ocg.Noop(), dt=30)
        await env.step(ocg.SetWorkload(users=3, duration_seconds=60), dt=60)
        await env.step(ocg.Noop(), dt=90)
    target = targets_of(env.run_dir)
    assert target[30] == 15  # of second 25: what is asked for at a moment shows in the scrape after it
    assert {target[at] for at in range(35, 90, 5)} == {3}
    assert (target[100], target[115]) == (29, 32)  # the line of the curve, as if nothing had been
    events = [entry.event for entry in read_archive(env.run_dir / ARCHIVE_NAME)]
    assert [event.verified for event in events if isinstance(event, ActionReverted)] == [True]


async def test_a_shape_is_a_curve_in_the_log_the_schedule_and_the_inputs(tmp_path: Path) -> None:
    config = ocg.resolve("small-core", seed=4, horizon_seconds=120)
    workload = Workload(name="shaped", users=10, spawn_rate_per_s=50.0, shape=Burst(height=3.0, at_seconds=(30,)))
    async with ocg.make(msgspec.structs.replace(config, workload=workload), data_dir=tmp_path) as env:
        await env.reset()
        for _ in range(4):
            await env.step(ocg.Noop(), dt=30)
    run = ocg.open_run(env.run_dir, truth=True)
    schedule = run.metadata["workload_schedule"]
    points = [(point["at_seconds"], point["users"]) for point in schedule["points"]]
    assert points == [(0, 10), (30, 10), (50, 30), (110, 30), (120, 25)]
    declared = next(e.event for e in read_archive(env.run_dir / ARCHIVE_NAME) if isinstance(e.event, TruthDeclared))
    assert declared.workload["shape"] is None
    assert targets_of(env.run_dir)[75] == 30
    rows = run.table("control_inputs").to_arrow().to_pylist()
    asked = [row["value"] for row in rows if row["name"] == "users_target"]
    assert (min(asked), max(asked)) == (10, 30)


async def test_the_load_of_a_served_twin_follows_the_curve_too(tmp_path: Path) -> None:
    config = ocg.resolve("small-core", seed=1)
    workload = curve((0, 10), (20, 10), (40, 25), (60, 5), spawn_rate_per_s=50.0)
    served = ocg.serve_twin(
        msgspec.structs.replace(config, workload=workload), pace=20, kubeconfig=tmp_path / "kubeconfig"
    )
    seen = []
    async with served as twin, open_load_generator(twin.endpoints) as load_generator:
        with anyio.fail_after(60):
            while 5 not in seen:
                seen.append((await load_generator.call("GET", "ocg/workload", Told)).users_target)
                await anyio.sleep(0.02)
    assert (seen[0], max(seen)) == (10, 25)


# --- the mix --------------------------------------------------------------------------------------------------------------


def mixed(*changes: tuple[int, dict[str, float]], **settings: Any) -> Workload:
    points = tuple(MixPoint(at_seconds=at, mix=mix) for at, mix in changes)
    return Workload(name="mixed", users=20, mix={"checkout": 2.0}, mix_changes=points, **settings)


def shares_of(run_dir: Path, flow: str) -> dict[int, float]:
    """Return a flow's share of the tasks, by second after the run's start, as `control_inputs` has it."""
    run = ocg.open_run(run_dir)
    rows = run.table("control_inputs").to_arrow().to_pylist()
    first = min(row["time"] for row in rows)
    return {
        round((row["time"] - first).total_seconds()): row["value"]
        for row in rows
        if (row["target"], row["name"]) == (flow, "mix_share")
    }


def test_a_change_of_the_mix_counts_from_the_weights_that_the_workload_begins_with() -> None:
    services = ocg.resolve("small-core").public.services
    begins = {name: flow.weight for name, flow in services.flows.items()} | {"checkout": 2.0}
    workload = mixed((30, {"checkout": 2.0}), (60, {"browse_product": 0.0}), (90, {}), (120, {"checkout": 9.0}))
    assert mixes(workload, services) == (
        (60, begins | {"browse_product": 0.0}),
        (90, begins),
        (120, begins | {"checkout": 9.0}),
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (((30, {"chekcout": 1.0}),), r"mix_changes\[0\].mix.chekcout.*has no such flow\n.*did you mean 'checkout'"),
        (((30, {}), (30, {})), r"mix_changes\[1\].at_seconds = 30: not after the point before"),
        (((-5, {}),), r"mix_changes\[0\].at_seconds = -5: before time 0"),
        (((0, {"checkout": -1.0}),), r"mix_changes\[0\].mix.checkout = -1.0"),
    ],
)
def test_a_mix_that_cannot_be_is_refused_with_its_place(
    changes: tuple[tuple[int, dict[str, float]], ...], says: str
) -> None:
    config = ocg.resolve("small-core")
    with pytest.raises(ocg.ConfigurationError, match=says):
        ocg.resolve(msgspec.structs.replace(config, workload=mixed(*changes)))
    nobody = dict.fromkeys(config.public.services.flows, 0.0)
    with pytest.raises(ocg.ConfigurationError, match="no flow is left with a weight above 0"):
        ocg.resolve(msgspec.structs.replace(config, workload=mixed((10, nobody))))


def test_a_workload_for_several_applications_changes_to_the_flows_that_there_are() -> None:
    config = ocg.resolve("small-core")
    workload = mixed((30, {"checkout": 5.0, "fly_to_the_moon": 1.0}), absent_flows="ignore")
    found = without_absent_flows(workload, config.public.services)
    assert [change.mix for change in found.mix_changes] == [{"checkout": 5.0}]


async def test_the_mix_of_an_episode_changes_when_it_is_due_and_its_requests_with_it(tmp_path: Path) -> None:
    config = ocg.resolve("small-core", seed=1, horizon_seconds=150)
    only = dict.fromkeys(config.public.services.flows, 0.0) | {"checkout": 1.0}
    workload = mixed((30, only), (90, {}), curve=(WorkloadPoint(at_seconds=60, users=21),), interpolation="step")
    async with ocg.make(msgspec.structs.replace(config, workload=workload), data_dir=tmp_path) as env:
        await env.reset()
        for _ in range(5):
            await env.step(ocg.Noop(), dt=30)
    warmup = config.public.granularity.warmup_seconds
    share = {at - warmup: value for at, value in shares_of(env.run_dir, "checkout").items()}
    began = share[0]
    assert 0 < began < 0.5
    assert share[20] == began
    assert {share[at] for at in (40, 60, 80)} == {1.0}
    assert share[100] == share[140] == began
    run = ocg.open_run(env.run_dir, truth=True)
    script = run.table("events").to_arrow().to_pylist()
    assert [row["message"] for row in script if row["type"] == "mix_changed"]
    assert "mix.checkout=1" in next(
        row["message"] for row in script if row["type"] == "scheduled" and "mix" in row["message"]
    )
    assert [change["at_seconds"] for change in run.metadata["workload_schedule"]["mix_changes"]] == [30, 90]
    assert ocg.validate(env.run_dir) == []


async def test_an_action_takes_the_mix_and_leaves_the_users_to_the_curve(tmp_path: Path) -> None:
    config = ocg.resolve("small-core", seed=1, horizon_seconds=150)
    only = dict.fromkeys(config.public.services.flows, 0.0) | {"checkout": 1.0}
    workload = mixed(
        (60, only),
        (120, only | {"browse_product": 1.0}),
        curve=(WorkloadPoint(at_seconds=60, users=7),),
        interpolation="step",
    )
    async with ocg.make(msgspec.structs.replace(config, workload=workload), data_dir=tmp_path) as env:
        await env.reset()
        await env.step(ocg.Noop(), dt=30)
        await env.step(ocg.SetWorkload(mix={"checkout": 0.0}, duration_seconds=60), dt=60)
        await env.step(ocg.Noop(), dt=60)
    warmup = config.public.granularity.warmup_seconds
    share = {at - warmup: value for at, value in shares_of(env.run_dir, "checkout").items()}
    target = targets_of(env.run_dir)
    assert {share[at] for at in (40, 60, 80)} == {0.0}
    assert (target[50], target[70]) == (20, 7)  # of the users the curve still has the say
    assert share[140] == 0.5  # after the revert the next change counts
