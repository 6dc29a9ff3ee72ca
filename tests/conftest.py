"""For all tests: properties have no deadline. How long an example takes says something of the machine; timings belong to benchmarks."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("without timings", deadline=None)
settings.load_profile("without timings")
