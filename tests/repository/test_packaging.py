"""What is built is what is here: the wheel holds every room and nothing else, and works where only its own dependencies are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NAME = "otel-control-gym"
WALK = """
import importlib, pkgutil, otel_control_gym as root
names = sorted(module.name for module in pkgutil.walk_packages(root.__path__, root.__name__ + "."))
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        assert "pip install 'otel-control-gym[" in str(error), name
print("\\n".join(names))
"""


def folders() -> dict[str, Path]:
    """Return the folder of every package that pyproject.toml lists."""
    setuptools = PROJECT["tool"]["setuptools"]
    mapped: dict[str, str] = setuptools["package-dir"]
    found = {}
    for package in setuptools["packages"]:
        base = max((name for name in mapped if package == name or package.startswith(f"{name}.")), key=len)
        found[package] = ROOT / mapped[base] / package.removeprefix(base).lstrip(".").replace(".", "/")
    return found


def test_every_folder_with_python_in_it_is_a_listed_package() -> None:
    listed = set(folders().values())
    rooms = [ROOT / folder for folder in PROJECT["tool"]["setuptools"]["package-dir"].values()]
    present = {path.parent for room in rooms for path in room.rglob("*.py") if path.parent.name != "load-generator"}
    # That one is data: it runs in the demo's image.
    assert {path.relative_to(ROOT).as_posix() for path in present} == {
        path.relative_to(ROOT).as_posix() for path in listed
    }


def test_the_lock_pins_every_dependency_and_names_no_registry() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lock.splitlines() if "==" in line}
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {canonicalize_name(Requirement(text).name) for text in wanted} <= pinned
    assert "://" not in lock


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of what git knows or would add, so that nothing old from build/ slips in."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(source)],
        check=True, capture_output=True,
    )  # fmt: skip
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what it declares to need, taken from this environment's files, and nothing else."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=False, symlinks=True)
    executable = directory / "bin" / "python"
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(
        subprocess.run([executable, "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    )
    for distribution in closure(NAME):
        link(distribution, packages)
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(executable), "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    return executable


def closure(name: str) -> list[metadata.Distribution]:
    """Return the distributions that a distribution needs at run time, all the way down, without itself."""
    found: dict[str, metadata.Distribution] = {}
    frontier = requirements(metadata.distribution(name), frozenset({""}))
    while frontier:
        requirement = frontier.pop()
        key = canonicalize_name(requirement.name)
        if key not in found:
            found[key] = metadata.distribution(requirement.name)
            frontier += requirements(found[key], frozenset({"", *requirement.extras}))
    return list(found.values())


def requirements(distribution: metadata.Distribution, extras: frozenset[str]) -> list[Requirement]:
    declared = [Requirement(text) for text in distribution.requires or ()]
    return [
        requirement
        for requirement in declared
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in sorted(extras))
    ]


def link(distribution: metadata.Distribution, packages: Path) -> None:
    """Link a distribution's files into another environment, scripts included (the NATS server is one)."""
    for file in distribution.files or ():
        source, target = Path(str(distribution.locate_file(file))), packages / file
        if source.is_file() and source.suffix != ".pyc":
            parent = Path(os.path.normpath(target.parent))
            parent.mkdir(parents=True, exist_ok=True)
            (parent / target.name).symlink_to(source.resolve())


def outside(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run something in the new environment, away from the checkout and from this process's settings."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
    return subprocess.run(arguments, cwd=cwd, env=kept, capture_output=True, text=True, timeout=110, check=False)


def test_the_wheel_holds_the_sources_the_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    expected = {
        f"{package.replace('.', '/')}/{path.relative_to(folder).as_posix()}"
        for package, folder in folders().items()
        for path in folder.glob("*.py")
    }
    data = {
        f"otel_control_gym/{path.relative_to(ROOT).as_posix()}"
        for place, pattern in (
            ("configs", "**/*.yaml"),
            ("configs", "**/*.md"),
            ("configs", "**/*.csv"),
            ("deploy", "**/*.yaml"),
            ("deploy", "*.md"),
            ("deploy", "Dockerfile*"),
            ("deploy", "load-generator/*.py"),
            ("engine/campaigns/templates", "*.j2"),
            ("policies/evaluation/templates", "*.j2"),
            ("baselines/templates", "*.j2"),
        )
        for path in (ROOT / place).glob(pattern)
    }
    assert data
    held = {name for name in names if ".dist-info/" not in name}
    assert held == expected | data | {"otel_control_gym/py.typed"}


@pytest.mark.slow
def test_every_module_can_be_imported_where_only_the_declared_dependencies_are(python: Path, tmp_path: Path) -> None:
    walked = outside(python, str(python), "-I", "-c", WALK, cwd=tmp_path)
    assert walked.returncode == 0, walked.stderr
    modules = {
        f"{package}.{path.stem}" if path.stem != "__init__" else package
        for package, folder in folders().items()
        for path in folder.glob("*.py")
    } - {"otel_control_gym"}
    assert set(walked.stdout.split()) == modules


@pytest.mark.slow
def test_an_episode_runs_from_another_directory_and_its_dataset_is_valid(python: Path, tmp_path: Path) -> None:
    ocg = str(python.with_name("ocg"))
    ran = outside(python, ocg, "run", "small-core", "--horizon", "60", "--json", "--data-dir", "here", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout)
    assert answer["status"] == "completed"
    assert (tmp_path / "here") in Path(tmp_path / answer["path"]).parents
    checked = outside(python, ocg, "validate", answer["path"], "--json", cwd=tmp_path)
    assert json.loads(checked.stdout)["violations"] == []
    assert checked.returncode == 0
