"""An action's columns say what was asked, of whom, and how long it holds; services far away are told less of it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from otel_control_gym.baselines.asked import ACTION_COLUMNS, Asked
from otel_control_gym.baselines.rows import action_blocks
from otel_control_gym.baselines.states import advanced
from otel_control_gym.engine.clock import SECOND
from tests.baselines.conftest import STEP, scaling, small_system, steady_state

FRONT, BACK, USERS = range(3)


def columns(asked: Asked | None, *, horizon_s: int = STEP, past: tuple[Asked, ...] = ()) -> dict[str, list[float]]:
    state = steady_state(small_system(), now=asked)
    state = msgspec.structs.replace(state, past=(past,), time=state.time + 100 * STEP * SECOND)
    found = action_blocks(state, horizon_s)[0]
    return {name: found[:, number].tolist() for number, name in enumerate(ACTION_COLUMNS)}


def test_nothing_asked_is_nothing_in_every_column() -> None:
    assert not any(any(values) for values in columns(None).values())


def test_twice_the_pods_is_the_same_number_for_whoever_has_them() -> None:
    found = columns(scaling(4))
    assert found["asked:scale"] == [0, 1, 0]
    assert found["asked:pods_ratio"][BACK] == pytest.approx(np.log(4.1 / 2.1))
    assert found["asked:fullness_after"][BACK] == pytest.approx(np.log(0.205 / (0.5 * 4 + 0.005)))


def test_who_calls_the_target_is_told_the_nearer_the_more() -> None:
    found = columns(scaling(4))
    assert found["called asked:any"] == [1.0, 0.0, 0.5]
    assert columns(scaling(4, target="front"))["caller asked:any"] == [0.0, 1.0, 0.0]


def test_a_timed_action_counts_for_the_share_of_the_step_in_which_it_holds() -> None:
    whole = columns(scaling(4, duration_s=60.0), horizon_s=60)["asked:pods_ratio"][BACK]
    assert columns(scaling(4, duration_s=45.0), horizon_s=60)["asked:pods_ratio"][BACK] == pytest.approx(whole / 2)
    over = columns(scaling(4, duration_s=30.0), horizon_s=60)
    assert over["asked:pods_ratio"][BACK] == 0
    assert over["asked:released"][BACK] == 1


def test_a_group_is_all_of_its_services() -> None:
    asked = Asked(action_type="disable_group", target="extras", parameters={}, duration_s=None, requested=0)
    found = columns(asked)
    assert found["asked:disable_group"] == [0, 1, 0]
    assert found["asked:pods_ratio"][BACK] == pytest.approx(np.log(0.1 / 2.1))


def workload(**parameters: float) -> Asked:
    return Asked(
        action_type="set_workload", target="load-generator", parameters=parameters, duration_s=None, requested=0
    )


def test_load_is_told_to_all_as_users_for_users_and_as_rate_for_rate() -> None:
    users = columns(workload(users=200))["asked:load_ratio"]  # there are 100, who make 20 requests per second
    assert users == pytest.approx([np.log(201 / 101)] * 3)
    assert columns(workload(rate_per_s=40))["asked:load_ratio"] == pytest.approx([np.log(40.5 / 20.5)] * 3)
    assert columns(workload(users=100))["asked:load_ratio"] == [0, 0, 0]


def test_what_was_asked_before_fades_and_ends_after_the_look_back() -> None:
    moment = 100 * STEP * SECOND

    def ago(steps: int) -> float:
        return columns(None, past=(scaling(4, requested=moment - steps * STEP * SECOND),))["before:lately"][BACK]

    assert ago(1) > ago(5) > ago(10) > 0
    assert ago(11) == 0


def test_an_action_is_past_a_step_later() -> None:
    state = steady_state(small_system(), now=scaling(4))
    later = advanced(state, state.nodes[:, -1, :, :7], state.edges[:, -1, :, :3])
    assert later.now == (None,)
    assert later.past == ((scaling(4),),)
    assert later.time[0] == STEP * SECOND
