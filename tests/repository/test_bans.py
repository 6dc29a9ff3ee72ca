"""What Ruff has no rule for: bare imports of rooms, foreign libraries outside their modules, clocks, iteration over sets.

Each ban names its replacement, and is itself tested on a line that breaks it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (
    "actuators",
    "api",
    "baselines",
    "collectors",
    "configs",
    "deploy",
    "engine",
    "policies",
    "projections",
    "stands",
)
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
ALL = sorted(
    {*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "docs").rglob("*.py")}
)

SPOKEN_ONLY_IN = {
    "nats": ("engine/nats_session.py",),
    "kubernetes_asyncio": (
        "engine/kubernetes_session.py",
        "actuators/kubernetes_client.py",
        "collectors/kubernetes_client.py",
        "stands/cluster/",
    ),
}
LANGUAGE = (
    "clean_telemetry",
    "clock",
    "cluster_access",
    "errors",
    "events",
    "kubernetes_session",
    "metric_selectors",
    "plain_values",
    "protocols",
    "randomness",
    "service_sessions",
    "settings",
)
SPEAK_THE_LANGUAGE_ONLY = ("actuators/", "collectors/", "projections/", "stands/")
OWN_CLOCK = ("engine/clock.py", "deploy/load-generator/")  #: the second runs in the demo's image, where no engine is
CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep")


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module


def bare_room_imports(tree: ast.AST) -> list[str]:
    """`engine.events` beside `otel_control_gym.engine.events` would be a second set of classes."""
    return [f"line {line}: import {name}" for line, name in imports(tree) if name.partition(".")[0] in ROOMS]


def foreign_imports(tree: ast.AST, place: str) -> list[str]:
    """Each foreign library has its own modules; the rest of the code speaks to those."""
    return [
        f"line {line}: import {name}"
        for line, name in imports(tree)
        for library, places in SPOKEN_ONLY_IN.items()
        if name.partition(".")[0] == library and not place.startswith(places)
    ]


def foreign_rooms(tree: ast.AST, place: str) -> list[str]:
    """Rooms know themselves and the engine's language, nothing else of the engine and no other room."""
    room = place.partition("/")[0]
    allowed = (f"otel_control_gym.{room}", *(f"otel_control_gym.engine.{name}" for name in LANGUAGE))
    return [
        f"line {line}: import {name}"
        for line, name in imports(tree)
        if name.startswith("otel_control_gym")
        and name != allowed[0]
        and not name.startswith((f"{allowed[0]}.", *allowed[1:]))
    ]


def clock_reads(tree: ast.AST) -> list[str]:
    """Episode time comes from `engine.clock`, waiting from events."""
    return [
        f"line {node.lineno}: time.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "time"
        and node.attr in CLOCKS
    ]


def set_iterations(tree: ast.AST) -> list[str]:
    """The order of a set differs between processes: iterate over `sorted(...)`."""
    iterated = [node.iter for node in ast.walk(tree) if isinstance(node, ast.For | ast.comprehension)]
    return [f"line {node.lineno}: {ast.unparse(node)}" for node in iterated if _is_set(node)]


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return _is_set(node.left) or _is_set(node.right)
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")
    return called or isinstance(node, ast.Set | ast.SetComp)


@cache
def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def offenders(paths: Iterable[Path], check: Callable[[ast.AST, str], list[str]]) -> dict[str, list[str]]:
    """Return what a check finds, by file: one test looks at all files, because thousands of tests take longer than what they do."""
    found = {label(path): check(parsed(path), label(path)) for path in paths}
    return {place: lines for place, lines in found.items() if lines}


def test_there_are_files_to_be_looked_at() -> None:
    assert {label(path).partition("/")[0] for path in SOURCES} == set(ROOMS)


def test_rooms_are_imported_under_their_namespace() -> None:
    assert offenders(ALL, lambda tree, _: bare_room_imports(tree)) == {}, (
        "write `from otel_control_gym.<room> import ...`"
    )


def test_foreign_libraries_stay_in_their_modules() -> None:
    assert offenders(SOURCES, foreign_imports) == {}


def test_a_room_speaks_the_engines_language_only() -> None:
    speakers = [path for path in SOURCES if label(path).startswith(SPEAK_THE_LANGUAGE_ONLY)]
    assert offenders(speakers, foreign_rooms) == {}, f"may import of the engine: {', '.join(LANGUAGE)}"


def test_only_the_clock_reads_the_time() -> None:
    bound = [path for path in SOURCES if not label(path).startswith(OWN_CLOCK)]
    assert offenders(bound, lambda tree, _: clock_reads(tree)) == {}, "use engine.clock"


def test_nobody_iterates_over_a_set() -> None:
    assert offenders(SOURCES, lambda tree, _: set_iterations(tree)) == {}, "iterate over sorted(...)"


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ("from engine import events", bare_room_imports),
        ("import projections.fold", bare_room_imports),
        ("import nats", lambda tree: foreign_imports(tree, "engine/log.py")),
        ("from kubernetes_asyncio import client", lambda tree: foreign_imports(tree, "engine/env.py")),
        ("from otel_control_gym.engine.log import RunLog", lambda tree: foreign_rooms(tree, "projections/fold.py")),
        ("from otel_control_gym.stands.twin import stand", lambda tree: foreign_rooms(tree, "actuators/chaos.py")),
        ("time.perf_counter()", clock_reads),
        ("for name in {'a', 'b'}: pass", set_iterations),
        ("[name for name in set(names) - seen]", set_iterations),
        ("for name in {name for name in names}: pass", set_iterations),
    ],
)
def test_a_ban_sees_the_line_that_breaks_it(line: str, check: object) -> None:
    assert callable(check)
    assert check(ast.parse(line))


@pytest.mark.parametrize("line", ["from otel_control_gym.engine import events", "for name in sorted({'a'}): pass"])
def test_a_ban_lets_its_replacement_pass(line: str) -> None:
    tree = ast.parse(line)
    assert not bare_room_imports(tree)
    assert not set_iterations(tree)
