"""An action in arrays is the action again, but for texts and mappings, and it says where it isn't."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import otel_control_gym as ocg
from otel_control_gym.actuators import ENTRIES, Entry, parse_action
from otel_control_gym.actuators.resolution import resolve
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.projections.adapters.action_encoding import encoding_of

WITHOUT_A_NUMBER = {"env", "mix", "version", "profile", "flag", "variant", "wrong"}
ASSIGNED = {"duration_class", "data_lost"}  # what is said of an action when it is resolved; nobody gives them


def resolved(entry: Entry) -> tuple[str, dict[str, Any]]:
    """Return target and parameters of an entry's example as they are logged, with the duration beside them."""
    found = resolve(parse_action(entry.example), ocg.resolve(entry.configuration).public)
    parameters = {name: value for name, value in found.parameters.items() if name not in ASSIGNED}
    if found.duration_ns is not None:
        parameters["duration_seconds"] = found.duration_ns // SECOND
    return found.target, {name: value for name, value in parameters.items() if value is not None}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.type)
def test_every_action_comes_back_and_says_whether_it_is_whole(entry: Entry) -> None:
    target, parameters = resolved(entry)
    encoding = encoding_of(ocg.action_schema(), (target,) if target else ())
    encoded = encoding.encode(entry.type, target, parameters)
    lost = {name for name in parameters if name in WITHOUT_A_NUMBER}
    expected = {name: value for name, value in parameters.items() if name not in lost}
    assert encoding.decode(encoded) == (entry.type, target, expected)
    assert encoded.lossless == (not lost)


def test_all_actions_have_arrays_of_one_shape() -> None:
    targets = tuple(dict.fromkeys(target for target, _ in map(resolved, ENTRIES) if target))
    encoding = encoding_of(ocg.action_schema(), targets)
    encoded = [encoding.encode(entry.type, *resolved(entry)) for entry in ENTRIES]
    assert len({(action.numbers.shape, action.given.shape, action.choices.shape) for action in encoded}) == 1
    assert len({action.type for action in encoded}) == len(ENTRIES)


def test_a_zero_is_told_from_a_number_that_is_not_there() -> None:
    encoding = encoding_of(ocg.action_schema(), ("cart",))
    nothing, zero = encoding.encode("scale", "cart", {}), encoding.encode("scale", "cart", {"replicas": 0})
    assert np.array_equal(nothing.numbers, zero.numbers)
    assert encoding.decode(nothing)[2] == {}
    assert encoding.decode(zero)[2] == {"replicas": 0}


def test_an_unknown_target_is_an_error() -> None:
    with pytest.raises(ValueError, match="not in"):
        encoding_of(ocg.action_schema(), ("cart",)).encode("scale", "nowhere", {})
