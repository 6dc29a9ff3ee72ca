"""Which code made a run: the commit of the checkout, and a digest of all that is installed.

In: the environment of this process. Out: names and hashes for `EnvironmentRecorded`, a commit only if the project runs from a checkout.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

__all__ = ("commit_of", "git_shas", "lock_digest")

PROJECT = "otel-control-gym"


@cache
def lock_digest() -> str:
    """Return a digest of the names and versions of all installed distributions: what a lock file pins."""
    installed = sorted({f"{found.name.lower()}=={found.version}" for found in metadata.distributions()})
    return hashlib.sha256("\n".join(installed).encode()).hexdigest()


@cache
def git_shas() -> dict[str, str]:
    """Return the commit of the project's checkout; nothing if it runs from a wheel."""
    for folder in Path(__file__).resolve().parents:
        project = folder / "pyproject.toml"
        if project.is_file() and f'name = "{PROJECT}"' in project.read_text(encoding="utf-8"):
            commit = commit_of(folder)
            return {PROJECT: commit} if commit else {}
    return {}


def commit_of(checkout: Path) -> str:
    """Return the commit that a work tree's HEAD names, or an empty text; read from its files, git needn't be installed."""
    git = checkout / ".git"
    try:
        if git.is_file():  # a work tree of its own: the file names its folder
            git = checkout / git.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        shared = git / "commondir"
        common = git / shared.read_text(encoding="utf-8").strip() if shared.is_file() else git
        if (common / name).is_file():
            return (common / name).read_text(encoding="utf-8").strip()
        packed = (common / "packed-refs").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")
