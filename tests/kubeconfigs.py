"""A kubeconfig of one cluster, for tests in which nobody gets as far as asking it, or nobody answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

__all__ = ("written_kubeconfig",)


def written_kubeconfig(path: Path, server: str, *, namespace: str = "", user: Mapping[str, str] | None = None) -> Path:
    """Write a kubeconfig whose user `u` has a token, if nothing else is said; return its path."""
    context = {"cluster": "c", "user": "u", **({"namespace": namespace} if namespace else {})}
    document = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user or {"token": "t"}}],
        "contexts": [{"name": "x", "context": context}],
        "current-context": "x",
    }
    path.write_text(json.dumps(document))
    return path
