"""Every module says what it is for and what it offers, and what it offers exists."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import otel_control_gym

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(otel_control_gym.__path__, prefix=f"{otel_control_gym.__name__}.")
)


@pytest.mark.parametrize("name", [otel_control_gym.__name__, *MODULES])
def test_a_module_has_a_purpose_and_offers_what_it_names(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    offered = getattr(module, "__all__", None)
    if hasattr(module, "__path__") and offered is None:
        return  # a room's folder without a face of its own
    assert offered is not None, f"{name} has no __all__"
    assert len(set(offered)) == len(offered), f"{name}.__all__ names something twice"
    missing = [entry for entry in offered if not hasattr(module, entry)]
    assert not missing, f"{name}.__all__ names what isn't there: {missing}"


def test_the_public_face_lists_its_names() -> None:
    assert set(otel_control_gym.__all__) <= set(dir(otel_control_gym))
