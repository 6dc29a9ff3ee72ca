"""Flags come from a file that a service configuration names, or from itself; what can't be is refused where it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.configuration_files import load_services
from otel_control_gym.engine.errors import ConfigurationError


def write(file: Path, document: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


def scenario(folder: Path, flags: Any, **more: Any) -> Path:
    """Write a scenario on small-core with these flags."""
    write(folder / "services" / "mine.yaml", {"name": "mine", "extends": "small-core", "flags": flags} | more)
    return write(folder / "mine.yaml", {"name": "mine", "services": "mine", "horizon_seconds": 120})


SWITCH: dict[str, Any] = {"variants": {"on": True, "off": False}}


def test_a_name_stands_for_the_packaged_file_in_full() -> None:
    flags = resolve("small-core").public.services.flags
    assert len(flags) == 15
    assert flags["paymentFailure"].variants["90%"] == 0.95
    assert resolve("review-store").public.services.flags == flags, "what extends a configuration has its flags"


def test_a_file_beside_the_services_comes_before_the_packaged_ones(tmp_path: Path) -> None:
    write(tmp_path / "flags" / "otel-demo-2.2.0.yaml", {"name": "own", "flags": {"mine": SWITCH}})
    flags = resolve(scenario(tmp_path, "otel-demo-2.2.0")).public.services.flags
    assert flags["mine"].variants == {"on": True, "off": False}


def test_a_mapping_is_put_on_top_of_the_flags_that_are_extended(tmp_path: Path) -> None:
    flags = resolve(scenario(tmp_path, {"mine": SWITCH, "adFailure": {"default": "on"}})).public.services.flags
    assert len(flags) == 16
    assert (flags["adFailure"].default, flags["adHighCpu"].default) == ("on", "off")


def test_a_configuration_by_path_finds_flags_too(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.yaml", {"name": "mine", "extends": "small-core", "flags": "otel-demo-2.2.0"})
    assert len(load_services(str(path))[0].flags) == 15


@pytest.mark.parametrize(
    ("flags", "file", "words"),
    [
        ("otel-demo-2.2", "services/mine.yaml", "did you mean 'otel-demo-2.2.0'"),
        ("empty", "flags/empty.yaml", "doesn't hold flags"),
        ("broken", "flags/broken.yaml", "flags.mine.effects[0].copys"),
    ],
)
def test_an_error_in_flags_names_the_file_that_wrote_them(tmp_path: Path, flags: str, file: str, words: str) -> None:
    write(tmp_path / "flags" / "empty.yaml", {"name": "empty"})
    effect = {"operation": "a:b", "call": "c:d", "copys": 1}
    write(tmp_path / "flags" / "broken.yaml", {"name": "broken", "flags": {"mine": SWITCH | {"effects": [effect]}}})
    with pytest.raises(ConfigurationError) as caught:
        resolve(scenario(tmp_path, flags))
    assert words in str(caught.value)
    assert str(tmp_path / file) in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (SWITCH | {"default": "maybe"}, "none of the flag's variants"),
        (SWITCH | {"effects": [{"failure_ratio": 1}]}, "an effect is on one thing"),
        (SWITCH | {"effects": [{"operation": "a:b", "flow": "index"}]}, "an effect is on one thing"),
        (SWITCH | {"effects": [{"operation": "cart"}]}, "write service:operation"),
        (SWITCH | {"effects": [{"unready": "cart", "call": "a:b"}]}, "name the calling operation"),
        (SWITCH | {"effects": [{"operation": "a:b", "call": "c:d", "delay_ms": 1}]}, "no effect on a call"),
        (SWITCH | {"effects": [{"operation": "a:b", "copies": 1}]}, "no effect on an operation"),
        (SWITCH | {"effects": [{"operation": "a:b", "work_ms": -1}]}, "below 0"),
    ],
)
def test_a_flag_that_can_t_be_is_refused(tmp_path: Path, flag: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve(scenario(tmp_path, {"mine": flag}))
    assert words in str(caught.value)
    assert caught.value.key.startswith("flags.mine.")
