"""Old tags are lifted to current ones step by step; what is neither old nor current is refused."""

from __future__ import annotations

import pytest

from otel_control_gym.engine.errors import LogError
from otel_control_gym.engine.events import EVENT_TYPES, type_tag
from otel_control_gym.engine.upcasters import RETIRED, upcast


@pytest.mark.parametrize("tag", [type_tag(kind) for kind in EVENT_TYPES])
def test_a_current_tag_passes_unchanged(tag: str) -> None:
    assert upcast(tag, b"body") == (tag, b"body")


def test_retired_versions_are_lifted_one_after_the_other() -> None:
    retired = {
        "run.phase.-1": lambda body: ("run.phase.0", body + b" then"),
        "run.phase.0": lambda body: ("run.phase.1", body + b" now"),
    }
    assert upcast("run.phase.-1", b"once", retired) == ("run.phase.1", b"once then now")


def test_no_current_tag_is_retired() -> None:
    assert not {type_tag(kind) for kind in EVENT_TYPES} & set(RETIRED)


def test_a_newer_version_is_refused_with_the_remedy() -> None:
    with pytest.raises(LogError, match=r"reads 'action.applied' up to version 1\n  upgrade"):
        upcast("action.applied.2", b"")


def test_an_unknown_tag_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(LogError, match=r"did you mean 'run.phase.1'\?"):
        upcast("run.phases.1", b"")
