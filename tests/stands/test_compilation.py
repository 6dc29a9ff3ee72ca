"""The kernel's cache of machine code can't be stale: its folder's name follows from every source that goes into it."""

from __future__ import annotations

import numba

from otel_control_gym.stands.twin import compilation


def test_the_digest_covers_every_module_with_compiled_code() -> None:
    sources = compilation.kernel_sources()
    folder = sources[0].parent

    users = {path.name for path in folder.glob("*.py") if "twin.compilation import" in path.read_text(encoding="utf-8")}

    assert users <= {path.name for path in sources}
    assert {"compilation.py", "state.py", "topology.py"} <= {path.name for path in sources}


def test_the_cache_folder_is_set_for_the_kernel_only() -> None:
    settings = numba.config

    def function(value: int) -> int:
        return value + 1

    before = settings.CACHE_DIR  # type: ignore[attr-defined]
    compiled = compilation.entry_point(function)

    assert before == settings.CACHE_DIR  # type: ignore[attr-defined]
    assert compilation.sources_digest() in compiled.stats.cache_path  # type: ignore[attr-defined]
