"""How the twin's kernel is compiled: numba's options, and a cache that can't be stale.

In: a plain function. Out: the compiled one.

numba's on-disk cache looks at the file of the function that it loads, not at the files of the functions that this one calls, so an
edited callee would go unnoticed. The cache therefore lies in a folder whose name is a digest of the kernel's sources (`kernel` and all
that it imports from the twin), under the user's cache folder (an installation may be read-only). Only entry points are cached: what
they call is compiled into them.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba
import platformdirs

__all__ = ("compiled", "entry_point", "inlined", "kernel_sources", "sources_digest")

P = ParamSpec("P")
R = TypeVar("R")


@cache
def sources_digest() -> str:
    """Return a digest of the kernel's sources and of numba's version, 16 hexadecimal digits."""
    digest = hashlib.blake2b(numba.__version__.encode(), digest_size=8)
    for path in kernel_sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def kernel_sources() -> list[Path]:
    """Return the files of `kernel` and of every module of this package that it imports, directly or not, by name."""
    folder = Path(__file__).parent
    found: dict[str, Path] = {}
    open_names = ["kernel"]
    while open_names:
        path = folder / f"{open_names.pop()}.py"
        if path.name in found or not path.is_file():
            continue
        found[path.name] = path
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        open_names += [name.removeprefix(f"{__package__}.") for name in modules if name.startswith(f"{__package__}.")]
    return [found[name] for name in sorted(found)]


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that only compiled functions call: it gets no wrapper for Python, which costs more than its body."""
    return cast("Callable[P, R]", _njit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function of the hot path into those that call it.

    A call passes every array of `State` and `Topology` by itself, some hundred words, which costs more than most bodies: the kernel
    is three to five times faster so (measured). What is rare is better left `compiled`: each copy costs compilation time.
    """
    return cast("Callable[P, R]", _njit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True))


def entry_point(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function that Python calls; the machine code is kept on disk."""
    settings: Any = numba.config
    before = settings.CACHE_DIR
    # numba chooses the folder while it decorates; afterwards the setting is given back to whoever else uses numba here.
    settings.CACHE_DIR = str(platformdirs.user_cache_path("otel-control-gym") / "numba" / sources_digest())
    try:
        return cast("Callable[P, R]", _njit(function, cache=True))
    finally:
        settings.CACHE_DIR = before


def _njit(function: Callable[P, R], **options: bool) -> object:
    """Apply numba's decorator with the options that all functions share.

    Compiled code makes no arrays, and Python holds those that it passes, so reference counting is off: with it, each call would
    count the arrays of `State` up and down, atomically, and the kernel would be ten times slower (measured).
    """
    njit: Any = numba.njit
    return njit(function, nogil=True, error_model="numpy", _nrt=False, **options)
