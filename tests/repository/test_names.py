"""Every module says what it is for and what it offers, and what it offers exists."""

from __future__ import annotations

import importlib
import pkgutil

import otel_control_gym

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(otel_control_gym.__path__, prefix=f"{otel_control_gym.__name__}.")
)


def flaws(name: str) -> list[str]:
    """Return what is wrong with what a module says of itself."""
    module = importlib.import_module(name)
    offered = getattr(module, "__all__", None)
    if offered is None:  # a room's folder without a face of its own has nothing to offer
        lacks = [] if hasattr(module, "__path__") else ["no __all__"]
    else:
        lacks = [f"__all__ names {entry}, which isn't there" for entry in offered if not hasattr(module, entry)]
        lacks += ["__all__ names something twice"] if len(set(offered)) != len(offered) else []
    return lacks if module.__doc__ else [*lacks, "no docstring"]


def test_each_module_has_a_purpose_and_offers_what_it_names() -> None:
    found = {name: flaws(name) for name in [otel_control_gym.__name__, *MODULES]}
    assert {name: lacks for name, lacks in found.items() if lacks} == {}


def test_the_public_face_lists_its_names() -> None:
    assert set(otel_control_gym.__all__) <= set(dir(otel_control_gym))
