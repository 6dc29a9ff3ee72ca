"""A run says which commit and which lock made it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from otel_control_gym.engine.provenance import commit_of, lock_digest


def git(folder: Path, *words: str) -> str:
    named = ("-c", "user.name=n", "-c", "user.email=e@x")
    return subprocess.run(
        ("git", *named, *words), cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_is_the_one_that_git_names(tmp_path: Path) -> None:
    main, other = tmp_path / "main", tmp_path / "other"
    main.mkdir()
    assert not commit_of(main)
    git(main, "init", "-q")
    assert not commit_of(main), "no commit yet"
    git(main, "commit", "-q", "--allow-empty", "-m", "first")
    head = git(main, "rev-parse", "HEAD")
    assert commit_of(main) == head
    git(main, "worktree", "add", "-q", "-b", "branch", str(other))
    assert commit_of(other) == head
    git(main, "pack-refs", "--all")
    assert commit_of(main) == commit_of(other) == head
    git(main, "checkout", "-q", "--detach")
    assert commit_of(main) == head


def test_the_lock_digest_is_a_digest() -> None:
    assert len(lock_digest()) == 64
